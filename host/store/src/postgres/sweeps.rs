//! Sweeps in the database: what a change makes due in its own transaction, and what it leaves for later.

use super::Postgres;
use super::connection::Connection;
use super::rows::int;
use crate::StoreError;
use crate::backend::upkeep::{Changed, STEP, Sweep, SweepBackend};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of subscriptions that the transaction of a change reads.
const SUBSCRIPTIONS: usize = 64;

/// Returns the values of a subject's two columns.
fn columns(changed: &Changed) -> (&str, Uuid) {
    match changed {
        Changed::Plugin(name) => (name, Uuid::nil()),
        Changed::Subscription(id) => ("", id.0),
    }
}

/// Makes the deliveries that wait for a change due, in the transaction of the change. If there may be too many, records a sweep.
pub(super) async fn judge_again(
    connection: &Connection,
    tenant: &TenantId,
    changed: &Changed,
    users: &[SubscriptionId],
) -> Result<(), StoreError> {
    let sql = "UPDATE deliveries SET due_at_ms = $3, awaiting_plugin = false
               WHERE tenant = $1 AND id IN (SELECT id FROM deliveries
                 WHERE tenant = $1 AND subscription = $2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin LIMIT $4)";
    let at_ms = now_ms();
    let mut left = int(STEP);
    for id in users.iter().take(SUBSCRIPTIONS) {
        left -= int(connection.execute(sql, &[&&*tenant.0, &id.0, &at_ms, &left]).await?).min(left);
        if left == 0 {
            break;
        }
    }
    if left > 0 && users.len() <= SUBSCRIPTIONS {
        return Ok(());
    }
    let (plugin, subscription) = columns(changed);
    let sql = "INSERT INTO sweeps (tenant, plugin, subscription, at_ms) VALUES ($1, $2, $3, $4)
               ON CONFLICT (tenant, plugin, subscription) DO UPDATE SET at_ms = EXCLUDED.at_ms";
    connection.execute(sql, &[&&*tenant.0, &plugin, &subscription, &at_ms]).await.map(drop)
}

#[async_trait]
impl SweepBackend for Postgres {
    async fn next_sweep(&self) -> Result<Option<Sweep>, StoreError> {
        todo!()
    }

    async fn waiting(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        after: Option<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        todo!()
    }

    async fn make_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        deliveries: Vec<DeliveryId>,
        at_ms: i64,
    ) -> Result<Duration, StoreError> {
        todo!()
    }

    async fn end_sweep(&self, sweep: Sweep) -> Result<(), StoreError> {
        todo!()
    }
}
