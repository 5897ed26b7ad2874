//! New deliveries: when they are due, which of them are claimed before their commit, and how the dispatcher hears of them.
//!
//! Events of the store are published after a commit. One can be lost only while the host stops; the dispatcher reads what is due from
//! the store at the next start.

use crate::claims::{Claim, Claims};
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use std::sync::Arc;

/// Event of the store for the dispatcher, published after a commit.
#[derive(Debug)]
pub enum StoreEvent {
    /// Deliveries were made.
    Accepted(NewDeliveries),
    /// A subscription changed, or deliveries of it became due.
    Changed(SubscriptionId),
    /// This host owns other subscriptions than before: see [`Store::owns`](crate::Store::owns).
    OwnershipChanged,
}

/// New deliveries, those that lanes can attempt at once apart from all others.
#[derive(Debug, Default)]
pub struct NewDeliveries {
    /// Claimed deliveries, which are due at once.
    pub due: Vec<Due>,
    /// Subscriptions of the other deliveries: with an initial delay, of a paused subscription, in an order, or owned by another host.
    /// Their lanes read them from the store.
    pub later: Vec<SubscriptionId>,
}

/// Claimed delivery with its event.
#[derive(Debug)]
pub struct Due {
    /// Licence to attempt the delivery.
    pub claim: Claim,
    /// The event.
    pub event: Arc<Event>,
}

impl Due {
    /// The delivery.
    pub fn delivery(&self) -> &DueDelivery {
        self.claim.delivery()
    }
}

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
        match is_due.then(|| claims.claim_new(new.delivery.clone())).flatten() {
            Some(claim) => new_deliveries.due.push(Due { claim, event: event.clone() }),
            None => new_deliveries.later.push(subscription.id),
        }
        new
    }
}
