//! Numbers of pending deliveries by subscription, and the oldest of them.

use super::Postgres;
use super::connection::Connection;
use super::rows::{self, number};
use crate::StoreError;
use crate::backend::deliveries::BacklogBackend;
use crate::fair_queue::Owner;
use crate::pending_counts::Counts;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::HashMap;
use uuid::Uuid;

/// Result of a count.
pub(super) struct PendingCount {
    pub(super) counts: Counts,
    /// Last transaction of this host that the count has seen.
    pub(super) seen: Option<Uuid>,
}

/// Counts the pending deliveries of a database, and reads the last transaction of a host in the same snapshot.
pub(super) async fn count_pending(connection: &Connection, host: i16) -> Result<PendingCount, StoreError> {
    let sql = "SELECT h.transaction, c.tenant, c.subscription, c.count
               FROM (SELECT (SELECT transaction FROM fences WHERE host = $1) AS transaction) h LEFT JOIN (
                 SELECT tenant, subscription, COUNT(*) FROM deliveries WHERE state = 0
                 AND tenant NOT IN (SELECT id FROM tenants WHERE deleting_since_ms IS NOT NULL) GROUP BY tenant, subscription
               ) c ON true";
    let mut count = PendingCount { counts: Counts::new(), seen: None };
    for row in connection.query(sql, &[&host]).await? {
        count.seen = row.try_get(0)?;
        // Null: there are no pending deliveries.
        if row.try_get::<_, Option<&str>>(1)?.is_some() {
            let of_tenant = count.counts.entry(rows::tenant(&row, 1)?).or_default();
            of_tenant.insert(SubscriptionId(row.try_get(2)?), number(&row, 3)?);
        }
    }
    Ok(count)
}

#[async_trait]
impl BacklogBackend for Postgres {
    fn pending(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64> {
        self.pending.of(tenant)
    }

    async fn oldest_pending(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
    ) -> Result<HashMap<SubscriptionId, i64>, StoreError> {
        let ids: Vec<Uuid> = subscriptions.into_iter().map(|id| id.0).collect();
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT s.id, o.id FROM unnest($2::uuid[]) s (id) CROSS JOIN LATERAL
                             (SELECT d.id FROM deliveries d WHERE d.tenant = $1 AND d.subscription = s.id AND d.state = 0
                              ORDER BY d.id LIMIT 1) o";
                let rows = connection.query(sql, &[&&*tenant.0, &ids]).await?;
                rows.iter()
                    .map(|row| Ok((SubscriptionId(row.try_get(0)?), DeliveryId(row.try_get(1)?).made_at_ms())))
                    .collect()
            })
        });
        read.await
    }

    async fn oldest_pending_for_host(&self, tenant: TenantId) -> Result<Option<i64>, StoreError> {
        let all = self.pending.of(&tenant).into_keys().collect();
        Ok(self.oldest_pending(tenant, all).await?.into_values().min())
    }
}
