//! Plugins of one tenant.

use super::{active_versions, is_kept};
use crate::StoreError;
use crate::backend::tenant_plugins::{TenantPlugins, TenantPluginsBackend};
use crate::memory::Memory;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl TenantPluginsBackend for Memory {
    async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError> {
        self.read(move |tables| {
            let mut active = active_versions(tables);
            active.retain(|one| one.tenant == tenant);
            let is_shown = |owner: &TenantId| *owner == tenant && is_kept(tables, owner);
            let rollouts = tables.rollouts.values().filter(|one| is_shown(&one.tenant)).cloned().collect();
            let quarantined = tables.quarantine.values().filter(|one| is_shown(&one.tenant)).cloned().collect();
            Ok(TenantPlugins { active, rollouts, quarantined })
        })
        .await
    }
}
