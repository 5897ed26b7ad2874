//! Deliveries and attempts in the database: what is due, what came of it, and what is shown.

use super::batch::Batch;
use super::careful::{self, Careful};
use super::events::id_value;
use super::fair_queue::Owner;
use super::writer::{Terms, WriteMode, payload_rows};
use super::{StateChange, Store, StoreError, now_ms};
use crate::delivery::{Arm, Attempt, DeliveryId, DeliveryKind, DeliveryState, DueDelivery, Reason};
use crate::event::{Event, EventId, Module};
use crate::retry::Next;
use crate::subscription::{SubscriptionId, TenantId};
use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use std::collections::HashMap;
use std::sync::Arc;

/// An attempt and what follows it.
#[derive(Debug)]
pub struct AttemptRecord {
    /// The delivery, as it was before the attempt.
    pub delivery: DueDelivery,
    /// The attempt.
    pub attempt: Attempt,
    /// Consequence for the delivery.
    pub next: Next,
    /// Latest end of the delivery's life, in milliseconds since the epoch.
    pub age_end_ms: i64,
    /// Reason to disable the subscription, if the attempt does so.
    pub disables: Option<Reason>,
}

/// A delivery as it is shown.
#[derive(Debug)]
pub struct DeliveryView {
    /// Its id.
    pub id: DeliveryId,
    /// The event it carries.
    pub event: EventId,
    /// The subscription it belongs to.
    pub subscription: SubscriptionId,
    /// Origin of the delivery.
    pub kind: DeliveryKind,
    /// Current state.
    pub state: DeliveryState,
    /// True if it waits for another plugin version or config.
    pub awaiting_plugin: bool,
    /// Time of the next attempt, if it is pending.
    pub due_at_ms: Option<i64>,
    /// Number of attempts that were made.
    pub attempts_made: u32,
    /// Reason of the current state.
    pub reason: Option<Reason>,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Time of the last change, in milliseconds since the epoch.
    pub updated_at_ms: i64,
}

/// An event as it is shown.
#[derive(Debug)]
pub struct EventView {
    /// The event.
    pub event: Arc<Event>,
    /// The last event of the same entity that was accepted before it.
    pub previous: Option<EventId>,
    /// Number of deliveries that it was accepted with.
    pub fan_out: usize,
    /// Its deliveries.
    pub deliveries: Vec<DeliveryView>,
}

/// Filter of a listing of deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only of this event.
    pub event: Option<EventId>,
    /// Only older than this one.
    pub before: Option<DeliveryId>,
    /// At most this many.
    pub limit: usize,
}

pub(super) const VIEW: &str = "SELECT id, event, subscription, state, awaiting_plugin, due_at_ms, attempts_made, reason, created_at_ms, updated_at_ms, kind FROM deliveries";

/// The last event of an entity (?3, ?4) of a tenant (?1) before an event (?2). By rowid, which is the order of acceptance
/// also when the clock was set back. None is missing between two that are kept: the oldest of an entity is pruned first.
pub(super) const BEFORE: &str = "WHERE tenant = ?1 AND entity_id = ?3 AND module = ?4
    AND rowid < (SELECT own.rowid FROM events own WHERE own.tenant = ?1 AND own.id = ?2) ORDER BY rowid DESC LIMIT 1";

impl Store {
    /// Records an attempt, moves its delivery on, and disables its subscription if it must. Durable when it returns.
    pub async fn record(&self, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        // Not on the writer's thread, which everybody waits for.
        let detail = detail(&record.attempt)?;
        let Some(reason) = record.disables.clone() else {
            let owner = Owner::from(&record.delivery.tenant);
            let terms = Terms { owner, mode: WriteMode::Outcome, rows: 2 + payload_rows(detail.len()) };
            let detail: Arc<str> = detail.into();
            let record_too = record.clone();
            let detail_too = detail.clone();
            let write = move |batch: &Batch<'_>| record_one(batch, &record_too, Some(&detail_too));
            return match self.writer.write(terms.clone(), write, |()| {}).await {
                Err(error) if error.is_damage() => self.record_beside_damage(record, detail, terms).await,
                recorded => recorded,
            };
        };
        let tenant = record.delivery.tenant.clone();
        let id = record.delivery.subscription;
        let catalog = self.catalog.clone();
        let change = StateChange::Disable { reason, generation: Some(record.attempt.config_generation) };
        let write = move |batch: &Batch<'_>| {
            let current = catalog.subscription_by_id(record.delivery.subscription);
            if current.is_some_and(|current| current.generation == record.attempt.config_generation) {
                return record_one(batch, &record, Some(&detail));
            }
            // The receiver of an earlier config wants no more; the one of today has not been asked.
            let AttemptRecord { delivery, attempt, age_end_ms, .. } = &*record;
            let reason = Reason::new("config-changed", "the receiver of the previous configuration answered 410 Gone");
            let next = Next::Again { at_ms: now_ms(), counts: true, reason };
            let delivery = delivery.clone();
            let attempt = attempt.clone();
            let age_end_ms = *age_end_ms;
            let instead = AttemptRecord { delivery, attempt, next, age_end_ms, disables: None };
            record_one(batch, &instead, Some(&detail))
        };
        self.set_state_after(write, &tenant, id, change).await
    }

    /// Ends a pending delivery without an attempt.
    pub async fn give_up(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let tenant = delivery.tenant.clone();
        let id = delivery.id;
        let subscription = delivery.subscription;
        let write = move |batch: &Batch<'_>| {
            let sql = "UPDATE deliveries SET state = ?3, due_at_ms = 0, reason = ?4, updated_at_ms = ?5 WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let reason = reason.to_bounded_json()?;
            let ended = params![&*tenant.0, id.0, DeliveryState::Dead as u8, reason, now_ms()];
            let count = batch.prepare_cached(sql)?.execute(ended)?;
            batch.count_pending(&tenant, subscription, -(count as i64));
            Ok(())
        };
        self.write(&delivery.tenant, write).await
    }

    /// One delivery with its attempts.
    pub async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<(DeliveryView, Vec<Attempt>), StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = format!("{VIEW} WHERE tenant = ?1 AND id = ?2");
            let view = connection.prepare_cached(&sql)?.query_row(params![&*tenant.0, id.0], view_row).optional()?;
            let view = view.ok_or(StoreError::NotFound("delivery"))?;
            let attempts = match attempts(connection, &tenant, id) {
                Err(error) if error.is_damage() => careful::attempts(connection, &tenant, id.0, view.attempts_made),
                attempts => attempts?,
            };
            Ok((view, attempts))
        };
        self.readers.read(owner, read).await
    }

    /// The attempts of each of an event's deliveries, in their order.
    pub async fn attempts_of_event(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT delivery, detail FROM attempts
                       WHERE tenant = ?1 AND delivery IN (SELECT id FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2)
                       ORDER BY delivery, number";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![&*tenant.0, event.0])?;
            let mut attempts: HashMap<DeliveryId, Vec<Attempt>> = HashMap::new();
            while let Some(row) = rows.next()? {
                let attempt = serde_json::from_str(&row.get::<_, String>(1)?)?;
                attempts.entry(DeliveryId(row.get(0)?)).or_default().push(attempt);
            }
            Ok(attempts)
        };
        self.readers.read(owner, read).await
    }

    /// For each pending delivery of an event that keeps an order: the first earlier one of the same entity that is pending,
    /// and how many attempts that one had.
    pub async fn earlier_ones(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, (DeliveryId, u32)>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT d.id, o.id, o.attempts_made FROM deliveries d INDEXED BY deliveries_of_event
                       JOIN deliveries o INDEXED BY deliveries_in_order ON o.tenant = d.tenant AND o.subscription = d.subscription
                         AND o.order_key = d.order_key AND o.state = 0 AND o.id < d.id
                       WHERE d.tenant = ?1 AND d.event = ?2 AND d.state = 0 AND d.order_key IS NOT NULL ORDER BY o.id DESC";
            let mut statement = connection.prepare_cached(sql)?;
            // The first of them is the last row, and stays.
            let rows = statement.query_map(params![&*tenant.0, event.0], |row| {
                Ok((DeliveryId(row.get(0)?), (DeliveryId(row.get(1)?), row.get(2)?)))
            })?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }

    /// Deliveries, the newest first.
    pub async fn deliveries(&self, tenant: TenantId, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| match list(connection, &tenant, &filter) {
            Err(error) if error.is_damage() => careful::list(connection, &tenant, &filter),
            listed => listed.map(Careful::of),
        };
        let listed = self.readers.read(owner, read).await?;
        self.set_apart(listed.damaged).await;
        Ok(listed.value)
    }

    /// One event with its deliveries.
    pub async fn event(&self, tenant: TenantId, id: EventId) -> Result<EventView, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT id, name, module, entity_id, received_at_ms, payload, fan_out FROM events WHERE tenant = ?1 AND id = ?2";
            let found = connection
                .query_row(sql, params![&*tenant.0, id.0], |row| Ok((event_row(row)?, row.get(6)?)))
                .optional()?;
            let (event, fan_out) = found.ok_or(StoreError::NotFound("event"))?;
            let sql = format!("SELECT id FROM events {BEFORE}");
            let entity = params![&*tenant.0, id.0, event.entity_id, event.module.as_str()];
            let previous = connection.query_row(&sql, entity, |row| row.get(0).map(EventId)).optional()?;
            let filter = DeliveryFilter { event: Some(id), limit: usize::MAX, ..DeliveryFilter::default() };
            Ok(EventView { event: Arc::new(event), previous, fan_out, deliveries: list(connection, &tenant, &filter)? })
        };
        self.readers.read(owner, read).await
    }
}

/// An attempt as it is kept. They are of a size, so that room is made once.
fn detail(attempt: &Attempt) -> Result<String, StoreError> {
    let mut detail = Vec::with_capacity(2_048);
    serde_json::to_writer(&mut detail, attempt)?;
    String::from_utf8(detail).map_err(|error| StoreError::Corrupt(serde::ser::Error::custom(error)))
}

/// Moves a delivery on. `detail` is the attempt as it is kept; none where that cannot be written.
pub(super) fn record_one(batch: &Batch<'_>, record: &AttemptRecord, detail: Option<&str>) -> Result<(), StoreError> {
    let AttemptRecord { delivery, attempt, next, age_end_ms, .. } = record;
    let (state, due_at_ms, awaiting, counts, reason) = match next {
        // It shall wait for another version or config, which may have come while the attempt was under way.
        Next::AwaitPlugin { reason } if !is_current(batch, record)? => {
            (DeliveryState::Pending, now_ms(), false, true, Some(reason))
        }
        Next::End { state, reason } => (*state, 0, false, true, reason.as_ref()),
        Next::Again { at_ms, counts, reason } => (DeliveryState::Pending, *at_ms, false, *counts, Some(reason)),
        Next::AwaitPlugin { reason } => (DeliveryState::Pending, *age_end_ms, true, true, Some(reason)),
    };
    let reason = reason.map(Reason::to_bounded_json).transpose()?;
    let columns = (state as u8, due_at_ms, awaiting, u8::from(counts));
    let was_pending = batch.write_outcome(delivery, columns, reason.as_deref(), now_ms())?;
    // One that ended meanwhile keeps the attempt; one that was deleted meanwhile leaves nothing behind.
    if let Some(detail) = detail
        && (was_pending || exists(batch, delivery)?)
    {
        batch.write_attempt(&delivery.tenant, delivery.id.0, attempt.number, detail)?;
    }
    Ok(())
}

fn exists(connection: &Connection, delivery: &DueDelivery) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM deliveries WHERE tenant = ?1 AND id = ?2";
    Ok(connection.prepare_cached(sql)?.exists(params![&*delivery.tenant.0, delivery.id.0])?)
}

/// Returns true if the plugin version and config that judged an attempt are still the active ones.
fn is_current(connection: &Connection, record: &AttemptRecord) -> Result<bool, StoreError> {
    let AttemptRecord { delivery, attempt, .. } = record;
    let tenant = &*delivery.tenant.0;
    let sql = "SELECT 1 FROM subscriptions WHERE tenant = ?1 AND id = ?2 AND generation = ?3";
    let generation = attempt.config_generation;
    if !connection.prepare_cached(sql)?.exists(params![tenant, delivery.subscription.0, generation])? {
        return Ok(false);
    }
    let sql = "SELECT 1 FROM plugins WHERE tenant = ?1 AND name = ?2 AND active_sha256 = ?3";
    for step in attempt.steps.iter().filter(|step| step.arm == Arm::Active) {
        if !connection.prepare_cached(sql)?.exists(params![tenant, step.plugin, step.sha256])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn attempts(connection: &Connection, tenant: &TenantId, id: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
    let sql = "SELECT detail FROM attempts WHERE tenant = ?1 AND delivery = ?2 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let details = statement.query_map(params![&*tenant.0, id.0], |row| row.get::<_, String>(0))?;
    details.map(|detail| Ok(serde_json::from_str(&detail?)?)).collect()
}

/// So many pending deliveries are sorted in no time.
const FEW: usize = 10_000;

fn list(connection: &Connection, tenant: &TenantId, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
    // The planner knows no statistics: it is told which index holds the fewest that are looked at.
    let few_pending = || -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_due WHERE tenant = ?1 AND state = 0 LIMIT ?2)";
        let count: usize = connection.prepare_cached(sql)?.query_row(params![&*tenant.0, FEW], |row| row.get(0))?;
        Ok(count < FEW)
    };
    let index = match filter {
        DeliveryFilter { event: Some(_), .. } => "INDEXED BY deliveries_of_event",
        DeliveryFilter { subscription: Some(_), .. } => "INDEXED BY deliveries_of_subscription",
        // Few are found by their own index, wherever they are; of many, some are near.
        DeliveryFilter { state: Some(DeliveryState::Pending), .. } if few_pending()? => "INDEXED BY deliveries_due",
        DeliveryFilter { state: Some(DeliveryState::Pending | DeliveryState::Delivered), .. } => "",
        DeliveryFilter { state: Some(_), .. } => "INDEXED BY deliveries_ended_otherwise",
        _ => "",
    };
    let mut sql = format!("{VIEW} {index} WHERE tenant = ?");
    // The condition of a partial index must be a word of the query's own.
    match index {
        "INDEXED BY deliveries_ended_otherwise" => sql.push_str(" AND state >= 2"),
        "INDEXED BY deliveries_due" => sql.push_str(" AND state = 0"),
        _ => {}
    }
    let mut values = vec![Value::from(tenant.0.to_string())];
    let mut also = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(" AND ");
            sql.push_str(condition);
            values.push(value);
        }
    };
    also("subscription = ?", filter.subscription.map(|id| id_value(id.0)));
    also("state = ?", filter.state.map(|state| Value::from(state as i64)));
    also("event = ?", filter.event.map(|id| id_value(id.0)));
    also("id < ?", filter.before.map(|id| id_value(id.0)));
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::from(i64::try_from(filter.limit).unwrap_or(i64::MAX)));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), view_row)?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

pub(super) fn kind(number: usize) -> DeliveryKind {
    DeliveryKind::ALL[number.min(DeliveryKind::ALL.len() - 1)]
}

pub(super) fn view_row(row: &Row<'_>) -> rusqlite::Result<DeliveryView> {
    let state = DeliveryState::ALL[row.get::<_, usize>(3)?.min(DeliveryState::ALL.len() - 1)];
    let reason: Option<String> = row.get(7)?;
    Ok(DeliveryView {
        id: DeliveryId(row.get(0)?),
        event: EventId(row.get(1)?),
        subscription: SubscriptionId(row.get(2)?),
        state,
        awaiting_plugin: row.get(4)?,
        due_at_ms: (state == DeliveryState::Pending).then_some(row.get(5)?),
        attempts_made: row.get(6)?,
        reason: reason.and_then(|reason| serde_json::from_str(&reason).ok()),
        created_at_ms: row.get(8)?,
        updated_at_ms: row.get(9)?,
        kind: kind(row.get(10)?),
    })
}

/// An event from the first six columns: id, name, module, entity_id, received_at_ms, payload.
pub(super) fn event_row(row: &Row<'_>) -> rusqlite::Result<Event> {
    let module: String = row.get(2)?;
    Ok(Event {
        id: EventId(row.get(0)?),
        name: row.get(1)?,
        module: Module::parse(&module).unwrap_or(Module::Contact),
        entity_id: row.get(3)?,
        received_at_ms: row.get(4)?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(5)?),
    })
}
