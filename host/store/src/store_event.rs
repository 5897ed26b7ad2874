//! New deliveries: when they are due, which of them are claimed before their commit, and how the dispatcher hears of them.
//!
//! Events of the store are published after a commit. One can be lost only while the host stops; the dispatcher reads what is due from
//! the store at the next start.

use crate::claims::{Claim, Claims};
use crate::order_key::OrderKey;
use crate::settling::{Settling, Survivor, WaitingDelivery};
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::settle::{SettleTimes, SettledEvents};
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
    /// Subscriptions of the other deliveries: with an initial delay or a quiet time, of a paused subscription, in an order, or owned by
    /// another host.
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
#[derive(Clone, Debug)]
pub(crate) struct NewDelivery {
    pub(crate) delivery: DueDelivery,
    /// Due time, in milliseconds since the epoch.
    pub(crate) due_at_ms: i64,
    /// None: no other delivery supersedes it.
    pub(crate) settling: Option<Settling>,
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
            settled: None,
            is_settling: false,
        };
        NewDelivery { delivery, due_at_ms: now_ms.saturating_add(wait_ms), settling: None }
    }

    /// Returns the delivery as the first one of a burst.
    fn settling(mut self, key: OrderKey, times: SettleTimes) -> Self {
        self.due_at_ms = times.due_at_ms;
        self.delivery.settled = Some(SettledEvents::of_first(self.delivery.event));
        self.delivery.is_settling = true;
        self.settling = Some(Settling { key, until_ms: times.until_ms });
        self
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
        if let Some(settle) = subscription.settings.settle
            && let Some(key) = OrderKey::of_event(event)
        {
            new_deliveries.later.push(subscription.id);
            let times = settle.times(new.delivery.age_from_ms);
            return new.settling(key, times);
        }
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

impl NewDelivery {
    /// Adds a burst's new delivery to the one that waits: decides which one stays, and changes that one.
    pub(crate) fn meet(&mut self, waiting: &mut WaitingDelivery) -> Survivor {
        let own = self.delivery.settled.unwrap_or(SettledEvents::of_first(self.delivery.event));
        let both = own.and(waiting.settled);
        if waiting.event > self.delivery.event {
            waiting.settled = both;
            return Survivor::Waiting;
        }
        if let Some(settling) = &mut self.settling {
            let times = SettleTimes { due_at_ms: self.due_at_ms, until_ms: settling.until_ms };
            let times = times.following(waiting.until_ms);
            self.due_at_ms = times.due_at_ms;
            settling.until_ms = times.until_ms;
        }
        self.delivery.settled = Some(both);
        Survivor::New
    }

    /// Returns this delivery as one that later ones meet. None: it does not settle.
    pub(crate) fn as_waiting(&self) -> Option<WaitingDelivery> {
        let until_ms = self.settling?.until_ms;
        Some(WaitingDelivery {
            id: self.delivery.id,
            event: self.delivery.event,
            until_ms,
            settled: self.delivery.settled?,
        })
    }
}
