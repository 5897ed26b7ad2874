//! Sweeps in the database: what a change makes due in its own transaction, and what it leaves for later.

use super::Postgres;
use super::connection::Connection;
use super::rows::{self, int};
use crate::StoreError;
use crate::backend::upkeep::{Changed, STEP, Sweep, SweepBackend};
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
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
    // In order, so that the planner uses the index of what waits even if it expects many such rows.
    let sql = "UPDATE deliveries SET due_at_ms = $3, awaiting_plugin = false
               WHERE tenant = $1 AND id IN (SELECT id FROM deliveries
                 WHERE tenant = $1 AND subscription = $2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin ORDER BY id LIMIT $4)";
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
        let read =
            self.readers.read_one(Owner::Host, |connection| Box::pin(async move { next_sweep(connection).await }));
        read.await
    }

    async fn waiting(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        after: Option<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let after = after.map_or(Uuid::nil(), |delivery| delivery.0);
        let tenant = tenant.clone();
        let read = self.readers.read_one(Owner::Host, move |connection| {
            Box::pin(async move { waiting(connection, &tenant, id, after).await })
        });
        read.await
    }

    async fn make_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        deliveries: Vec<DeliveryId>,
        at_ms: i64,
    ) -> Result<Duration, StoreError> {
        let tenant = tenant.clone();
        let written = self.write_then(
            Terms { owner: Owner::from(&tenant), rows: STEP as u64 },
            move |tx| {
                Box::pin(async move {
                    let took = make_due(tx, &tenant, &deliveries, at_ms).await?;
                    tx.note_lane(&tenant, id).await?;
                    Ok(took)
                })
            },
            // The lane must read retries too: these deliveries have been attempted before.
            move |state, _| state.publish_change(id),
        );
        written.await
    }

    async fn end_sweep(&self, sweep: Sweep) -> Result<(), StoreError> {
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                let (plugin, subscription) = columns(&sweep.changed);
                // Keeps a sweep that was recorded meanwhile.
                let sql = "DELETE FROM sweeps WHERE tenant = $1 AND plugin = $2 AND subscription = $3 AND at_ms = $4";
                tx.execute(sql, &[&&*sweep.tenant.0, &plugin, &subscription, &sweep.at_ms]).await.map(drop)
            })
        })
        .await
    }
}

async fn next_sweep(connection: &Connection) -> Result<Option<Sweep>, StoreError> {
    let sql =
        "SELECT tenant, plugin, subscription, at_ms FROM sweeps ORDER BY at_ms, tenant, plugin, subscription LIMIT 1";
    let Some(row) = connection.query_opt(sql, &[]).await? else { return Ok(None) };
    let plugin: String = row.try_get(1)?;
    let changed = if plugin.is_empty() {
        Changed::Subscription(SubscriptionId(row.try_get(2)?))
    } else {
        Changed::Plugin(plugin)
    };
    Ok(Some(Sweep { tenant: rows::tenant(&row, 0)?, changed, at_ms: row.try_get(3)? }))
}

/// Returns the next deliveries of a subscription that wait for a change, by id.
async fn waiting(
    connection: &Connection,
    tenant: &TenantId,
    id: SubscriptionId,
    after: Uuid,
) -> Result<Vec<DeliveryId>, StoreError> {
    let sql = "SELECT id FROM deliveries
               WHERE tenant = $1 AND subscription = $2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin AND id > $3
               ORDER BY id LIMIT $4";
    let found = connection.query(sql, &[&&*tenant.0, &id.0, &after, &int(STEP)]).await?;
    found.iter().map(|row| Ok(DeliveryId(row.try_get(0)?))).collect()
}

/// Makes deliveries due that wait for a change made at this time.
async fn make_due(
    connection: &Connection,
    tenant: &TenantId,
    deliveries: &[DeliveryId],
    at_ms: i64,
) -> Result<Duration, StoreError> {
    let begun = clock::instant();
    let ids: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.0).collect();
    let sql = "UPDATE deliveries SET due_at_ms = $3, awaiting_plugin = false
               WHERE tenant = $1 AND id = ANY ($2) AND state = 0 AND awaiting_plugin
                 AND (updated_at_ms <= $4 OR updated_at_ms > $3)";
    connection.execute(sql, &[&&*tenant.0, &ids, &now_ms(), &at_ms]).await?;
    Ok(clock::since(begun))
}
