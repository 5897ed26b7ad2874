//! Milestones of a tenant, from the counters of what was pruned and the oldest rows.

use super::Postgres;
use super::rows::int;
use crate::StoreError;
use crate::backend::milestones::{DELIVERIES_SEARCHED, MilestoneBackend, Milestones};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl MilestoneBackend for Postgres {
    async fn milestones(&self, tenant: TenantId) -> Result<Milestones, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                // Each host has a row of counters, of which one may be below zero.
                let sql = "SELECT
                             EXISTS (SELECT 1 FROM events WHERE tenant = $1)
                               OR coalesce((SELECT sum(events_pruned) FROM ledgers WHERE tenant = $1), 0) > 0,
                             coalesce((SELECT sum(delivered_pruned) FROM ledgers WHERE tenant = $1), 0) > 0
                               OR EXISTS (SELECT 1 FROM
                                 (SELECT state FROM deliveries_ended WHERE tenant = $1 ORDER BY id LIMIT $2) oldest WHERE state = $3)";
                let delivered = DeliveryState::Delivered as i16;
                let row = connection.query_one(sql, &[&&*tenant.0, &int(DELIVERIES_SEARCHED), &delivered]).await?;
                Ok(Milestones { accepted: row.try_get(0)?, delivered: row.try_get(1)? })
            })
        });
        read.await
    }
}
