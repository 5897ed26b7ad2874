//! Bringing plugins back: all of them at the start, and one that did not come when it is wanted.
//!
//! A plugin that does not come back holds up no other: its deliveries wait, and cost no attempt.

use super::runtime::Version;
use super::{PluginError, Plugins, write_lock};
use crate::store::StoredPlugin;
use crate::subscription::TenantId;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A plugin that could not be restored is not tried again before this time.
const RESTORE_REST: Duration = Duration::from_secs(60);

/// How many plugins are brought back at once.
const RESTORED_AT_ONCE: usize = 4;

impl Plugins {
    /// Brings every active version and every trial back.
    pub(super) async fn restore(self: &Arc<Self>) -> Result<(), PluginError> {
        let mut restoring = tokio::task::JoinSet::new();
        for stored in self.store.plugins().await? {
            // Reading, verifying and loading compiled code keeps a core busy; more at once than cores gain nothing.
            if restoring.len() >= RESTORED_AT_ONCE {
                restoring.join_next().await;
            }
            let plugins = self.clone();
            restoring.spawn(async move { plugins.restore_one(stored).await });
        }
        restoring.join_all().await;
        self.restore_rollouts().await
    }

    /// Brings one active version back. If it does not come, its deliveries are retried; the others must not wait.
    async fn restore_one(&self, stored: StoredPlugin) {
        match self.load(&stored.active_sha256).await {
            // An upload may have come first: it is newer than what was read here.
            Ok(version) => {
                let key = (stored.tenant, stored.name);
                write_lock(&self.active).entry(key).or_insert_with(|| Arc::new(version));
            }
            Err(error) => {
                write_lock(&self.failed).insert((stored.tenant.clone(), stored.name.clone()), Instant::now());
                let error = crate::describe(&error);
                tracing::error!(tenant = %stored.tenant, plugin = %stored.name, %error, "a plugin could not be restored");
            }
        }
    }

    /// A plugin that could not be restored at the start is tried again when it is wanted.
    pub(super) async fn current_or_restored(&self, tenant: &TenantId, name: &str) -> Option<Arc<Version>> {
        if let Some(active) = self.current(tenant, name) {
            return Some(active);
        }
        let _one_at_a_time = self.restoring.lock().await;
        if let Some(active) = self.current(tenant, name) {
            return Some(active);
        }
        let key = (tenant.clone(), name.to_owned());
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if failed.is_some_and(|failed| failed.elapsed() < RESTORE_REST) {
            return None;
        }
        let stored = self.store.plugins().await.ok()?;
        let stored = stored.into_iter().find(|stored| stored.tenant == *tenant && stored.name == name)?;
        self.restore_one(stored).await;
        self.current(tenant, name)
    }
}
