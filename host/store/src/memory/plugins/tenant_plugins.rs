//! Plugins of one tenant.

use super::{active_versions, is_kept};
use crate::StoreError;
use crate::backend::rollouts::TAKEN_BACK;
use crate::backend::tenant_plugins::{HALTED_MAX, Halt, HaltedVersion, TenantPlugins, TenantPluginsBackend};
use crate::memory::Memory;
use crate::memory::tables::MemoryTables;
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

    async fn halted_versions(&self, tenant: TenantId, since_ms: i64) -> Result<Vec<HaltedVersion>, StoreError> {
        self.read(move |tables| {
            let mut halted = quarantined_versions(tables, &tenant);
            halted.extend(taken_back_versions(tables, &tenant, since_ms));
            Ok(halted)
        })
        .await
    }
}

fn quarantined_versions(tables: &MemoryTables, tenant: &TenantId) -> Vec<HaltedVersion> {
    let plugins = tables.plugins.values().filter(|one| one.tenant == *tenant);
    let halted = plugins.filter_map(|one| {
        let quarantine = tables.quarantine.get(&(tenant.clone(), one.active_sha256.clone()))?;
        Some(HaltedVersion {
            name: one.name.clone(),
            sha256: one.active_sha256.clone(),
            halt: Halt::Quarantined,
            reason: quarantine.reason.clone(),
        })
    });
    halted.take(HALTED_MAX).collect()
}

fn taken_back_versions(tables: &MemoryTables, tenant: &TenantId, since_ms: i64) -> Vec<HaltedVersion> {
    let rollouts = tables.rollouts.values().filter(|one| one.tenant == *tenant && one.started_at_ms >= since_ms);
    let halted = rollouts.filter_map(|one| {
        let reason = one.ended_reason.clone().filter(|reason| reason.starts_with(TAKEN_BACK))?;
        let plugin = tables.plugins.get(&(tenant.clone(), one.name.clone()))?;
        let is_active = plugin.active_sha256 == one.sha256;
        (!is_active).then(|| HaltedVersion {
            name: one.name.clone(),
            sha256: one.sha256.clone(),
            halt: Halt::TakenBack,
            reason,
        })
    });
    halted.take(HALTED_MAX).collect()
}
