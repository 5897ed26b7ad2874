//! One step of pruning: deletion of old events with their deliveries and attempts, within one transaction.
//!
//! # Guarantees
//! - An event is deleted only after the older events of its entity, also within a step.
//! - The law of the ledger holds after each step: deleted deliveries are counted in the transaction that deletes them, and the
//!   deliveries that an event promised are counted as pruned when its row, the last one, is deleted.
//!
//! # Limits
//! A step is bounded by numbers of rows and by the size of payloads, not by time: [`EVENTS_READ_MAX`], [`DELIVERIES_MAX`] and
//! [`BYTES_MAX`]. Attempts have no bound of their own.

use super::connection::Connection;
use super::ledger;
use super::rows::{int, number, state};
use super::sql_param::SqlParams;
use crate::StoreError;
use crate::backend::upkeep::{EVENTS_READ_MAX, PruneStep};
use hookloom_model::clock;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use std::collections::HashSet;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// Maximum number of deliveries that a step deletes.
const DELIVERIES_MAX: u64 = 256;

/// Size of payloads after which a step deletes no further event.
const BYTES_MAX: u64 = 4 << 20;

/// Old events after an id ($2) up to another one ($3), in their order, with what decides about them: the event of the same entity
/// before, whether anything needs the event, and the number of its deliveries, at most $5.
///
/// The history of the entity's next event needs this event while the next one is pending. Deliveries that a fan-out has not made yet
/// are pending. Scalar subqueries with a limit and `state < 1` keep the planner at the index by event: the other choices read
/// everything that is pending.
const OLD: &str = "SELECT e.id, e.fan_out, octet_length(e.payload)::int8, p.id,
       (SELECT true FROM deliveries d WHERE d.tenant = $1 AND d.event IN (e.id, n.id) AND d.state < 1 LIMIT 1) IS NOT NULL
       OR EXISTS (SELECT 1 FROM fan_outs f WHERE f.tenant = $1 AND f.events && ARRAY[e.id, n.id]),
       (SELECT COUNT(*) FROM (SELECT 1 FROM deliveries d WHERE d.tenant = $1 AND d.event = e.id LIMIT $5) c)
FROM (SELECT * FROM events WHERE tenant = $1 AND id > $2 AND id <= $3 AND received_at_ms < $4 ORDER BY id LIMIT $6) e
LEFT JOIN LATERAL (SELECT id FROM events WHERE tenant = $1 AND module = e.module AND entity_id = e.entity_id AND seq < e.seq
                   ORDER BY seq DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (SELECT id FROM events WHERE tenant = $1 AND module = e.module AND entity_id = e.entity_id AND seq > e.seq
                   ORDER BY seq LIMIT 1) n ON true
ORDER BY e.id";

/// Event that is old enough to be deleted.
struct OldEvent {
    id: Uuid,
    fan_out: u64,
    bytes: u64,
    /// Event of the same entity before this one.
    previous: Option<Uuid>,
    /// True if a pending delivery needs the event.
    is_needed: bool,
    /// Number of deliveries, or more than a step deletes.
    deliveries: u64,
}

fn old_event_row(row: &Row) -> Result<OldEvent, StoreError> {
    Ok(OldEvent {
        id: row.try_get(0)?,
        fan_out: number(row, 1)?,
        bytes: number(row, 2)?,
        previous: row.try_get(3)?,
        is_needed: row.try_get(4)?,
        deliveries: number(row, 5)?,
    })
}

/// Events that a step deletes.
pub(super) struct Selection {
    events: Vec<Uuid>,
    /// Sum of the deliveries that these events promised.
    fan_out: u64,
    /// Event that has more deliveries than a step deletes. It stays until a later step deletes the last of them.
    in_part: Option<Uuid>,
    /// Event after which the next step continues. None: there are no more old events.
    pub(super) after: Option<EventId>,
    /// Last event that was judged.
    pub(super) until: Uuid,
}

impl Selection {
    /// Returns true if the step deletes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.in_part.is_none()
    }

    /// Selects events, of which each is judged as if the ones before were deleted already.
    fn of(old: &[OldEvent], after: Uuid) -> Self {
        let mut selection = Selection { events: Vec::new(), fan_out: 0, in_part: None, after: None, until: after };
        let mut gone = HashSet::new();
        let mut deliveries = 0;
        let mut bytes = 0;
        for event in old {
            let before = std::mem::replace(&mut selection.until, event.id);
            selection.after = Some(EventId(event.id));
            if event.is_needed || event.previous.is_some_and(|previous| !gone.contains(&previous)) {
                continue;
            }
            deliveries += event.deliveries;
            if deliveries > DELIVERIES_MAX || bytes > BYTES_MAX {
                selection.in_part = selection.events.is_empty().then_some(event.id);
                // The next step begins with this event.
                selection.after = Some(EventId(before));
                break;
            }
            bytes += event.bytes;
            gone.insert(event.id);
            selection.events.push(event.id);
            selection.fan_out += event.fan_out;
        }
        selection
    }
}

/// Selects the events of the next step, after an id and up to another one.
pub(super) async fn select(
    connection: &Connection,
    tenant: &TenantId,
    span: (Uuid, Uuid),
    before_ms: i64,
) -> Result<Selection, StoreError> {
    let counted_max = int(DELIVERIES_MAX + 1);
    let params: SqlParams<'_> = &[&&*tenant.0, &span.0, &span.1, &before_ms, &counted_max, &int(EVENTS_READ_MAX)];
    let rows = connection.query(OLD, params).await?;
    let old: Vec<OldEvent> = rows.iter().map(old_event_row).collect::<Result<_, _>>()?;
    Ok(Selection::of(&old, span.0))
}

/// Deletes the events of a step, after an id and up to another one.
pub(super) async fn prune_step(
    connection: &Connection,
    tenant: &TenantId,
    span: (Uuid, Uuid),
    before_ms: i64,
) -> Result<PruneStep, StoreError> {
    let begun = clock::instant();
    let selection = select(connection, tenant, span, before_ms).await?;
    let mut step = PruneStep { pruned: selection.events.len() as u64, took: Duration::ZERO, after: selection.after };
    if !selection.is_empty() {
        delete(connection, tenant, &selection).await?;
    }
    step.took = clock::since(begun);
    Ok(step)
}

/// Deletes events with their deliveries and attempts, and adds their numbers to the ledger.
async fn delete(connection: &Connection, tenant: &TenantId, selection: &Selection) -> Result<(), StoreError> {
    let Selection { events, fan_out, in_part, .. } = selection;
    // An event is deleted in part only if it is alone.
    let ended = match in_part {
        Some(event) => delete_deliveries(connection, tenant, &[*event]).await?,
        None => delete_deliveries(connection, tenant, events).await?,
    };
    let sql = "DELETE FROM events WHERE tenant = $1 AND id = ANY ($2)";
    connection.execute(sql, &[&&*tenant.0, events]).await?;
    // Triggers count what is kept.
    let of = |state: DeliveryState| ended[state as usize];
    let pruned = [
        ("events_pruned", int(events.len())),
        ("fan_out_pruned", int(*fan_out)),
        ("delivered_pruned", of(DeliveryState::Delivered)),
        ("dropped_pruned", of(DeliveryState::Dropped)),
        ("dead_pruned", of(DeliveryState::Dead)),
        ("cancelled_pruned", of(DeliveryState::Cancelled)),
        ("superseded_pruned", of(DeliveryState::Superseded)),
    ];
    ledger::add_all(connection, tenant, &pruned).await
}

/// Deletes at most [`DELIVERIES_MAX`] deliveries of events with their attempts, and counts them by state.
async fn delete_deliveries(
    connection: &Connection,
    tenant: &TenantId,
    events: &[Uuid],
) -> Result<[i64; DeliveryState::ALL.len()], StoreError> {
    // A `ctid` is only known within a part of the table. What is pending needs its event.
    let sql = "DELETE FROM deliveries WHERE state > 0 AND ctid = ANY (ARRAY(
                 SELECT ctid FROM deliveries WHERE tenant = $1 AND event = ANY ($2) AND state > 0 LIMIT $3)) RETURNING id, state";
    let rows = connection.query(sql, &[&&*tenant.0, &events, &int(DELIVERIES_MAX)]).await?;
    let mut ids: Vec<Uuid> = Vec::with_capacity(rows.len());
    let mut ended = [0; DeliveryState::ALL.len()];
    for row in &rows {
        ids.push(row.try_get(0)?);
        ended[state(row.try_get(1)?) as usize] += 1;
    }
    if !ids.is_empty() {
        let sql = "DELETE FROM attempts WHERE tenant = $1 AND delivery = ANY ($2)";
        connection.execute(sql, &[&&*tenant.0, &ids]).await?;
    }
    Ok(ended)
}

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;
