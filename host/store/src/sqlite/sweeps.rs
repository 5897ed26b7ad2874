//! Sweeps in the database: what a change makes due in its own transaction, and what it leaves for later.

use super::Sqlite;
use super::batch::AdminTx;
use super::damage::Damage;
use crate::StoreError;
use crate::backend::upkeep::{Changed, STEP, Sweep, SweepBackend};
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::delivery::DeliveryId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of subscriptions that the transaction of a change reads.
const SUBSCRIPTIONS: usize = 64;

/// Returns the values of a subject's two columns.
fn columns(changed: &Changed) -> (&str, &[u8]) {
    match changed {
        Changed::Plugin(name) => (name, &[]),
        Changed::Subscription(id) => ("", id.0.as_bytes()),
    }
}

/// Makes the deliveries that wait for a change due, in the transaction of the change. If there may be too many, records a sweep.
pub(super) fn judge_again(
    connection: &Connection,
    tenant: &TenantId,
    changed: &Changed,
    users: &[SubscriptionId],
    damage: &Damage,
) -> Result<(), StoreError> {
    let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0
               WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries INDEXED BY deliveries_retried
                 WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin = 1 LIMIT ?4)";
    // Near damage, every delivery needs a separate transaction, and the change must not fail.
    let mut left = if damage.is_known() { 0 } else { STEP };
    let at_ms = now_ms();
    for id in users.iter().take(if left > 0 { SUBSCRIPTIONS } else { 0 }) {
        left -= connection.prepare_cached(sql)?.execute(params![&*tenant.0, id.0, at_ms, left])?.min(left);
        if left == 0 {
            break;
        }
    }
    if left > 0 && users.len() <= SUBSCRIPTIONS {
        return Ok(());
    }
    let (plugin, subscription) = columns(changed);
    let sql = "INSERT INTO sweeps (tenant, plugin, subscription, at_ms) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET at_ms = ?4";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, plugin, subscription, at_ms])?;
    Ok(())
}

#[async_trait]
impl SweepBackend for Sqlite {
    async fn next_sweep(&self) -> Result<Option<Sweep>, StoreError> {
        self.readers.read(Owner::Host, next_sweep).await
    }

    async fn waiting(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        after: Option<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let tenant = tenant.clone();
        let after = after.map_or(Uuid::nil(), |delivery| delivery.0);
        self.readers.read(Owner::Host, move |connection| waiting(connection, &tenant, id, after)).await
    }

    async fn make_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        deliveries: Vec<DeliveryId>,
        at_ms: i64,
    ) -> Result<Duration, StoreError> {
        let owner = tenant.clone();
        let found = deliveries.clone();
        let write = move |tx: &AdminTx<'_, '_>| make_due(tx, &owner, &found, at_ms);
        let state = self.state.clone();
        // The lane must read retries too: these deliveries have been attempted before.
        let publish = move |_: &mut Duration| state.publish_change(id);
        let terms = Terms { owner: tenant.into(), rows: STEP as u64 };
        match self.writer.write(terms, write, publish).await {
            Err(error) if error.is_damage() => self.make_due_one_by_one(tenant, id, deliveries, at_ms).await,
            took => took,
        }
    }

    async fn end_sweep(&self, sweep: Sweep) -> Result<(), StoreError> {
        let write = move |tx: &AdminTx<'_, '_>| {
            let (plugin, subscription) = columns(&sweep.changed);
            // Keeps a sweep that was recorded meanwhile.
            let sql = "DELETE FROM sweeps WHERE tenant = ?1 AND plugin = ?2 AND subscription = ?3 AND at_ms = ?4";
            tx.execute(sql, params![&*sweep.tenant.0, plugin, subscription, sweep.at_ms])?;
            Ok(())
        };
        self.write(Owner::Host, write).await
    }
}

impl Sqlite {
    /// Makes deliveries due, each in a separate transaction, except damaged ones.
    async fn make_due_one_by_one(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        found: Vec<DeliveryId>,
        at_ms: i64,
    ) -> Result<Duration, StoreError> {
        let mut took = Duration::ZERO;
        for delivery in found {
            let owner = tenant.clone();
            let write = move |tx: &AdminTx<'_, '_>| make_due(tx, &owner, &[delivery], at_ms);
            match self.write(tenant, write).await {
                // The lane of the delivery meets the damage as well, and sets the delivery apart.
                Err(error) if error.is_damage() => {}
                one => took += one?,
            }
        }
        self.state.publish_change(id);
        Ok(took)
    }
}

/// Makes deliveries due that wait for a change made at this time.
fn make_due(tx: &AdminTx<'_, '_>, tenant: &TenantId, ids: &[DeliveryId], at_ms: i64) -> Result<Duration, StoreError> {
    let begun = clock::instant();
    let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0
               WHERE tenant = ?1 AND id = ?2 AND state = 0 AND awaiting_plugin = 1
                 AND (updated_at_ms <= ?4 OR updated_at_ms > ?3)";
    let mut statement = tx.prepare_cached(sql)?;
    for id in ids {
        statement.execute(params![&*tenant.0, id.0, now_ms(), at_ms])?;
    }
    Ok(clock::since(begun))
}

fn next_sweep(connection: &Connection) -> Result<Option<Sweep>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT tenant, plugin, subscription, at_ms FROM sweeps ORDER BY at_ms LIMIT 1")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let plugin: String = row.get(1)?;
    let changed =
        if plugin.is_empty() { Changed::Subscription(SubscriptionId(row.get(2)?)) } else { Changed::Plugin(plugin) };
    Ok(Some(Sweep { tenant: TenantId(row.get::<_, String>(0)?.into()), changed, at_ms: row.get(3)? }))
}

/// Returns the next deliveries of a subscription that wait for a change, by id.
fn waiting(
    connection: &Connection,
    tenant: &TenantId,
    id: SubscriptionId,
    after: Uuid,
) -> Result<Vec<DeliveryId>, StoreError> {
    let sql = "SELECT id FROM deliveries INDEXED BY deliveries_retried
               WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin = 1 AND id > ?3
               ORDER BY id LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![&*tenant.0, id.0, after, STEP], |row| row.get(0).map(DeliveryId))?;
    Ok(found.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
