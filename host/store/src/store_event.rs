//! Events of the store for the dispatcher, published after a commit.
//!
//! Data only. An event can be lost only while the host stops; the dispatcher reads what is due from the store at the next start.

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

/// New deliveries, those that are due at once apart from those with an initial delay.
#[derive(Clone, Debug, Default)]
pub struct NewDeliveries {
    /// Deliveries that are due at once.
    pub due: Vec<Due>,
    /// Subscriptions of the other deliveries, which their lanes read from the store when they are due.
    pub later: Vec<SubscriptionId>,
}

/// A due delivery with its event.
#[derive(Clone, Debug)]
pub struct Due {
    /// The delivery.
    pub delivery: DueDelivery,
    /// The event.
    pub event: Arc<Event>,
}
