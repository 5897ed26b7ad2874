//! Messages of the store to the scheduler, sent after a commit.
//!
//! Data only. The scheduler is gone only while the host stops; what is due is found again at the next start.

use crate::delivery::DueDelivery;
use crate::event::Event;
use crate::subscription::SubscriptionId;
use std::sync::Arc;

/// Message of the store to the scheduler, sent after a commit.
#[derive(Debug)]
pub enum News {
    /// New deliveries.
    Accepted(NewDeliveries),
    /// Look at this subscription again: it changed, or deliveries of it became due.
    Changed(SubscriptionId),
}

/// New deliveries, by whether they wait at first.
#[derive(Clone, Debug, Default)]
pub struct NewDeliveries {
    /// Those that are due at once.
    pub due: Vec<Due>,
    /// The subscriptions of the others, which are found in the store when their time comes.
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
