//! Rollouts of all plugins: start, end, calls of shadows, and stored counters.
//!
//! # Guarantees
//! - A rollout is durable before it counts a call.
//! - No delivery waits for a shadow, and a shadow's output is never sent.
//! - A crash loses the counters of [`STORE_PERIOD`] at most. So does the end of a rollout by another host.
//!
//! # Limits
//! The arm of an event and the end of a canary are decided in [`rollout`](super::rollout).

use super::chain::ShadowWork;
use super::counters::RolloutFigures;
use super::judgement::PluginInput;
use super::rollout::Rollout;
use super::sample::Sample;
use super::version::Version;
use super::{PluginError, Plugins, chain};
use hookloom_model::subscription::TenantId;
use hookloom_store::{Actor, CountsElsewhere, RolloutId, StoredRollout, TAKEN_BACK};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Maximum number of waiting calls of shadows. Events beyond it are counted as skipped.
pub(super) const SHADOWS_WAITING_MAX: usize = 256;

impl Plugins {
    /// Returns the rollout of a plugin, if one is under way.
    pub(super) fn rollout(&self, tenant: &TenantId, name: &str) -> Option<Arc<Rollout>> {
        let rollouts = self.rollouts.read();
        if rollouts.is_empty() {
            return None;
        }
        rollouts.get(&(tenant.clone(), name.to_owned())).cloned()
    }

    /// Returns the rollout of a plugin that is under way, as stored.
    pub fn rollout_under_way(&self, tenant: &TenantId, name: &str) -> Option<StoredRollout> {
        self.rollout(tenant, name).map(|rollout| rollout.stored.clone())
    }

    pub(super) async fn restore_rollouts(&self) -> Result<(), PluginError> {
        for stored in self.store.rollouts().await?.into_iter().filter(|stored| stored.ended_reason.is_none()) {
            if self.quarantine(&stored.tenant, &stored.sha256).is_some() {
                let reason = "its version is quarantined".to_owned();
                self.store.end_rollout(Actor::Host, stored.id(), reason, None, || ()).await?;
                continue;
            }
            match self.version(&stored.tenant, &stored.name, &stored.sha256).await {
                Ok(version) => self.put_rollout(Arc::new(Rollout::new(stored, version))),
                Err(error) => {
                    let error = hookloom_model::describe(&error);
                    tracing::error!(tenant = %stored.tenant, plugin = %stored.name, %error, "a rollout could not be restored");
                }
            }
        }
        Ok(())
    }

    pub(super) fn put_rollout(&self, rollout: Arc<Rollout>) {
        let key = (rollout.stored.tenant.clone(), rollout.stored.name.clone());
        self.rollouts.write().insert(key, rollout);
    }

    /// Begins a rollout of a version. It replaces the plugin's previous rollout.
    pub async fn begin_rollout(self: &Arc<Self>, actor: Actor, rollout: StoredRollout) -> Result<(), PluginError> {
        let under_way = self.rollout(&rollout.tenant, &rollout.name);
        let continued = under_way.filter(|under_way| rollout.continues(&under_way.stored));
        let rollout = match &continued {
            Some(under_way) => StoredRollout { counts: under_way.to_store(), ..rollout.after(&under_way.stored) },
            None => rollout,
        };
        let version = self.version(&rollout.tenant, &rollout.name, &rollout.sha256).await?;
        self.check_quarantine(&rollout.tenant, &rollout.sha256)?;
        // Compiled first, so that the version can be called at once.
        self.compiled(&rollout.tenant, &rollout.sha256).await?;
        let plugins = self.clone();
        let stored = rollout.clone();
        let install = move || {
            plugins.put_rollout(Arc::new(match continued {
                Some(under_way) => under_way.continued(rollout, version),
                None => Rollout::new(rollout, version),
            }));
        };
        Ok(self.store.begin_rollout(actor, stored, install).await?)
    }

    /// Ends the rollout of a plugin. The active version judges all events again.
    pub async fn end_rollout(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        reason: String,
    ) -> Result<(), PluginError> {
        let Some(stored) = self.latest_rollout(&tenant, &name).await?.filter(|stored| stored.ended_reason.is_none())
        else {
            return Ok(());
        };
        let ended = stored.id();
        let known = self.rollout(&tenant, &name).filter(|rollout| rollout.stored.id() == ended);
        self.store_end(actor, ended, reason, known.map(|rollout| rollout.to_store())).await
    }

    /// Stores the end of a rollout, and then forgets it.
    async fn store_end(
        &self,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), PluginError> {
        let rollouts = self.rollouts.clone();
        let forgotten = ended.clone();
        let forget = move || {
            let key = (forgotten.tenant.clone(), forgotten.name.clone());
            let mut rollouts = rollouts.write();
            if rollouts.get(&key).is_some_and(|rollout| rollout.stored.id() == forgotten) {
                rollouts.remove(&key);
            }
        };
        Ok(self.store.end_rollout(actor, ended, reason, counts, forget).await?)
    }

    /// Returns the latest rollout of a plugin, as stored.
    async fn latest_rollout(&self, tenant: &TenantId, name: &str) -> Result<Option<StoredRollout>, PluginError> {
        let all = self.store.rollouts().await?;
        Ok(all.into_iter().find(|one| one.tenant == *tenant && one.name == name))
    }

    /// Stores the counters that changed since the last call.
    pub async fn store_rollout_counts(&self) {
        let all: Vec<Arc<Rollout>> = self.rollouts.read().values().cloned().collect();
        for rollout in all {
            let Some(counts) = rollout.take_changed() else { continue };
            if let Err(error) = self.store.note_rollout_counts(rollout.stored.id(), counts).await {
                rollout.mark_changed();
                let error = hookloom_model::describe(&error);
                tracing::warn!(%error, "the counts of a rollout could not be stored; trying again");
            }
        }
    }

    /// Reads what the other hosts counted for the rollouts under way.
    async fn read_counts_elsewhere(&self) {
        if self.rollouts.read().is_empty() {
            return;
        }
        let elsewhere = match self.store.rollout_counts_elsewhere().await {
            Ok(elsewhere) => elsewhere,
            Err(error) => {
                let error = hookloom_model::describe(&error);
                tracing::warn!(%error, "the counts of rollouts on other hosts could not be read; trying again");
                return;
            }
        };
        for CountsElsewhere { id, counts } in elsewhere {
            if let Some(rollout) = self.rollout(&id.tenant, &id.name).filter(|rollout| rollout.stored.id() == id) {
                rollout.set_elsewhere(&counts);
            }
        }
    }

    /// Returns the latest rollout of a plugin, with its figures.
    pub async fn rollout_figures(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<(StoredRollout, Option<RolloutFigures>)>, PluginError> {
        if let Some(rollout) = self.rollout(tenant, name) {
            return Ok(Some((rollout.stored.clone(), Some(rollout.figures()))));
        }
        Ok(self.latest_rollout(tenant, name).await?.map(|stored| {
            let figures = RolloutFigures::of_ended(&stored);
            (stored, figures)
        }))
    }

    /// Ends a canary that does worse than the active version.
    pub(super) fn end_if_worse(self: &Arc<Self>, rollout: Arc<Rollout>) {
        let Some(why) = rollout.breach() else { return };
        let StoredRollout { tenant, name, sha256, .. } = &rollout.stored;
        // Several calls may find the breach: the one that removes the rollout ends it.
        let taken = {
            let mut rollouts = self.rollouts.write();
            let key = (tenant.clone(), name.clone());
            rollouts.get(&key).is_some_and(|current| Arc::ptr_eq(current, &rollout)) && rollouts.remove(&key).is_some()
        };
        if !taken {
            return;
        }
        tracing::warn!(%tenant, plugin = %name, %sha256, %why, "a canary was taken back");
        let plugins = self.clone();
        tokio::spawn(async move {
            let reason = format!("{TAKEN_BACK}{why}");
            let counts = Some(rollout.to_store());
            if let Err(error) = plugins.store_end(Actor::Host, rollout.stored.id(), reason, counts).await {
                let error = hookloom_model::describe(&error);
                tracing::error!(%error, "the end of a canary could not be recorded; after a restart it runs again");
            }
        });
    }

    /// Starts the call of a shadow, if there is capacity.
    pub(super) fn call_shadow(self: &Arc<Self>, work: ShadowWork, input: PluginInput) {
        let Ok(slot) = self.shadows.clone().try_acquire_owned() else { return work.rollout.skip() };
        let plugins = self.clone();
        tokio::spawn(async move {
            let ShadowWork { rollout, payload, active } = work;
            let event = input.event.clone();
            let tenant = input.subscription.tenant.clone();
            let compared = rollout.clone();
            let compare = move |code: Vec<Arc<Version>>| {
                let version = code.first()?;
                let (judgement, _) = chain::call_alone(version, &input, &payload);
                compared.compare(&event, active, Sample::of(&judgement));
                Some(())
            };
            if !matches!(plugins.call(&tenant, vec![rollout.version.clone()], compare).await, Ok(Some(()))) {
                rollout.skip();
            }
            drop(slot);
        });
    }
}

/// Interval in which counters are stored, and those of other hosts are read.
const STORE_PERIOD: Duration = Duration::from_secs(1);

/// Stores the counters of rollouts, and reads those of other hosts, periodically until the host ends.
pub(super) async fn store_counts(plugins: Weak<Plugins>) {
    loop {
        tokio::time::sleep(STORE_PERIOD).await;
        let Some(plugins) = plugins.upgrade() else { return };
        plugins.store_rollout_counts().await;
        plugins.read_counts_elsewhere().await;
    }
}
