//! Probe of a new version: its first calls, before it becomes active, with their cost and what its answers depend on.
//!
//! # Theory of operation
//! The version judges a sample contact and a sample deal, each in a fresh instance. One of the two is judged again several times for the
//! cost, and then with another time, with other random numbers, and in an instance that was called before. Where the answer differs,
//! it depends on that input. None of this is an error: in the host, clock and random numbers follow from the event, and instances are
//! fresh. The result is information for the author.
//!
//! # Guarantees
//! - A fault ends the probe and is reported. It is not a refusal, because a plugin may fail without its config.
//! - Two things are refusals: the end of the process during a call, and a call that uses far more CPU time than its limit, because then
//!   the limits do not bound the cost of a call.
//!
//! # Limits
//! Runs in the compile child ([`compile_child`](mod@super::compile_child)) only.

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

/// Result of the probe of a version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ProbeOutcome {
    /// The probe is complete.
    Done(Probe),
    /// A call was not stopped at its limit of CPU time.
    Overrun {
        /// Used CPU time, in milliseconds.
        cpu_ms: u64,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
}

/// CPU time beyond its limit after which a call counts as not stoppable, in milliseconds. Covers a tick, the creation of a large instance,
/// and the validation of an answer.
const OVERRUN_MS: u64 = 250;

/// Maximum length of the reason in a probe, in bytes.
const REASON_BYTES_MAX: usize = 8 << 10;

/// Findings of the first calls of a version, on a sample event and without config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// Verdict on the sample: `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: String,
    /// Reason of the verdict. Absent for `pass` and `replace`.
    pub reason: Option<String>,
    /// Wall time of the first call, in microseconds, including the instance and untouched memory pages.
    pub first_call_us: u64,
    /// Median wall time of later calls, in microseconds, each in a fresh instance.
    pub steady_call_us: u64,
    /// Maximum size of its linear memory, in bytes.
    pub memory_bytes: u64,
    /// Inputs other than the event that change the answer: `time`, `random`, `earlier calls`. Absent: unknown, because the plugin failed
    /// on the sample.
    #[serde(default)]
    pub depends_on: Option<Vec<String>>,
}

/// Number of calls that are measured.
const CALLS: usize = 8;

impl Probe {
    /// Cuts the reason to its maximum length.
    pub(super) fn bounded(mut self) -> Self {
        self.reason = self.reason.map(|reason| cut(&reason, REASON_BYTES_MAX).to_owned());
        self
    }
}

/// Returns the overrun of a call that used far more CPU time than its limit.
fn overrun(cost: &Cost, input: &PluginInput) -> Option<ProbeOutcome> {
    let cpu_ms = cost.cpu_us / 1_000;
    let limit_ms = input.subscription.settings.limits.cpu_ms;
    (cpu_ms > limit_ms + OVERRUN_MS).then_some(ProbeOutcome::Overrun { cpu_ms, limit_ms })
}

/// Probes a version. Runs on a thread with the stack of a plugin thread.
pub(super) fn probe(version: &Version) -> ProbeOutcome {
    let subscription = Arc::new(Subscription::passing(TenantId(DEFAULT_TENANT.into()), CallSettings::default()));
    let mut samples = Vec::new();
    for event in sample_events() {
        let input = PluginInput::new(Arc::new(event), subscription.clone());
        let (judgement, cost) = call_alone(version, &input, input.event.text());
        if let Some(overrun) = overrun(&cost, &input) {
            return overrun;
        }
        samples.push((input, judgement, cost));
    }
    let first = samples.first().map(|(_, _, cost)| *cost).unwrap_or_default();
    // The more informative sample: a fault first, then a replacement, because a plugin for deals passes contacts.
    let first_that = |wanted: fn(&Judgement) -> bool| samples.iter().position(|(_, judgement, _)| wanted(judgement));
    let telling = first_that(|judgement| matches!(judgement, Judgement::Fault(_)))
        .or_else(|| first_that(|judgement| matches!(judgement, Judgement::Replace(_))))
        .unwrap_or(0);
    let (input, judgement, _) = samples.swap_remove(telling);
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

/// Returns the inputs other than the event that change a version's answer.
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

/// Repeats a call in the same instance.
fn again(mut result: CallResult, call_input: &CallInput<'_>) -> CallResult {
    match result.instance.take() {
        Some(instance) => instance.call_again(call_input),
        None => result,
    }
}
