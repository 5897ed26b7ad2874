//! Changes of plugins that another host made in the same database.
//!
//! # Guarantees
//! - After [`Plugins::follow`], the memory of this host agrees with the store: active versions, rollouts and quarantine of a tenant. It is
//!   changed in the order of the tenant's plugin changes, so it never returns to an older state.
//! - Code is compiled or loaded before its version is put in force, so that the next call uses it at once. A version that cannot be
//!   compiled here is put in force all the same, and its deliveries wait in their lane.
//! - A rollout that continues with another percentage keeps its counts.
//!
//! # Limits
//! - The lanes are not woken. Deliveries that wait for another version were made due by the host that made the change.
//! - What this host counted for a rollout since its counts were stored is lost when another host ends the rollout.

use super::rollout::Rollout;
use super::version::VersionRef;
use super::{PluginError, PluginKey, Plugins};
use hookloom_model::subscription::TenantId;
use hookloom_store::{ActiveVersion, PluginChange, Quarantine, StoredRollout, TenantPlugins};
use hookloom_telemetry as telemetry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pause before a read of the store that failed is repeated.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// State of a tenant's plugins to put in force.
struct NewState {
    active: HashMap<PluginKey, VersionRef>,
    /// Rollouts under way, with their versions.
    rollouts: HashMap<PluginKey, (StoredRollout, VersionRef)>,
}

/// Follows the changes of other hosts, in their order, until the host ends.
pub(super) async fn follow_changes(plugins: Weak<Plugins>, mut changes: mpsc::UnboundedReceiver<PluginChange>) {
    while let Some(change) = changes.recv().await {
        let Some(plugins) = plugins.upgrade() else { return };
        for tenant in &change.tenants {
            while let Err(error) = plugins.follow(tenant).await {
                tracing::error!(%tenant, error = %hookloom_model::describe(&error), "a plugin that another host activated cannot be used here");
                // Without an answer of the store, nothing is in force yet.
                if !matches!(error, PluginError::Store(_)) {
                    break;
                }
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
        plugins.store.note_in_force(&change);
    }
}

impl Plugins {
    /// Puts in force what the store has for the plugins of a tenant.
    ///
    /// # Errors
    /// If a version cannot be compiled or loaded here. Everything is in force all the same.
    pub async fn follow(self: &Arc<Self>, tenant: &TenantId) -> Result<(), PluginError> {
        let mut failure = None;
        let mut tried = HashSet::new();
        loop {
            // Code is compiled outside of the order, because other changes of the tenant wait for it.
            let missing = self.follow_compiled(tenant.clone(), tried.clone()).await?;
            if missing.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            for sha256 in missing {
                if let Err(error) = self.compiled(tenant, &sha256).await {
                    failure.get_or_insert(error);
                }
                tried.insert(sha256);
            }
        }
    }

    /// Puts in force what the store has, if the code of every new version is among `tried`. Otherwise returns the others, and only the
    /// quarantine is in force.
    async fn follow_compiled(
        self: &Arc<Self>,
        tenant: TenantId,
        tried: HashSet<Arc<str>>,
    ) -> Result<Vec<Arc<str>>, PluginError> {
        let plugins = self.clone();
        let owner = tenant.clone();
        let follow = async move {
            let TenantPlugins { active, rollouts, quarantined } = plugins.store.tenant_plugins(tenant.clone()).await?;
            plugins.follow_quarantine(&tenant, quarantined);
            // Versions may have been deleted, or uploaded again with another report.
            plugins.forget_known(|(owner, _)| *owner == tenant);
            let state = plugins.new_state(active, rollouts).await;
            let new = plugins.new_versions(&tenant, &state);
            let missing: Vec<Arc<str>> = new.into_iter().filter(|sha256| !tried.contains(sha256)).collect();
            if missing.is_empty() {
                plugins.put_in_force(&tenant, state);
            }
            Ok(missing)
        };
        self.store.in_plugin_order(owner, move |_| follow).await
    }

    async fn new_state(&self, active: Vec<ActiveVersion>, rollouts: Vec<StoredRollout>) -> NewState {
        let active =
            active.into_iter().map(|one| ((one.tenant, one.name), VersionRef::new(&one.sha256, &one.report))).collect();
        let mut state = NewState { active, rollouts: HashMap::new() };
        for stored in rollouts.into_iter().filter(|stored| stored.ended_reason.is_none()) {
            match self.version(&stored.tenant, &stored.name, &stored.sha256).await {
                Ok(version) => {
                    state.rollouts.insert((stored.tenant.clone(), stored.name.clone()), (stored, version));
                }
                Err(error) => {
                    let error = hookloom_model::describe(&error);
                    tracing::error!(tenant = %stored.tenant, plugin = %stored.name, %error, "a rollout of another host could not be followed");
                }
            }
        }
        state
    }

    /// Returns the versions of a state that are not in force here, each once. Those in quarantine are not called, so they need no code.
    fn new_versions(&self, tenant: &TenantId, state: &NewState) -> HashSet<Arc<str>> {
        let in_force: HashSet<Arc<str>> = {
            let active = self.active.read();
            let rollouts = self.rollouts.read();
            let of_active = active.iter().filter(|((owner, _), _)| owner == tenant);
            let of_rollouts = rollouts.iter().filter(|((owner, _), _)| owner == tenant);
            let active = of_active.map(|(_, version)| version.sha256.clone());
            active.chain(of_rollouts.map(|(_, rollout)| rollout.version.sha256.clone())).collect()
        };
        let rollouts = state.rollouts.values().map(|(_, version)| version);
        let all = state.active.values().chain(rollouts).map(|version| version.sha256.clone());
        all.filter(|sha256| !in_force.contains(sha256) && self.quarantine(tenant, sha256).is_none()).collect()
    }

    fn put_in_force(&self, tenant: &TenantId, state: NewState) {
        if self.store.catalog().tenant(tenant).is_none() {
            self.forget_tenant(tenant);
        }
        let NewState { active, rollouts } = state;
        // Rollouts that have ended go first: they compared with the replaced version.
        self.rollouts.write().retain(|key, _| key.0 != *tenant || rollouts.contains_key(key));
        for (key, version) in &active {
            self.activate_here(key, version);
        }
        let deleted: Vec<PluginKey> = {
            let mut all = self.active.write();
            all.extract_if(|key, _| key.0 == *tenant && !active.contains_key(key)).map(|(key, _)| key).collect()
        };
        deleted.iter().for_each(|key| self.runtime.pool.evict_plugin(&key.0, &key.1));
        for (stored, version) in rollouts.into_values() {
            self.follow_rollout(stored, version);
        }
    }

    /// Makes a version the active one in memory.
    fn activate_here(&self, key: &PluginKey, version: &VersionRef) {
        let replaced = self.active.write().insert(key.clone(), version.clone());
        if replaced.is_none_or(|replaced| replaced.sha256 != version.sha256) {
            self.runtime.pool.evict_plugin(&key.0, &key.1);
        }
    }

    fn follow_rollout(&self, stored: StoredRollout, version: VersionRef) {
        let elsewhere = stored.counts_elsewhere.clone();
        let known = self.rollout(&stored.tenant, &stored.name);
        let rollout = match known.filter(|known| stored.is_stage_of(&known.stored)) {
            Some(known) if known.stored.id() == stored.id() => known,
            Some(known) => {
                let continued = Arc::new(known.continued(stored, version));
                // Counts that this host stores by the identity of the previous percentage are no longer taken.
                continued.mark_changed();
                continued
            }
            None => Arc::new(Rollout::new(stored, version)),
        };
        rollout.set_elsewhere(&elsewhere);
        self.put_rollout(rollout);
    }

    fn follow_quarantine(&self, tenant: &TenantId, stored: Vec<Quarantine>) {
        let stored: HashMap<String, Quarantine> = stored.into_iter().map(|one| (one.sha256.clone(), one)).collect();
        let mut quarantined = self.quarantined.write();
        for ((_, sha256), _) in quarantined.extract_if(|key, _| key.0 == *tenant && !stored.contains_key(&key.1)) {
            telemetry::quarantined(tenant, &sha256, false);
            tracing::warn!(%tenant, %sha256, "a version of a plugin is no longer quarantined, by another host");
        }
        for (sha256, one) in stored {
            let reason = one.reason.clone();
            if quarantined.insert((tenant.clone(), sha256.clone()), one).is_none() {
                telemetry::quarantined(tenant, &sha256, true);
                tracing::error!(%tenant, %sha256, %reason, "a version of a plugin was quarantined by another host: its deliveries wait for another one, or for an admin to activate it again");
            }
        }
    }
}

#[cfg(test)]
mod tests;
