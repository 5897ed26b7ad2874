//! Bringing plugins back: all of them at the start, and one that did not come when it is wanted.
//!
//! A plugin that does not come back holds up no other: its deliveries wait, and cost no attempt.

use super::runtime::Version;
use super::{PluginError, Plugins, write_lock};
use crate::store::StoredPlugin;
use crate::subscription::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
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
        match self.load(&stored.tenant, &stored.active_sha256).await {
            // An upload may have come first: it is newer than what was read here.
            Ok(version) => {
                let key = (stored.tenant, stored.name);
                write_lock(&self.active).entry(key).or_insert_with(|| Arc::new(version));
            }
            Err(error) => {
                let key = (stored.tenant.clone(), stored.name.clone());
                write_lock(&self.failed).insert((key, None), Instant::now());
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
        let _one_at_a_time = self.loading.pass(format!("{tenant}/{name}")).await;
        if let Some(active) = self.current(tenant, name) {
            return Some(active);
        }
        if self.failed_lately(tenant, name, None) {
            return None;
        }
        let stored = self.store.plugins().await.ok()?;
        let stored = stored.into_iter().find(|stored| stored.tenant == *tenant && stored.name == name)?;
        self.restore_one(stored).await;
        self.current(tenant, name)
    }

    /// The version that a subscription is pinned to. One that cannot be loaded is tried again after a while.
    pub(super) async fn pinned(&self, tenant: &TenantId, name: &str, sha256: &str) -> Option<Arc<Version>> {
        if self.failed_lately(tenant, name, Some(sha256)) {
            return None;
        }
        match self.version(tenant, name, sha256).await {
            Ok(version) => Some(version),
            Err(error) => {
                let key = ((tenant.clone(), name.to_owned()), Some(sha256.to_owned()));
                write_lock(&self.failed).insert(key, Instant::now());
                let error = crate::describe(&error);
                tracing::error!(%tenant, plugin = %name, %sha256, %error, "a version that a subscription is pinned to could not be loaded");
                None
            }
        }
    }

    /// How many active versions could not be loaded: their deliveries wait.
    pub fn out_of_service(&self) -> usize {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner);
        failed.keys().filter(|(key, pin)| pin.is_none() && !active.contains_key(key)).count()
    }

    fn failed_lately(&self, tenant: &TenantId, name: &str, sha256: Option<&str>) -> bool {
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner);
        if failed.is_empty() {
            return false;
        }
        let key = ((tenant.clone(), name.to_owned()), sha256.map(str::to_owned));
        failed.get(&key).is_some_and(|failed| failed.elapsed() < RESTORE_REST)
    }
}

/// One at a time for each thing: who waits for one plugin's code waits for no other's.
#[derive(Default)]
pub(super) struct Turnstiles(std::sync::Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turnstiles {
    /// Waits for one's turn, which lasts until the answer is dropped.
    pub(super) async fn pass(&self, what: String) -> tokio::sync::OwnedMutexGuard<()> {
        let turnstile = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turnstile| turnstile.strong_count() > 0);
            let there = all.get(&what).and_then(Weak::upgrade);
            there.unwrap_or_else(|| {
                let new = Arc::default();
                all.insert(what, Arc::downgrade(&new));
                new
            })
        };
        turnstile.lock_owned().await
    }
}
