//! Rows of new events and deliveries.

use super::batch::{IntakeStatement, IntakeTx};
use super::deliveries::event_row;
use super::rows::{DeliveryRow, EventRow, SettlingRow};
use crate::StoreError;
use crate::backend::intake::NewEvent;
use crate::claims::Claims;
use crate::order_key::OrderKey;
use crate::store_event::{NewDeliveries, NewDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, TenantId};
use rusqlite::params;
use std::cell::LazyCell;
use std::sync::Arc;

/// Adds the delivery of an accepted event to a subscription, and claims it if its lane can attempt it at once. The order key is the
/// same for every ordered subscription.
pub(super) fn write_usual_delivery(
    tx: &IntakeTx<'_, '_>,
    event: &Arc<Event>,
    subscription: &Subscription,
    order_key: &LazyCell<Option<OrderKey>, impl FnOnce() -> Option<OrderKey>>,
    claims: &Claims,
    new_deliveries: &mut NewDeliveries,
) {
    let order_key = subscription.settings.ordering.and_then(|_| **order_key);
    let new = NewDelivery::usual(event, subscription, claims, new_deliveries);
    if let Some(settling) = new.settling {
        return tx.add_settling(SettlingRow { new, settling, order_key });
    }
    let NewDelivery { delivery, due_at_ms, settling: _ } = new;
    tx.add_delivery(DeliveryRow { delivery, due_at_ms, order_key });
}

/// Adds an event, accepted now.
pub(super) fn write_event(tx: &IntakeTx<'_, '_>, tenant: &TenantId, new: NewEvent, fan_out: usize) -> Arc<Event> {
    let (id, received_at_ms) = EventId::with_time();
    let event = Arc::new(Event {
        id,
        name: new.name,
        module: new.module,
        entity_id: new.entity_id,
        received_at_ms,
        payload: new.payload,
    });
    tx.add_event(EventRow { tenant: tenant.clone(), event: event.clone(), fan_out });
    event
}

/// Returns the last event of the contact or deal of a new event, which may be of the same transaction. A damaged one counts as absent, so
/// that its conditions refuse nothing.
pub(super) fn latest(
    tx: &IntakeTx<'_, '_>,
    tenant: &TenantId,
    new: &NewEvent,
) -> Result<Option<Arc<Event>>, StoreError> {
    let Some(entity_id) = &new.entity_id else { return Ok(None) };
    if let Some(event) = tx.collected_event(tenant, new.module, entity_id) {
        return Ok(Some(event));
    }
    let entity = params![&*tenant.0, entity_id, new.module.as_str()];
    unless_damaged(tx.find(IntakeStatement::Latest, entity, event_row))
}

/// Returns the event of the same contact or deal before an event. A damaged one counts as absent.
pub(super) fn before(
    tx: &IntakeTx<'_, '_>,
    tenant: &TenantId,
    event: &Event,
) -> Result<Option<Arc<Event>>, StoreError> {
    let Some(entity_id) = &event.entity_id else { return Ok(None) };
    let entity = params![&*tenant.0, event.id.0, entity_id, event.module.as_str()];
    unless_damaged(tx.find(IntakeStatement::Before, entity, event_row))
}

fn unless_damaged(found: rusqlite::Result<Option<Event>>) -> Result<Option<Arc<Event>>, StoreError> {
    match found.map_err(StoreError::from) {
        Err(error) if error.is_damage() => {
            let error = hookloom_model::describe(&error);
            tracing::debug!(%error, "the event before this one cannot be read; everything counts as changed");
            Ok(None)
        }
        found => Ok(found?.map(Arc::new)),
    }
}
