//! Plugins of one tenant, as one read.

use crate::StoreError;
use crate::backend::plugins::ActiveVersion;
use crate::backend::rollouts::{Quarantine, StoredRollout};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

/// Plugins of a tenant, for a host that follows the changes of another one.
#[derive(Clone, Debug)]
pub struct TenantPlugins {
    /// Active versions.
    pub active: Vec<ActiveVersion>,
    /// Rollouts, including those that have ended.
    pub rollouts: Vec<StoredRollout>,
    /// Quarantined versions.
    pub quarantined: Vec<Quarantine>,
}

/// Version that does not judge, although somebody wanted it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltedVersion {
    /// Name of the plugin.
    pub name: String,
    /// The sha256 of the version.
    pub sha256: String,
    /// Kind of the halt.
    pub halt: Halt,
    /// Reason of the halt.
    pub reason: String,
}

/// Kind of the halt of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Halt {
    /// It is quarantined.
    Quarantined,
    /// The host has taken back its canary.
    TakenBack,
}

/// Maximum number of halted versions of each kind in an answer.
pub(crate) const HALTED_MAX: usize = 100;

/// Plugins of one tenant.
#[async_trait]
pub trait TenantPluginsBackend: Send + Sync {
    /// Returns the active versions, rollouts and quarantine of a tenant, as of one moment. A tenant that is being deleted has none.
    async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError>;

    /// Returns the active versions of a tenant that are quarantined, and those whose canary the host has taken back and that nobody has
    /// activated since: of each kind at most [`HALTED_MAX`], by name. A canary whose last percentage began before `since_ms`, in
    /// milliseconds since the epoch, is left out. On the account of the tenant.
    async fn halted_versions(&self, tenant: TenantId, since_ms: i64) -> Result<Vec<HaltedVersion>, StoreError>;
}
