//! One call of a plugin: what it gets, and how it is stopped.
//!
//! # Life of a call
//! 1. A fresh store and instance from the pool; nothing is left from any other call. Where a subscription asks for it,
//!    an instance that judged its former events instead ([`reuse`](super::reuse)).
//! 2. The limits are set before the guest's first instruction, instantiation included.
//! 3. Every [`TICK`] the guest stops for a moment and its CPU and wall time are compared. The
//!    thread's CPU clock is what counts, so a guest that was preempted on a busy machine is not charged for it.
//! 4. The answer is checked and taken over, within the same time. After a fault the store is dropped, because it must not be used again.
//!
//! Runs on a plugin thread, never on tokio's. Knows no database and no network.

use super::bindings::Plugin;
use super::engine::TICK;
use super::guest::GuestState;
use super::judgement::{Judgement, PluginInput};
use super::runtime::Version;
use super::{PluginFault, call_record, convert, wasi};
use crate::delivery::Cost;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{CallHook, Engine, Store, UpdateDeadline};

/// Open handles of a guest: a plugin needs a few for its standard streams.
pub(super) const HANDLES_MAX: usize = 1_000;

/// What crosses into the host beside the body: log lines, headers and what the ABI adds.
const HOSTCALL_SLACK_BYTES: u64 = 2 << 20;

/// What a plugin is asked.
pub(super) struct CallInput<'a> {
    pub(super) input: &'a PluginInput,
    /// What the plugin before made of the event, or the event's own bytes.
    pub(super) payload: &'a str,
    /// What is left of the wall time.
    pub(super) wall: Duration,
}

/// What a call came to.
pub(super) struct CallResult {
    /// The plugin's answer, checked, or the fault.
    pub(super) judgement: Judgement,
    /// What it wrote to its log.
    pub(super) log: Vec<String>,
    /// What it cost.
    pub(super) cost: Cost,
    /// The instance, fit for another call unless it failed.
    pub(super) instance: Option<Instance>,
}

/// An instance of a plugin with its store.
pub(super) struct Instance {
    store: Store<GuestState>,
    plugin: Plugin,
    /// The version that it is of.
    sha256: String,
    /// How often it was called.
    pub(super) calls: u32,
}

/// Everything a linker needs to run plugins: the contract and WASI.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    Plugin::add_to_linker::<GuestState, HasSelf<GuestState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Asks a plugin in a fresh instance.
pub(super) fn call(version: &Version, call_input: &CallInput<'_>) -> CallResult {
    call_in(CallEnvironment::of(call_input), version, call_input)
}

/// What a guest can see of the world beside the event.
#[derive(Clone, Copy)]
pub(super) struct CallEnvironment {
    /// What its random numbers are seeded with.
    pub(super) seed: ([u8; 16], [u8; 16]),
    /// What its clock shows.
    pub(super) now_ms: i64,
}

impl CallEnvironment {
    /// Those that follow from the event, so that every attempt has the same.
    pub(super) fn of(call_input: &CallInput<'_>) -> Self {
        let PluginInput { event, subscription, .. } = call_input.input;
        let seed = (*event.id.0.as_bytes(), *subscription.id.0.as_bytes());
        CallEnvironment { seed, now_ms: event.received_at_ms }
    }
}

/// Asks a plugin in a fresh instance and in other surroundings.
pub(super) fn call_in(environment: CallEnvironment, version: &Version, call_input: &CallInput<'_>) -> CallResult {
    let _noted = call_record::begin(&call_input.input.subscription.tenant, &version.sha256, call_input.wall);
    let timer = CallTimer::start();
    let mut store = Store::new(version.plugin.engine(), GuestState::new(call_input, environment));
    store.limiter(GuestState::limiter);
    store.set_max_component_handles(HANDLES_MAX);
    store.call_hook(|mut context, hook| match hook {
        CallHook::CallingHost => context.data_mut().count_host_call(),
        _ => Ok(()),
    });
    limit(&mut store, timer, call_input);
    match version.plugin.instantiate(&mut store) {
        Ok(plugin) => Instance { store, plugin, sha256: version.sha256.clone(), calls: 0 }.ask(timer, call_input),
        Err(error) => {
            let mut state = store.into_data();
            let judgement = Judgement::Fault(state.fault(&error));
            let cost = timer.cost(&state, 0);
            CallResult { judgement, log: state.take_log(), cost, instance: None }
        }
    }
}

impl Instance {
    /// Asks it once more. Its memory is as the call before left it; its clock, random numbers and limits begin anew.
    pub(super) fn call_again(mut self, call_input: &CallInput<'_>) -> CallResult {
        let _noted = call_record::begin(&call_input.input.subscription.tenant, &self.sha256, call_input.wall);
        let timer = CallTimer::start();
        self.store.data_mut().begin_again(call_input, CallEnvironment::of(call_input));
        limit(&mut self.store, timer, call_input);
        self.ask(timer, call_input)
    }

    fn ask(mut self, timer: CallTimer, call_input: &CallInput<'_>) -> CallResult {
        let PluginInput { event, subscription, .. } = call_input.input;
        let event = convert::event(event, call_input.payload, subscription);
        let answer = self.plugin.hookloom_plugin_transform().call_transform(&mut self.store, &event);
        let earlier_calls = self.calls;
        self.calls += 1;
        let state = self.store.data_mut();
        let answer = answer.map_err(|error| state.fault(&error));
        let usable = answer.is_ok();
        // What checking an answer costs is the plugin's to answer for, who chooses its size: it is within the call's time.
        let judgement = convert::judgement(answer, subscription);
        let (cost, log) = (timer.cost(state, earlier_calls), state.take_log());
        let judgement = in_time(judgement, &cost, subscription.settings.limits.cpu_ms);
        CallResult { judgement, log, cost, instance: usable.then_some(self) }
    }
}

/// A judgement whose check took the call over its CPU time is a fault, as if the guest had used it.
fn in_time(judgement: Judgement, cost: &Cost, limit_ms: u64) -> Judgement {
    let over = Duration::from_micros(cost.cpu_us) > Duration::from_millis(limit_ms) + TICK;
    if over && !matches!(judgement, Judgement::Fault(_)) {
        return Judgement::Fault(PluginFault::Timeout { name: "cpu_ms", limit_ms });
    }
    judgement
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// CPU time of the calling thread. A thread that was preempted on a busy machine is not charged for it.
pub(super) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Since when a call runs.
#[derive(Clone, Copy)]
struct CallTimer {
    started: Instant,
    cpu_started: Duration,
}

impl CallTimer {
    fn start() -> Self {
        CallTimer { started: Instant::now(), cpu_started: thread_cpu_time() }
    }

    fn cpu(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.cpu_started)
    }

    fn cost(&self, state: &GuestState, earlier_calls: u32) -> Cost {
        Cost { wall_us: micros(self.started.elapsed()), cpu_us: micros(self.cpu()), earlier_calls, ..state.used() }
    }
}

/// Sets the limits of one call.
fn limit(store: &mut Store<GuestState>, timer: CallTimer, call_input: &CallInput<'_>) {
    let limits = &call_input.input.subscription.settings.limits;
    store.set_hostcall_fuel(usize::try_from(limits.output_bytes * 2 + HOSTCALL_SLACK_BYTES).unwrap_or(usize::MAX));
    let (cpu, wall) = (Duration::from_millis(limits.cpu_ms), call_input.wall);
    let stopped_by: Arc<AtomicU8> = store.data().stopped_by.clone();
    store.set_epoch_deadline(1);
    // The callback never touches the store; it leaves word in an atomic of its own.
    store.epoch_deadline_callback(move |_| {
        let over = match () {
            () if timer.cpu() > cpu => STOPPED_BY_CPU,
            () if timer.started.elapsed() > wall => STOPPED_BY_WALL,
            () => return Ok(UpdateDeadline::Continue(1)),
        };
        stopped_by.store(over, Ordering::Relaxed);
        Ok(UpdateDeadline::Interrupt)
    });
}

pub(super) const STOPPED_BY_CPU: u8 = 1;
pub(super) const STOPPED_BY_WALL: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Time that a call took, its limit, and whether its answer still counts.
    #[track_caller]
    fn check(cpu_us: u64, limit_ms: u64, counts: bool) {
        let cost = Cost { cpu_us, ..Cost::default() };
        let judgement = in_time(Judgement::Pass, &cost, limit_ms);
        let expected = Judgement::Fault(PluginFault::Timeout { name: "cpu_ms", limit_ms });
        let expected = if counts { Judgement::Pass } else { expected };
        assert_eq!(format!("{judgement:?}"), format!("{expected:?}"), "{cpu_us} µs of {limit_ms} ms");
    }

    #[test]
    fn an_answer_whose_check_took_too_long_is_a_fault() {
        let tick_us = micros(TICK);
        check(0, 50, true);
        check(50_000, 50, true);
        check(50_000 + tick_us, 50, true);
        check(50_001 + tick_us, 50, false);
        check(u64::from(u32::MAX), 50, false);
    }

    #[test]
    fn a_fault_stays_the_one_that_it_was() {
        let cost = Cost { cpu_us: 10_000_000, ..Cost::default() };
        let fault = || Judgement::Fault(PluginFault::Limit { name: "memory_bytes", value: 1 });
        assert_eq!(format!("{:?}", in_time(fault(), &cost, 50)), format!("{:?}", fault()));
    }
}
