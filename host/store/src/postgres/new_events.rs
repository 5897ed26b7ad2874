//! Rows of new events and deliveries, collected by one or more writes and inserted with one statement for each table.

use super::rows::{int, text};
use super::settling::{self, SettlingRow};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::intake::NewEvent;
use crate::claims::Claims;
use crate::counted_tables::{DELIVERY_BYTES, EVENT_BYTES};
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use crate::store_event::NewDelivery;
use hookloom_model::delivery::{DeliveryState, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, TenantId};
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Number of rows from which they are copied. The server logs copied rows by page, which spares a record for each row, but a copy
/// takes one more round trip. Behind a pooler, nothing is copied: PgBouncer 1.18 waits for one more answer to a copy than there is, and so
/// keeps the session for this connection.
const COPY_MIN: usize = 8;

/// Collected rows of one tenant.
#[derive(Default)]
pub(super) struct NewRows {
    events: Vec<EventRow>,
    deliveries: Vec<DeliveryRow>,
    settling: Vec<SettlingRow>,
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
        match new.settling {
            Some(settling) => self.settling.push(SettlingRow { new, settling, order_key }),
            None => self.add_delivery(new, order_key),
        }
    }

    /// Adds a pending delivery.
    pub(super) fn add_delivery(&mut self, new: NewDelivery, order_key: Option<OrderKey>) {
        self.deliveries.push(DeliveryRow { new, order_key });
    }

    /// Returns the number of events.
    pub(super) fn events_len(&self) -> u64 {
        self.events.len() as u64
    }

    /// Returns the size of the events and that of the deliveries, as the counters of a tenant have them.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let events = self.events.iter().map(|row| EVENT_BYTES + row.text_bytes()).sum();
        let order_keys =
            self.deliveries.iter().map(|row| row.order_key).chain(self.settling.iter().map(|row| row.order_key));
        (events, order_keys.map(|key| DELIVERY_BYTES + key.map_or(0, |key| key.0.len() as u64)).sum())
    }

    /// Inserts the rows, and counts the deliveries as pending.
    pub(super) async fn insert(self, tx: &WriteTx, tenant: &TenantId) -> Result<(), StoreError> {
        insert_all(tx, &[(tenant.clone(), self)]).await
    }
}

impl EventRow {
    fn text_bytes(&self) -> u64 {
        let Event { name, entity_id, payload, .. } = &*self.event;
        let entity_id = entity_id.as_deref().map_or(0, |id| text(id).len());
        (text(name).len() + entity_id + payload.len()) as u64
    }
}

/// Inserts the rows of several writes in their order, and counts the deliveries as pending.
pub(super) async fn insert_all(tx: &WriteTx, rows: &[(TenantId, NewRows)]) -> Result<(), StoreError> {
    let events: Vec<(&str, &EventRow)> = flat(rows, |rows| &rows.events);
    let deliveries: Vec<(&str, &DeliveryRow)> = flat(rows, |rows| &rows.deliveries);
    let copy_min = if tx.is_pooled() { usize::MAX } else { COPY_MIN };
    if events.len() >= copy_min {
        copy_events(tx, &events).await?;
    } else if !events.is_empty() {
        insert_events(tx, &events).await?;
    }
    if !deliveries.is_empty() {
        if deliveries.len() < copy_min {
            insert_deliveries(tx, &deliveries).await?;
        } else {
            copy_deliveries(tx, &deliveries).await?;
        }
        deliveries.iter().for_each(|(_, row)| {
            let DueDelivery { tenant, subscription, .. } = &row.new.delivery;
            tx.count_pending(tenant, *subscription, 1);
        });
    }
    let settling: Vec<&SettlingRow> = rows.iter().flat_map(|(_, rows)| &rows.settling).collect();
    settling::insert_all(tx, &settling).await
}

/// Returns the rows of a table, each with its tenant.
fn flat<T>(rows: &[(TenantId, NewRows)], table: impl Fn(&NewRows) -> &Vec<T>) -> Vec<(&str, &T)> {
    rows.iter().flat_map(|(tenant, rows)| table(rows).iter().map(|row| (&*tenant.0, row))).collect()
}

async fn copy_events(tx: &WriteTx, rows: &[(&str, &EventRow)]) -> Result<(), StoreError> {
    // The numbers in the order of acceptance are given in the order of the rows.
    let sql = "COPY events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload) FROM STDIN (FORMAT binary)";
    let types = [Type::TEXT, Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::BYTEA];
    let mut copy = tx.copy(sql, &types).await?;
    for (tenant, row) in rows {
        let event = &row.event;
        let name = text(&event.name);
        let entity_id = event.entity_id.as_deref().map(text);
        let Event { id, module, received_at_ms, payload, .. } = &**event;
        let fan_out = int(row.fan_out);
        let values: &[&(dyn ToSql + Sync)] =
            &[tenant, &id.0, &name, &module.as_str(), &entity_id, received_at_ms, &fan_out, &&payload[..]];
        copy.as_mut().write(values).await?;
    }
    copy.as_mut().finish().await?;
    Ok(())
}

async fn copy_deliveries(tx: &WriteTx, rows: &[(&str, &DeliveryRow)]) -> Result<(), StoreError> {
    // Rows for the whole table would be logged one by one. They are pending, so their part is known.
    let sql = "COPY deliveries_pending (tenant, id, event, subscription, kind, order_key, due_at_ms, state, age_from_ms, created_at_ms,
                 updated_at_ms) FROM STDIN (FORMAT binary)";
    let [text, uuid, int2, int8] = [Type::TEXT, Type::UUID, Type::INT2, Type::INT8];
    let ids = [text, uuid.clone(), uuid.clone(), uuid];
    let rest = [int2.clone(), Type::BYTEA, int8.clone(), int2, int8.clone(), int8.clone(), int8];
    let mut copy = tx.copy(sql, &[&ids[..], &rest].concat()).await?;
    let state = DeliveryState::Pending as i16;
    for (tenant, DeliveryRow { new, order_key }) in rows {
        let NewDelivery { delivery, due_at_ms, settling: _ } = new;
        let order_key = order_key.as_ref().map(|key| &key.0[..]);
        let DueDelivery { id, event, subscription, kind, age_from_ms: at_ms, .. } = delivery;
        let kind = *kind as i16;
        let values: &[&(dyn ToSql + Sync)] =
            &[tenant, &id.0, &event.0, &subscription.0, &kind, &order_key, due_at_ms, &state, at_ms, at_ms, at_ms];
        copy.as_mut().write(values).await?;
    }
    copy.as_mut().finish().await?;
    Ok(())
}

async fn insert_events(tx: &WriteTx, rows: &[(&str, &EventRow)]) -> Result<(), StoreError> {
    // The numbers in the order of acceptance are given in the order of the rows.
    let sql = "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
               SELECT tenant, id, name, module, entity_id, received_at_ms, fan_out, payload
               FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::bytea[]) WITH ORDINALITY
                 AS new (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload, place)
               ORDER BY place";
    let tenants: Vec<&str> = rows.iter().map(|(tenant, _)| *tenant).collect();
    let events: Vec<&Event> = rows.iter().map(|(_, row)| &*row.event).collect();
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    let names: Vec<_> = events.iter().map(|event| text(&event.name)).collect();
    let modules: Vec<&str> = events.iter().map(|event| event.module.as_str()).collect();
    let entity_ids: Vec<_> = events.iter().map(|event| event.entity_id.as_deref().map(text)).collect();
    let times: Vec<i64> = events.iter().map(|event| event.received_at_ms).collect();
    let fan_outs: Vec<i64> = rows.iter().map(|(_, row)| int(row.fan_out)).collect();
    let payloads: Vec<&[u8]> = events.iter().map(|event| &event.payload[..]).collect();
    tx.execute(sql, &[&tenants, &ids, &names, &modules, &entity_ids, &times, &fan_outs, &payloads]).await.map(drop)
}

async fn insert_deliveries(tx: &WriteTx, rows: &[(&str, &DeliveryRow)]) -> Result<(), StoreError> {
    let sql = "INSERT INTO deliveries (tenant, id, event, subscription, kind, order_key, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms)
               SELECT tenant, id, event, subscription, kind, order_key, due_at_ms, 0, at_ms, at_ms, at_ms
               FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int2[], $6::bytea[], $7::int8[], $8::int8[])
                 AS new (tenant, id, event, subscription, kind, order_key, due_at_ms, at_ms)";
    let tenants: Vec<&str> = rows.iter().map(|(tenant, _)| *tenant).collect();
    let of = |value: fn(&NewDelivery) -> Uuid| rows.iter().map(|(_, row)| value(&row.new)).collect::<Vec<Uuid>>();
    let ids = of(|new| new.delivery.id.0);
    let events = of(|new| new.delivery.event.0);
    let subscriptions = of(|new| new.delivery.subscription.0);
    let kinds: Vec<i16> = rows.iter().map(|(_, row)| row.new.delivery.kind as i16).collect();
    let order_keys: Vec<Option<&[u8]>> =
        rows.iter().map(|(_, row)| row.order_key.as_ref().map(|key| &key.0[..])).collect();
    let due_times: Vec<i64> = rows.iter().map(|(_, row)| row.new.due_at_ms).collect();
    let times: Vec<i64> = rows.iter().map(|(_, row)| row.new.delivery.age_from_ms).collect();
    tx.execute(sql, &[&tenants, &ids, &events, &subscriptions, &kinds, &order_keys, &due_times, &times]).await.map(drop)
}
