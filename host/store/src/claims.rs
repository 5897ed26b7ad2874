//! Claims of deliveries: who may attempt which delivery.
//!
//! # Guarantees
//! - A delivery has at most one [`Claim`] at a time, and a claim cannot be copied. So no delivery is attempted twice at once.
//! - A claim shows the delivery as it is stored: a claim that ended while a page was read is not replaced by what that page read
//!   before ([`ClaimPage`]).
//! - A claim that is dropped, by a panic for example, releases its delivery, which is still due in the store.
//! - A claim is valid as long as this host owns the subscription without a break ([`ownership`](crate::ownership)). One that is not valid
//!   begins no attempt, but keeps its delivery from being claimed again until it ends: its attempt may be under way.
//! - After another host has taken over, the outcome of a claim that was made before is not recorded ([`Claims::is_void`]): the other host
//!   may be attempting the same delivery, and counts the attempts.
//! - A page that begins while this host does not own the subscription claims nothing: a lane may go on for a moment after the ownership has
//!   ended.
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
//! Claims are kept in memory. All deliveries of a subscription are attempted by its owner, which is one host, so the claims of a host
//! that ended do not matter.

use crate::ownership::Ownership;
#[cfg(any(test, feature = "memory", feature = "postgres"))]
use crate::ownership::{ShardSet, shard_of};
use hookloom_model::delivery::{DeliveryId, DueDelivery};
use hookloom_model::subscription::SubscriptionId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Licence for one attempt of a due delivery. Only the store makes claims; it ends by [`Store::finish`](crate::Store::finish),
/// [`Store::give_up`](crate::Store::give_up) or [`Claim::release`].
#[derive(Debug)]
pub struct Claim {
    delivery: DueDelivery,
    lane: Arc<LaneClaims>,
    /// Period of ownership in which it was made.
    period: u64,
    /// Number of takeovers from this host when it was made.
    takeovers: u64,
}

impl Claim {
    /// The delivery as it is stored.
    pub fn delivery(&self) -> &DueDelivery {
        &self.delivery
    }

    /// Returns true if an attempt may begin: this host has owned the subscription since the claim was made.
    pub fn is_valid(&self) -> bool {
        self.period == self.lane.period.load(Ordering::SeqCst)
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

/// Claims of all subscriptions, and the subscriptions that this host may claim deliveries of.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    lanes: Mutex<HashMap<SubscriptionId, Arc<LaneClaims>>>,
    /// Number of times that another host has taken over from this one.
    takeovers: AtomicU64,
    pub(crate) ownership: Ownership,
}

/// Number of subscriptions from which those without claims are removed, whenever their number has doubled.
const SUBSCRIPTIONS_KEPT: usize = 1_024;

impl Claims {
    /// Claims a delivery, if this host owns its subscription. Otherwise the caller sends its owner a hint, without which the owner would find
    /// it late. No reader can have found it: it is new, and its transaction is not committed.
    pub(crate) fn claim_new(&self, delivery: DueDelivery) -> Option<Claim> {
        let lane = self.lane(delivery.subscription);
        let period = self.owned_period(&lane, delivery.subscription)?;
        lane.state.lock().claimed.insert(delivery.id);
        Some(Claim { delivery, lane, period, takeovers: self.takeovers.load(Ordering::SeqCst) })
    }

    /// Begins a page. The page must be read after this call.
    pub(crate) fn begin_page(&self, subscription: SubscriptionId) -> ClaimPage {
        let lane = self.lane(subscription);
        lane.state.lock().pages += 1;
        let period = self.owned_period(&lane, subscription);
        ClaimPage { lane, period, takeovers: self.takeovers.load(Ordering::SeqCst) }
    }

    /// Returns true if another host has taken over since a claim was made.
    pub(crate) fn is_void(&self, claim: &Claim) -> bool {
        claim.takeovers != self.takeovers.load(Ordering::SeqCst)
    }

    /// Returns the present period of ownership. None: this host does not own the subscription. An ownership that ends meanwhile has begun
    /// the next period.
    fn owned_period(&self, lane: &LaneClaims, subscription: SubscriptionId) -> Option<u64> {
        let period = lane.period.load(Ordering::SeqCst);
        self.ownership.owns(subscription).then_some(period)
    }

    fn lane(&self, subscription: SubscriptionId) -> Arc<LaneClaims> {
        let mut lanes = self.lanes.lock();
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

#[cfg(any(test, feature = "memory", feature = "postgres"))]
impl Claims {
    /// Ends the ownership of shards: their claims are not valid any more.
    pub(crate) fn disown(&self, shards: ShardSet) {
        self.ownership.remove(shards);
        for (_, lane) in self.lanes.lock().iter().filter(|(id, _)| shards.has(shard_of(**id))) {
            lane.period.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Records that another host has taken over from this one.
    pub(crate) fn note_takeover(&self) {
        self.takeovers.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how often the ownership of a subscription has ended.
    #[cfg(any(test, feature = "memory"))]
    pub(crate) fn period(&self, subscription: SubscriptionId) -> u64 {
        self.lane(subscription).period.load(Ordering::SeqCst)
    }

    /// Returns those of these shards in which no delivery has a claim.
    pub(crate) fn without_claims(&self, shards: ShardSet) -> ShardSet {
        let lanes = self.lanes.lock();
        let claimed = lanes.iter().filter(|(_, lane)| !lane.state.lock().claimed.is_empty());
        shards.without(&claimed.map(|(id, _)| shard_of(*id)).collect())
    }
}

/// Claims of one subscription.
#[derive(Debug, Default)]
struct LaneClaims {
    state: Mutex<LaneClaimsState>,
    /// Number of times that the ownership of the subscription has ended.
    period: AtomicU64,
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
    /// Period of ownership in which it began: a page that was read before another host owned the subscription is of no use. None: this
    /// host did not own the subscription.
    period: Option<u64>,
    takeovers: u64,
}

impl ClaimPage {
    /// Returns true if a delivery can be claimed: it has no claim, and none of it ended after the page began, so that the page shows
    /// its present state.
    pub fn is_free(&self, id: DeliveryId) -> bool {
        let state = self.lane.state.lock();
        self.period.is_some() && !state.claimed.contains(&id) && !state.ended.contains(&id)
    }

    /// Claims a delivery of the page, if it [is free](Self::is_free).
    pub(crate) fn claim(&self, delivery: DueDelivery) -> Option<Claim> {
        let period = self.period?;
        let mut state = self.lane.state.lock();
        if state.ended.contains(&delivery.id) || !state.claimed.insert(delivery.id) {
            return None;
        }
        drop(state);
        Some(Claim { delivery, lane: self.lane.clone(), period, takeovers: self.takeovers })
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
pub(crate) mod tests;
