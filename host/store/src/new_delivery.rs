//! New deliveries: when they are due, and which of them are claimed before their commit.

use crate::claims::Claims;
use crate::store_event::{Due, NewDeliveries};
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use std::sync::Arc;

/// Pending delivery that a transaction adds.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    pub(crate) delivery: DueDelivery,
    /// Due time, in milliseconds since the epoch.
    pub(crate) due_at_ms: i64,
}

impl NewDelivery {
    /// Returns a delivery that is due after a wait, with a new id.
    pub(crate) fn after(
        tenant: &TenantId,
        event: EventId,
        subscription: SubscriptionId,
        kind: DeliveryKind,
        wait_ms: i64,
    ) -> Self {
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
        NewDelivery { delivery, due_at_ms: now_ms.saturating_add(wait_ms) }
    }

    /// Returns the delivery of an accepted event to one of its receivers, and claims it if its lane can attempt it at once.
    pub(crate) fn usual(
        event: &Arc<Event>,
        subscription: &Subscription,
        claims: &Claims,
        new_deliveries: &mut NewDeliveries,
    ) -> Self {
        let wait_ms = subscription.settings.retry.first_wait_ms();
        let new = NewDelivery::after(&subscription.tenant, event.id, subscription.id, DeliveryKind::Usual, wait_ms);
        // Only the store knows which delivery of an order is the next, and when a paused subscription goes on.
        let is_due =
            wait_ms == 0 && subscription.settings.ordering.is_none() && subscription.state == SubscriptionState::Active;
        if is_due {
            new_deliveries.due.push(Due { claim: claims.claim_new(new.delivery.clone()), event: event.clone() });
        } else {
            new_deliveries.later.push(subscription.id);
        }
        new
    }
}
