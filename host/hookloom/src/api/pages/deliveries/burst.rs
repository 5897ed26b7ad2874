//! Bursts on the pages: the events that a delivery stands for, and the chain of their deliveries.

use crate::api::pages::DisplayTime;
use crate::operations::SettledChainBody;
use crate::settle::SettledEvents;
use uuid::Uuid;

/// Events of a burst, of which one is delivered.
pub(super) struct Burst {
    pub(super) events: u64,
    pub(super) first: String,
    pub(super) since: DisplayTime,
}

impl Burst {
    pub(super) fn of(settled: SettledEvents) -> Self {
        let since = DisplayTime::at_ms(settled.since_ms());
        Burst { events: settled.count, first: settled.first.to_string(), since }
    }
}

/// Deliveries of a burst, in the order of their events. The last one is the survivor.
pub(super) struct Chain {
    pub(super) events: u64,
    pub(super) not_listed: u64,
    pub(super) links: Vec<ChainLink>,
}

/// Delivery in the chain of its burst.
pub(super) struct ChainLink {
    pub(super) delivery: String,
    pub(super) event: String,
    pub(super) at: DisplayTime,
    pub(super) state: &'static str,
    /// True if it is the delivery whose page shows the chain.
    pub(super) is_this: bool,
}

impl Chain {
    /// Returns a chain for display, on the page of one of its deliveries or of an event.
    pub(super) fn of(chain: &SettledChainBody, this: Option<Uuid>) -> Self {
        let links = chain.deliveries.iter().map(|one| ChainLink {
            delivery: one.delivery.to_string(),
            event: one.event.to_string(),
            at: DisplayTime::at_ms(one.created_at_ms),
            state: one.state.as_str(),
            is_this: Some(one.delivery) == this,
        });
        let links: Vec<ChainLink> = links.collect();
        Chain { events: links.len() as u64 + chain.not_listed, not_listed: chain.not_listed, links }
    }
}
