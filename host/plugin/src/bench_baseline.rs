//! Baseline of `hookloom plugin bench`: the cost of a call without the host's additions (instantiate, call, drop).
//!
//! # Limits
//! The guest's WASI context is created before the measurement. Only an epoch deadline bounds the call, which compiled code checks in
//! any case. Runs on a plugin thread.

use super::chain::{self, ChainStep};
use super::convert;
use super::guest::GuestState;
use super::guest::{CallEnvironment, CallInput, HANDLES_MAX};
use super::instance_pool::InstancePool;
use super::judgement::{Judgement, PluginInput};
use super::version::Version;
use hookloom_model::clock;
use std::time::Duration;
use wasmtime::Store;

/// Measures this many pairs of calls: one without and one with the host's additions. They alternate, so that other load affects both.
/// Calls that fail are left out.
pub(super) fn compare(step: &ChainStep, input: &PluginInput, calls: u32) -> [Vec<Duration>; 2] {
    let mut bare = Vec::new();
    let mut whole = Vec::new();
    // An empty pool: each call gets a fresh instance.
    let pool = InstancePool::new(0);
    for _ in 0..calls {
        bare.extend(call(&step.version, input));
        let begun = clock::instant();
        let (judged, _) = chain::judge(std::slice::from_ref(step), input, &pool);
        if !matches!(judged.judgement, Judgement::Fault(_)) {
            whole.push(clock::since(begun));
        }
    }
    [bare, whole]
}

/// Measures one call without the host's additions. None: the call failed.
fn call(version: &Version, input: &PluginInput) -> Option<Duration> {
    let wall = Duration::from_millis(input.subscription.settings.limits.wall_ms);
    let call_input = CallInput { input, payload: input.event.text(), wall };
    let state = GuestState::new(&call_input, CallEnvironment::of(&call_input));
    let event = convert::event(&input.event, call_input.payload, &input.subscription, None);
    let begun = clock::instant();
    let mut store = Store::new(version.plugin.engine(), state);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_epoch_deadline(u64::from(u32::MAX));
    let plugin = version.plugin.instantiate(&mut store).ok()?;
    let answer = plugin.hookloom_plugin_transform().call_transform(&mut store, &event);
    drop(store);
    answer.ok().map(|_| clock::since(begun))
}
