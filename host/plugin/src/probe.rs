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
use super::guest::{CallEnvironment, CallInput};
use super::judgement::{Judgement, PluginFault, PluginInput};
use super::report::{Probe, ProbeOutcome};
use super::sample::Sample;
use super::sandbox::{CallResult, call, call_in};
use super::script;
use super::version::Version;
use hookloom_model::delivery::Cost;
use hookloom_model::event::sample_events;
use hookloom_model::limits::Limits;
use hookloom_model::subscription::{CallSettings, DEFAULT_TENANT, Subscription, TenantId};
use std::sync::Arc;
use std::time::Duration;

/// CPU time beyond its limit after which a call counts as not stoppable, in milliseconds. Covers a tick, the creation of a large instance,
/// and the validation of an answer.
const OVERRUN_MS: u64 = 250;

/// CPU time of a call in milliseconds: ten times the usual limit, because a busy machine slows down its threads. What a call takes is in
/// the report.
const CPU_MS: u64 = 500;

/// Number of calls that are measured.
const CALLS: usize = 8;

/// Returns the overrun of a call that used far more CPU time than its limit.
fn overrun(cost: &Cost, input: &PluginInput) -> Option<ProbeOutcome> {
    let cpu_ms = cost.cpu_us / 1_000;
    let limit_ms = input.subscription.settings.limits.cpu_ms;
    (cpu_ms > limit_ms + OVERRUN_MS).then_some(ProbeOutcome::Overrun { cpu_ms, limit_ms })
}

/// Probes a version. Runs on a thread with the stack of a plugin thread.
pub(super) fn probe(version: &Version) -> ProbeOutcome {
    let limits = Limits { cpu_ms: CPU_MS, wall_ms: Limits::HOST_MAX.wall_ms, ..Limits::default() };
    let settings = CallSettings { limits, ..CallSettings::default() };
    let subscription = Arc::new(Subscription::passing(TenantId(DEFAULT_TENANT.into()), settings));
    let mut samples = Vec::new();
    for event in sample_events() {
        let input = PluginInput::new(Arc::new(event), subscription.clone());
        let (judgement, cost) = call_alone(version, &input, input.event.text());
        if let Some(overrun) = overrun(&cost, &input) {
            return overrun;
        }
        if let Judgement::Fault(PluginFault::Script(error)) = &judgement
            && let Some(refusal) = script::refusal(error)
        {
            return ProbeOutcome::Refused(refusal);
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
        verdict: judgement.verdict(),
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
