//! Claims of deliveries: who may attempt which delivery.
//!
//! # Guarantees
//! - A delivery has at most one [`Claim`] at a time, and a claim cannot be copied. So no delivery is attempted twice at once.
//! - A claim shows the delivery as it is stored: a claim that ended while a page was read is not replaced by what that page read
//!   before ([`ClaimPage`]).
//! - A claim that is dropped, by a panic for example, releases its delivery, which is still due in the store.
//!
//! # Theory of operation
//! The store makes claims in two places. A transaction of intake claims the deliveries that it makes and that are due at once, before
//! it is committed: no reader can find such a delivery before it is claimed. Everything else is claimed from a page of due deliveries
//! ([`Store::claim_due`](crate::Store::claim_due)). Both go to the lane of the subscription, which cannot tell them apart.
//!
//! A page is read from a snapshot of the database. An attempt may be recorded meanwhile, and its claim ends with the commit. The page
//! would then show the delivery as it was before the attempt. Claims that end while a page is being read are remembered until it has
//! been read, and their deliveries are left out of the page.
//!
//! # Limits
//! Claims are kept in memory. All deliveries of a subscription are attempted by one host, so the claims of a host that ended do not
//! matter.

use hookloom_model::delivery::{DeliveryId, DueDelivery};
use hookloom_model::subscription::SubscriptionId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Licence for one attempt of a due delivery. Only the store makes claims; it ends by [`Store::finish`](crate::Store::finish),
/// [`Store::give_up`](crate::Store::give_up) or [`Claim::release`].
#[derive(Debug)]
pub struct Claim {
    delivery: DueDelivery,
    lane: Arc<LaneClaims>,
}

impl Claim {
    /// The delivery as it is stored.
    pub fn delivery(&self) -> &DueDelivery {
        &self.delivery
    }

    /// Ends the claim without an attempt. The delivery is unchanged in the store, where the next page finds it.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.lane.end(self.delivery.id);
    }
}

/// Claims of all subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashMap<SubscriptionId, Arc<LaneClaims>>>);

/// Number of subscriptions from which those without claims are removed, whenever their number has doubled.
const SUBSCRIPTIONS_KEPT: usize = 1_024;

impl Claims {
    /// Claims a delivery that no reader can have found: it is new, and its transaction is not committed.
    pub(crate) fn claim_new(&self, delivery: DueDelivery) -> Claim {
        let lane = self.lane(delivery.subscription);
        lane.state.lock().claimed.insert(delivery.id);
        Claim { delivery, lane }
    }

    /// Begins a page. The page must be read after this call.
    pub(crate) fn begin_page(&self, subscription: SubscriptionId) -> ClaimPage {
        let lane = self.lane(subscription);
        lane.state.lock().pages += 1;
        ClaimPage { lane }
    }

    fn lane(&self, subscription: SubscriptionId) -> Arc<LaneClaims> {
        let mut lanes = self.0.lock();
        if let Some(lane) = lanes.get(&subscription) {
            return lane.clone();
        }
        if lanes.len() >= SUBSCRIPTIONS_KEPT && lanes.len().is_power_of_two() {
            // A claim or a page holds its lane.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        lanes.entry(subscription).or_default().clone()
    }
}

/// Claims of one subscription.
#[derive(Debug, Default)]
struct LaneClaims {
    state: Mutex<LaneClaimsState>,
}

#[derive(Debug, Default)]
struct LaneClaimsState {
    /// Deliveries with a claim.
    claimed: HashSet<DeliveryId>,
    /// Number of pages that are being read.
    pages: usize,
    /// Deliveries whose claim ended while a page was being read.
    ended: HashSet<DeliveryId>,
}

impl LaneClaims {
    fn end(&self, id: DeliveryId) {
        let mut state = self.state.lock();
        state.claimed.remove(&id);
        if state.pages > 0 {
            state.ended.insert(id);
        }
    }
}

/// Page of due deliveries that is being read.
#[derive(Debug)]
pub struct ClaimPage {
    lane: Arc<LaneClaims>,
}

impl ClaimPage {
    /// Returns true if a delivery can be claimed: it has no claim, and none of it ended after the page began, so that the page shows
    /// its present state.
    pub fn is_free(&self, id: DeliveryId) -> bool {
        let state = self.lane.state.lock();
        !state.claimed.contains(&id) && !state.ended.contains(&id)
    }

    /// Claims a delivery of the page, if it [is free](Self::is_free).
    pub(crate) fn claim(&self, delivery: DueDelivery) -> Option<Claim> {
        let mut state = self.lane.state.lock();
        if state.ended.contains(&delivery.id) || !state.claimed.insert(delivery.id) {
            return None;
        }
        drop(state);
        Some(Claim { delivery, lane: self.lane.clone() })
    }
}

impl Drop for ClaimPage {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        state.pages -= 1;
        if state.pages == 0 {
            state.ended.clear();
        }
    }
}

#[cfg(test)]
mod tests;
