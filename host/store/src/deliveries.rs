//! Deliveries and attempts in the database: recording outcomes, and reading them for display.

mod past_damage;

use super::audit::Actor;
use super::batch::{AdminTx, OutcomeQuery, OutcomeTx};
use super::claims::Claim;
use super::events::id_value;
use super::fair_queue::Owner;
use super::partial_read::PartialRead;
use super::writer::{Terms, payload_rows};
use super::{StateChange, Store, StoreError, now_ms};
use bytes::Bytes;
use hookloom_model::delivery::{Arm, Attempt, DeliveryId, DeliveryKind, DeliveryState, DueDelivery, Reason};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::retry::Next;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use std::collections::HashMap;
use std::sync::Arc;

/// Attempt and its consequences.
#[derive(Debug)]
pub struct AttemptRecord {
    /// The attempt.
    pub attempt: Attempt,
    /// Consequence for the delivery.
    pub next: Next,
    /// Latest time at which the delivery may be attempted, in milliseconds since the epoch.
    pub age_end_ms: i64,
    /// Reason to disable the subscription, if the attempt does so.
    pub disables: Option<Reason>,
}

/// Claim whose outcome could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("an outcome could not be recorded")]
pub struct Unfinished {
    /// The claim, which still holds the delivery.
    pub claim: Claim,
    /// Cause of the failure.
    #[source]
    pub error: StoreError,
}

impl Unfinished {
    /// Ends the claim if the write succeeded, and returns it otherwise.
    fn unless(written: Result<(), StoreError>, claim: Claim) -> Result<(), Box<Unfinished>> {
        written.map_err(|error| Box::new(Unfinished { claim, error }))
    }
}

/// Delivery for display.
#[derive(Debug)]
pub struct DeliveryView {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Event that the delivery carries.
    pub event: EventId,
    /// Subscription of the delivery.
    pub subscription: SubscriptionId,
    /// Origin of the delivery.
    pub kind: DeliveryKind,
    /// Current state.
    pub state: DeliveryState,
    /// True if the delivery waits for another plugin version or config.
    pub awaiting_plugin: bool,
    /// Time of the next attempt, if the delivery is pending.
    pub due_at_ms: Option<i64>,
    /// Number of attempts so far.
    pub attempts_made: u32,
    /// Reason of the current state.
    pub reason: Option<Reason>,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Time of the last change, in milliseconds since the epoch.
    pub updated_at_ms: i64,
}

/// Event for display.
#[derive(Debug)]
pub struct EventView {
    /// The event.
    pub event: Arc<Event>,
    /// Previous event of the same entity.
    pub previous: Option<EventId>,
    /// Number of deliveries at acceptance.
    pub fan_out: usize,
    /// Deliveries of the event.
    pub deliveries: Vec<DeliveryView>,
}

/// Filter of a listing of deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only deliveries of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries of this event.
    pub event: Option<EventId>,
    /// Only deliveries older than this one.
    pub before: Option<DeliveryId>,
    /// Maximum number of deliveries.
    pub limit: usize,
}

pub(super) const VIEW: &str = "SELECT id, event, subscription, state, awaiting_plugin, due_at_ms, attempts_made, reason, created_at_ms, updated_at_ms, kind FROM deliveries";

/// Condition of the last event of an entity (?3, ?4) of a tenant (?1) before an event (?2). Ordered by rowid, the order of
/// acceptance even if the clock was set back. There is no gap between stored events, because the oldest of an entity is pruned
/// first.
pub(super) const BEFORE: &str = "WHERE tenant = ?1 AND entity_id = ?3 AND module = ?4
    AND rowid < (SELECT this.rowid FROM events this WHERE this.tenant = ?1 AND this.id = ?2) ORDER BY rowid DESC LIMIT 1";

impl Store {
    /// Records an attempt, updates its delivery, disables the subscription if required, and ends the claim. Durable when it returns.
    ///
    /// # Errors
    /// The claim is returned with the error, so that the caller can try again.
    pub async fn finish(&self, claim: Claim, record: Arc<AttemptRecord>) -> Result<(), Box<Unfinished>> {
        Unfinished::unless(self.record(claim.delivery().clone(), record).await, claim)
    }

    async fn record(&self, delivery: DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        // Not on the writer's thread, for which all other writes wait.
        let detail = detail(&record.attempt)?;
        let Some(reason) = record.disables.clone() else {
            let owner = Owner::from(&delivery.tenant);
            let terms = Terms { owner, rows: 2 + payload_rows(detail.len()) };
            let detail: Arc<str> = detail.into();
            let delivery_too = delivery.clone();
            let record_too = record.clone();
            let detail_too = detail.clone();
            let write = move |tx: &OutcomeTx<'_, '_>| record_one(tx, &delivery_too, &record_too, Some(&detail_too));
            return match self.writer.outcome(terms.clone(), write).await {
                Err(error) if error.is_damage() => self.record_beside_damage(delivery, record, detail, terms).await,
                recorded => recorded,
            };
        };
        let tenant = delivery.tenant.clone();
        let id = delivery.subscription;
        let catalog = self.catalog.clone();
        let change = StateChange::Disable { reason, generation: Some(record.attempt.config_generation) };
        let write = move |tx: &AdminTx<'_, '_>| {
            let current = catalog.subscription_by_id(delivery.subscription);
            if current.is_some_and(|current| current.generation == record.attempt.config_generation) {
                return record_one(&tx.outcome(), &delivery, &record, Some(&detail));
            }
            // The receiver of an earlier config wants no more webhooks. The present one has not been asked.
            let AttemptRecord { attempt, age_end_ms, .. } = &*record;
            let reason = Reason::new("config-changed", "the receiver of the previous configuration answered 410 Gone");
            let next = Next::Again { at_ms: now_ms(), counts: true, reason };
            let attempt = attempt.clone();
            let age_end_ms = *age_end_ms;
            let instead = AttemptRecord { attempt, next, age_end_ms, disables: None };
            record_one(&tx.outcome(), &delivery, &instead, Some(&detail))
        };
        self.set_state_after(write, Actor::Host, &tenant, id, change).await
    }

    /// Ends a pending delivery without an attempt, and its claim.
    ///
    /// # Errors
    /// The claim is returned with the error, as by [`Store::finish`].
    pub async fn give_up(&self, claim: Claim, reason: Reason) -> Result<(), Box<Unfinished>> {
        Unfinished::unless(self.end_unattempted(claim.delivery(), reason).await, claim)
    }

    async fn end_unattempted(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let tenant = delivery.tenant.clone();
        let id = delivery.id;
        let subscription = delivery.subscription;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE deliveries SET state = ?3, due_at_ms = 0, reason = ?4, updated_at_ms = ?5 WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let reason = reason.to_bounded_json()?;
            let ended = params![&*tenant.0, id.0, DeliveryState::Dead as u8, reason, now_ms()];
            let count = tx.prepare_cached(sql)?.execute(ended)?;
            tx.count_pending(&tenant, subscription, -(count as i64));
            Ok(())
        };
        self.write(&delivery.tenant, write).await
    }

    /// Returns a delivery with its attempts.
    pub async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<(DeliveryView, Vec<Attempt>), StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = format!("{VIEW} WHERE tenant = ?1 AND id = ?2");
            let view = connection.prepare_cached(&sql)?.query_row(params![&*tenant.0, id.0], view_row).optional()?;
            let view = view.ok_or(StoreError::NotFound("delivery"))?;
            let attempts = match attempts(connection, &tenant, id) {
                Err(error) if error.is_damage() => past_damage::attempts(connection, &tenant, id.0, view.attempts_made),
                attempts => attempts?,
            };
            Ok((view, attempts))
        };
        self.readers.read(owner, read).await
    }

    /// Returns the attempts of each of an event's deliveries, in order.
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

    /// Returns, for each pending ordered delivery of an event, the first earlier pending delivery of the same entity, and the
    /// number of its attempts.
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
            // The first of them is the last row, and stays in the map.
            let rows = statement.query_map(params![&*tenant.0, event.0], |row| {
                Ok((DeliveryId(row.get(0)?), (DeliveryId(row.get(1)?), row.get(2)?)))
            })?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }

    /// Returns deliveries, newest first.
    pub async fn deliveries(&self, tenant: TenantId, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| match list(connection, &tenant, &filter) {
            Err(error) if error.is_damage() => past_damage::list(connection, &tenant, &filter),
            listed => listed.map(PartialRead::of),
        };
        let listed = self.readers.read(owner, read).await?;
        self.set_apart(listed.damaged).await;
        Ok(listed.value)
    }

    /// Returns an event with its deliveries.
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

/// Returns the stored text of an attempt. Texts have similar sizes, so capacity is reserved once.
fn detail(attempt: &Attempt) -> Result<String, StoreError> {
    let mut detail = Vec::with_capacity(2_048);
    serde_json::to_writer(&mut detail, attempt)?;
    String::from_utf8(detail).map_err(|error| StoreError::Corrupt(serde::ser::Error::custom(error)))
}

/// Updates a delivery after an attempt. `detail` is the stored text of the attempt, if it can be written.
pub(super) fn record_one(
    tx: &OutcomeTx<'_, '_>,
    delivery: &DueDelivery,
    record: &AttemptRecord,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    let AttemptRecord { attempt, next, age_end_ms, .. } = record;
    let (state, due_at_ms, awaiting, counts, reason) = match next {
        // The version or config that the delivery should wait for may have come during the attempt.
        Next::AwaitPlugin { reason } if !is_current(tx, delivery, attempt)? => {
            (DeliveryState::Pending, now_ms(), false, true, Some(reason))
        }
        Next::End { state, reason } => (*state, 0, false, true, reason.as_ref()),
        Next::Again { at_ms, counts, reason } => (DeliveryState::Pending, *at_ms, false, *counts, Some(reason)),
        Next::AwaitPlugin { reason } => (DeliveryState::Pending, *age_end_ms, true, true, Some(reason)),
    };
    let reason = reason.map(Reason::to_bounded_json).transpose()?;
    let columns = (state as u8, due_at_ms, awaiting, u8::from(counts));
    let was_pending = tx.write_outcome(delivery, columns, reason.as_deref(), now_ms())?;
    // A delivery that ended meanwhile keeps the attempt. A deleted one does not.
    if let Some(detail) = detail
        && (was_pending || tx.exists(OutcomeQuery::Delivery, params![&*delivery.tenant.0, delivery.id.0])?)
    {
        tx.write_attempt(&delivery.tenant, delivery.id.0, attempt.number, detail)?;
    }
    Ok(())
}

/// Returns true if the plugin version and config that judged an attempt are still the active ones.
fn is_current(tx: &OutcomeTx<'_, '_>, delivery: &DueDelivery, attempt: &Attempt) -> Result<bool, StoreError> {
    let tenant = &*delivery.tenant.0;
    let generation = attempt.config_generation;
    if !tx.exists(OutcomeQuery::Generation, params![tenant, delivery.subscription.0, generation])? {
        return Ok(false);
    }
    for step in attempt.steps.iter().filter(|step| step.arm == Arm::Active) {
        if !tx.exists(OutcomeQuery::ActiveVersion, params![tenant, step.plugin, step.sha256])? {
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

/// Number of pending deliveries that can be sorted quickly.
const FEW_PENDING: usize = 10_000;

fn list(connection: &Connection, tenant: &TenantId, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
    // SQLite has no statistics, so the query names the index with the fewest rows to read.
    let few_pending = || -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_due WHERE tenant = ?1 AND state = 0 LIMIT ?2)";
        let count: usize =
            connection.prepare_cached(sql)?.query_row(params![&*tenant.0, FEW_PENDING], |row| row.get(0))?;
        Ok(count < FEW_PENDING)
    };
    let index = match filter {
        DeliveryFilter { event: Some(_), .. } => "INDEXED BY deliveries_of_event",
        DeliveryFilter { subscription: Some(_), .. } => "INDEXED BY deliveries_of_subscription",
        // Few deliveries are found by their index. If there are many, some are among the newest.
        DeliveryFilter { state: Some(DeliveryState::Pending), .. } if few_pending()? => "INDEXED BY deliveries_due",
        DeliveryFilter { state: Some(DeliveryState::Pending | DeliveryState::Delivered), .. } => "",
        DeliveryFilter { state: Some(_), .. } => "INDEXED BY deliveries_ended_otherwise",
        _ => "",
    };
    let mut sql = format!("{VIEW} {index} WHERE tenant = ?");
    // SQLite uses a partial index only if the query repeats its condition.
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

/// Reads an event from the first six columns: id, name, module, entity_id, received_at_ms, payload.
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
