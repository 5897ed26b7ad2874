//! Plugins: components by content, versions by tenant and name, and active versions.
//!
//! # Guarantees of every backend
//! - A component is stored once for all versions with the same bytes, and is returned only if its bytes have its sha256.

use crate::StoreError;
use crate::audit::Actor;
use crate::backend::tenants::WorkStep;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::subscription::TenantId;
use sha2::{Digest as _, Sha256};

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
