//! Settling of deliveries: of two deliveries of one burst, one supersedes the other.
//!
//! # Guarantees
//! - A superseded delivery was never attempted, so no receiver has seen it. A host that takes up a delivery first ends its settling in the
//!   database ([`LaneBackend::end_settling`](crate::backend::lanes::LaneBackend::end_settling)), and only settling deliveries are superseded.
//! - A delivery that stays stands for every event of its burst: the numbers of events are added, and the first event is kept.
//! - The event that stays is the latest one, also if its delivery was made before that of an earlier event, as in the steps of a large
//!   fan-out.
//!
//! # Theory of operation
//! A delivery settles while its row has a key: that of its contact or deal. The transaction that makes a delivery looks for one of the
//! same subscription and key, supersedes it, and inherits its latest due time. Nothing else looks at the key, so the row of a delivery
//! that never settles costs nothing more.

use crate::order_key::OrderKey;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::EventId;
use hookloom_model::settle::SettledEvents;

/// Columns of a new delivery that another one may supersede.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settling {
    /// Contact or deal.
    pub(crate) key: OrderKey,
    /// Latest due time of the burst, in milliseconds since the epoch.
    pub(crate) until_ms: i64,
}

/// Settling delivery that a new one of the same burst meets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingDelivery {
    pub(crate) id: DeliveryId,
    pub(crate) event: EventId,
    /// Latest due time of the burst, in milliseconds since the epoch.
    pub(crate) until_ms: i64,
    pub(crate) settled: SettledEvents,
}

/// Delivery that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survivor {
    New,
    Waiting,
}
