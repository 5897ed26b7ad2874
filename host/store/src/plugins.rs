//! Plugins: versions, activations, rollouts and quarantine.
//!
//! # Guarantees
//! - What runs is what is stored. A change of which code runs is stored, then installed by its caller's function, and then published
//!   to the lanes; no other such change of the same tenant runs in between, and none of it stops if the client has disconnected.

use crate::audit::Actor;
use crate::backend::plugins::{ActiveVersion, PluginVersion, StoredPlugin};
use crate::backend::rollouts::{CountsElsewhere, Quarantine, RolloutId, StoredRollout};
use crate::backend::tenant_plugins::{HaltedVersion, TenantPlugins};
use crate::usage::TenantContents;
use crate::{Store, StoreError};
use bytes::Bytes;
use delegate::delegate;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Number of tenants above which locks that nobody holds are dropped.
const LOCKS_KEPT: usize = 256;

/// Order of the changes of each tenant's plugins, from the commit of a change until it is installed.
#[derive(Default)]
pub(crate) struct PluginOrder(Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>);

impl PluginOrder {
    /// Waits until no other change of the tenant's plugins is under way.
    async fn hold(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            if locks.len() >= LOCKS_KEPT {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(tenant.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

impl Store {
    /// Adds a version, unless it exists, and activates it. Deliveries that wait for another version of the plugin become due.
    ///
    /// `install` runs after the commit, in the order of the commits and before any waiting delivery is published. So the version that
    /// runs is always the stored one, even if clients disconnect or upload at the same time.
    pub async fn activate_plugin(
        self: &Arc<Self>,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
        install: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        self.in_plugin_order(owner, move |store| async move {
            let users = store.users_of(&tenant, &name);
            store.backend.activate_plugin(actor, tenant, name, version, component).await?;
            store.installed(users, install);
            Ok(())
        })
        .await
    }

    /// Activates an existing version. `install` runs as in [`Store::activate_plugin`].
    pub async fn activate_version(
        self: &Arc<Self>,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
        install: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        self.in_plugin_order(owner, move |store| async move {
            let users = store.users_of(&tenant, &name);
            store.backend.activate_version(actor, tenant, name, sha256).await?;
            store.installed(users, install);
            Ok(())
        })
        .await
    }

    /// Installs an activated version, and publishes the subscriptions that use its plugin.
    fn installed(&self, users: Vec<SubscriptionId>, install: impl FnOnce()) {
        install();
        users.into_iter().for_each(|id| self.state.publish_change(id));
        self.sweeps.notify_one();
    }

    /// Runs work while this host makes no other change of the tenant's plugins, in a task of its own, which goes on if the caller is
    /// gone.
    ///
    /// # Errors
    /// Those of the work, and [`StoreError::Panicked`].
    pub async fn in_plugin_order<T, E, F>(
        self: &Arc<Self>,
        owner: TenantId,
        work: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let store = self.clone();
        let ordered = async move {
            let _order = store.plugin_order.hold(&owner).await;
            work(store.clone()).await
        };
        tokio::spawn(ordered).await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }

    /// Deletes a plugin with all its versions, unless a subscription uses it. `forget` runs after the commit, in the order of
    /// [`Store::activate_plugin`].
    pub async fn delete_plugin(
        self: &Arc<Self>,
        actor: Actor,
        tenant: TenantId,
        name: String,
        forget: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        self.in_plugin_order(owner, move |store| async move {
            store.backend.delete_plugin(actor, tenant, name).await?;
            forget();
            store.deletions.notify_one();
            Ok(())
        })
        .await
    }

    /// Begins a rollout, which replaces the plugin's previous one. `install` runs as in [`Store::activate_plugin`].
    pub async fn begin_rollout(
        self: &Arc<Self>,
        actor: Actor,
        rollout: StoredRollout,
        install: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = rollout.tenant.clone();
        self.in_plugin_order(owner, move |store| async move {
            store.backend.begin_rollout(actor, rollout).await?;
            install();
            Ok(())
        })
        .await
    }

    /// Ends a rollout, if it is under way, with the last counts of this host. None: the stored counts stay. A rollout that has ended or was
    /// replaced changes nothing. `forget` runs after the commit, in the order of [`Store::activate_plugin`].
    pub async fn end_rollout(
        self: &Arc<Self>,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
        forget: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = ended.tenant.clone();
        self.in_plugin_order(owner, move |store| async move {
            store.backend.end_rollout(actor, ended, reason, counts).await?;
            forget();
            Ok(())
        })
        .await
    }

    /// Begins the deletion of a tenant. Its keys, addresses and subscriptions end at once. The entry with its contents is added to
    /// the host's log, because the tenant's log is deleted. `forget` runs after the commit, in the order of
    /// [`Store::activate_plugin`].
    pub async fn delete_tenant(
        self: &Arc<Self>,
        actor: Actor,
        tenant: TenantId,
        contents: TenantContents,
        forget: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        self.in_plugin_order(owner, move |store| async move {
            let _change = store.changes.read().await;
            store.backend.delete_tenant(actor, tenant, contents).await?;
            forget();
            store.deletions.notify_one();
            Ok(())
        })
        .await
    }

    /// Deletes a version of a plugin, unless it is active, pinned or in a rollout.
    pub async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        self.backend.delete_version(actor, tenant, name, sha256).await?;
        self.deletions.notify_one();
        Ok(())
    }

    /// Returns the subscriptions that use a plugin.
    pub(crate) fn users_of(&self, tenant: &TenantId, name: &str) -> Vec<SubscriptionId> {
        self.catalog().users_of(tenant, name)
    }

    delegate! {
        to self.backend {
            /// Adds a version to an existing plugin, without activating it.
            pub async fn add_version(
                &self,
                actor: Actor,
                tenant: TenantId,
                name: String,
                version: PluginVersion,
                component: Bytes,
            ) -> Result<(), StoreError>;

            /// Returns true if a plugin has a version.
            pub async fn has_version(&self, tenant: TenantId, name: String, sha256: String) -> Result<bool, StoreError>;

            /// Returns the check report of a version of a plugin, as JSON. None: the plugin has no such version.
            pub async fn version_report(
                &self,
                tenant: TenantId,
                name: String,
                sha256: String,
            ) -> Result<Option<String>, StoreError>;

            /// Returns the active versions of all tenants, for the start.
            pub async fn active_versions(&self) -> Result<Vec<ActiveVersion>, StoreError>;

            /// Returns the active versions, rollouts and quarantine of a tenant, as of one moment. A tenant that is being deleted has
            /// none. Read in the order of [`Store::in_plugin_order`], this is what is in force until the order is left, unless another
            /// host changes it.
            pub async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError>;

            /// Returns the active versions of a tenant that are quarantined, and those whose canary the host has taken back and that nobody
            /// has activated since. A canary whose last percentage began before `since_ms`, in milliseconds since the epoch, is left out.
            pub async fn halted_versions(
                &self,
                tenant: TenantId,
                since_ms: i64,
            ) -> Result<Vec<HaltedVersion>, StoreError>;

            /// Returns the plugins of all tenants.
            pub async fn plugins(&self) -> Result<Vec<StoredPlugin>, StoreError>;

            /// Returns the versions of a plugin, newest first. Empty: the plugin does not exist.
            pub async fn plugin_versions(
                &self,
                tenant: TenantId,
                name: String,
            ) -> Result<Vec<PluginVersion>, StoreError>;

            /// Returns the bytes of a component, as they were uploaded.
            ///
            /// # Errors
            /// [`StoreError::DamagedComponent`] if the bytes do not have this sha256.
            pub async fn component(&self, sha256: String) -> Result<Bytes, StoreError>;

            /// Returns the sha256 of the last component from a plugin's file.
            pub async fn plugin_file(&self, tenant: TenantId, name: String) -> Result<Option<String>, StoreError>;

            /// Records the sha256 of the component from a plugin's file.
            pub async fn note_plugin_file(
                &self,
                tenant: TenantId,
                name: String,
                sha256: String,
            ) -> Result<(), StoreError>;

            /// Stores the counts of this host for a rollout, if it is under way.
            pub async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError>;

            /// Returns all rollouts, including those that have ended.
            pub async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError>;

            /// Returns the counts of other hosts for the rollouts under way. Rollouts without such counts may be absent.
            pub async fn rollout_counts_elsewhere(&self) -> Result<Vec<CountsElsewhere>, StoreError>;

            /// Quarantines a version, unless it is quarantined already.
            pub async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError>;

            /// Releases a version.
            pub async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError>;

            /// Returns all quarantined versions.
            pub async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError>;
        }
    }
}
