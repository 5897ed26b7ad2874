//! Plugins: components by content, versions by tenant and name, active versions, rollouts and quarantine.
//!
//! # Guarantees of every backend
//! - A component is stored once for all versions with the same bytes, and is returned only if its bytes have its sha256.

use crate::StoreError;
use crate::audit::{Actor, RolloutAudit};
use crate::backend::tenants::WorkStep;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::subscription::TenantId;
use sha2::{Digest as _, Sha256};

/// Maximum number of earlier percentages of a canary that are remembered.
const EARLIER_MAX: usize = 100;

/// Maximum number of versions in the entry of a deleted plugin.
pub(crate) const VERSIONS_RECORDED_MAX: usize = 900;

/// Returns true if the bytes of a component are those that were uploaded.
pub(crate) fn is_whole(sha256: &str, component: &[u8]) -> bool {
    hex::encode(Sha256::digest(component)) == sha256
}

/// Returns the error of a version that cannot be deleted, because it is the active one.
pub(crate) fn is_active() -> StoreError {
    StoreError::Conflict("it is the active version: activate another one first, or delete the plugin".into())
}

/// Returns the error of a version that cannot be deleted, because it is in a rollout.
pub(crate) fn is_in_rollout() -> StoreError {
    StoreError::Conflict("it is a canary or a shadow: end that first".into())
}

/// Returns the error of a version that is added to a plugin that does not exist.
pub(crate) fn no_plugin() -> StoreError {
    StoreError::NotFound("plugin to add a version to: upload its first version to be active")
}

/// Returns the error of an upload whose name is that of a deleted plugin with versions that are left.
pub(crate) fn has_versions_left(name: &str) -> StoreError {
    let what = format!("the plugin {name} was deleted, and some of its versions are left: try again in a moment");
    StoreError::Conflict(what)
}

/// Returns the error of a subscription whose plugin, or the version that it is pinned to, does not exist.
pub(crate) fn deleted_meanwhile(plugin: &str) -> StoreError {
    StoreError::Conflict(format!("the plugin {plugin} or its version was deleted meanwhile"))
}

/// Version of a plugin: a component that passed the check.
#[derive(Clone, Debug)]
pub struct PluginVersion {
    /// The sha256 of the component, in hex.
    pub sha256: String,
    /// Size of the component, in bytes.
    pub size: u64,
    /// Report of the check at upload, as JSON.
    pub report: String,
    /// Time of upload, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Origin of the upload: label and hint of a key, or another source.
    pub created_by: String,
    /// True for the active version.
    pub active: bool,
}

/// Plugin of a tenant and its active version.
#[derive(Clone, Debug)]
pub struct StoredPlugin {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// Name of the plugin.
    pub name: String,
    /// The sha256 of the active version.
    pub active_sha256: String,
    /// Time of activation, in milliseconds since the epoch.
    pub activated_at_ms: i64,
    /// Origin of the activation.
    pub activated_by: String,
}

/// Active version of a tenant's plugin.
#[derive(Clone, Debug)]
pub struct ActiveVersion {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// Name of the plugin.
    pub name: String,
    /// The sha256 of the version.
    pub sha256: String,
    /// Report of the check at upload, as JSON.
    pub report: String,
}

#[cfg(test)]
impl PluginVersion {
    /// Version for tests, with an empty report.
    pub(crate) fn example(sha256: String, size: u64) -> Self {
        PluginVersion {
            sha256,
            size,
            report: String::new(),
            created_at_ms: 0,
            created_by: String::new(),
            active: false,
        }
    }
}

/// Kind of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutKind {
    /// The version judges a part of the events.
    Canary,
    /// The version judges all events, and its results are not sent.
    Shadow,
}

/// Rollout of a version, as stored.
#[derive(Clone, Debug)]
pub struct StoredRollout {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// Name of the plugin.
    pub name: String,
    /// Kind of the rollout.
    pub kind: RolloutKind,
    /// Version of the rollout.
    pub sha256: String,
    /// Part of the events that a canary judges, in percent.
    pub percent: f64,
    /// Time since which `percent` applies, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Start and value of earlier percentages, so that the arm of an event never changes.
    pub earlier: Vec<(i64, f64)>,
    /// Reason for the end. None: the rollout is under way.
    pub ended_reason: Option<String>,
    /// Counts of the rollout, as text of the plugin runtime. Empty: nothing was counted.
    pub counts: String,
}

/// Identity of a rollout, with the percentage that a change of it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutId {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// Name of the plugin.
    pub name: String,
    /// Version of the rollout.
    pub sha256: String,
    /// Time since which its percentage applies, in milliseconds since the epoch.
    pub started_at_ms: i64,
}

impl StoredRollout {
    /// Returns the identity of the rollout.
    pub fn id(&self) -> RolloutId {
        let StoredRollout { tenant, name, sha256, started_at_ms, .. } = self.clone();
        RolloutId { tenant, name, sha256, started_at_ms }
    }

    /// Returns true if this is the rollout of an identity, and is under way.
    pub(crate) fn is_under_way(&self, id: &RolloutId) -> bool {
        self.ended_reason.is_none() && self.id() == *id
    }

    /// Returns the rollout as the log of changes shows it when it begins.
    pub(crate) fn audit(&self) -> RolloutAudit<'_> {
        match self.kind {
            RolloutKind::Canary => RolloutAudit { kind: "canary", sha256: &self.sha256, percent: Some(self.percent) },
            RolloutKind::Shadow => RolloutAudit { kind: "shadow", sha256: &self.sha256, percent: None },
        }
    }

    /// Returns the percentage that applies to events received at this time. None: the rollout had not begun.
    pub fn percent_at(&self, received_at_ms: i64) -> Option<f64> {
        if received_at_ms >= self.started_at_ms {
            return Some(self.percent);
        }
        self.earlier.iter().rev().find(|(since_ms, _)| received_at_ms >= *since_ms).map(|(_, percent)| *percent)
    }

    /// Returns true if this canary is the one under way with another percentage.
    pub fn continues(&self, under_way: &StoredRollout) -> bool {
        self.kind == RolloutKind::Canary && under_way.kind == self.kind && under_way.sha256 == self.sha256
    }

    /// Adds the earlier percentages of the rollout under way, if this one continues it.
    pub fn after(mut self, under_way: &StoredRollout) -> Self {
        if self.continues(under_way) {
            self.earlier = under_way.earlier.clone();
            self.earlier.push((under_way.started_at_ms, under_way.percent));
            let over = self.earlier.len().saturating_sub(EARLIER_MAX);
            self.earlier.drain(..over);
        }
        self
    }
}

/// Quarantined version of a plugin, which is not called.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// The sha256 of the component, in hex.
    pub sha256: String,
    /// Beginning of the quarantine, in milliseconds since the epoch.
    pub since_ms: i64,
    /// Cause of the quarantine.
    pub reason: String,
}

/// Plugins and their versions.
#[async_trait]
pub trait PluginBackend: Send + Sync {
    /// Adds a version, unless it exists, and activates it. Deliveries that wait for another version of the plugin become due, now or
    /// by a sweep. The lanes are not told.
    async fn activate_plugin(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError>;

    /// Activates an existing version, as [`PluginBackend::activate_plugin`] does.
    async fn activate_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError>;

    /// Adds a version to an existing plugin, without activating it.
    async fn add_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError>;

    /// Returns true if a plugin has a version.
    async fn has_version(&self, tenant: TenantId, name: String, sha256: String) -> Result<bool, StoreError>;

    /// Returns the check report of a version of a plugin, as JSON. None: the plugin has no such version.
    async fn version_report(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<Option<String>, StoreError>;

    /// Returns the active versions of all tenants, for the start.
    async fn active_versions(&self) -> Result<Vec<ActiveVersion>, StoreError>;

    /// Returns the plugins of all tenants.
    async fn plugins(&self) -> Result<Vec<StoredPlugin>, StoreError>;

    /// Returns the versions of a plugin, newest first. Empty: the plugin does not exist.
    async fn plugin_versions(&self, tenant: TenantId, name: String) -> Result<Vec<PluginVersion>, StoreError>;

    /// Returns the bytes of a component, as they were uploaded.
    ///
    /// # Errors
    /// [`StoreError::DamagedComponent`] if the bytes do not have this sha256.
    async fn component(&self, sha256: String) -> Result<Bytes, StoreError>;

    /// Returns the sha256 of the last component from a plugin's file.
    async fn plugin_file(&self, tenant: TenantId, name: String) -> Result<Option<String>, StoreError>;

    /// Records the sha256 of the component from a plugin's file.
    async fn note_plugin_file(&self, tenant: TenantId, name: String, sha256: String) -> Result<(), StoreError>;
}

/// Deletion of plugins and versions.
#[async_trait]
pub trait PluginDeletionBackend: Send + Sync {
    /// Deletes a plugin with all its versions, unless a subscription uses it. The versions themselves are deleted by
    /// [`PluginDeletionBackend::delete_discarded_versions`].
    async fn delete_plugin(&self, actor: Actor, tenant: TenantId, name: String) -> Result<(), StoreError>;

    /// Deletes a version of a plugin, unless it is active, pinned or in a rollout.
    async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError>;

    /// Deletes some of the versions that were discarded with their plugins or alone, at least one if there is one.
    async fn delete_discarded_versions(&self) -> Result<WorkStep, StoreError>;
}

/// Rollouts of versions.
#[async_trait]
pub trait RolloutBackend: Send + Sync {
    /// Begins a rollout, which replaces the plugin's previous one.
    async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError>;

    /// Ends a rollout, if it is under way, with its last counts. None: the stored counts stay.
    async fn end_rollout(
        &self,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError>;

    /// Stores the counts of a rollout, if it is under way.
    async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError>;

    /// Returns all rollouts, including those that have ended.
    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError>;
}

/// Quarantined versions.
#[async_trait]
pub trait QuarantineBackend: Send + Sync {
    /// Quarantines a version, unless it is quarantined already.
    async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError>;

    /// Releases a version.
    async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError>;

    /// Returns all quarantined versions.
    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arm_of_an_event_outlives_a_change_of_the_percentage() {
        let third = stage(300, 5.0).after(&stage(200, 50.0).after(&stage(100, 10.0)));
        let at = [99, 100, 199, 200, 300, 1_000].map(|ms| third.percent_at(ms));
        assert_eq!(at, [None, Some(10.0), Some(10.0), Some(50.0), Some(5.0), Some(5.0)]);
        let other = StoredRollout { sha256: "b".into(), ..stage(400, 20.0) };
        assert_eq!(other.after(&third).percent_at(350), None, "a rollout of another version starts over");
    }

    fn stage(started_at_ms: i64, percent: f64) -> StoredRollout {
        StoredRollout {
            tenant: TenantId("t".into()),
            name: "p".into(),
            kind: RolloutKind::Canary,
            sha256: "a".into(),
            percent,
            started_at_ms,
            earlier: Vec::new(),
            ended_reason: None,
            counts: String::new(),
        }
    }
}
