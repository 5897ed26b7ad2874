//! A chain of plugins judges one event, each seeing what the one before made of it.
//!
//! # Rules
//! - An answer other than pass or replace ends the chain.
//! - Only the last may return a binary body: the others' bodies are what the next one reads.
//! - Headers add up, and the later plugin's win; so do content type and URL.
//! - Limits hold for each plugin; the wall time is one budget for all of them.
//! - A canary's fault is noted, and the active version judges in its place: a canary costs no delivery.
//!
//! Runs on a plugin thread.

use super::judgement::{Judged, Judgement, Outgoing, PluginFault};
use super::rollout::{Rollout, Sample};
use super::runtime::Version;
use super::{convert, sandbox};
use crate::delivery::{Arm, Cost, JudgedStep};
use crate::event::Event;
use crate::subscription::Subscription;
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
pub(super) fn judge(turns: &[Turn], event: &Event, subscription: &Arc<Subscription>) -> (Judged, Vec<ShadowWork>) {
    let mut chain = Chain {
        event,
        subscription,
        wall_left: Duration::from_millis(subscription.settings.limits.wall_ms),
        outgoing: None,
        steps: Vec::new(),
        log: Vec::new(),
        shadows: Vec::new(),
        log_prefix: turns.len() > 1,
    };
    let end = turns.iter().enumerate().find_map(|(index, turn)| chain.step(turn, index + 1 == turns.len()));
    let whole = chain.outgoing.map_or(Judgement::Pass, Judgement::Replace);
    (Judged { judgement: end.unwrap_or(whole), steps: chain.steps, log: chain.log }, chain.shadows)
}

/// Asks one version about a payload, outside any chain.
pub(super) fn ask_alone(
    version: &Version,
    event: &Event,
    payload: &str,
    subscription: &Arc<Subscription>,
) -> (Judgement, Cost) {
    let wall = Duration::from_millis(subscription.settings.limits.wall_ms);
    let called = sandbox::call(&version.plugin, event, payload, subscription.clone(), wall);
    (convert::judgement(called.answer, subscription), called.cost)
}

struct Chain<'a> {
    event: &'a Event,
    subscription: &'a Arc<Subscription>,
    wall_left: Duration,
    outgoing: Option<Outgoing>,
    steps: Vec<JudgedStep>,
    log: Vec<String>,
    shadows: Vec<ShadowWork>,
    log_prefix: bool,
}

impl Chain<'_> {
    /// One plugin's turn. Some: the chain ends with this.
    fn step(&mut self, turn: &Turn, last: bool) -> Option<Judgement> {
        let mut judgement = self.ask(&turn.plugin, &turn.version, turn.arm, turn.rollout.as_deref());
        if let (Judgement::Fault(fault), Some(active)) = (&judgement, &turn.otherwise) {
            self.log.push(format!("host: the canary failed, and the active version judges ({fault})"));
            judgement = self.ask(&turn.plugin, active, Arm::Active, None);
        }
        if let Some(rollout) = turn.rollout.as_ref().filter(|rollout| rollout.is_shadow()) {
            let active = Sample::of(&judgement);
            self.shadows.push(ShadowWork { rollout: rollout.clone(), payload: self.payload().to_owned(), active });
        }
        match judgement {
            Judgement::Pass => None,
            Judgement::Replace(new) if !last && !new.is_text => {
                let what = format!("{} returned a binary body, and only the last plugin of a chain may", turn.plugin);
                Some(Judgement::Fault(PluginFault::BadOutput(what)))
            }
            Judgement::Replace(new) => self.merge(new).err().map(|what| Judgement::Fault(PluginFault::BadOutput(what))),
            end => Some(end),
        }
    }

    fn ask(&mut self, plugin: &str, version: &Version, arm: Arm, rollout: Option<&Rollout>) -> Judgement {
        let called =
            sandbox::call(&version.plugin, self.event, self.payload(), self.subscription.clone(), self.wall_left);
        let judgement = convert::judgement(called.answer, self.subscription);
        let faulted = matches!(&judgement, Judgement::Fault(_));
        if !(faulted && arm == Arm::Canary) {
            self.wall_left = self.wall_left.saturating_sub(Duration::from_micros(called.cost.wall_us));
        }
        if let Some(rollout) = rollout {
            rollout.note(arm, called.cost.cpu_us, faulted);
        }
        let prefix = if self.log_prefix { format!("{plugin}: ") } else { String::new() };
        self.log.extend(called.log.into_iter().map(|line| format!("{prefix}{line}")));
        self.steps.push(JudgedStep {
            plugin: plugin.to_owned(),
            sha256: Some(version.sha256.clone()),
            arm,
            verdict: judgement.word().to_owned(),
            reason: judgement.reason(),
            cost: called.cost,
        });
        judgement
    }

    /// What the next plugin reads.
    fn payload(&self) -> &str {
        match &self.outgoing {
            // Bodies of all but the last plugin are text.
            Some(outgoing) => std::str::from_utf8(&outgoing.body).unwrap_or_default(),
            None => self.event.text(),
        }
    }

    fn merge(&mut self, mut new: Outgoing) -> Result<(), String> {
        if let Some(old) = self.outgoing.take() {
            let mut headers = old.headers;
            headers.retain(|(name, _)| new.headers.iter().all(|(other, _)| other != name));
            headers.append(&mut new.headers);
            new.headers = headers;
            new.url = new.url.or(old.url);
            let limit = self.subscription.settings.limits.headers;
            if new.headers.len() as u64 > limit {
                return Err(format!("the chain adds {} headers, and limits.headers is {limit}", new.headers.len()));
            }
        }
        self.outgoing = Some(new);
        Ok(())
    }
}
