//! Retention: what ended long ago goes, in steps so small that nobody notices.
//!
//! # Rules
//! - An event goes with its deliveries and attempts once it is older than the retention and none of its deliveries is
//!   pending. Of a contact or a deal the oldest event goes first, so that a later one never looks back past a gap. The ledger remembers how they ended, so its law holds over what is gone.
//! - A step holds the writer for [`STEP_MAX`] and then lets others write for four times as long. An event with more deliveries than
//!   a step deletes goes in several: its own row is the last, and the ledger's law holds after each of them.
//! - Space in the file is used again; the file does not shrink.

use super::background::let_others_write;
use super::batch::Batch;
use super::damage::RowKind;
use super::fair_queue::Owner;
use super::pruning_beside_damage::{Removal, empty};
use super::{Store, StoreError, now_ms};
use crate::delivery::DeliveryState;
use crate::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Duration after which a step ends, for it holds the writer. It still finishes the deliveries that it is at.
const STEP_MAX: Duration = Duration::from_millis(10);

/// Maximum number of events that a step looks at.
const LOOK: usize = 256;

/// Number of deliveries of an event that are deleted between two looks at the clock.
const DELIVERIES: usize = 32;

/// Maximum number of expired idempotency keys that one transaction deletes.
const KEYS: usize = 256;

/// Maximum pause when there is nothing left to do.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Retention of idempotency keys, in milliseconds.
const KEYS_KEPT_MS: i64 = 7 * 86_400_000;

/// Outcome of a step.
pub(super) struct PruneStep {
    pub(super) pruned: u64,
    pub(super) took: Duration,
    /// The event after which the next step goes on; none if there are no more.
    pub(super) after: Option<Uuid>,
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
        self.prune_idempotency_keys(now_ms - KEYS_KEPT_MS).await?;
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
            let mut after = Uuid::nil();
            let mut pruned = 0;
            loop {
                let step = self.prune_some(&tenant.id, after, before_ms).await?;
                pruned += step.pruned;
                match step.after {
                    Some(next) => after = next,
                    None => break,
                }
                let_others_write(step.took).await;
            }
            if pruned > 0 {
                tracing::info!(tenant = %tenant.id, events = pruned, "old events were pruned");
            }
        }
        Ok(())
    }

    /// Prunes the next events.
    async fn prune_some(&self, tenant: &TenantId, after: Uuid, before_ms: i64) -> Result<PruneStep, StoreError> {
        // A commit that fails makes every write of the next seconds commit alone: none where damage is known.
        if self.damage.is_known() {
            let next = self.next_events(tenant, after).await?;
            if next.iter().any(|id| self.damage.has(tenant, RowKind::Event, *id)) {
                return self.prune_beside_damage(tenant, next, before_ms).await;
            }
        }
        let owner = tenant.clone();
        match self.write(tenant, move |batch| prune_step(batch, &owner, after, LOOK, before_ms, Removal::Delete)).await
        {
            Err(error) if error.is_damage() => {
                let next = self.next_events(tenant, after).await?;
                self.prune_beside_damage(tenant, next, before_ms).await
            }
            step => step,
        }
    }

    async fn next_events(&self, tenant: &TenantId, after: Uuid) -> Result<Vec<Uuid>, StoreError> {
        let owner = tenant.clone();
        let next = move |connection: &Connection| {
            // The index alone answers.
            let sql = "SELECT id FROM events WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let ids = statement.query_map(params![&*owner.0, after, LOOK], |row| row.get(0))?;
            Ok(ids.collect::<Result<Vec<Uuid>, _>>()?)
        };
        self.readers.read(Owner::Host, next).await
    }

    /// Deletes idempotency keys that came before a time, some at once.
    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<(), StoreError> {
        loop {
            let step = move |batch: &Batch<'_>| {
                let begun = Instant::now();
                let sql = "DELETE FROM idempotency_keys WHERE (tenant, key) IN
                           (SELECT tenant, key FROM idempotency_keys WHERE received_at_ms < ?1 LIMIT ?2)";
                let deleted = batch.prepare_cached(sql)?.execute(params![before_ms, KEYS])?;
                Ok((deleted, begun.elapsed()))
            };
            let (deleted, took) = self.write(Owner::Host, step).await?;
            if deleted < KEYS {
                return Ok(());
            }
            let_others_write(took).await;
        }
    }
}

pub(super) fn prune_step(
    batch: &Batch<'_>,
    tenant: &TenantId,
    after: Uuid,
    look: usize,
    before_ms: i64,
    removal: Removal,
) -> Result<PruneStep, StoreError> {
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
    let mut statement = batch.prepare_cached(sql)?;
    let mut rows = statement.query(params![&*tenant.0, after, before_ms, look])?;
    let mut step = PruneStep { pruned: 0, took: Duration::ZERO, after: None };
    // The event before the one that is looked at, where the next step begins if this one does not get through with it.
    let mut before = after;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        let fan_out: u64 = row.get(1)?;
        let bytes: u64 = row.get(2)?;
        step.after = Some(id);
        if !row.get::<_, bool>(3)? {
            if !prune_one(batch, tenant, id, [fan_out, bytes], removal, begun)? {
                step.after = Some(before);
                break;
            }
            step.pruned += 1;
        }
        before = id;
        if begun.elapsed() >= STEP_MAX {
            break;
        }
    }
    step.took = begun.elapsed();
    Ok(step)
}

/// Deletes an event with its deliveries and attempts, as far as the time of the step allows. Says whether nothing is left of it.
fn prune_one(
    batch: &Batch<'_>,
    tenant: &TenantId,
    event: Uuid,
    [fan_out, bytes]: [u64; 2],
    removal: Removal,
    begun: Instant,
) -> Result<bool, StoreError> {
    let mut ended = [0_u64; DeliveryState::ALL.len()];
    let is_gone = prune_deliveries(batch, tenant, event, begun, &mut ended)?;
    match removal {
        Removal::Delete if is_gone => {
            let sql = "DELETE FROM events WHERE tenant = ?1 AND id = ?2";
            batch.prepare_cached(sql)?.execute(params![&*tenant.0, event])?;
        }
        Removal::Empty if is_gone => empty(batch, tenant, event)?,
        Removal::Delete | Removal::Empty => {}
    }
    let event_rows = u64::from(is_gone);
    let sql = "UPDATE ledgers SET events_kept = events_kept - ?8, bytes_kept = bytes_kept - ?3, events_pruned = events_pruned + ?8,
                      fan_out_pruned = fan_out_pruned + ?2, delivered_pruned = delivered_pruned + ?4,
                      dropped_pruned = dropped_pruned + ?5, dead_pruned = dead_pruned + ?6,
                      cancelled_pruned = cancelled_pruned + ?7
               WHERE tenant = ?1";
    let of = |state: DeliveryState| ended[state as usize];
    batch.prepare_cached(sql)?.execute(params![
        &*tenant.0,
        fan_out * event_rows,
        bytes * event_rows,
        of(DeliveryState::Delivered),
        of(DeliveryState::Dropped),
        of(DeliveryState::Dead),
        of(DeliveryState::Cancelled),
        event_rows,
    ])?;
    Ok(is_gone)
}

/// Deletes deliveries of an event with their attempts, at least one and as far as the time of the step allows, and counts them by
/// state. Says whether none is left.
fn prune_deliveries(
    batch: &Batch<'_>,
    tenant: &TenantId,
    event: Uuid,
    begun: Instant,
    ended: &mut [u64; DeliveryState::ALL.len()],
) -> Result<bool, StoreError> {
    // The planner knows no statistics, and takes a tenant's whole primary key for as good as this index.
    let sql = "SELECT id FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2 LIMIT ?3";
    let mut some = batch.prepare_cached(sql)?;
    let mut attempts = batch.prepare_cached("DELETE FROM attempts WHERE tenant = ?1 AND delivery = ?2")?;
    let sql = "DELETE FROM deliveries WHERE tenant = ?1 AND id = ?2 RETURNING state, subscription";
    let mut delivery = batch.prepare_cached(sql)?;
    loop {
        let ids = some.query_map(params![&*tenant.0, event, DELIVERIES], |row| row.get(0))?;
        let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
        for id in &ids {
            attempts.execute(params![&*tenant.0, id])?;
            let (state, subscription) = delivery
                .query_row(params![&*tenant.0, id], |row| Ok((row.get::<_, usize>(0)?, SubscriptionId(row.get(1)?))))?;
            ended[state] += 1;
            if state == DeliveryState::Pending as usize {
                batch.count_pending(tenant, subscription, -1);
            }
            if begun.elapsed() >= STEP_MAX {
                // The next step finds out whether that was the last one.
                return Ok(false);
            }
        }
        if ids.len() < DELIVERIES {
            return Ok(true);
        }
    }
}
