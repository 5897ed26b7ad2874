//! Chain of the deliveries of a burst: each is superseded by a later one, up to the survivor.
//!
//! # Guarantees
//! - The survivor of a delivery is found by the pointers in the rows, and every listed delivery leads to it by them.
//! - A chain is found by keys and indexes. Its costs do not grow with the number of events of the tenant.
//!
//! # Limits
//! A row points to the next delivery, not to the one before. So the earlier deliveries are looked for among the stored events of the same
//! contact or deal, from the survivor's back to the first one of the burst, of which [`EVENTS_READ`] are read and [`LISTED_MAX`] are
//! listed. What was pruned, retried by hand or not read is only counted.

use crate::backend::deliveries::{DeliveryView, SettledChain};
use std::cmp::Reverse;
use std::collections::HashSet;

/// Maximum number of listed deliveries, with the survivor.
pub(crate) const LISTED_MAX: usize = 100;

/// Maximum number of events of the contact or deal that are read for a chain.
pub(crate) const EVENTS_READ: usize = 200;

/// Maximum number of pointers from a delivery to its survivor.
pub(crate) const POINTERS_MAX: usize = 10_000;

/// Maximum number of events that may be numbered between two events of one contact whose ids and numbers are in another order, because
/// two hosts accepted them at the same time.
pub(crate) const UNORDERED_MAX: i64 = 10_000;

impl SettledChain {
    /// Returns the chain of a survivor, whose members are among superseded deliveries of its contact or deal. None: it stands for its
    /// own event only.
    pub(crate) fn of(survivor: DeliveryView, mut superseded: Vec<DeliveryView>) -> Option<Self> {
        let settled = survivor.settled?;
        // A delivery is superseded by one of a later event, which is a member before it is reached.
        superseded.sort_by_key(|one| Reverse(one.event));
        let mut members = HashSet::from([survivor.id]);
        superseded.retain(|one| one.superseded_by.is_some_and(|by| members.contains(&by)) && members.insert(one.id));
        superseded.truncate(LISTED_MAX - 1);
        let mut deliveries = superseded;
        deliveries.reverse();
        deliveries.push(survivor);
        let not_listed = settled.count.saturating_sub(deliveries.len() as u64);
        (settled.count > 1 || deliveries.len() > 1).then_some(SettledChain { deliveries, not_listed })
    }
}
