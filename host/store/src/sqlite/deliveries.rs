//! Deliveries, events and attempts, as they are displayed.

mod past_damage;
mod settled_chains;

use super::Sqlite;
use super::partial_read::PartialRead;
use crate::StoreError;
use crate::backend::deliveries::{DeliveryBackend, DeliveryFilter, DeliveryView, EventView, SettledChain};
use crate::backend::operator_actions::Span;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

pub(super) const VIEW: &str = "SELECT id, event, subscription, state, awaiting_plugin, due_at_ms, attempts_made, reason, created_at_ms, updated_at_ms, kind, settled_events, settled_first, settles_key IS NOT NULL, superseded_by FROM deliveries";

/// Condition of the last event of an entity (?3, ?4) of a tenant (?1) before an event (?2). Ordered by `seq`, the order of
/// acceptance even if the clock was set back. There is no gap between stored events, because the oldest of an entity is pruned
/// first.
pub(super) const BEFORE: &str = "WHERE tenant = ?1 AND entity_id = ?3 AND module = ?4
    AND seq < (SELECT this.seq FROM events this WHERE this.tenant = ?1 AND this.id = ?2) ORDER BY seq DESC LIMIT 1";

#[async_trait]
impl DeliveryBackend for Sqlite {
    async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<(DeliveryView, Vec<Attempt>), StoreError> {
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

    async fn attempts_of_event(
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

    async fn earlier_ones(
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

    async fn settled_chains(
        &self,
        tenant: TenantId,
        deliveries: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, SettledChain>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| settled_chains::read(connection, &tenant, deliveries);
        self.readers.read(owner, read).await
    }

    async fn deliveries(&self, tenant: TenantId, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| match list(connection, &tenant, &filter) {
            Err(error) if error.is_damage() => past_damage::list(connection, &tenant, &filter),
            listed => listed.map(PartialRead::of),
        };
        let listed = self.readers.read(owner, read).await?;
        self.set_apart(listed.damaged).await;
        Ok(listed.value)
    }

    async fn event(&self, tenant: TenantId, id: EventId) -> Result<EventView, StoreError> {
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
        DeliveryFilter { event: Some(_), .. } | DeliveryFilter { among: Some(_), .. } => {
            "INDEXED BY deliveries_of_event"
        }
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
    let (from, to) = filter.span.map(Span::ids).unzip();
    also("id >= ?", from.map(id_value));
    also("id < ?", to.map(id_value));
    if let Some(among) = &filter.among {
        sql.push_str(&format!(" AND event IN ({})", vec!["?"; among.len()].join(", ")));
        values.extend(among.iter().map(|id| id_value(id.0)));
    }
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
        // A delivery that an earlier version ended may still say that it waits.
        awaiting_plugin: state == DeliveryState::Pending && row.get(4)?,
        due_at_ms: (state == DeliveryState::Pending).then_some(row.get(5)?),
        attempts_made: row.get(6)?,
        reason: reason.and_then(|reason| serde_json::from_str(&reason).ok()),
        created_at_ms: row.get(8)?,
        updated_at_ms: row.get(9)?,
        kind: kind(row.get(10)?),
        settled: settled(row, 11)?,
        is_settling: state == DeliveryState::Pending && row.get(13)?,
        superseded_by: row.get::<_, Option<Uuid>>(14)?.map(DeliveryId),
    })
}

/// Reads the events that a delivery stands for, from two columns: their number, and the first of them.
pub(super) fn settled(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<SettledEvents>> {
    let count: Option<u64> = row.get(first)?;
    let event: Option<Uuid> = row.get(first + 1)?;
    Ok(count.zip(event).map(|(count, event)| SettledEvents { count, first: EventId(event) }))
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

/// Returns an id as it is stored.
pub(super) fn id_value(id: Uuid) -> Value {
    Value::from(id.as_bytes().to_vec())
}
