//! One step of pruning: deletion of old events with their deliveries and attempts, within one transaction.
//!
//! The events of a step, and its time, are chosen by [`retention`](super::retention), and by
//! [`pruning_beside_damage`](super::pruning_beside_damage) next to a damaged row.

use super::batch::AdminTx;
use crate::StoreError;
use crate::backend::upkeep::PruneStep;
use crate::counted_tables::EVENT_BYTES;
use hookloom_model::clock;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::event::EventId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::params;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Duration after which a step ends, because it occupies the writer. A step completes the deliveries that it has begun.
pub(super) const STEP_MAX: Duration = Duration::from_millis(10);

/// Number of deliveries of an event that are deleted between two checks of the time.
const DELIVERIES_BETWEEN_CHECKS: usize = 32;

/// Tenant of emptied events. No tenant has this id.
pub(super) const NO_TENANT: &str = "";

/// Method of removing an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Deletes the row.
    Delete,
    /// Empties the row, which stays.
    Empty,
}

pub(super) fn prune_step(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    after: Uuid,
    look: usize,
    before_ms: i64,
    removal: Removal,
) -> Result<PruneStep, StoreError> {
    let begun = clock::instant();
    // Ids begin with their time, so they are in the order of acceptance. The history of the entity's next event needs this event
    // while the next one is pending. It also needs it while an earlier one exists, which would become the predecessor. Deliveries
    // that a fan-out has not made yet are pending.
    let sql = "SELECT e.id, e.fan_out, LENGTH(e.payload),
                      EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_of_event WHERE d.tenant = e.tenant AND d.event = e.id AND d.state = 0)
                      OR EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_of_event WHERE d.tenant = e.tenant AND d.state = 0 AND d.event = (
                        SELECT n.id FROM events n INDEXED BY events_of_entity WHERE n.tenant = e.tenant AND n.entity_id = e.entity_id
                        AND n.module = e.module AND n.seq > e.seq ORDER BY n.seq LIMIT 1))
                      OR EXISTS (SELECT 1 FROM events o INDEXED BY events_of_entity WHERE o.tenant = e.tenant AND o.entity_id = e.entity_id
                        AND o.module = e.module AND o.seq < e.seq)
                      OR EXISTS (SELECT 1 FROM fan_outs f WHERE f.tenant = e.tenant AND (instr(f.events, e.id) OR instr(f.events, (
                        SELECT n.id FROM events n INDEXED BY events_of_entity WHERE n.tenant = e.tenant AND n.entity_id = e.entity_id
                        AND n.module = e.module AND n.seq > e.seq ORDER BY n.seq LIMIT 1))))
               FROM events e WHERE e.tenant = ?1 AND e.id > ?2 AND e.received_at_ms < ?3 ORDER BY e.id LIMIT ?4";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![&*tenant.0, after, before_ms, look])?;
    let mut step = PruneStep { pruned: 0, took: Duration::ZERO, after: None };
    // Event before the current one, where the next step begins if this step does not complete it.
    let mut before = after;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        let fan_out: u64 = row.get(1)?;
        let bytes: u64 = row.get(2)?;
        step.after = Some(EventId(id));
        if !row.get::<_, bool>(3)? {
            if !prune_one(tx, tenant, id, [fan_out, bytes], removal, begun)? {
                step.after = Some(EventId(before));
                break;
            }
            step.pruned += 1;
        }
        before = id;
        if clock::since(begun) >= STEP_MAX {
            break;
        }
    }
    step.took = clock::since(begun);
    Ok(step)
}

/// Deletes an event with its deliveries and attempts, within the time of the step. Returns true if all of it is deleted.
fn prune_one(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    event: Uuid,
    [fan_out, bytes]: [u64; 2],
    removal: Removal,
    begun: Instant,
) -> Result<bool, StoreError> {
    let mut ended = [0_u64; DeliveryState::ALL.len()];
    let is_gone = prune_deliveries(tx, tenant, event, begun, &mut ended)?;
    match removal {
        Removal::Delete if is_gone => {
            let sql = "DELETE FROM events WHERE tenant = ?1 AND id = ?2";
            tx.prepare_cached(sql)?.execute(params![&*tenant.0, event])?;
        }
        Removal::Empty if is_gone => empty(tx, tenant, event)?,
        Removal::Delete | Removal::Empty => {}
    }
    let event_rows = u64::from(is_gone);
    let sql = "UPDATE ledgers SET events_kept = events_kept - ?8, bytes_kept = bytes_kept - ?3, events_pruned = events_pruned + ?8,
                      fan_out_pruned = fan_out_pruned + ?2, delivered_pruned = delivered_pruned + ?4,
                      dropped_pruned = dropped_pruned + ?5, dead_pruned = dead_pruned + ?6,
                      cancelled_pruned = cancelled_pruned + ?7, superseded_pruned = superseded_pruned + ?9
               WHERE tenant = ?1";
    let of = |state: DeliveryState| ended[state as usize];
    tx.prepare_cached(sql)?.execute(params![
        &*tenant.0,
        fan_out * event_rows,
        bytes * event_rows,
        of(DeliveryState::Delivered),
        of(DeliveryState::Dropped),
        of(DeliveryState::Dead),
        of(DeliveryState::Cancelled),
        event_rows,
        of(DeliveryState::Superseded),
    ])?;
    Ok(is_gone)
}

/// Deletes deliveries of an event with their attempts, at least one, within the time of the step, and counts them by state. Returns
/// true if none is left.
fn prune_deliveries(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    event: Uuid,
    begun: Instant,
    ended: &mut [u64; DeliveryState::ALL.len()],
) -> Result<bool, StoreError> {
    // SQLite has no statistics, and would choose a tenant's whole primary key over this index.
    let sql = "SELECT id FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2 LIMIT ?3";
    let mut some = tx.prepare_cached(sql)?;
    let mut attempts = tx.prepare_cached("DELETE FROM attempts WHERE tenant = ?1 AND delivery = ?2")?;
    let sql = "DELETE FROM deliveries WHERE tenant = ?1 AND id = ?2 RETURNING state, subscription";
    let mut delivery = tx.prepare_cached(sql)?;
    loop {
        let ids = some.query_map(params![&*tenant.0, event, DELIVERIES_BETWEEN_CHECKS], |row| row.get(0))?;
        let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
        for id in &ids {
            attempts.execute(params![&*tenant.0, id])?;
            let (state, subscription) = delivery
                .query_row(params![&*tenant.0, id], |row| Ok((row.get::<_, usize>(0)?, SubscriptionId(row.get(1)?))))?;
            ended[state] += 1;
            if state == DeliveryState::Pending as usize {
                tx.count_pending(tenant, subscription, -1);
            }
            if clock::since(begun) >= STEP_MAX {
                // The next step finds out whether these were the last ones.
                return Ok(false);
            }
        }
        if ids.len() < DELIVERIES_BETWEEN_CHECKS {
            return Ok(true);
        }
    }
}

/// Empties an event that cannot be deleted, and removes it from its tenant.
pub(super) fn empty(tx: &AdminTx<'_, '_>, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    let event = params![&*tenant.0, id];
    // The trigger of the first statement updates the tenant's usage. After the second, there is no tenant to update.
    let sql = "UPDATE events SET name = '', entity_id = NULL, payload = x'' WHERE tenant = ?1 AND id = ?2";
    tx.prepare_cached(sql)?.execute(event)?;
    let sql = "UPDATE events SET tenant = ?3, fan_out = 0, payload = x'7b7d' WHERE tenant = ?1 AND id = ?2";
    tx.prepare_cached(sql)?.execute(params![&*tenant.0, id, NO_TENANT])?;
    let sql = "UPDATE ledgers SET bytes_of_events = bytes_of_events - ?2 WHERE tenant = ?1";
    tx.prepare_cached(sql)?.execute(params![&*tenant.0, EVENT_BYTES])?;
    Ok(())
}
