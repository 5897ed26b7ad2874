//! Rollout of a version: a canary judges a part of the events; a shadow judges all of them, and its output is never sent.
//!
//! # Guarantees
//! - The arm of an event follows from the event's id and from the percentage when the event was accepted, so every attempt of a
//!   delivery has the same arm. Events that were accepted before the rollout began stay with the active version.
//! - A canary is ended when it does worse than the active version: more faults and failures, or more CPU time
//!   ([`canary_test`](super::canary_test)). CPU time is compared because wall time depends on the load of the machine.
//! - Counters survive a restart and a change of the percentage. The differences of a shadow do not.
//! - The decision to end a canary, and the figures, follow from the counters of all hosts. Those of other hosts are as old as the last
//!   look ([`rollouts`](super::rollouts)).
//!
//! # Limits
//! Reads no store and calls no plugin; [`rollouts`](super::rollouts) does.

use super::canary_test::{Breach, CanaryOutcome, CanaryTest, CanaryTestFigures};
use super::counters::{ArmFigures, CountedCall, RolloutFigures, StoredCounters};
use super::difference::{Difference, DifferenceKind};
use super::sample::Sample;
use super::version::VersionRef;
use hookloom_model::clock;
use hookloom_model::event::{Event, EventId};
use hookloom_store::{RolloutKind, StoredRollout};
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of events that are remembered, so that each counts once for the test of a canary.
const EVENTS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("more than 0");

/// Number of differences of a shadow that are kept.
const DIFFERENCES_MAX: usize = 20;

/// Interval of computed differences after the first [`DIFFERENCES_MAX`]. The others are only counted, because computing one costs
/// milliseconds.
const DIFFERENCE_PERIOD: Duration = Duration::from_secs(1);

/// Rollout under way.
pub(super) struct Rollout {
    pub(super) stored: StoredRollout,
    pub(super) version: VersionRef,
    /// Shared with the previous rollout of the same version if only the percentage was changed.
    counts: Arc<Mutex<Counters>>,
}

struct Counters {
    tally: StoredCounters,
    /// Counters of the other hosts, as they were stored at the last look.
    elsewhere: Vec<StoredCounters>,
    /// Events that have counted for the test.
    seen: LruCache<EventId, ()>,
    /// Latest differences of a shadow, the newest first.
    differences: VecDeque<Difference>,
    /// Number of differences computed so far.
    differences_taken: usize,
    /// Time of the latest computed difference.
    last_difference: Option<Instant>,
    /// Set when something was counted since the counters were stored.
    is_changed: bool,
}

impl Rollout {
    /// Restores a rollout from its stored state.
    pub(super) fn new(stored: StoredRollout, version: VersionRef) -> Self {
        // Unreadable counters of an earlier version of the host start from zero.
        let tally = StoredCounters::of(&stored.counts).unwrap_or_default();
        let counts = Counters {
            tally,
            elsewhere: StoredCounters::of_all(&stored.counts_elsewhere),
            seen: LruCache::new(EVENTS_REMEMBERED),
            differences: VecDeque::new(),
            differences_taken: 0,
            last_difference: None,
            is_changed: false,
        };
        Rollout { stored, version, counts: Arc::new(Mutex::new(counts)) }
    }

    /// Returns the rollout with another percentage and the same counters.
    pub(super) fn continued(&self, stored: StoredRollout, version: VersionRef) -> Self {
        Rollout { stored, version, counts: self.counts.clone() }
    }

    fn counts(&self) -> MutexGuard<'_, Counters> {
        self.counts.lock()
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.stored.kind == RolloutKind::Shadow
    }

    /// Returns whether the canary judges this event.
    pub(super) fn selects(&self, event: &Event) -> bool {
        self.stored.kind == RolloutKind::Canary
            && self
                .stored
                .percent_at(event.received_at_ms)
                .is_some_and(|percent| share(&self.stored.name, event.id.0.as_bytes()) < percent)
    }

    /// Counts a call of the active version, on an event of its arm.
    pub(super) fn note_active(&self, event: EventId, call: CountedCall) {
        let mut counts = self.counts();
        let is_new = !self.is_shadow() && counts.is_new(event);
        counts.tally.active.note(call);
        if is_new {
            counts.tally.test.observe_active(call.failed);
        }
    }

    /// Counts a call of the canary and, if it failed, the call of the active version that replaced it. None: that call was not
    /// needed, or could not be made.
    pub(super) fn note_canary(&self, event: EventId, call: CountedCall, fallback: Option<CountedCall>) {
        let mut counts = self.counts();
        let is_new = counts.is_new(event);
        let StoredCounters { canary, active, test, .. } = &mut counts.tally;
        let baseline = active.cpu_baseline();
        canary.note(call);
        if is_new {
            let outcome = match (call.failed, fallback) {
                (false, _) => CanaryOutcome::Judged,
                (true, Some(CountedCall { failed: false, .. })) => CanaryOutcome::Regression,
                (true, _) => CanaryOutcome::BothFailed,
            };
            test.observe_canary(outcome, call.cpu_us, baseline);
        }
        if let Some(call) = fallback {
            active.count(call);
            if is_new {
                test.observe_active(call.failed);
            }
        }
    }

    /// Takes over what the other hosts counted.
    pub(super) fn set_elsewhere(&self, stored: &[String]) {
        let elsewhere = StoredCounters::of_all(stored);
        self.counts().elsewhere = elsewhere;
    }

    /// Returns the reason to end the canary, if there is one. It follows from the counts of all hosts.
    pub(super) fn breach(&self) -> Option<String> {
        if self.is_shadow() {
            return None;
        }
        let counts = self.counts();
        let Counters { tally, elsewhere, .. } = &*counts;
        let tests: Vec<&CanaryTest> = elsewhere.iter().map(|host| &host.test).collect();
        let breach = tally.test.breach(&tests)?;
        Some(describe_breach(breach, &tally.figures(self.stored.kind, elsewhere, Vec::new())))
    }

    /// Compares a shadow's judgement with the active version's, and counts the result. Runs on a plugin thread, because comparing
    /// bodies costs milliseconds.
    pub(super) fn compare(&self, event: &Event, active: Sample, other: Sample) {
        let kind = DifferenceKind::of(&active, &other);
        let shown = kind.filter(|_| self.counts().takes_difference(clock::instant()));
        // Computed without the lock, which every call of the plugin takes.
        let difference = shown.map(|kind| Difference::new(kind, event, active, other));
        let mut counts = self.counts();
        counts.is_changed = true;
        if kind.is_none() {
            counts.tally.same += 1;
            return;
        }
        counts.tally.different += 1;
        if let Some(difference) = difference {
            counts.differences.push_front(difference);
        }
        counts.differences.truncate(DIFFERENCES_MAX);
    }

    /// Counts an event that the shadow does not judge.
    pub(super) fn skip(&self) {
        let mut counts = self.counts();
        counts.is_changed = true;
        counts.tally.skipped += 1;
    }

    pub(super) fn figures(&self) -> RolloutFigures {
        let counts = self.counts();
        let differences = counts.differences.iter().cloned().collect();
        counts.tally.figures(self.stored.kind, &counts.elsewhere, differences)
    }

    /// Returns the counters of this host to store, as JSON.
    pub(super) fn to_store(&self) -> String {
        let tally = self.counts().tally.clone();
        tally.into_stored()
    }

    /// Returns the counters to store if they changed since the last call, and marks them as stored.
    pub(super) fn take_changed(&self) -> Option<String> {
        // `to_store` takes the lock again.
        let is_changed = std::mem::take(&mut self.counts().is_changed);
        is_changed.then(|| self.to_store())
    }

    /// Marks the counters as changed, after storing them has failed.
    pub(super) fn mark_changed(&self) {
        self.counts().is_changed = true;
    }
}

impl Counters {
    /// Returns whether an event has not counted for the test yet, and remembers it.
    fn is_new(&mut self, event: EventId) -> bool {
        self.is_changed = true;
        self.seen.put(event, ()).is_none()
    }

    /// Returns whether to compute a difference that is found now: the first ones, and then one in each period.
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

/// Maps an event to a number from 0 to 100, for one plugin. Stable, and uniformly distributed.
fn share(plugin: &str, event_id: &[u8]) -> f64 {
    let hash: [u8; 32] = Sha256::new().chain_update(plugin).chain_update(event_id).finalize().into();
    let (head, _) = hash.split_first_chunk::<4>().expect("a hash has 32 bytes");
    f64::from(u32::from_be_bytes(*head)) / (f64::from(u32::MAX) + 1.0) * 100.0
}

fn fault_percent(arm: &ArmFigures) -> f64 {
    100.0 * arm.faults as f64 / arm.calls.max(1) as f64
}

fn describe_breach(breach: Breach, figures: &RolloutFigures) -> String {
    let RolloutFigures { canary, active, test, .. } = figures;
    let counted =
        |count: fn(&CanaryTestFigures) -> u64| test.as_ref().map_or((0, 0), |test| (count(test), test.events));
    match breach {
        Breach::Faults => {
            let (regressions, events) = counted(|test| test.regressions);
            format!(
                "its fault rate is {:.1} %, the active version's {:.1} %; it failed on {regressions} of {events} events, which the active version could judge",
                fault_percent(canary),
                fault_percent(active)
            )
        }
        Breach::CpuTime => {
            let (slow, events) = counted(|test| test.slow_calls);
            format!(
                "95 % of its calls take up to {} µs of CPU time, of the active version's {} µs; {slow} of {events} events took more than 1.5 times as long as that",
                canary.cpu_us_p95, active.cpu_us_p95
            )
        }
    }
}

#[cfg(test)]
mod tests;
