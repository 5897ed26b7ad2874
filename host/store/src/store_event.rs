//! Events of the store for the dispatcher, published after a commit.
//!
//! Data only. An event can be lost only while the host stops; the dispatcher reads what is due from the store at the next start.

use crate::claims::Claim;
use hookloom_model::delivery::DueDelivery;
use hookloom_model::event::Event;
use hookloom_model::subscription::SubscriptionId;
use std::sync::Arc;

/// Event of the store for the dispatcher, published after a commit.
#[derive(Debug)]
pub enum StoreEvent {
    /// Deliveries were made.
    Accepted(NewDeliveries),
    /// A subscription changed, or deliveries of it became due.
    Changed(SubscriptionId),
}

/// New deliveries, those that lanes can attempt at once apart from all others.
#[derive(Debug, Default)]
pub struct NewDeliveries {
    /// Claimed deliveries, which are due at once.
    pub due: Vec<Due>,
    /// Subscriptions of the other deliveries: with an initial delay, of a paused subscription, or in an order. Their lanes read them
    /// from the store.
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
