//! What a call costs without anything that the host adds: instantiate, call, drop.
//!
//! It is the floor that `hookloom plugin bench` shows beside the whole. The guest's world is made before the clock starts;
//! nothing bounds the call but the epoch's deadline, which compiled code asks for in any case. Runs on a plugin thread.

use super::chain::{self, ChainStep};
use super::convert;
use super::guest::GuestState;
use super::instance_pool::InstancePool;
use super::judgement::{Judgement, PluginInput};
use super::runtime::Version;
use super::sandbox::{CallEnvironment, CallInput, HANDLES_MAX};
use std::time::{Duration, Instant};
use wasmtime::Store;

/// Measures so many calls of each kind, taking turns, so that a busy neighbour hits both: bare ones, and whole ones as the
/// host makes them.
pub(super) fn compare(step: &ChainStep, input: &PluginInput, calls: u32) -> [Vec<Duration>; 2] {
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    // Nothing rests: each call is in a fresh instance.
    let pool = InstancePool::new(0);
    for _ in 0..calls {
        bare.extend(call(&step.version, input));
        let begun = Instant::now();
        let (judged, _) = chain::judge(std::slice::from_ref(step), input, &pool);
        if !matches!(judged.judgement, Judgement::Fault(_)) {
            whole.push(begun.elapsed());
        }
    }
    [bare, whole]
}

/// One bare call. None: the guest failed.
fn call(version: &Version, input: &PluginInput) -> Option<Duration> {
    let wall = Duration::from_millis(input.subscription.settings.limits.wall_ms);
    let call_input = CallInput { input, payload: input.event.text(), wall };
    let state = GuestState::new(&call_input, CallEnvironment::of(&call_input));
    let event = convert::event(&input.event, call_input.payload, &input.subscription);
    let begun = Instant::now();
    let mut store = Store::new(version.plugin.engine(), state);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_epoch_deadline(u64::from(u32::MAX));
    let plugin = version.plugin.instantiate(&mut store).ok()?;
    let answer = plugin.hookloom_plugin_transform().call_transform(&mut store, &event);
    drop(store);
    answer.ok().map(|_| begun.elapsed())
}
