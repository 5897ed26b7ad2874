//! Retention: what ended long ago goes, in steps so small that nobody notices.
//!
//! # Rules
//! - An event goes with its deliveries and attempts once it is older than the retention and none of its deliveries is
//!   pending. Of a contact or a deal the oldest event goes first, so that a later one never looks back past a gap. The ledger remembers how they ended, so its law holds over what is gone.
//! - A step holds the writer for [`STEP_MAX`] and then lets others write for four times as long.
//! - Space in the file is used again; the file does not shrink.

use super::fair_queue::Owner;
use super::{Store, StoreError, now_ms};
use crate::delivery::DeliveryState;
use crate::subscription::TenantId;
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a step may hold the writer. It ends with the event that it is at.
const STEP_MAX: Duration = Duration::from_millis(10);

/// How many events a step looks at, at the most.
const LOOK: usize = 256;

/// How long to rest when there is nothing left to do, at the most.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How long idempotency keys are kept.
const KEYS_KEPT_MS: i64 = 7 * 86_400_000;

/// Outcome of a step.
struct Step {
    pruned: u64,
    took: Duration,
    /// The last event that was looked at; none if there are no more.
    last: Option<Uuid>,
}

impl Store {
    /// Prunes for ever: what is older than the retention, tenant by tenant; with a retention of zero nothing but idempotency
    /// keys, which are kept for 7 days in any case.
    pub async fn keep_house(&self, retention: Duration) {
        loop {
            if let Err(error) = self.prune(retention).await {
                if matches!(error, StoreError::Stopped) {
                    return;
                }
                tracing::error!(error = %crate::describe(&error), "old events could not be pruned; trying again in a minute");
            }
            let idle = if retention.is_zero() { IDLE_MAX } else { IDLE_MAX.min(retention) };
            tokio::time::sleep(idle).await;
        }
    }

    pub(super) async fn prune(&self, retention: Duration) -> Result<(), StoreError> {
        let now_ms = now_ms();
        self.write(Owner::Host, move |connection| {
            let sql = "DELETE FROM idempotency_keys WHERE received_at_ms < ?1";
            Ok(connection.execute(sql, [now_ms - KEYS_KEPT_MS]).map(drop)?)
        })
        .await?;
        self.prune_bins().await?;
        for tenant in self.catalog().tenants() {
            self.end_leftovers(&tenant.id).await?;
        }
        self.flush_used_keys().await?;
        if retention.is_zero() {
            return Ok(());
        }
        let before_ms = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        for tenant in self.catalog().tenants() {
            let (mut after, mut pruned) = (Uuid::nil(), 0);
            loop {
                let owner = tenant.id.clone();
                let step =
                    self.write(&tenant.id, move |connection| prune_step(connection, &owner, after, before_ms)).await?;
                pruned += step.pruned;
                match step.last {
                    Some(last) => after = last,
                    None => break,
                }
                tokio::time::sleep(step.took * 4).await;
            }
            if pruned > 0 {
                tracing::info!(tenant = %tenant.id, events = pruned, "old events were pruned");
            }
        }
        Ok(())
    }
}

fn prune_step(connection: &Connection, tenant: &TenantId, after: Uuid, before_ms: i64) -> Result<Step, StoreError> {
    let begun = Instant::now();
    // Ids begin with their time, so they are in the order of acceptance.
    // What the next event of the same entity looks back to is needed as long as that one is pending. And as long as one before
    // is kept: else that one would be what the next event looks back to.
    let sql = "SELECT e.id, e.fan_out, LENGTH(e.payload),
                      EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_of_event WHERE d.tenant = e.tenant AND d.event = e.id AND d.state = 0)
                      OR EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_of_event WHERE d.tenant = e.tenant AND d.state = 0 AND d.event = (
                        SELECT n.id FROM events n INDEXED BY events_of_entity WHERE n.tenant = e.tenant AND n.entity_id = e.entity_id
                        AND n.module = e.module AND n.rowid > e.rowid ORDER BY n.rowid LIMIT 1))
                      OR EXISTS (SELECT 1 FROM events o INDEXED BY events_of_entity WHERE o.tenant = e.tenant AND o.entity_id = e.entity_id
                        AND o.module = e.module AND o.rowid < e.rowid)
               FROM events e WHERE e.tenant = ?1 AND e.id > ?2 AND e.received_at_ms < ?3 ORDER BY e.id LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![&*tenant.0, after, before_ms, LOOK])?;
    let (mut pruned, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        let (id, fan_out, bytes): (Uuid, u64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        last = Some(id);
        if !row.get::<_, bool>(3)? {
            prune_one(connection, tenant, id, fan_out, bytes)?;
            pruned += 1;
        }
        if begun.elapsed() >= STEP_MAX {
            break;
        }
    }
    Ok(Step { pruned, took: begun.elapsed(), last })
}

fn prune_one(
    connection: &Connection,
    tenant: &TenantId,
    event: Uuid,
    fan_out: u64,
    bytes: u64,
) -> Result<(), StoreError> {
    let mut ended = [0_u64; DeliveryState::ALL.len()];
    // The planner knows no statistics, and takes a tenant's whole primary key for as good as this index.
    let sql = "DELETE FROM attempts WHERE tenant = ?1 AND delivery IN (SELECT id FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2)";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, event])?;
    let sql = "DELETE FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2 RETURNING state";
    let mut statement = connection.prepare_cached(sql)?;
    for state in statement.query_map(params![&*tenant.0, event], |row| row.get::<_, usize>(0))? {
        ended[state?] += 1;
    }
    connection
        .prepare_cached("DELETE FROM events WHERE tenant = ?1 AND id = ?2")?
        .execute(params![&*tenant.0, event])?;
    let sql = "UPDATE ledgers SET events_kept = events_kept - 1, bytes_kept = bytes_kept - ?3, events_pruned = events_pruned + 1,
                      fan_out_pruned = fan_out_pruned + ?2, delivered_pruned = delivered_pruned + ?4,
                      dropped_pruned = dropped_pruned + ?5, dead_pruned = dead_pruned + ?6,
                      cancelled_pruned = cancelled_pruned + ?7
               WHERE tenant = ?1";
    let of = |state: DeliveryState| ended[state as usize];
    connection.prepare_cached(sql)?.execute(params![
        &*tenant.0,
        fan_out,
        bytes,
        of(DeliveryState::Delivered),
        of(DeliveryState::Dropped),
        of(DeliveryState::Dead),
        of(DeliveryState::Cancelled),
    ])?;
    Ok(())
}
