//! Rows of new events and deliveries, collected by a write and inserted with one statement for each table.

use super::rows::{int, text};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::intake::NewEvent;
use crate::claims::Claims;
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use crate::store_event::NewDelivery;
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, TenantId};
use std::sync::Arc;
use uuid::Uuid;

/// Collected rows of one tenant.
#[derive(Default)]
pub(super) struct NewRows {
    events: Vec<EventRow>,
    deliveries: Vec<DeliveryRow>,
}

struct EventRow {
    event: Arc<Event>,
    fan_out: usize,
}

struct DeliveryRow {
    new: NewDelivery,
    order_key: Option<OrderKey>,
}

impl NewRows {
    /// Adds an event, accepted now.
    pub(super) fn add_event(&mut self, new: NewEvent, fan_out: usize) -> Arc<Event> {
        let (id, received_at_ms) = EventId::with_time();
        let NewEvent { name, module, entity_id, payload } = new;
        let event = Arc::new(Event { id, name, module, entity_id, received_at_ms, payload });
        self.events.push(EventRow { event: event.clone(), fan_out });
        event
    }

    /// Adds the delivery of an accepted event to a subscription, and claims it if its lane can attempt it at once.
    pub(super) fn add_usual_delivery(
        &mut self,
        event: &Arc<Event>,
        subscription: &Subscription,
        order_key: Option<OrderKey>,
        claims: &Claims,
        new_deliveries: &mut NewDeliveries,
    ) {
        let order_key = subscription.settings.ordering.and(order_key);
        let new = NewDelivery::usual(event, subscription, claims, new_deliveries);
        self.add_delivery(new, order_key);
    }

    /// Adds a pending delivery.
    pub(super) fn add_delivery(&mut self, new: NewDelivery, order_key: Option<OrderKey>) {
        self.deliveries.push(DeliveryRow { new, order_key });
    }

    /// Inserts the rows, and counts the deliveries as pending.
    pub(super) async fn insert(self, tx: &WriteTx, tenant: &TenantId) -> Result<(), StoreError> {
        insert_events(tx, tenant, &self.events).await?;
        insert_deliveries(tx, tenant, &self.deliveries).await
    }
}

async fn insert_events(tx: &WriteTx, tenant: &TenantId, rows: &[EventRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    // The numbers in the order of acceptance are given in the order of the rows.
    let sql = "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
               SELECT $1, id, name, module, entity_id, received_at_ms, fan_out, payload
               FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::bytea[]) WITH ORDINALITY
                 AS new (id, name, module, entity_id, received_at_ms, fan_out, payload, place)
               ORDER BY place";
    let of = |row: &EventRow| row.event.clone();
    let events: Vec<Arc<Event>> = rows.iter().map(of).collect();
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    let names: Vec<_> = events.iter().map(|event| text(&event.name).into_owned()).collect();
    let modules: Vec<&str> = events.iter().map(|event| event.module.as_str()).collect();
    let entity_ids: Vec<Option<String>> =
        events.iter().map(|event| event.entity_id.as_deref().map(|id| text(id).into_owned())).collect();
    let times: Vec<i64> = events.iter().map(|event| event.received_at_ms).collect();
    let fan_outs: Vec<i64> = rows.iter().map(|row| int(row.fan_out)).collect();
    let payloads: Vec<&[u8]> = events.iter().map(|event| &event.payload[..]).collect();
    tx.execute(sql, &[&&*tenant.0, &ids, &names, &modules, &entity_ids, &times, &fan_outs, &payloads]).await.map(drop)
}

async fn insert_deliveries(tx: &WriteTx, tenant: &TenantId, rows: &[DeliveryRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO deliveries (tenant, id, event, subscription, kind, order_key, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms)
               SELECT $1, id, event, subscription, kind, order_key, due_at_ms, 0, at_ms, at_ms, at_ms
               FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::int2[], $6::bytea[], $7::int8[], $8::int8[])
                 AS new (id, event, subscription, kind, order_key, due_at_ms, at_ms)";
    let of = |value: fn(&NewDelivery) -> Uuid| rows.iter().map(|row| value(&row.new)).collect::<Vec<Uuid>>();
    let ids = of(|new| new.delivery.id.0);
    let events = of(|new| new.delivery.event.0);
    let subscriptions = of(|new| new.delivery.subscription.0);
    let kinds: Vec<i16> = rows.iter().map(|row| row.new.delivery.kind as i16).collect();
    let order_keys: Vec<Option<&[u8]>> = rows.iter().map(|row| row.order_key.as_ref().map(|key| &key.0[..])).collect();
    let due_times: Vec<i64> = rows.iter().map(|row| row.new.due_at_ms).collect();
    let times: Vec<i64> = rows.iter().map(|row| row.new.delivery.age_from_ms).collect();
    tx.execute(sql, &[&&*tenant.0, &ids, &events, &subscriptions, &kinds, &order_keys, &due_times, &times]).await?;
    rows.iter().for_each(|row| tx.count_pending(tenant, row.new.delivery.subscription, 1));
    Ok(())
}
