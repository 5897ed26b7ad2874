//! Deletion of plugins and versions, from the store and then from memory.
//!
//! # Guarantees
//! - Memory is updated after the commit, in the order of the changes of the tenant's plugins, also if the client has disconnected.
//! - Calls under way end on the version that they began with.
//!
//! # Limits
//! Compiled code stays in the cache until it is evicted.

use super::{PluginError, PluginKey, Plugins};
use hookloom_model::subscription::TenantId;
use hookloom_store::Actor;

impl Plugins {
    /// Deletes a plugin with all its versions, unless a subscription uses it.
    pub async fn delete(&self, actor: Actor, tenant: TenantId, name: String) -> Result<(), PluginError> {
        let active = self.active.clone();
        let rollouts = self.rollouts.clone();
        let pool = self.runtime.pool.clone();
        let key = (tenant.clone(), name.clone());
        let forgotten = key.clone();
        let forget = move || {
            active.write().remove(&forgotten);
            rollouts.write().remove(&forgotten);
            pool.evict_plugin(&forgotten.0, &forgotten.1);
        };
        self.store.delete_plugin(actor, tenant, name, forget).await?;
        self.forget_known(|other| *other == key);
        Ok(())
    }

    /// Deletes a version of a plugin, unless the version is active, pinned or in a rollout.
    pub async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), PluginError> {
        let version = ((tenant.clone(), name.clone()), sha256.clone());
        self.store.delete_version(actor, tenant, name, sha256).await?;
        self.known().pop(&version);
        Ok(())
    }

    /// Forgets the plugins of a tenant that was deleted.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        let names: Vec<String> = {
            let mut active = self.active.write();
            let keys: Vec<PluginKey> = active.keys().filter(|(owner, _)| owner == tenant).cloned().collect();
            keys.into_iter().filter_map(|key| active.remove(&key).map(|_| key.1)).collect()
        };
        names.iter().for_each(|name| self.runtime.pool.evict_plugin(tenant, name));
        self.rollouts.write().retain(|(owner, _), _| owner != tenant);
        self.file_problems.write().retain(|(owner, _), _| owner != tenant);
        self.forget_known(|(owner, _)| owner == tenant);
    }

    /// Forgets the inactive versions of some plugins.
    pub(super) fn forget_known(&self, of: impl Fn(&PluginKey) -> bool) {
        let mut known = self.known();
        let versions: Vec<(PluginKey, String)> =
            known.iter().map(|(version, _)| version).filter(|one| of(&one.0)).cloned().collect();
        versions.iter().for_each(|version| drop(known.pop(version)));
    }
}
