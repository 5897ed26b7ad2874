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

/// Plugins of one tenant.
#[async_trait]
pub trait TenantPluginsBackend: Send + Sync {
    /// Returns the active versions, rollouts and quarantine of a tenant, as of one moment. A tenant that is being deleted has none.
    async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError>;
}
