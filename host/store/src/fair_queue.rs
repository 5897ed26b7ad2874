//! Queue that serves the owner with the least recent use first.
//!
//! # Guarantees
//! - Items of one owner keep their order.
//! - The next turn belongs to the waiting owner with the least recent use. A turn ends after [`TURN_ROWS`], or with the owner's
//!   last item. So an owner that uses little waits for at most one turn of each owner that uses less, regardless of the number and
//!   size of the other owners' items.
//! - Use decays with time ([`FairQueue::age`]), so that use in a quiet hour does not count later.
//!
//! # Limits
//! Items are not divided. The size and the number of items are bounded elsewhere.

use hookloom_model::subscription::TenantId;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Account of a piece of work: a tenant, or the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Work of the host: retention, metrics, admin keys.
    Host,
    /// Work of a tenant.
    Tenant(TenantId),
}

impl From<&TenantId> for Owner {
    fn from(tenant: &TenantId) -> Self {
        Owner::Tenant(tenant.clone())
    }
}

impl From<Option<&TenantId>> for Owner {
    fn from(tenant: Option<&TenantId>) -> Self {
        tenant.map_or(Owner::Host, Owner::from)
    }
}

/// Rows (cost units) that an owner is served in one turn.
pub(crate) const TURN_ROWS: u64 = 64;

#[derive(Debug)]
struct OwnerQueue<T> {
    /// Items with their costs.
    items: VecDeque<(u64, T)>,
    used: u64,
}

/// Owner that is being served.
#[derive(Debug)]
struct ServedOwner<T> {
    owner: Owner,
    share: OwnerQueue<T>,
    left: u64,
}

/// Queued items, by owner.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    /// Owners that wait or were served lately, without the one that is being served.
    shares: HashMap<Owner, OwnerQueue<T>>,
    /// Waiting owners, by recent use.
    waiting: BTreeSet<(u64, Owner)>,
    turn: Option<ServedOwner<T>>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue { shares: HashMap::new(), waiting: BTreeSet::new(), turn: None, len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Returns true if there are no items.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item after the others of its owner.
    pub(crate) fn push(&mut self, owner: Owner, cost: u64, item: T) {
        self.len += 1;
        if let Some(turn) = &mut self.turn
            && turn.owner == owner
        {
            turn.share.items.push_back((cost, item));
            return;
        }
        match self.shares.get_mut(&owner) {
            Some(share) => {
                if share.items.is_empty() {
                    self.waiting.insert((share.used, owner));
                }
                share.items.push_back((cost, item));
            }
            None => {
                self.waiting.insert((0, owner.clone()));
                self.shares.insert(owner, OwnerQueue { items: VecDeque::from([(cost, item)]), used: 0 });
            }
        }
    }

    /// Returns the next item with its cost, without removing it.
    pub(crate) fn front(&mut self) -> Option<(u64, &T)> {
        if self.turn.as_ref().is_none_or(|turn| turn.left == 0 || turn.share.items.is_empty()) {
            self.end_turn();
            let (_, owner) = self.waiting.pop_first()?;
            let share = self.shares.remove(&owner)?;
            self.turn = Some(ServedOwner { owner, share, left: TURN_ROWS });
        }
        let (cost, item) = self.turn.as_ref()?.share.items.front()?;
        Some((*cost, item))
    }

    /// Removes and returns the next item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.front()?;
        let turn = self.turn.as_mut()?;
        let (cost, item) = turn.share.items.pop_front()?;
        turn.share.used = turn.share.used.saturating_add(cost);
        turn.left = turn.left.saturating_sub(cost);
        self.len -= 1;
        Some(item)
    }

    /// Halves the use of every owner, `halvings` times.
    pub(crate) fn age(&mut self, halvings: u32) {
        let halved = |used: u64| used.checked_shr(halvings).unwrap_or(0);
        if let Some(turn) = &mut self.turn {
            turn.share.used = halved(turn.share.used);
        }
        self.waiting.clear();
        self.shares.retain(|owner, share| {
            share.used = halved(share.used);
            if !share.items.is_empty() {
                self.waiting.insert((share.used, owner.clone()));
            }
            share.used > 0 || !share.items.is_empty()
        });
    }

    fn end_turn(&mut self) {
        let Some(ServedOwner { owner, share, .. }) = self.turn.take() else { return };
        if !share.items.is_empty() {
            self.waiting.insert((share.used, owner.clone()));
        } else if share.used == 0 {
            return;
        }
        self.shares.insert(owner, share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(name: &str) -> Owner {
        Owner::Tenant(TenantId(name.into()))
    }

    fn taken(queue: &mut FairQueue<&'static str>) -> String {
        std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn items_of_one_owner_keep_their_order() {
        let mut queue = FairQueue::default();
        for item in ["a1", "a2", "a3"] {
            queue.push(owner("a"), 1_000, item);
        }
        assert_eq!(queue.front(), Some((1_000, &"a1")));
        assert_eq!(taken(&mut queue), "a1 a2 a3");
        assert!(queue.is_empty());
    }

    #[test]
    fn an_owner_with_little_goes_before_all_that_others_have_queued() {
        let mut queue = FairQueue::default();
        for (name, item) in [("a", "a"), ("b", "b"), ("c", "c"), ("a", "a"), ("b", "b"), ("c", "c")] {
            queue.push(owner(name), 10_000, item);
        }
        assert_eq!(queue.pop(), Some("a"));
        queue.push(owner("small"), 2, "small");
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some("b"), Some("c"), Some("small")], "equals");
        queue.push(owner("small"), 2, "small");
        assert_eq!(taken(&mut queue), "small a b c", "2 rows are less than 10,000");
    }

    #[test]
    fn a_turn_ends_when_its_rows_are_used() {
        let mut queue = FairQueue::default();
        for _ in 0..3 {
            queue.push(owner("a"), TURN_ROWS / 2, "a");
        }
        queue.push(Owner::Host, TURN_ROWS, "host");
        assert_eq!(taken(&mut queue), "host a a a");
        for _ in 0..3 {
            queue.push(owner("a"), TURN_ROWS / 2, "a");
        }
        queue.push(Owner::Host, 1, "host");
        assert_eq!(taken(&mut queue), "host a a a", "96 rows were used by the one, and 64 by the other");
    }

    #[test]
    fn use_is_forgotten() {
        let mut queue = FairQueue::default();
        queue.push(owner("a"), 1_000, "a");
        assert_eq!(queue.pop(), Some("a"));
        queue.age(20);
        queue.push(owner("b"), 100, "b");
        assert_eq!(queue.pop(), Some("b"));
        queue.push(owner("b"), 1, "b");
        queue.push(owner("a"), 1, "a");
        queue.age(0);
        assert_eq!(taken(&mut queue), "a b", "1,000 rows of long ago are less than 100 of now");
        queue.age(64);
        assert_eq!(queue.front(), None);
        assert!(queue.shares.is_empty() && queue.waiting.is_empty(), "nothing is kept of who is idle");
    }

    proptest! {
        /// No item is lost, and each owner's items keep their order, in any sequence of operations.
        #[test]
        fn every_item_comes_out_in_its_owners_order(steps in prop::collection::vec((0_u8..4, 1_u64..200, 0_u8..4), 1..200)) {
            let mut queue = FairQueue::default();
            let (mut pushed, mut popped) = (Vec::new(), Vec::new());
            for (number, (name, cost, kind)) in steps.into_iter().enumerate() {
                match kind {
                    0 => popped.extend(queue.pop()),
                    1 => queue.age(1),
                    _ => {
                        queue.push(owner(&name.to_string()), cost, (name, number));
                        pushed.push((name, number));
                    }
                }
            }
            popped.extend(std::iter::from_fn(|| queue.pop()));
            prop_assert!(queue.is_empty());
            pushed.sort_by_key(|(name, _)| *name);
            popped.sort_by_key(|(name, _)| *name);
            prop_assert_eq!(pushed, popped);
        }
    }
}
