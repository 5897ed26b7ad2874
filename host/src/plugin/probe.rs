//! The first calls of a new version, before it becomes active: what they cost, and what its answers depend on.
//!
//! # Theory of operation
//! A version judges a sample contact (a deal, if it lets contacts go by) a few times, each time in a fresh instance. Then once more with another time on its
//! clock, once with other random numbers, and once in an instance that was called before; where the answer differs, it
//! depends on that. None of it is wrong: in the host the clock and the random numbers follow from the event, and instances
//! are fresh. But an author who does not know it will wonder.
//!
//! A fault ends it and is reported; it refuses nothing, because without its config a plugin may well fail. Two things do
//! refuse: a process that dies of a call, and a call that used far more CPU time than it was given, because then a part of what
//! it costs the host is not bounded by its limits. So this runs in the compile child
//! ([`compile_child`](mod@super::compile_child)) and nowhere else.

use super::chain::call_alone;
use super::convert::cut;
use super::judgement::{Judgement, PluginInput};
use super::runtime::Version;
use super::sample::Sample;
use super::sandbox::{CallEnvironment, CallInput, CallResult, call, call_in};
use crate::delivery::Cost;
use crate::event::sample_events;
use crate::subscription::{CallSettings, DEFAULT_TENANT, Subscription, TenantId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// What came of the first calls of a version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ProbeOutcome {
    /// It was called, and this was found.
    Done(Probe),
    /// A call used this much CPU time, and should have been stopped at that limit.
    Overrun {
        /// Used, in milliseconds.
        cpu_ms: u64,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
}

/// CPU time over its limit that a call may use before it counts as one that cannot be stopped, in milliseconds: a tick, the
/// making of a large instance, and what the host does with an answer.
const OVERRUN_MS: u64 = 250;

/// Maximum length of the reason that a probe keeps, in bytes.
const REASON_BYTES_MAX: usize = 8 << 10;

/// What the first calls of a version found, on a sample event and without config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// What it made of the sample: `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: String,
    /// Why, unless it passed or replaced.
    pub reason: Option<String>,
    /// Wall time of the first call, in microseconds: with the instance, and with pages that nobody touched before.
    pub first_call_us: u64,
    /// The median of the calls after it, in microseconds, each in a fresh instance too.
    pub steady_call_us: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
    /// What changes its answer beside the event: `time`, `random`, `earlier calls`. Empty: nothing does. Absent: that was
    /// not found out, because it failed on the sample.
    #[serde(default)]
    pub depends_on: Option<Vec<String>>,
}

const CALLS: usize = 8;

impl Probe {
    /// The probe with no longer a reason than what is kept.
    pub(super) fn bounded(mut self) -> Self {
        self.reason = self.reason.map(|reason| cut(&reason, REASON_BYTES_MAX).to_owned());
        self
    }
}

/// The limit that a call overran, if it did by far.
fn overrun(cost: &Cost, input: &PluginInput) -> Option<ProbeOutcome> {
    let (cpu_ms, limit_ms) = (cost.cpu_us / 1_000, input.subscription.settings.limits.cpu_ms);
    (cpu_ms > limit_ms + OVERRUN_MS).then_some(ProbeOutcome::Overrun { cpu_ms, limit_ms })
}

/// Calls a version for the first time. Runs on a thread like a plugin thread.
pub(super) fn probe(version: &Version) -> ProbeOutcome {
    let subscription = Arc::new(Subscription::passing(TenantId(DEFAULT_TENANT.into()), CallSettings::default()));
    let mut asked = Vec::new();
    for event in sample_events() {
        let input = PluginInput::new(Arc::new(event), subscription.clone());
        let (judgement, cost) = call_alone(version, &input, input.event.text());
        if let Some(overrun) = overrun(&cost, &input) {
            return overrun;
        }
        asked.push((input, judgement, cost));
    }
    let first = asked.first().map(|(_, _, cost)| *cost).unwrap_or_default();
    // The one that tells more: a fault before all, and a plugin for deals lets contacts go by.
    let first_that = |wanted: fn(&Judgement) -> bool| asked.iter().position(|(_, judgement, _)| wanted(judgement));
    let telling = first_that(|judgement| matches!(judgement, Judgement::Fault(_)))
        .or_else(|| first_that(|judgement| matches!(judgement, Judgement::Replace(_))))
        .unwrap_or(0);
    let (input, judgement, _) = asked.swap_remove(telling);
    let mut probe = Probe {
        verdict: judgement.word().to_owned(),
        reason: judgement.reason().map(|reason| reason.to_string()),
        first_call_us: first.wall_us,
        steady_call_us: first.wall_us,
        memory_bytes: first.memory_bytes,
        depends_on: None,
    };
    if matches!(judgement, Judgement::Fault(_)) {
        return ProbeOutcome::Done(probe);
    }
    let mut times: Vec<u64> = (1..CALLS).map(|_| call_alone(version, &input, input.event.text()).1.wall_us).collect();
    times.sort_unstable();
    probe.steady_call_us = times[times.len() / 2];
    probe.depends_on = Some(depends_on(version, &input, &judgement));
    ProbeOutcome::Done(probe)
}

/// What changes a version's answer beside the event.
fn depends_on(version: &Version, input: &PluginInput, judgement: &Judgement) -> Vec<String> {
    let wall = Duration::from_millis(input.subscription.settings.limits.wall_ms);
    let call_input = CallInput { input, payload: input.event.text(), wall };
    let environment = CallEnvironment::of(&call_input);
    let another_time = CallEnvironment { now_ms: environment.now_ms + 86_400_000 * 45 + 3_600_123, ..environment };
    let another_seed = CallEnvironment { seed: ([7; 16], [9; 16]), ..environment };
    let others = [
        ("time", call_in(another_time, version, &call_input)),
        ("random", call_in(another_seed, version, &call_input)),
        ("earlier calls", again(again(call(version, &call_input), &call_input), &call_input)),
    ];
    let usual = Sample::of(judgement);
    let differs = |result: CallResult| Sample::of(&result.judgement) != usual;
    others.into_iter().filter_map(|(what, result)| differs(result).then(|| what.to_owned())).collect()
}

/// The same question to the same instance.
fn again(mut result: CallResult, call_input: &CallInput<'_>) -> CallResult {
    match result.instance.take() {
        Some(instance) => instance.call_again(call_input),
        None => result,
    }
}
