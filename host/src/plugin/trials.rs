//! Trials of versions, on the host's side: begin, end, judge in the shadow, and compare over real events.
//!
//! A trial is durable before it begins to count. What a shadow says is never waited for and never sent.

use super::chain::ShadowWork;
use super::judgement::{Judgement, Matter, Outgoing};
use super::rollout::{Difference, Rollout, RolloutFigures, Sample, p95};
use super::runtime::{Version, VersionRef};
use super::{PluginError, Plugins, chain, write_lock};
use crate::event::Event;
use crate::store::{StoreError, StoredRollout};
use crate::subscription::{Subscription, TenantId};
use serde::Serialize;
use std::sync::{Arc, PoisonError};
use utoipa::ToSchema;

/// How many shadow calls may wait: what comes on top is counted and left out.
pub(super) const SHADOWS_WAITING_MAX: usize = 256;

/// How many differences a comparison shows.
const DIFFERENCES_SHOWN: usize = 10;

/// What two versions made of the same real events.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Comparison {
    /// How many events both judged.
    pub events: u64,
    /// How many came out the same.
    pub same: u64,
    /// How many came out differently, and could be used.
    pub changed: u64,
    /// How many ended in a fault or a failure of the new version and not of the active one.
    pub failed: u64,
    /// How many could not be put to the two: the host had no time, or an earlier plugin of the chain let nothing through.
    pub skipped: u64,
    /// The first of what changed or failed.
    pub differences: Vec<Difference>,
    /// The 95th percentile of the active version's wall time, in microseconds.
    pub active_us_p95: u64,
    /// The same of the new version.
    pub new_us_p95: u64,
}

impl Plugins {
    /// The trial of a plugin, if one is under way.
    pub(super) fn rollout(&self, tenant: &TenantId, name: &str) -> Option<Arc<Rollout>> {
        let rollouts = self.rollouts.read().unwrap_or_else(PoisonError::into_inner);
        if rollouts.is_empty() {
            return None;
        }
        rollouts.get(&(tenant.clone(), name.to_owned())).cloned()
    }

    pub(super) async fn restore_rollouts(&self) -> Result<(), PluginError> {
        for stored in self.store.rollouts().await?.into_iter().filter(|stored| stored.ended_reason.is_none()) {
            if self.quarantine(&stored.tenant, &stored.sha256).is_some() {
                self.end_rollout(stored.tenant, stored.name, "its version is quarantined".into()).await?;
                continue;
            }
            match self.version(&stored.tenant, &stored.name, &stored.sha256).await {
                Ok(version) => self.put_rollout(stored, version),
                Err(error) => {
                    let error = crate::describe(&error);
                    tracing::error!(tenant = %stored.tenant, plugin = %stored.name, %error, "a version on trial could not be restored");
                }
            }
        }
        Ok(())
    }

    fn put_rollout(&self, stored: StoredRollout, version: VersionRef) {
        let key = (stored.tenant.clone(), stored.name.clone());
        write_lock(&self.rollouts).insert(key, Arc::new(Rollout::new(stored, version)));
    }

    /// Begins a trial of a version, in the place of the one before.
    pub async fn begin_rollout(&self, rollout: StoredRollout) -> Result<(), PluginError> {
        let rollout = match self.rollout(&rollout.tenant, &rollout.name) {
            Some(under_way) => rollout.after(&under_way.stored),
            None => rollout,
        };
        let version = self.version(&rollout.tenant, &rollout.name, &rollout.sha256).await?;
        self.check_quarantine(&rollout.tenant, &rollout.sha256)?;
        // What begins to judge can be called at once.
        self.compiled(&rollout.tenant, &rollout.sha256).await?;
        self.store.begin_rollout(rollout.clone()).await?;
        self.put_rollout(rollout, version);
        Ok(())
    }

    /// Ends a plugin's trial: the active version judges everything.
    pub async fn end_rollout(&self, tenant: TenantId, name: String, reason: String) -> Result<(), PluginError> {
        write_lock(&self.rollouts).remove(&(tenant.clone(), name.clone()));
        Ok(self.store.end_rollout(tenant, name, reason).await?)
    }

    /// A plugin's last trial, and how it goes if it is under way.
    pub async fn rollout_figures(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<(StoredRollout, Option<RolloutFigures>)>, PluginError> {
        if let Some(rollout) = self.rollout(tenant, name) {
            return Ok(Some((rollout.stored.clone(), Some(rollout.figures()))));
        }
        let ended = self.store.rollouts().await?;
        Ok(ended.into_iter().find(|one| one.tenant == *tenant && one.name == name).map(|stored| (stored, None)))
    }

    /// Takes a canary back that does worse than the active version.
    pub(super) fn end_if_worse(self: &Arc<Self>, rollout: Arc<Rollout>) {
        let Some(why) = rollout.breach() else { return };
        let StoredRollout { tenant, name, sha256, .. } = rollout.stored.clone();
        // Only who takes it out ends it.
        let taken = {
            let (mut rollouts, key) = (write_lock(&self.rollouts), (tenant.clone(), name.clone()));
            rollouts.get(&key).is_some_and(|current| Arc::ptr_eq(current, &rollout)) && rollouts.remove(&key).is_some()
        };
        if !taken {
            return;
        }
        tracing::warn!(%tenant, plugin = %name, %sha256, %why, "a canary was taken back");
        let plugins = self.clone();
        tokio::spawn(async move {
            if let Err(error) = plugins.store.end_rollout(tenant, name, format!("taken back: {why}")).await {
                let error = crate::describe(&error);
                tracing::error!(%error, "the end of a canary could not be recorded; after a restart it begins anew");
            }
        });
    }

    /// Asks a version in the shadow what it would have said.
    pub(super) fn judge_in_the_shadow(self: &Arc<Self>, work: ShadowWork, matter: Matter) {
        let Ok(room) = self.shadows.clone().try_acquire_owned() else { return work.rollout.skip() };
        let plugins = self.clone();
        tokio::spawn(async move {
            let ShadowWork { rollout, payload, active } = work;
            let event = matter.event.clone();
            let tenant = matter.subscription.tenant.clone();
            let compared = rollout.clone();
            let ask = move |code: Vec<Arc<Version>>| {
                let version = code.first()?;
                let (judgement, _) = chain::ask_alone(version, &matter, &payload);
                compared.compare(&event, active, Sample::of(&judgement));
                Some(())
            };
            if !matches!(plugins.call(&tenant, vec![rollout.version.clone()], ask).await, Ok(Some(()))) {
                rollout.skip();
            }
            drop(room);
        });
    }

    /// Lets the active and another version judge the same events, each with what its place in a subscription's chain
    /// would give it to read.
    pub async fn compare(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &str,
        sha256: &str,
        events: Vec<(Arc<Event>, Arc<Subscription>)>,
    ) -> Result<Comparison, PluginError> {
        let new = self.version(tenant, name, sha256).await?;
        let active = self.current(tenant, name).ok_or(StoreError::NotFound("plugin"))?;
        self.compiled(tenant, sha256).await?;
        let versions = vec![active, new];
        let reads_history = versions.iter().any(|version| version.reads_history);
        let (mut active_us, mut new_us) = (Vec::new(), Vec::new());
        let mut comparison = Comparison::default();
        for (event, subscription) in events {
            let Some(payload) = self.payload_for(name, &event, &subscription).await else {
                comparison.skipped += 1;
                continue;
            };
            let matter = self.matter(event.clone(), subscription, reads_history).await?;
            let mut counted = comparison.clone();
            let both = move |code: Vec<Arc<Version>>| {
                let answers: Vec<_> = code.iter().map(|version| chain::ask_alone(version, &matter, &payload)).collect();
                let [(old, old_cost), (new, new_cost)] = <[_; 2]>::try_from(answers).ok()?;
                counted.count(&event, Sample::of(&old), Sample::of(&new));
                Some((counted, [old_cost.wall_us, new_cost.wall_us]))
            };
            let Ok(Some((counted, [old_us, new_us_of_one]))) = self.call(tenant, versions.clone(), both).await else {
                comparison.skipped += 1;
                continue;
            };
            comparison = counted;
            active_us.push(old_us);
            new_us.push(new_us_of_one);
        }
        comparison.active_us_p95 = p95(active_us);
        comparison.new_us_p95 = p95(new_us);
        Ok(comparison)
    }

    /// What a plugin of a subscription's chain gets to read of an event. None: an earlier one lets nothing through.
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
        before.settings.plugin.0.truncate(place);
        let matter = self.matter(event.clone(), Arc::new(before), true).await.ok()?;
        match self.judge_with(matter).await.judgement {
            Judgement::Pass => Some(event.text().to_owned()),
            Judgement::Replace(Outgoing { body, .. }) => String::from_utf8(body.to_vec()).ok(),
            _ => None,
        }
    }
}

impl Comparison {
    fn count(&mut self, event: &Event, active: Sample, other: Sample) {
        self.events += 1;
        if active == other {
            self.same += 1;
            return;
        }
        match other.is_usable() || !active.is_usable() {
            true => self.changed += 1,
            false => self.failed += 1,
        }
        if self.differences.len() < DIFFERENCES_SHOWN {
            self.differences.push(Difference::new(event, active, other));
        }
    }
}
