//! Rows of new events and deliveries.

use super::batch::IntakeTx;
use super::rows::{DeliveryRow, EventRow};
use crate::backend::intake::NewEvent;
use crate::claims::Claims;
use crate::order_key::OrderKey;
use crate::store_event::{NewDeliveries, NewDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, TenantId};
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
    let NewDelivery { delivery, due_at_ms } = NewDelivery::usual(event, subscription, claims, new_deliveries);
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
