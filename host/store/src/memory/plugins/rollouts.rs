//! Rollouts and quarantine of plugin versions.

use super::{has_version, is_kept};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::rollouts::{
    CountsElsewhere, Quarantine, QuarantineBackend, RolloutBackend, RolloutId, StoredRollout,
};
use crate::memory::Memory;
use crate::memory::share::record;
use crate::memory::tables::MemoryTables;
use async_trait::async_trait;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;

#[async_trait]
impl RolloutBackend for Memory {
    async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let StoredRollout { tenant, name, sha256, .. } = &rollout;
            if !has_version(tables, tenant, name, sha256) {
                return Err(StoreError::NotFound("version of the plugin"));
            }
            let row = StoredRollout { ended_reason: None, counts_elsewhere: Vec::new(), ..rollout.clone() };
            tables.rollouts.insert_mut((tenant.clone(), name.clone()), row);
            let action = AuditAction::PluginBeginRollout { name, rollout: rollout.audit() };
            record(tables, &actor, Some(tenant), &action, self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn end_rollout(
        &self,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let Some(rollout) = under_way(tables, &ended) else { return Ok(()) };
            rollout.ended_reason = Some(shortened(&reason, REASON_BYTES_MAX));
            if let Some(counts) = counts {
                rollout.counts = counts;
            }
            let RolloutId { tenant, name, .. } = &ended;
            record(tables, &actor, Some(tenant), &AuditAction::PluginEndRollout(name), self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            if let Some(rollout) = under_way(tables, &counted) {
                rollout.counts = counts;
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        self.read(|tables| {
            let rollouts = tables.rollouts.values().filter(|rollout| is_kept(tables, &rollout.tenant));
            Ok(rollouts.cloned().collect())
        })
        .await
    }

    async fn rollout_counts_elsewhere(&self) -> Result<Vec<CountsElsewhere>, StoreError> {
        // There is no other host.
        Ok(Vec::new())
    }
}

#[async_trait]
impl QuarantineBackend for Memory {
    async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let key = (new.tenant.clone(), new.sha256.clone());
            if !tables.quarantine.contains_key(&key) {
                tables.quarantine.insert_mut(key, new);
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            tables.quarantine.remove_mut(&(tenant, sha256));
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.read(|tables| Ok(tables.quarantine.values().cloned().collect())).await
    }
}

/// Returns a rollout, unless it has ended or was replaced.
fn under_way<'t>(tables: &'t mut MemoryTables, id: &RolloutId) -> Option<&'t mut StoredRollout> {
    let rollout = tables.rollouts.get_mut(&(id.tenant.clone(), id.name.clone()))?;
    (rollout.ended_reason.is_none() && rollout.id() == *id).then_some(rollout)
}
