//! New events and deliveries: their rows, and their way to the dispatcher.

use super::batch::IntakeTx;
use super::claims::Claims;
use super::order_key::OrderKey;
use super::rows::{DeliveryRow, EventRow};
use super::{Due, NewDeliveries, StoreEvent};
use bytes::Bytes;
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DueDelivery};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use std::cell::LazyCell;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Checked event that has not been stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The `eventName` of the webhook.
    pub name: String,
    /// Module of the event name.
    pub module: Module,
    /// `eventData.id` as text.
    pub entity_id: Option<String>,
    /// Exact bytes of the event.
    pub payload: Bytes,
}

/// Publishes new deliveries. The dispatcher is gone only while the host stops, and reads them from the store at the next start.
pub(super) fn publish(store_events: &mpsc::UnboundedSender<StoreEvent>, new_deliveries: NewDeliveries) {
    if !new_deliveries.due.is_empty() || !new_deliveries.later.is_empty() {
        let _ = store_events.send(StoreEvent::Accepted(new_deliveries));
    }
}

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
    let tenant = &subscription.tenant;
    let order_key = subscription.settings.ordering.and_then(|_| **order_key);
    let wait_ms = subscription.settings.retry.first_wait_ms();
    let delivery = write_delivery(tx, tenant, event.id, subscription.id, DeliveryKind::Usual, wait_ms, order_key);
    // Only the store knows which delivery of an order is the next, and when a paused subscription goes on.
    let is_due =
        wait_ms == 0 && subscription.settings.ordering.is_none() && subscription.state == SubscriptionState::Active;
    if is_due {
        new_deliveries.due.push(Due { claim: claims.claim_new(delivery), event: event.clone() });
    } else {
        new_deliveries.later.push(subscription.id);
    }
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

/// Adds a pending delivery.
pub(super) fn write_delivery(
    tx: &IntakeTx<'_, '_>,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
    wait_ms: i64,
    order_key: Option<OrderKey>,
) -> DueDelivery {
    let (id, now_ms) = DeliveryId::with_time();
    let delivery = DueDelivery {
        id,
        tenant: tenant.clone(),
        event,
        subscription,
        kind,
        attempts_made: 0,
        attempts_in_budget: 0,
        age_from_ms: now_ms,
    };
    let due_at_ms = now_ms.saturating_add(wait_ms);
    tx.add_delivery(DeliveryRow { delivery: delivery.clone(), due_at_ms, order_key });
    delivery
}
