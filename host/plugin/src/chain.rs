//! Chain of plugins: each plugin of a subscription reads the output of the plugin before it.
//!
//! # Guarantees
//! - A verdict other than pass or replace ends the chain.
//! - Only the last plugin may return a binary body, because the next plugin reads the body as text. A JSON body is checked by the
//!   rules of intake, so that a fault is assigned to the plugin that wrote it.
//! - Headers are merged; a later plugin overrides headers, content type and URL of an earlier one.
//! - Limits apply to each plugin, except for the wall time, which is one budget for all.
//! - A fault or failure of a canary is counted, and the active version judges instead: a canary costs no delivery.
//! - A fault of a reused instance is logged, and a fresh instance judges instead.
//!
//! # Limits
//! Runs on a plugin thread: never waits, and reads neither store nor network.

use super::convert;
use super::counters::CountedCall;
use super::guest::CallInput;
use super::instance_pool::{InstanceKey, InstancePool};
use super::judgement::{Judged, Judgement, Outgoing, PluginFault, PluginInput};
use super::rollout::Rollout;
use super::sample::Sample;
use super::sandbox;
use super::sandbox::CallResult;
use super::version::Version;
use hookloom_model::delivery::{Arm, Cost, JudgedStep};
use hookloom_model::plural::counted;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// Step of a chain: a plugin with the code of the versions that may judge.
pub(super) struct ChainStep {
    pub(super) plugin: String,
    pub(super) version: Arc<Version>,
    pub(super) arm: Arm,
    /// Active version that judges when a canary fails. None: the step has no canary.
    pub(super) fallback: Option<Arc<Version>>,
    pub(super) rollout: Option<Arc<Rollout>>,
}

/// Call of a shadow that is to be made, with the active version's judgement to compare.
pub(super) struct ShadowWork {
    pub(super) rollout: Arc<Rollout>,
    pub(super) payload: String,
    pub(super) active: Sample,
}

/// Calls the plugins of a chain one after the other.
pub(super) fn judge(steps: &[ChainStep], input: &PluginInput, pool: &InstancePool) -> (Judged, Vec<ShadowWork>) {
    let mut chain = ChainRun {
        input,
        pool,
        wall_left: Duration::from_millis(input.subscription.settings.limits.wall_ms),
        outgoing: None,
        steps: Vec::new(),
        log: Vec::new(),
        shadows: Vec::new(),
        log_prefix: steps.len() > 1,
        last: false,
    };
    let end = steps.iter().enumerate().find_map(|(index, step)| chain.run(step, index + 1 == steps.len()));
    let whole = chain.outgoing.map_or(Judgement::Pass, Judgement::Replace);
    (Judged { judgement: end.unwrap_or(whole), steps: chain.steps, log: chain.log }, chain.shadows)
}

/// Calls one version with a payload, outside any chain, in a fresh instance.
pub(super) fn call_alone(version: &Version, input: &PluginInput, payload: &str) -> (Judgement, Cost) {
    let wall = Duration::from_millis(input.subscription.settings.limits.wall_ms);
    let result = sandbox::call(version, &CallInput { input, payload, wall });
    (result.judgement, result.cost)
}

/// State of a chain while its plugins are called.
struct ChainRun<'a> {
    input: &'a PluginInput,
    pool: &'a InstancePool,
    wall_left: Duration,
    outgoing: Option<Outgoing>,
    steps: Vec<JudgedStep>,
    log: Vec<String>,
    shadows: Vec<ShadowWork>,
    log_prefix: bool,
    /// Set when the current step is the last one.
    last: bool,
}

/// Returns the reason why a plugin failed: a fault of the plugin or one of its failures. Such calls count against a canary.
fn failed(judgement: &Judgement) -> Option<String> {
    match judgement {
        Judgement::Fault(fault) if !fault.is_ours() => Some(fault.to_string()),
        Judgement::InvalidEvent(reason) | Judgement::Transient(reason) | Judgement::BadConfig(reason) => {
            Some(reason.to_string())
        }
        _ => None,
    }
}

impl ChainRun<'_> {
    /// Runs one step. Returns the judgement that ends the chain, if the step ends it.
    fn run(&mut self, step: &ChainStep, last: bool) -> Option<Judgement> {
        self.last = last;
        let judgement = self.call(&step.plugin, &step.version, step.arm, step.rollout.as_deref());
        let judgement = match &step.fallback {
            Some(active) => self.after_canary(step, active, judgement),
            None => judgement,
        };
        if let Some(rollout) = step.rollout.as_ref().filter(|rollout| rollout.is_shadow()) {
            let active = Sample::of(&judgement);
            self.shadows.push(ShadowWork { rollout: rollout.clone(), payload: self.payload().to_owned(), active });
        }
        match judgement {
            Judgement::Pass => None,
            Judgement::Replace(new) => {
                self.outgoing = Some(self.merged(new));
                None
            }
            end => Some(end),
        }
    }

    /// Counts a canary's call. If the canary failed, the active version judges instead.
    fn after_canary(&mut self, step: &ChainStep, active: &Version, judgement: Judgement) -> Judgement {
        let Some(why) = failed(&judgement) else {
            self.note_canary(step, self.counted(&judgement), None);
            return judgement;
        };
        let call = self.counted(&judgement);
        self.log.push(format!("host: the canary failed, and the active version judges ({why})"));
        let judgement = self.call(&step.plugin, active, Arm::Active, None);
        self.note_canary(step, call, self.counted(&judgement));
        judgement
    }

    fn note_canary(&self, step: &ChainStep, call: Option<CountedCall>, fallback_call: Option<CountedCall>) {
        if let (Some(rollout), Some(call)) = (&step.rollout, call) {
            rollout.note_canary(self.input.event.id, call, fallback_call);
        }
    }

    /// The last call as rollouts count it. None: the host could not call, which says nothing of the version.
    fn counted(&self, judgement: &Judgement) -> Option<CountedCall> {
        let is_ours = matches!(judgement, Judgement::Fault(fault) if fault.is_ours());
        let cpu_us = self.steps.last()?.cost.cpu_us;
        (!is_ours).then(|| CountedCall { cpu_us, failed: failed(judgement).is_some() })
    }

    /// Asks an instance that rested, if there is one; a fresh one otherwise, or if that one fails.
    fn call(&mut self, plugin: &str, version: &Version, arm: Arm, rollout: Option<&Rollout>) -> Judgement {
        let key = self
            .input
            .subscription
            .settings
            .reuse
            .map(|_| InstanceKey::new(&self.input.subscription, plugin, &version.sha256));
        if let Some(rested) = key.and_then(|key| self.pool.take(&key)) {
            let calls = rested.calls;
            let result = rested.call_again(&self.call_input());
            match self.record_call(result, plugin, version, arm, rollout) {
                Judgement::Fault(fault) => self.log.push(format!(
                    "host: the instance had judged {calls} events before and failed, and a fresh one judges ({fault})"
                )),
                judgement => return judgement,
            }
        }
        let result = sandbox::call(version, &self.call_input());
        self.record_call(result, plugin, version, arm, rollout)
    }

    fn call_input(&self) -> CallInput<'_> {
        CallInput { input: self.input, payload: self.payload(), wall: self.wall_left }
    }

    /// Records the result of a call: judgement, cost, log, and the instance for the pool.
    fn record_call(
        &mut self,
        result: CallResult,
        plugin: &str,
        version: &Version,
        arm: Arm,
        rollout: Option<&Rollout>,
    ) -> Judgement {
        let judgement = self.check_output(result.judgement, plugin);
        let is_failure = failed(&judgement).is_some();
        let faulted = matches!(&judgement, Judgement::Fault(_));
        let first_call = result.cost.earlier_calls == 0;
        // The version or instance that judges instead gets the full wall time.
        let replaced = if arm == Arm::Canary { is_failure } else { faulted && !first_call };
        if !replaced {
            self.wall_left = self.wall_left.saturating_sub(Duration::from_micros(result.cost.wall_us));
        }
        if let (Some(rule), Some(instance), false) = (self.input.subscription.settings.reuse, result.instance, faulted)
        {
            let key = InstanceKey::new(&self.input.subscription, plugin, &version.sha256);
            let calls = instance.calls;
            self.pool.put(key, instance, calls, rule);
        }
        let prefix = if self.log_prefix { format!("{plugin}: ") } else { String::new() };
        self.log.extend(result.log.into_iter().map(|line| format!("{prefix}{line}")));
        self.steps.push(JudgedStep {
            plugin: plugin.to_owned(),
            sha256: Some(version.sha256.clone()),
            arm,
            verdict: judgement.verdict(),
            reason: judgement.reason(),
            cost: result.cost,
        });
        // After a fault of a reused instance the call of the fresh one counts. The call of a canary is counted by `after_canary`.
        let is_final = first_call || !faulted;
        if let Some(rollout) = rollout.filter(|_| is_final && arm == Arm::Active)
            && let Some(call) = self.counted(&judgement)
        {
            rollout.note_active(self.input.event.id, call);
        }
        judgement
    }

    /// Returns the payload that the next plugin reads.
    fn payload(&self) -> &str {
        match &self.outgoing {
            // `check_output` refuses a binary body of any plugin but the last.
            Some(outgoing) => std::str::from_utf8(&outgoing.body).unwrap_or_default(),
            None => self.input.event.text(),
        }
    }

    /// Turns a request that does not fit its position in the chain into a fault.
    fn check_output(&self, judgement: Judgement, plugin: &str) -> Judgement {
        let Judgement::Replace(new) = &judgement else { return judgement };
        if !self.last && !new.is_text {
            return bad_output(format!("{plugin} returned a binary body, and only the last plugin of a chain may"));
        }
        if !self.last
            && let Err(fault) = convert::check_handed_on(new)
        {
            return bad_output(format!("{plugin} returned JSON that the next plugin could not read: {fault}"));
        }
        if self.outgoing.is_none() {
            return judgement;
        }
        let headers = self.headers_with(new);
        let limits = &self.input.subscription.settings.limits;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if headers.len() as u64 > limits.headers {
            let added = counted(headers.len() as u64, "header", "headers");
            return bad_output(format!("the chain adds {added}, and limits.headers is {}", limits.headers));
        }
        if bytes as u64 > limits.header_bytes {
            let most = limits.header_bytes;
            return bad_output(format!("the chain adds headers of {bytes} bytes, and limits.header_bytes is {most}"));
        }
        judgement
    }

    /// Merges the headers of a plugin into those of earlier plugins, and overrides those of the same name.
    fn headers_with(&self, new: &Outgoing) -> Vec<(HeaderName, HeaderValue)> {
        let before = self.outgoing.as_ref().map_or(&[][..], |outgoing| &outgoing.headers);
        let kept = before.iter().filter(|(name, _)| new.headers.iter().all(|(other, _)| other != name));
        kept.chain(&new.headers).cloned().collect()
    }

    fn merged(&mut self, new: Outgoing) -> Outgoing {
        let headers = self.headers_with(&new);
        let url = new.url.or(self.outgoing.take().and_then(|before| before.url));
        Outgoing { headers, url, ..new }
    }
}

fn bad_output(what: String) -> Judgement {
    Judgement::Fault(PluginFault::BadOutput(what))
}
