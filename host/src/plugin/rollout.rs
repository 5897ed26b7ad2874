//! A version on trial: a canary judges a part of the events, a shadow judges all of them and nothing of it is sent.
//!
//! # Rules
//! - Which events a canary judges follows from the event's id and from the percentage when it was accepted, so every
//!   attempt of a delivery has the same arm; events that were accepted before the trial began stay with the active version.
//! - After [`CALLS_MIN`] calls a canary ends by itself when its fault rate (faults and failures) is more than one point
//!   above the active version's, or the 95th percentile of its CPU time is more than 1.5 times as large. CPU time, because on a busy
//!   machine wall time says more about the neighbours.
//! - Counts are of this process: after a restart they begin anew. The trial itself is in the store.
//!
//! Pure.

use super::convert::cut;
use super::judgement::Judgement;
use super::runtime::VersionRef;
use crate::delivery::Arm;
use crate::event::Event;
use crate::store::{RolloutKind, StoredRollout};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// A canary is not judged before it made this many calls.
pub(super) const CALLS_MIN: u64 = 200;

/// How many calls' times are kept of each arm.
const TIMES_MAX: usize = 2_000;

/// How many differences of a shadow are kept, and how much of each body.
const DIFFERENCES_MAX: usize = 20;
const BODY_BYTES_SHOWN: usize = 2 << 10;

/// After the first differences, one is worked out in each period and the others are only counted: it costs milliseconds.
const DIFFERENCE_PERIOD: Duration = Duration::from_secs(1);

/// A trial under way.
pub(super) struct Rollout {
    pub(super) stored: StoredRollout,
    pub(super) version: VersionRef,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    canary: ArmCounts,
    active: ArmCounts,
    shadow: ShadowCounts,
}

#[derive(Default)]
struct ArmCounts {
    calls: u64,
    faults: u64,
    cpu_us: VecDeque<u64>,
}

#[derive(Default)]
struct ShadowCounts {
    same: u64,
    different: u64,
    skipped: u64,
    differences: VecDeque<Difference>,
    /// Differences worked out so far, and the time of the last one.
    differences_taken: usize,
    last_difference: Option<Instant>,
}

/// What one version made of an event, as far as versions are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: String,
    /// The reason's code or, of a fault, its words.
    pub reason: Option<String>,
    /// The body that would be sent, its first 2 KiB as text. Absent: nothing, or the event as it came.
    pub body: Option<String>,
    #[serde(skip)]
    whole: Option<[u8; 32]>,
    /// The whole body, until what differs is known.
    #[serde(skip)]
    bytes: Bytes,
}

impl Sample {
    /// What is compared of a judgement.
    pub(super) fn of(judgement: &Judgement) -> Self {
        let (body, whole, bytes) = match judgement {
            Judgement::Replace(outgoing) => {
                let shown = &outgoing.body[..outgoing.body.len().min(BODY_BYTES_SHOWN)];
                let mut hash = Sha256::new().chain_update(&outgoing.body);
                hash.update(outgoing.content_type.as_bytes());
                for (name, value) in &outgoing.headers {
                    hash.update(name.as_str());
                    hash.update(value.as_bytes());
                }
                hash.update(outgoing.url.as_ref().map_or("", url::Url::as_str));
                let body = String::from_utf8_lossy(shown).into_owned();
                (Some(body), Some(hash.finalize().into()), outgoing.body.clone())
            }
            _ => (None, None, Bytes::new()),
        };
        let reason = judgement.reason().map(|reason| match judgement {
            Judgement::Fault(_) => reason.message,
            _ => reason.code,
        });
        Sample { verdict: judgement.word().to_owned(), reason, body, whole, bytes }
    }

    /// Whether a delivery can go on with it.
    pub(super) fn is_usable(&self) -> bool {
        self.verdict != "fault" && self.verdict != "failure"
    }

    /// What would be sent.
    fn sent<'a>(&'a self, event: &'a Event) -> std::borrow::Cow<'a, str> {
        match self.verdict.as_str() {
            "pass" => event.text().into(),
            _ => String::from_utf8_lossy(&self.bytes),
        }
    }
}

/// One event that two versions judge differently.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Difference {
    /// The event's id.
    pub event: uuid::Uuid,
    /// What the active version made of it.
    pub active: Sample,
    /// What the other one made of it.
    pub other: Sample,
    /// The lines in which the two bodies differ, JSON pretty-printed, each with `-` (active) or `+` (other) before it.
    pub diff: Vec<String>,
}

/// How many lines of a difference are kept.
const DIFF_LINES_MAX: usize = 40;

impl Difference {
    pub(super) fn new(event: &Event, mut active: Sample, mut other: Sample) -> Self {
        let lines = crate::diff::lines(&active.sent(event), &other.sent(event));
        let changed = lines.iter().filter(|line| line.is_changed());
        let diff = changed.take(DIFF_LINES_MAX).map(|line| format!("{} {}", line.sign, cut(&line.text, 200))).collect();
        (active.bytes, other.bytes) = (Bytes::new(), Bytes::new());
        Difference { event: event.id.0, active, other, diff }
    }
}

/// One arm's figures.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct ArmFigures {
    /// Calls.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// The 95th percentile of the CPU time of its last 2,000 calls, in microseconds.
    pub cpu_us_p95: u64,
}

/// How a trial goes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RolloutFigures {
    /// The version on trial, as a canary.
    pub canary: ArmFigures,
    /// The active version, since the trial began.
    pub active: ArmFigures,
    /// Events that a shadow judged the same way.
    pub same: u64,
    /// Events that it judged differently.
    pub different: u64,
    /// Events that it was not asked about, because the host had no time for it.
    pub skipped: u64,
    /// The last of the differences, the newest first.
    pub differences: Vec<Difference>,
}

impl Rollout {
    pub(super) fn new(stored: StoredRollout, version: VersionRef) -> Self {
        Rollout { stored, version, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.stored.kind == RolloutKind::Shadow
    }

    /// Whether the canary judges this event.
    pub(super) fn takes(&self, event: &Event) -> bool {
        self.stored.kind == RolloutKind::Canary
            && self
                .stored
                .percent_at(event.received_at_ms)
                .is_some_and(|percent| share(&self.stored.name, event.id.0.as_bytes()) < percent)
    }

    /// Counts a call.
    pub(super) fn note(&self, arm: Arm, cpu_us: u64, faulted: bool) {
        let mut counts = self.counts();
        let arm = if arm == Arm::Canary { &mut counts.canary } else { &mut counts.active };
        arm.calls += 1;
        arm.faults += u64::from(faulted);
        if arm.cpu_us.len() == TIMES_MAX {
            arm.cpu_us.pop_front();
        }
        arm.cpu_us.push_back(cpu_us);
    }

    /// Why the canary must end, if it must.
    pub(super) fn breach(&self) -> Option<String> {
        let counts = self.counts();
        if counts.canary.calls < CALLS_MIN {
            return None;
        }
        breach(&counts.canary.figures(), &counts.active.figures())
    }

    /// Compares the shadow's judgement with the active version's. Runs on a plugin thread: comparing bodies costs
    /// milliseconds.
    pub(super) fn compare(&self, event: &Event, active: Sample, other: Sample) {
        let is_same = active == other;
        let is_shown = !is_same && self.counts().shadow.takes_difference(Instant::now());
        // Without the lock: every call of the plugin counts under it.
        let difference = is_shown.then(|| Difference::new(event, active, other));
        let mut counts = self.counts();
        if is_same {
            counts.shadow.same += 1;
            return;
        }
        counts.shadow.different += 1;
        if let Some(difference) = difference {
            counts.shadow.differences.push_front(difference);
        }
        counts.shadow.differences.truncate(DIFFERENCES_MAX);
    }

    /// Counts an event that the shadow is not asked about.
    pub(super) fn skip(&self) {
        self.counts().shadow.skipped += 1;
    }

    pub(super) fn figures(&self) -> RolloutFigures {
        let counts = self.counts();
        RolloutFigures {
            canary: counts.canary.figures(),
            active: counts.active.figures(),
            same: counts.shadow.same,
            different: counts.shadow.different,
            skipped: counts.shadow.skipped,
            differences: counts.shadow.differences.iter().cloned().collect(),
        }
    }
}

impl ShadowCounts {
    /// Returns whether a difference found now is worked out and shown: the first ones are, and then one in each period.
    fn takes_difference(&mut self, now: Instant) -> bool {
        let is_due = self.last_difference.is_none_or(|last| now.duration_since(last) >= DIFFERENCE_PERIOD);
        let takes = self.differences_taken < DIFFERENCES_MAX || is_due;
        if takes {
            self.differences_taken += 1;
            self.last_difference = Some(now);
        }
        takes
    }
}

impl ArmCounts {
    fn figures(&self) -> ArmFigures {
        ArmFigures { calls: self.calls, faults: self.faults, cpu_us_p95: p95(self.cpu_us.iter().copied().collect()) }
    }
}

/// The 95th percentile, by nearest rank; 0 of nothing.
pub(super) fn p95(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * 95).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Where an event stands between 0 and 100, for one plugin: stable, and evenly spread.
fn share(plugin: &str, event_id: &[u8]) -> f64 {
    let hash: [u8; 32] = Sha256::new().chain_update(plugin).chain_update(event_id).finalize().into();
    let (head, _) = hash.split_first_chunk::<4>().expect("a hash has 32 bytes");
    f64::from(u32::from_be_bytes(*head)) / (f64::from(u32::MAX) + 1.0) * 100.0
}

fn breach(canary: &ArmFigures, active: &ArmFigures) -> Option<String> {
    let rate = |arm: &ArmFigures| 100.0 * arm.faults as f64 / arm.calls.max(1) as f64;
    let (new, old) = (rate(canary), rate(active));
    if new > old + 1.0 {
        return Some(format!("its fault rate is {new:.1} %, the active version's {old:.1} %"));
    }
    let (new, old) = (canary.cpu_us_p95, active.cpu_us_p95);
    // Without calls of the active version there is nothing to compare with.
    if active.calls >= CALLS_MIN / 4 && new as f64 > 1.5 * old as f64 {
        return Some(format!("95 % of its calls take up to {new} µs, of the active version's {old} µs"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_stable_and_even() {
        let ids: Vec<[u8; 16]> = (0..10_000_u128).map(u128::to_be_bytes).collect();
        let below = ids.iter().filter(|id| share("flatten", *id) < 10.0).count();
        assert!((900..1_100).contains(&below), "{below} of 10,000");
        assert!(ids.iter().all(|id| (0.0..100.0).contains(&share("flatten", id))));
        assert_eq!(share("flatten", &ids[7]).to_bits(), share("flatten", &ids[7]).to_bits());
    }

    #[test]
    fn a_canary_ends_when_it_is_worse() {
        #[track_caller]
        fn check(canary: (u64, u64, u64), active: (u64, u64, u64), ends: bool) {
            let arm = |(calls, faults, cpu_us_p95)| ArmFigures { calls, faults, cpu_us_p95 };
            assert_eq!(breach(&arm(canary), &arm(active)).is_some(), ends, "{canary:?} {active:?}");
        }
        check((200, 0, 100), (1_800, 0, 100), false);
        check((200, 2, 100), (1_800, 0, 100), false);
        check((200, 3, 100), (1_800, 0, 100), true);
        check((200, 22, 100), (1_800, 180, 100), false);
        check((200, 0, 150), (1_800, 0, 100), false);
        check((200, 0, 151), (1_800, 0, 100), true);
        check((200, 0, 151), (0, 0, 0), false);
    }

    #[test]
    fn the_first_differences_are_worked_out_and_then_one_in_each_period() {
        let mut counts = ShadowCounts::default();
        let start = Instant::now();
        let taken = (0..100).filter(|_| counts.takes_difference(start)).count();
        assert_eq!(taken, DIFFERENCES_MAX);
        assert!(counts.takes_difference(start + DIFFERENCE_PERIOD));
        assert!(!counts.takes_difference(start + DIFFERENCE_PERIOD));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(p95(Vec::new()), 0);
        assert_eq!(p95(vec![7]), 7);
        assert_eq!(p95((1..=100).collect()), 95);
    }
}
