//! Milestones of a tenant.

use super::Memory;
use super::tables::MemoryTables;
use crate::StoreError;
use crate::backend::milestones::{DELIVERIES_SEARCHED, MilestoneBackend, Milestones};
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl MilestoneBackend for Memory {
    async fn milestones(&self, tenant: TenantId) -> Result<Milestones, StoreError> {
        let read = move |tables: &MemoryTables| {
            let pruned = tables.tenants.get(&tenant).map(|row| row.pruned).unwrap_or_default();
            let mut oldest = tables.deliveries_of(&tenant).take(DELIVERIES_SEARCHED);
            Ok(Milestones {
                accepted: pruned.events > 0 || tables.events_of(&tenant).next().is_some(),
                delivered: pruned.delivered > 0 || oldest.any(|(_, row)| row.state == DeliveryState::Delivered),
            })
        };
        self.read(read).await
    }
}
