//! Semaphore whose capacity is shared fairly between keys, such as tenants or peers.
//!
//! # Guarantees
//! - A key may use idle capacity, but never more than what is still free, so a key that holds nothing always finds capacity. If `k`
//!   keys want everything, each holds `capacity / (k + 1)`, and as much stays free. This is the dynamic threshold of Choudhury and
//!   Hahne ("Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking, 1998) with a
//!   factor of one. A key that exceeds the threshold because other keys came gets no units until it has released enough.
//! - Waiting keys are served by the units that they hold, fewest first, and in turns among equals. Requests of one key are served
//!   in their order. A request that does not fit yet is not overtaken by smaller ones of keys that hold as much.
//!
//! # Limits
//! Permits are not revoked, so a holder needs a deadline. A request for more than the capacity is served as one for all of it.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Fixed capacity, shared between keys, in units of the caller's choice (calls, connections, bytes).
#[derive(Debug)]
pub struct FairSemaphore<K: Clone + Eq + Hash>(Arc<Mutex<SemaphoreState<K>>>);

impl<K: Clone + Eq + Hash> Clone for FairSemaphore<K> {
    fn clone(&self) -> Self {
        FairSemaphore(self.0.clone())
    }
}

impl<K: Clone + Eq + Hash> FairSemaphore<K> {
    /// Creates a semaphore of `capacity` units, of which one key may hold up to `key_max`.
    pub fn new(capacity: u64, key_max: u64) -> Self {
        FairSemaphore(Arc::new(Mutex::new(SemaphoreState {
            capacity,
            key_max: key_max.min(capacity),
            free: capacity,
            keys: HashMap::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
        })))
    }

    /// Waits for `units`, in the key's turn. Dropping the future gives up the turn.
    pub async fn acquire(&self, key: &K, units: u64) -> FairPermit<K> {
        let granted = {
            let mut state = self.lock();
            let units = units.min(state.key_max);
            if state.admits_now(key, units) {
                state.take(key, units);
                return self.permit(key, units);
            }
            let (grant, granted) = oneshot::channel();
            state.enqueue(key, Waiter { units, grant });
            granted
        };
        // A state is dropped with waiters only if no semaphore is left, and this is one.
        granted.await.expect("the semaphore outlives those who wait for it")
    }

    /// Takes `units` if it is the key's turn and they fit.
    pub fn try_acquire(&self, key: &K, units: u64) -> Option<FairPermit<K>> {
        let mut state = self.lock();
        if !state.admits_now(key, units) {
            return None;
        }
        state.take(key, units);
        drop(state);
        Some(self.permit(key, units))
    }

    /// Returns the number of all units.
    pub fn capacity(&self) -> u64 {
        self.lock().capacity
    }

    /// Returns the number of free units.
    pub fn free(&self) -> u64 {
        self.lock().free
    }

    /// Returns the number of units that a key holds.
    pub fn held(&self, key: &K) -> u64 {
        self.lock().keys.get(key).map_or(0, |share| share.held)
    }

    /// Returns the maximum number of units of one key while no other key holds any.
    pub fn key_quota(&self) -> u64 {
        let state = self.lock();
        state.key_max.min(state.capacity.div_ceil(2))
    }

    /// Returns the number of single units that a key could take now, one after the other, if no other key took any meanwhile.
    pub fn remaining(&self, key: &K) -> u64 {
        let state = self.lock();
        let held = state.keys.get(key).map_or(0, |share| share.held);
        // Each unit increases `held` and reduces `free`, and must leave `held` at most what was free before it.
        let by_threshold = (state.free + 1).saturating_sub(held) / 2;
        by_threshold.min(state.key_max.saturating_sub(held))
    }

    fn permit(&self, key: &K, units: u64) -> FairPermit<K> {
        FairPermit { semaphore: self.clone(), key: key.clone(), units }
    }

    fn lock(&self) -> MutexGuard<'_, SemaphoreState<K>> {
        self.0.lock()
    }

    fn release(&self, key: &K, units: u64) {
        let grants = {
            let mut state = self.lock();
            state.give_back(key, units);
            state.serve()
        };
        for (key, Waiter { units, grant }) in grants {
            // If the waiter has gone in this moment, its permit is dropped, which serves the next one.
            drop(grant.send(self.permit(&key, units)));
        }
    }
}

/// Units of a [`FairSemaphore`], held until the permit is dropped.
#[derive(Debug)]
pub struct FairPermit<K: Clone + Eq + Hash> {
    semaphore: FairSemaphore<K>,
    key: K,
    units: u64,
}

impl<K: Clone + Eq + Hash> FairPermit<K> {
    /// Returns the number of units held.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Splits off a permit for `units`. None: the permit has fewer units.
    pub fn split(&mut self, units: u64) -> Option<Self> {
        self.units = self.units.checked_sub(units)?;
        Some(self.semaphore.permit(&self.key, units))
    }

    /// Adds `units` to the permit if they fit now.
    pub fn try_grow(&mut self, units: u64) -> bool {
        let Some(mut more) = self.semaphore.try_acquire(&self.key, units) else { return false };
        self.units += std::mem::take(&mut more.units);
        true
    }
}

impl<K: Clone + Eq + Hash> Drop for FairPermit<K> {
    fn drop(&mut self) {
        if self.units > 0 {
            self.semaphore.release(&self.key, self.units);
        }
    }
}

#[derive(Debug)]
struct Waiter<K: Clone + Eq + Hash> {
    units: u64,
    grant: oneshot::Sender<FairPermit<K>>,
}

/// Units and waiters of one key. Exists only while it has any.
#[derive(Debug)]
struct Share<K: Clone + Eq + Hash> {
    held: u64,
    /// Key of the entry in `waiting`, while the key waits.
    turn: Option<(u64, u64)>,
    waiters: VecDeque<Waiter<K>>,
}

#[derive(Debug)]
struct SemaphoreState<K: Clone + Eq + Hash> {
    capacity: u64,
    key_max: u64,
    free: u64,
    keys: HashMap<K, Share<K>>,
    /// Waiting keys, by units held and then by ticket.
    waiting: BTreeMap<(u64, u64), K>,
    tickets: u64,
}

impl<K: Clone + Eq + Hash> SemaphoreState<K> {
    fn fits(&self, held: u64, units: u64) -> bool {
        let wanted = held.saturating_add(units);
        wanted <= self.key_max && wanted <= self.free
    }

    /// Returns true if a new request is served at once: it fits, and overtakes no key that holds as few units.
    fn admits_now(&self, key: &K, units: u64) -> bool {
        let share = self.keys.get(key);
        let held = share.map_or(0, |share| share.held);
        let overtakes_same_key = share.is_some_and(|share| !share.waiters.is_empty());
        let overtakes_others = self.waiting.keys().next().is_some_and(|(least, _)| *least <= held);
        !overtakes_same_key && !overtakes_others && self.fits(held, units)
    }

    fn share(&mut self, key: &K) -> &mut Share<K> {
        self.keys.entry(key.clone()).or_insert_with(|| Share { held: 0, turn: None, waiters: VecDeque::new() })
    }

    fn take(&mut self, key: &K, units: u64) {
        self.free -= units;
        self.share(key).held += units;
        self.place(key);
    }

    fn give_back(&mut self, key: &K, units: u64) {
        self.free += units;
        self.share(key).held -= units;
        self.place(key);
    }

    fn enqueue(&mut self, key: &K, waiter: Waiter<K>) {
        self.share(key).waiters.push_back(waiter);
        self.place(key);
    }

    /// Updates the entry of a key in `waiting` after its units or waiters have changed.
    fn place(&mut self, key: &K) {
        let Some(share) = self.keys.get_mut(key) else { return };
        let placed = share.turn.take();
        if let Some(turn) = placed {
            self.waiting.remove(&turn);
        }
        if !share.waiters.is_empty() {
            // A key keeps its ticket until it is served.
            let ticket = placed.filter(|(held, _)| *held >= share.held).map_or(self.tickets, |(_, ticket)| ticket);
            self.tickets += 1;
            let turn = (share.held, ticket);
            share.turn = Some(turn);
            self.waiting.insert(turn, key.clone());
        } else if share.held == 0 {
            self.keys.remove(key);
        }
    }

    /// Takes the waiters that can be served now, which the caller must notify.
    fn serve(&mut self) -> Vec<(K, Waiter<K>)> {
        let mut served = Vec::new();
        while let Some(key) = self.waiting.values().next().cloned() {
            let share = self.share(&key);
            while share.waiters.pop_front_if(|waiter| waiter.grant.is_closed()).is_some() {}
            let held = share.held;
            let Some(units) = share.waiters.front().map(|waiter| waiter.units) else {
                self.place(&key);
                continue;
            };
            if !self.fits(held, units) {
                break;
            }
            served.extend(self.share(&key).waiters.pop_front().map(|waiter| (key.clone(), waiter)));
            self.take(&key, units);
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use proptest::prelude::*;

    /// Takes units until the key would have to wait.
    fn take_all(semaphore: &FairSemaphore<&'static str>, key: &'static str) -> Vec<FairPermit<&'static str>> {
        let remaining = semaphore.remaining(&key);
        let taken: Vec<_> = std::iter::from_fn(|| semaphore.try_acquire(&key, 1)).collect();
        assert_eq!((taken.len() as u64, semaphore.remaining(&key)), (remaining, 0), "as many as were said to remain");
        assert!(remaining <= semaphore.key_quota());
        taken
    }

    #[test]
    fn a_key_that_comes_late_finds_room_whatever_the_others_hold() {
        let semaphore = FairSemaphore::new(2_048, 2_048);
        let greedy: Vec<_> = ["a", "b", "c", "d"].map(|key| take_all(&semaphore, key)).into();
        assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [1_024, 512, 256, 128]);
        assert_eq!(take_all(&semaphore, "late").len(), 64);
    }

    #[test]
    fn a_key_over_its_share_is_brought_back_by_what_it_releases() {
        let semaphore = FairSemaphore::new(12, 12);
        let mut early = take_all(&semaphore, "early");
        let late = take_all(&semaphore, "late");
        assert_eq!((early.len(), late.len()), (6, 3));
        early.truncate(4);
        assert!(
            semaphore.try_acquire(&"early", 1).is_some_and(|permit| permit.units() == 1),
            "5 of 12, and 5 are free"
        );
        early.truncate(3);
        assert_eq!(semaphore.free(), 6);
        assert_eq!(take_all(&semaphore, "late").len(), 2, "three are held already, and then 5 of 12");
    }

    #[test]
    fn a_key_has_no_more_than_its_maximum() {
        let semaphore = FairSemaphore::new(100, 1);
        assert_eq!(take_all(&semaphore, "a").len(), 1);
        let held = semaphore.try_acquire(&"a", 1).expect("free again");
        assert!(semaphore.try_acquire(&"a", 1).is_none() && semaphore.try_acquire(&"b", 1).is_some());
        drop(held);
        assert_eq!((semaphore.held(&"a"), semaphore.free()), (0, 100));
    }

    #[tokio::test]
    async fn keys_with_the_fewest_units_are_served_first_and_equals_in_turns() {
        let semaphore = FairSemaphore::new(4, 4);
        let mut rich = vec![semaphore.acquire(&"rich", 2).await];
        let other = semaphore.acquire(&"other", 1).await;
        let last = semaphore.acquire(&"last", 1).await;
        let mut rich_waits = Box::pin(semaphore.acquire(&"rich", 1));
        let mut poor_waits = Box::pin(semaphore.acquire(&"poor", 1));
        let mut second_waits = Box::pin(semaphore.acquire(&"second", 1));
        assert!(poll!(&mut rich_waits).is_pending());
        assert!(poll!(&mut poor_waits).is_pending() && poll!(&mut second_waits).is_pending());
        drop(other);
        let poor = poor_waits.await;
        assert!(poll!(&mut second_waits).is_pending());
        drop(last);
        let second = second_waits.await;
        assert!(poll!(&mut rich_waits).is_pending());
        assert_eq!((poor.units(), second.units()), (1, 1));
        rich.clear();
        assert!(poll!(&mut rich_waits).is_ready());
    }

    #[tokio::test]
    async fn a_request_that_gave_up_its_turn_delays_no_other() {
        let semaphore = FairSemaphore::new(1, 1);
        let held = semaphore.acquire(&"a", 1).await;
        let mut gone = Box::pin(semaphore.acquire(&"b", 1));
        let mut waits = Box::pin(semaphore.acquire(&"c", 1));
        assert!(poll!(&mut gone).is_pending() && poll!(&mut waits).is_pending());
        drop(gone);
        drop(held);
        assert!(poll!(&mut waits).is_ready());
        assert_eq!(semaphore.free(), 1);
    }

    #[test]
    fn permits_split_and_grow() {
        let semaphore = FairSemaphore::new(10, 10);
        let mut permit = semaphore.try_acquire(&"a", 3).expect("room");
        let one = permit.split(1).expect("three can be split");
        assert!(permit.split(3).is_none() && permit.units() == 2);
        assert!(permit.try_grow(2) && !permit.try_grow(5));
        assert_eq!((permit.units(), one.units(), semaphore.held(&"a")), (4, 1, 5));
        drop((permit, one));
        assert_eq!(semaphore.free(), 10);
    }

    proptest! {
        /// Property: in any sequence of requests and releases, no unit is lost or added, and no request waits while units are free.
        #[test]
        fn units_are_conserved(steps in prop::collection::vec((0_u8..5, 1_u64..4, any::<bool>()), 1..200)) {
            let semaphore = FairSemaphore::new(16, 9);
            let waker = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(waker);
            let mut held: Vec<FairPermit<u8>> = Vec::new();
            let mut waiting = Vec::new();
            for (key, units, releases) in steps {
                if releases {
                    drop((!held.is_empty()).then(|| held.remove(usize::from(key) % held.len())));
                } else {
                    let semaphore = semaphore.clone();
                    waiting.push(Box::pin(async move { semaphore.acquire(&key, units).await }));
                }
                waiting.retain_mut(|one| match one.as_mut().poll(&mut context) {
                    std::task::Poll::Ready(permit) => { held.push(permit); false }
                    std::task::Poll::Pending => true,
                });
                prop_assert_eq!(held.iter().map(FairPermit::units).sum::<u64>() + semaphore.free(), 16);
                prop_assert!((0..5).all(|key| semaphore.held(&key) <= 9));
            }
            // After repeated releases, every request is served.
            while !held.is_empty() {
                held.clear();
                waiting.retain_mut(|one| match one.as_mut().poll(&mut context) {
                    std::task::Poll::Ready(permit) => { held.push(permit); false }
                    std::task::Poll::Pending => true,
                });
            }
            prop_assert!(waiting.is_empty());
            prop_assert_eq!(semaphore.free(), 16);
        }
    }
}
