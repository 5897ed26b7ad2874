//! A chain of plugins judges one event, each seeing what the one before made of it.
//!
//! # Rules
//! - An answer other than pass or replace ends the chain.
//! - Only the last may return a binary body: the others' bodies are what the next one reads. What of them is JSON is checked
//!   by the same rules as what intake accepts, so that a fault is that of the plugin that made it.
//! - Headers add up, and the later plugin's win; so do content type and URL.
//! - Limits hold for each plugin; the wall time is one budget for all of them.
//! - A canary's fault or failure is noted, and the active version judges in its place: a canary costs no delivery.
//! - So is the fault of an instance that judged earlier events, and a fresh instance judges in its place.
//!
//! Runs on a plugin thread.

use super::convert;
use super::instance_pool::{Owner, Rest};
use super::judgement::{Judged, Judgement, Outgoing, PluginFault, PluginInput};
use super::rollout::{CountedCall, Rollout};
use super::runtime::Version;
use super::sample::Sample;
use super::sandbox;
use super::sandbox::{CallInput, CallResult};
use crate::delivery::{Arm, Cost, JudgedStep};
use crate::plural::counted;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// A plugin whose turn it is.
pub(super) struct Turn {
    pub(super) plugin: String,
    pub(super) version: Arc<Version>,
    pub(super) arm: Arm,
    /// For a canary: the active version, which judges when the canary fails.
    pub(super) otherwise: Option<Arc<Version>>,
    pub(super) rollout: Option<Arc<Rollout>>,
}

/// What a version in the shadow shall be asked, and what the active one said.
pub(super) struct ShadowWork {
    pub(super) rollout: Arc<Rollout>,
    pub(super) payload: String,
    pub(super) active: Sample,
}

/// Lets every plugin judge in turn.
pub(super) fn judge(turns: &[Turn], input: &PluginInput, rest: &Rest) -> (Judged, Vec<ShadowWork>) {
    let mut chain = Chain {
        input,
        rest,
        wall_left: Duration::from_millis(input.subscription.settings.limits.wall_ms),
        outgoing: None,
        steps: Vec::new(),
        log: Vec::new(),
        shadows: Vec::new(),
        log_prefix: turns.len() > 1,
        last: false,
    };
    let end = turns.iter().enumerate().find_map(|(index, turn)| chain.step(turn, index + 1 == turns.len()));
    let whole = chain.outgoing.map_or(Judgement::Pass, Judgement::Replace);
    (Judged { judgement: end.unwrap_or(whole), steps: chain.steps, log: chain.log }, chain.shadows)
}

/// Asks one version about a payload, outside any chain, in a fresh instance.
pub(super) fn call_alone(version: &Version, input: &PluginInput, payload: &str) -> (Judgement, Cost) {
    let wall = Duration::from_millis(input.subscription.settings.limits.wall_ms);
    let result = sandbox::call(version, &CallInput { input, payload, wall });
    (result.judgement, result.cost)
}

struct Chain<'a> {
    input: &'a PluginInput,
    rest: &'a Rest,
    wall_left: Duration,
    outgoing: Option<Outgoing>,
    steps: Vec<JudgedStep>,
    log: Vec<String>,
    shadows: Vec<ShadowWork>,
    log_prefix: bool,
    /// Whether it is the last plugin's turn.
    last: bool,
}

/// Why an answer is of no use to the delivery, as far as its plugin is to blame: what a canary is taken back for.
fn failed(judgement: &Judgement) -> Option<String> {
    match judgement {
        Judgement::Fault(fault) if !fault.is_ours() => Some(fault.to_string()),
        Judgement::InvalidEvent(reason) | Judgement::Transient(reason) | Judgement::BadConfig(reason) => {
            Some(reason.to_string())
        }
        _ => None,
    }
}

impl Chain<'_> {
    /// One plugin's turn. Some: the chain ends with this.
    fn step(&mut self, turn: &Turn, last: bool) -> Option<Judgement> {
        self.last = last;
        let judgement = self.ask(&turn.plugin, &turn.version, turn.arm, turn.rollout.as_deref());
        let judgement = match &turn.otherwise {
            Some(active) => self.after_canary(turn, active, judgement),
            None => judgement,
        };
        if let Some(rollout) = turn.rollout.as_ref().filter(|rollout| rollout.is_shadow()) {
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

    /// What follows a canary's call: it is counted, and where it failed the active version judges in its place.
    fn after_canary(&mut self, turn: &Turn, active: &Version, judgement: Judgement) -> Judgement {
        let Some(why) = failed(&judgement) else {
            self.note_canary(turn, self.counted(&judgement), None);
            return judgement;
        };
        let call = self.counted(&judgement);
        self.log.push(format!("host: the canary failed, and the active version judges ({why})"));
        let judgement = self.ask(&turn.plugin, active, Arm::Active, None);
        self.note_canary(turn, call, self.counted(&judgement));
        judgement
    }

    fn note_canary(&self, turn: &Turn, call: Option<CountedCall>, in_its_place: Option<CountedCall>) {
        if let (Some(rollout), Some(call)) = (&turn.rollout, call) {
            rollout.note_canary(self.input.event.id, call, in_its_place);
        }
    }

    /// The last call as rollouts count it. None: the host could not call, which says nothing of the version.
    fn counted(&self, judgement: &Judgement) -> Option<CountedCall> {
        let is_ours = matches!(judgement, Judgement::Fault(fault) if fault.is_ours());
        let cpu_us = self.steps.last()?.cost.cpu_us;
        (!is_ours).then(|| CountedCall { cpu_us, failed: failed(judgement).is_some() })
    }

    /// Asks an instance that rested, if there is one; a fresh one otherwise, or if that one fails.
    fn ask(&mut self, plugin: &str, version: &Version, arm: Arm, rollout: Option<&Rollout>) -> Judgement {
        let owner = self
            .input
            .subscription
            .settings
            .reuse
            .map(|_| Owner::new(&self.input.subscription, plugin, &version.sha256));
        if let Some(rested) = owner.and_then(|owner| self.rest.take(&owner)) {
            let (calls, result) = (rested.calls, rested.call_again(&self.call_input()));
            match self.heard(result, plugin, version, arm, rollout) {
                Judgement::Fault(fault) => self.log.push(format!(
                    "host: the instance had judged {calls} events before and failed, and a fresh one judges ({fault})"
                )),
                judgement => return judgement,
            }
        }
        let result = sandbox::call(version, &self.call_input());
        self.heard(result, plugin, version, arm, rollout)
    }

    fn call_input(&self) -> CallInput<'_> {
        CallInput { input: self.input, payload: self.payload(), wall: self.wall_left }
    }

    /// Takes an answer over: judgement, time, log and step.
    fn heard(
        &mut self,
        result: CallResult,
        plugin: &str,
        version: &Version,
        arm: Arm,
        rollout: Option<&Rollout>,
    ) -> Judgement {
        let judgement = self.fitting(result.judgement, plugin);
        let in_vain = failed(&judgement).is_some();
        let faulted = matches!(&judgement, Judgement::Fault(_));
        let first_call = result.cost.earlier_calls == 0;
        // Who judges in the place of one that failed has the whole time.
        let replaced = if arm == Arm::Canary { in_vain } else { faulted && !first_call };
        if !replaced {
            self.wall_left = self.wall_left.saturating_sub(Duration::from_micros(result.cost.wall_us));
        }
        if let (Some(rule), Some(instance), false) = (self.input.subscription.settings.reuse, result.instance, faulted)
        {
            let (owner, calls) = (Owner::new(&self.input.subscription, plugin, &version.sha256), instance.calls);
            self.rest.put(owner, instance, calls, rule);
        }
        let prefix = if self.log_prefix { format!("{plugin}: ") } else { String::new() };
        self.log.extend(result.log.into_iter().map(|line| format!("{prefix}{line}")));
        self.steps.push(JudgedStep {
            plugin: plugin.to_owned(),
            sha256: Some(version.sha256.clone()),
            arm,
            verdict: judgement.word().to_owned(),
            reason: judgement.reason(),
            cost: result.cost,
        });
        // A fresh instance judges once more where a reused one faulted, and a canary's call is counted when its end is known.
        let is_final = first_call || !faulted;
        if let Some(rollout) = rollout.filter(|_| is_final && arm == Arm::Active)
            && let Some(call) = self.counted(&judgement)
        {
            rollout.note_active(self.input.event.id, call);
        }
        judgement
    }

    /// What the next plugin reads.
    fn payload(&self) -> &str {
        match &self.outgoing {
            // Bodies of all but the last plugin are text.
            Some(outgoing) => std::str::from_utf8(&outgoing.body).unwrap_or_default(),
            None => self.input.event.text(),
        }
    }

    /// A request that does not fit its place in the chain is a fault.
    fn fitting(&self, judgement: Judgement, plugin: &str) -> Judgement {
        let Judgement::Replace(new) = &judgement else { return judgement };
        let unfit = |what: String| Judgement::Fault(PluginFault::BadOutput(what));
        if !self.last && !new.is_text {
            return unfit(format!("{plugin} returned a binary body, and only the last plugin of a chain may"));
        }
        if !self.last
            && let Err(fault) = convert::check_handed_on(new)
        {
            return unfit(format!("{plugin} returned JSON that the next plugin could not read: {fault}"));
        }
        if self.outgoing.is_none() {
            return judgement;
        }
        let (headers, limits) = (self.headers_with(new), &self.input.subscription.settings.limits);
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        match () {
            () if headers.len() as u64 > limits.headers => {
                let added = counted(headers.len() as u64, "header", "headers");
                unfit(format!("the chain adds {added}, and limits.headers is {}", limits.headers))
            }
            () if bytes as u64 > limits.header_bytes => unfit(format!(
                "the chain adds headers of {bytes} bytes, and limits.header_bytes is {}",
                limits.header_bytes
            )),
            () => judgement,
        }
    }

    /// The headers so far with those of a plugin, which win.
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
