//! Comparison of two versions over the same events, before one replaces the other. Nothing is sent.
//!
//! # Guarantees
//! - Each version gets the payload, config and secrets of its position in a subscription's chain.
//! - A comparison states the sources of its events, so that one over samples is never shown as one over real events.
//! - The first version of a plugin is called alone: its faults count as failures, and events that it rejects count as skipped.

use super::candidate::Candidate;
use super::counters::p95;
use super::difference::{Difference, DifferenceCounts, DifferenceKind};
use super::judgement::{Judgement, Outgoing};
use super::sample::Sample;
use super::version::{Version, VersionRef};
use super::{PluginError, Plugins, chain};
use hookloom_model::event::Event;
use hookloom_model::plural::counted;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_store::StoreError;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Maximum number of differences of each kind that a comparison has.
const DIFFERENCES_SHOWN: u64 = 10;

/// Source of an event of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// Accepted for a subscription that uses the plugin.
    Subscription,
    /// Another accepted event of the tenant, of a module that the plugin is used for.
    Tenant,
    /// Sample event of the host.
    Sample,
}

/// Event over which versions are compared.
pub struct ComparedEvent {
    /// Event to judge.
    pub event: Arc<Event>,
    /// Subscription with the chain, config and secrets.
    pub subscription: Arc<Subscription>,
    /// Source of the event.
    pub source: EventSource,
}

/// Number of judged events by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventSources {
    /// Events that were accepted for subscriptions of the plugin.
    pub subscriptions: u64,
    /// Other events of the tenant, of the modules that the plugin is used for.
    pub tenant: u64,
    /// Samples of the host.
    pub samples: u64,
}

/// Result of a comparison of two versions.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Comparison {
    /// Number of events that both versions judged.
    pub events: u64,
    /// Number of these events by source.
    pub sources: EventSources,
    /// Sources as text.
    pub judged_on: String,
    /// Number of events with the same result. Without an active version: number of events that the new version judged.
    pub same: u64,
    /// Number of events with another result that can be used.
    pub changed: u64,
    /// Number of events on which only the new version faulted or failed.
    pub failed: u64,
    /// Number of events that could not be compared: the host had no capacity, or an earlier plugin of the chain passed nothing on. Without
    /// an active version also events that the new version rejected, because another config may change that.
    pub skipped: u64,
    /// Number of events with another result by kind of the difference. `failed` is the number of new faults, and `changed` that of all
    /// others.
    pub kinds: DifferenceCounts,
    /// Events with another result: the first 10 of each kind.
    pub differences: Vec<Difference>,
    /// 95th percentile of the active version's wall time, in microseconds. 0 without a call.
    pub active_us_p95: u64,
    /// 95th percentile of the new version's wall time, in microseconds. 0 without a call.
    pub new_us_p95: u64,
    /// Number of events that the new version judged without a fault or failure.
    #[serde(skip)]
    usable: u64,
    /// Reason of the new version's first fault or failure.
    #[serde(skip)]
    first_reason: Option<String>,
}

impl EventSources {
    fn count(&mut self, source: EventSource) {
        match source {
            EventSource::Subscription => self.subscriptions += 1,
            EventSource::Tenant => self.tenant += 1,
            EventSource::Sample => self.samples += 1,
        }
    }
}

impl std::fmt::Display for EventSources {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let EventSources { subscriptions, tenant, samples } = *self;
        let real = subscriptions + tenant;
        if samples > 0 {
            return write!(
                out,
                "{}, because no real events were accepted yet",
                counted(samples, "sample event", "sample events")
            );
        }
        match real {
            0 => write!(out, "no event"),
            1 => write!(out, "the last real event"),
            _ => write!(out, "the last {real} real events"),
        }?;
        match (subscriptions, tenant) {
            (_, 0) => Ok(()),
            (0, _) => write!(out, " of the tenant, none of them of a webhook with this plugin"),
            _ => write!(out, ", {tenant} of them not of a webhook with this plugin"),
        }
    }
}

impl Plugins {
    /// Compares another version with the active one over events.
    pub async fn compare(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &str,
        sha256: &str,
        events: Vec<ComparedEvent>,
    ) -> Result<Comparison, PluginError> {
        let new = self.version(tenant, name, sha256).await?;
        let active = self.current(tenant, name).ok_or(StoreError::NotFound("plugin"))?;
        self.compiled(tenant, sha256).await?;
        self.compare_versions(tenant, name, vec![active, new], events).await
    }

    /// Calls the first version of a plugin with events, before it is stored.
    pub async fn evaluate_first_version(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &str,
        candidate: &Candidate,
        events: Vec<ComparedEvent>,
    ) -> Result<Comparison, PluginError> {
        self.compare_versions(tenant, name, vec![candidate.version()], events).await
    }

    /// Compares versions, of which the last is the new one.
    async fn compare_versions(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &str,
        versions: Vec<VersionRef>,
        events: Vec<ComparedEvent>,
    ) -> Result<Comparison, PluginError> {
        let reads_history = versions.iter().any(|version| version.reads_history);
        let mut active_us = Vec::new();
        let mut new_us = Vec::new();
        let mut comparison = Comparison::default();
        for ComparedEvent { event, subscription, source } in events {
            let Some(payload) = self.payload_for(name, &event, &subscription).await else {
                comparison.skipped += 1;
                continue;
            };
            let input = self.plugin_input(event.clone(), None, subscription, reads_history).await?;
            let shown = comparison.kinds;
            let both = move |code: Vec<Arc<Version>>| {
                let mut answers = code.iter().map(|version| chain::call_alone(version, &input, &payload)).rev();
                let (new, new_cost) = answers.next()?;
                let active = answers.next();
                Some(ComparedJudgement {
                    active_us: active.as_ref().map(|(_, cost)| cost.wall_us),
                    new_us: new_cost.wall_us,
                    ..ComparedJudgement::of(&event, active.map(|(active, _)| active).as_ref(), &new, shown)
                })
            };
            let Ok(Some(judged)) = self.call(tenant, versions.clone(), both).await else {
                comparison.skipped += 1;
                continue;
            };
            active_us.extend(judged.active_us);
            new_us.push(judged.new_us);
            comparison.count(judged, source);
        }
        comparison.judged_on = comparison.sources.to_string();
        comparison.active_us_p95 = p95(active_us);
        comparison.new_us_p95 = p95(new_us);
        Ok(comparison)
    }

    /// Returns the payload that a plugin of a subscription's chain reads. None: an earlier plugin passes nothing on.
    async fn payload_for(
        self: &Arc<Self>,
        name: &str,
        event: &Arc<Event>,
        subscription: &Subscription,
    ) -> Option<String> {
        let chain = &subscription.settings.plugin.0;
        let place = chain.iter().position(|step| step.plugin == *name).unwrap_or(0);
        if place == 0 {
            return Some(event.text().to_owned());
        }
        let mut before = subscription.clone();
        before.settings.change_calls(|chain, _, _| chain.0.truncate(place));
        let input = self.plugin_input(event.clone(), None, Arc::new(before), true).await.ok()?;
        match self.judge_with(input).await.judgement {
            Judgement::Pass => Some(event.text().to_owned()),
            Judgement::Replace(Outgoing { body, .. }) => String::from_utf8(body.to_vec()).ok(),
            _ => None,
        }
    }
}

/// Result of one event of a comparison.
struct ComparedJudgement {
    /// Judgement of the new version.
    new: Sample,
    /// False for the first version of a plugin, which is judged alone.
    has_active: bool,
    /// Kind of the difference. None: the judgements are the same, or there is one.
    kind: Option<DifferenceKind>,
    /// The difference, unless there are enough of its kind.
    difference: Option<Difference>,
    active_us: Option<u64>,
    new_us: u64,
}

impl ComparedJudgement {
    /// Compares two judgements of an event. Runs on a plugin thread, because comparing bodies costs milliseconds. `shown` has the numbers of
    /// the differences so far.
    fn of(event: &Event, active: Option<&Judgement>, new: &Judgement, shown: DifferenceCounts) -> Self {
        let new = Sample::of(new);
        let active = active.map(Sample::of);
        let kind = active.as_ref().and_then(|active| DifferenceKind::of(active, &new));
        let has_active = active.is_some();
        let difference = active.zip(kind).filter(|(_, kind)| shown.of(*kind) < DIFFERENCES_SHOWN);
        let difference = difference.map(|(active, kind)| Difference::new(kind, event, active, new.clone()));
        ComparedJudgement { new, has_active, kind, difference, active_us: None, new_us: 0 }
    }
}

impl Comparison {
    /// Counts an event.
    fn count(&mut self, judged: ComparedJudgement, source: EventSource) {
        let ComparedJudgement { new, has_active, kind, difference, .. } = judged;
        if !has_active {
            self.count_alone(new, source);
            return;
        }
        self.events += 1;
        self.sources.count(source);
        self.note_use(&new);
        match kind {
            None => self.same += 1,
            Some(DifferenceKind::NewFault) => self.failed += 1,
            Some(_) => self.changed += 1,
        }
        if let Some(kind) = kind {
            self.kinds.add(kind);
        }
        self.differences.extend(difference);
    }

    /// Counts an event that only the new version judged.
    fn count_alone(&mut self, new: Sample, source: EventSource) {
        self.note_use(&new);
        if !new.is_usable() && !new.is_fault() {
            self.skipped += 1;
            return;
        }
        self.events += 1;
        self.sources.count(source);
        if new.is_fault() {
            self.failed += 1;
        } else {
            self.same += 1;
        }
    }

    fn note_use(&mut self, new: &Sample) {
        if new.is_usable() {
            self.usable += 1;
        } else if self.first_reason.is_none() {
            self.first_reason.clone_from(&new.reason);
        }
    }

    /// Returns the reason why the new version must not replace the active one, if there is one.
    pub fn objection(&self) -> Option<String> {
        let reason = self.first_reason.as_ref().map(|reason| format!("; the first time: {reason}")).unwrap_or_default();
        if self.failed > 0 {
            let judged = &self.sources;
            return Some(format!("it fails on {} of {judged}{reason}", self.failed));
        }
        let real = self.sources.subscriptions + self.sources.tenant;
        if self.events == 0 || (real == 0 && self.usable == 0) {
            let skipped = counted(self.skipped + self.sources.samples, "event", "events");
            return Some(format!("nothing shows that it works: {skipped} could not be judged with it{reason}"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_events_is_reported() {
        #[track_caller]
        fn check(subscriptions: u64, tenant: u64, samples: u64, expected: &str) {
            assert_eq!(EventSources { subscriptions, tenant, samples }.to_string(), expected);
        }
        check(15, 0, 0, "the last 15 real events");
        check(1, 0, 0, "the last real event");
        check(0, 3, 0, "the last 3 real events of the tenant, none of them of a webhook with this plugin");
        check(2, 3, 0, "the last 5 real events, 3 of them not of a webhook with this plugin");
        check(0, 0, 2, "2 sample events, because no real events were accepted yet");
        check(0, 0, 0, "no event");
    }

    #[test]
    fn no_evidence_is_no_pass() {
        let sources = |subscriptions, samples| EventSources { subscriptions, tenant: 0, samples };
        let none = Comparison { skipped: 1, ..Comparison::default() };
        let why = none.objection().expect("nothing was judged");
        assert_eq!(why, "nothing shows that it works: 1 event could not be judged with it");
        let both_fail = Comparison { events: 2, same: 2, sources: sources(0, 2), ..Comparison::default() };
        assert!(both_fail.objection().is_some(), "samples on which both fail show nothing");
        let real = Comparison { events: 2, same: 2, sources: sources(2, 0), ..Comparison::default() };
        assert_eq!(real.objection(), None, "what is as broken as the active version may replace it");
        let sampled = Comparison { events: 2, same: 2, usable: 1, sources: sources(0, 2), ..Comparison::default() };
        assert_eq!(sampled.objection(), None);
        let failed = Comparison {
            events: 3,
            failed: 2,
            sources: sources(3, 0),
            first_reason: Some("trap".into()),
            ..Comparison::default()
        };
        assert_eq!(
            failed.objection().expect("it fails"),
            "it fails on 2 of the last 3 real events; the first time: trap"
        );
    }
}
