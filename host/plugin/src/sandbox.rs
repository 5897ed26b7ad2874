//! One call of a plugin in a bounded sandbox: instance, limits and cost.
//!
//! # Life of a call
//! 1. A fresh store and instance, which share nothing with any other call. A subscription with `reuse` may get an instance that has
//!    judged earlier events of the subscription ([`instance_pool`](super::instance_pool)).
//! 2. Limits apply from the guest's first instruction on, including instantiation.
//! 3. Every [`TICK`] the guest is interrupted, and its CPU and wall time are compared with the limits. CPU time is that of the
//!    thread, so a guest is not charged for preemption on a busy machine.
//! 4. The answer is validated within the same limits. After a fault the store is dropped: it must not be used again.
//!
//! # Limits
//! Runs on a plugin thread, never on tokio's threads. Uses neither store nor network.

use super::bindings::Plugin;
use super::engine::TICK;
use super::guest::{CallEnvironment, CallInput, GuestState, HANDLES_MAX, STOPPED_BY_CPU, STOPPED_BY_WALL};
use super::judgement::{Judgement, PluginInput};
use super::threads::thread_cpu_time;
use super::version::Version;
use super::{PluginFault, call_record, convert, wasi};
use hookloom_model::clock;
use hookloom_model::delivery::Cost;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{CallHook, Engine, Store, UpdateDeadline};

/// Bytes that a guest may pass to the host in addition to the body: log lines, headers and overhead of the ABI.
const HOSTCALL_SLACK_BYTES: u64 = 2 << 20;

/// Result of one call.
pub(super) struct CallResult {
    /// Validated answer of the plugin, or the fault.
    pub(super) judgement: Judgement,
    /// Log lines of the plugin.
    pub(super) log: Vec<String>,
    /// Cost of the call.
    pub(super) cost: Cost,
    /// Instance for another call. None: the call failed.
    pub(super) instance: Option<Instance>,
}

/// An instance of a plugin with its store.
pub(super) struct Instance {
    store: Store<GuestState>,
    plugin: Plugin,
    /// sha256 of the instance's version.
    sha256: String,
    /// Number of calls so far.
    pub(super) calls: u32,
}

/// Creates a linker with the functions of the contract and WASI.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    Plugin::add_to_linker::<GuestState, HasSelf<GuestState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Calls a plugin in a fresh instance.
pub(super) fn call(version: &Version, call_input: &CallInput<'_>) -> CallResult {
    call_in(CallEnvironment::of(call_input), version, call_input)
}

/// Calls a plugin in a fresh instance with another environment.
pub(super) fn call_in(environment: CallEnvironment, version: &Version, call_input: &CallInput<'_>) -> CallResult {
    let _noted = call_record::begin(&call_input.input.subscription.tenant, &version.sha256, call_input.wall);
    let timer = CallTimer::start();
    let mut store =
        Store::new(version.plugin.engine(), GuestState::new(call_input, environment).running(version.script.clone()));
    store.limiter(GuestState::limiter);
    store.set_max_component_handles(HANDLES_MAX);
    store.call_hook(|mut context, hook| match hook {
        CallHook::CallingHost => context.data_mut().count_host_call(),
        _ => Ok(()),
    });
    limit(&mut store, timer, call_input);
    match version.plugin.instantiate(&mut store) {
        Ok(plugin) => Instance { store, plugin, sha256: version.sha256.clone(), calls: 0 }.transform(timer, call_input),
        Err(error) => {
            let mut state = store.into_data();
            let judgement = Judgement::Fault(state.fault(&error));
            let cost = timer.cost(&state, 0);
            CallResult { judgement, log: state.take_log(), cost, instance: None }
        }
    }
}

impl Instance {
    /// Calls the instance again. Its memory is kept from the previous call; clock, random numbers and limits are reset.
    pub(super) fn call_again(mut self, call_input: &CallInput<'_>) -> CallResult {
        let _noted = call_record::begin(&call_input.input.subscription.tenant, &self.sha256, call_input.wall);
        let timer = CallTimer::start();
        self.store.data_mut().begin_again(call_input, CallEnvironment::of(call_input));
        limit(&mut self.store, timer, call_input);
        self.transform(timer, call_input)
    }

    fn transform(mut self, timer: CallTimer, call_input: &CallInput<'_>) -> CallResult {
        let PluginInput { event, subscription, settled, .. } = call_input.input;
        let event = convert::event(event, call_input.payload, subscription, *settled);
        let answer = self.plugin.hookloom_plugin_transform().call_transform(&mut self.store, &event);
        let earlier_calls = self.calls;
        self.calls += 1;
        let state = self.store.data_mut();
        let answer = answer.map_err(|error| state.fault(&error));
        let usable = answer.is_ok();
        // Validating the answer counts as time of the call, because the plugin chooses the answer's size.
        let judgement = convert::judgement(answer, subscription);
        let cost = timer.cost(state, earlier_calls);
        let log = state.take_log();
        let judgement = in_time(judgement, &cost, subscription.settings.limits.cpu_ms);
        CallResult { judgement, log, cost, instance: usable.then_some(self) }
    }
}

/// Turns a judgement into a timeout if validating the answer exceeded the CPU time of the call.
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

/// Start of a call, by wall clock and CPU clock.
#[derive(Clone, Copy)]
struct CallTimer {
    started: Instant,
    cpu_started: Duration,
}

impl CallTimer {
    fn start() -> Self {
        CallTimer { started: clock::instant(), cpu_started: thread_cpu_time() }
    }

    fn cpu(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.cpu_started)
    }

    fn cost(&self, state: &GuestState, earlier_calls: u32) -> Cost {
        Cost { wall_us: micros(clock::since(self.started)), cpu_us: micros(self.cpu()), earlier_calls, ..state.used() }
    }
}

/// Sets the limits of one call.
fn limit(store: &mut Store<GuestState>, timer: CallTimer, call_input: &CallInput<'_>) {
    let limits = &call_input.input.subscription.settings.limits;
    store.set_hostcall_fuel(usize::try_from(limits.output_bytes * 2 + HOSTCALL_SLACK_BYTES).unwrap_or(usize::MAX));
    let cpu = Duration::from_millis(limits.cpu_ms);
    let wall = call_input.wall;
    let stopped_by: Arc<AtomicU8> = store.data().stopped_by.clone();
    store.set_epoch_deadline(1);
    // The callback must not use the store, so it reports through an atomic.
    store.epoch_deadline_callback(move |_| {
        let over = if timer.cpu() > cpu {
            STOPPED_BY_CPU
        } else if clock::since(timer.started) > wall {
            STOPPED_BY_WALL
        } else {
            return Ok(UpdateDeadline::Continue(1));
        };
        stopped_by.store(over, Ordering::Relaxed);
        Ok(UpdateDeadline::Interrupt)
    });
}

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
