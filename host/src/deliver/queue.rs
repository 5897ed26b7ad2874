//! What a lane has at hand: due deliveries, first attempts and further ones apart.
//!
//! # Theory of operation
//! What must not be lost is in the store; a lane only remembers a bounded part of it. Fresh deliveries are handed over
//! by the dispatcher right after their commit, so that the usual event never waits for a read. All lanes together have
//! room for so many bytes of them, shared fairly between tenants, and one lane for an eighth: an ill receiver's backlog
//! leaves others room, and so do all lanes of one tenant. A lane that
//! rests for its owner, or that keeps an order, takes none, and nor does one whose schedule waits at first.
//! Whatever does not fit, every retry, and everything after a restart is read from the store in pages. Events of a page for which
//! there is no room are let go and read again when their attempt begins, so that thousands of lanes do not keep a page each.
//!
//! First attempts have a shelf of their own, so that no backlog of retries stands before them. Every eighth turn is a
//! retry's if both wait, so that neither starves the other.
//!
//! No delivery is attempted twice at once: ids are in `held` until the outcome is committed *and* the lane itself has
//! heard of it, which is never in the middle of reading a page. A fresh delivery that is no newer than the newest one a
//! page could have seen is left to the store, because a page may have brought it already.

use crate::delivery::{DeliveryId, DueDelivery};
use crate::event::Event;
use crate::fair_share::{FairPermit, FairSemaphore};
use crate::store::{AttemptClass, Due, Store, StoreError, now_ms};
use crate::subscription::{Subscription, TenantId};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// How many bytes of deliveries all lanes together keep in memory before their attempts begin. More stay in the store.
const ROOM_BYTES: usize = 64 << 20;

/// What a delivery takes beside its payload.
const DUE_BYTES: usize = 1 << 9;

/// How many deliveries a lane reads from the store at once.
const PAGE: usize = 256;

/// One in so many turns is a retry's, if both kinds wait.
const FURTHER_TURN: u32 = 8;

/// The room for events of deliveries at hand, which all lanes share, fairly between tenants.
pub(super) struct Room {
    free: FairSemaphore<TenantId>,
    /// How many bytes one lane may take.
    of_one: usize,
}

impl Default for Room {
    fn default() -> Self {
        Room::of(ROOM_BYTES)
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Room { free: FairSemaphore::new(bytes as u64, bytes as u64), of_one: bytes / 8 }
    }
}

/// The room of a delivery: the host's and its lane's, until this is dropped.
struct Taken {
    of_lane: Arc<AtomicUsize>,
    bytes: usize,
    _of_host: FairPermit<TenantId>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of_lane.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A delivery whose attempt may begin.
#[derive(Debug)]
pub(super) struct NextDelivery {
    pub(super) delivery: DueDelivery,
    /// Its event. None: there was no room for it, and the attempt reads it.
    pub(super) event: Option<Arc<Event>>,
}

/// A delivery at hand. Its event has its room until the attempt begins.
struct AtHand {
    next: NextDelivery,
    _room: Option<Taken>,
}

impl AtHand {
    fn loaded(Due { delivery, event }: Due, room: Taken) -> Self {
        AtHand { next: NextDelivery { delivery, event: Some(event) }, _room: Some(room) }
    }

    fn listed(delivery: DueDelivery) -> Self {
        AtHand { next: NextDelivery { delivery, event: None }, _room: None }
    }
}

#[derive(Default)]
struct Fresh {
    due: VecDeque<AtHand>,
    /// Whether the lane has ended, and nothing shall wait for it.
    closed: bool,
}

/// Dispatcher-side handle of a lane: queues new deliveries and signals changes.
#[derive(Default)]
pub(super) struct LaneHandle {
    fresh: Mutex<Fresh>,
    /// How many bytes of room the lane has.
    taken: Arc<AtomicUsize>,
    store_dirty: AtomicBool,
    /// Whether the subscription changed: what the lane holds but has not begun may be stale.
    changed: AtomicBool,
    /// Number of changes, for attempts that wait between two looks.
    changes: AtomicU64,
    pub(super) wake: Notify,
}

impl LaneHandle {
    /// Hands over a fresh delivery, or leaves it to the store if there is no room.
    pub(super) fn try_push(&self, due: Due, room: &Room) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = if fresh.closed { None } else { self.take_room(&due, room) };
        match taken {
            Some(taken) => fresh.due.push_back(AtHand::loaded(due, taken)),
            None => return self.mark_store_dirty(),
        }
        drop(fresh);
        self.wake.notify_one();
    }

    /// Takes the room of a delivery with its event, if there is any left for this lane.
    fn take_room(&self, due: &Due, room: &Room) -> Option<Taken> {
        if self.taken.load(Ordering::Relaxed) >= room.of_one {
            return None;
        }
        let bytes = due.event.payload.len() + DUE_BYTES;
        let of_host = room.free.try_acquire(&due.delivery.tenant, bytes as u64)?;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Some(Taken { of_lane: self.taken.clone(), bytes, _of_host: of_host })
    }

    /// Says that the store has something for the lane that is not handed over.
    pub(super) fn mark_store_dirty(&self) {
        self.store_dirty.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Closes the handle when the lane ends. Deliveries that still wait here stay due in the store.
    pub(super) fn close(&self) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        *fresh = Fresh { due: VecDeque::new(), closed: true };
    }

    /// Says that the subscription changed: deliveries of it may have ended, become due, or grown younger.
    pub(super) fn notify_changed(&self) {
        self.changed.store(true, Ordering::Release);
        // In this order: a lane that knows the new number finds the flag, too.
        self.changes.fetch_add(1, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// The number of changes so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }
}

/// One kind's share of the stock.
#[derive(Default)]
struct Shelf {
    ready: VecDeque<AtHand>,
    /// Whether the store may have more that is due.
    look: bool,
    next_due_at_ms: Option<i64>,
}

/// The due deliveries of a lane.
#[derive(Default)]
pub(super) struct Stock {
    first: Shelf,
    further: Shelf,
    held: HashSet<DeliveryId>,
    paged_through: Option<DeliveryId>,
    turns: u32,
}

impl Stock {
    /// The next delivery to attempt. `room_for_further`: whether a retry may begin.
    pub(super) async fn next(
        &mut self,
        store: &Store,
        handle: &LaneHandle,
        room: &Room,
        subscription: &Subscription,
        room_for_further: bool,
    ) -> Result<Option<NextDelivery>, StoreError> {
        if self.first.ready.is_empty() && handle.store_dirty.swap(false, Ordering::AcqRel) {
            self.first.look = true;
        }
        self.fill(AttemptClass::First, store, (handle, room), subscription).await?;
        if self.first.ready.is_empty() {
            self.take_fresh(handle, subscription);
            self.fill(AttemptClass::First, store, (handle, room), subscription).await?;
        }
        if room_for_further {
            self.fill(AttemptClass::Retry, store, (handle, room), subscription).await?;
        }
        let further_waits = room_for_further && !self.further.ready.is_empty();
        if further_waits && (self.first.ready.is_empty() || self.turns % FURTHER_TURN == FURTHER_TURN - 1) {
            self.turns = self.turns.wrapping_add(1);
            return Ok(self.further.ready.pop_front().map(|one| one.next));
        }
        let next = self.first.ready.pop_front().map(|one| one.next);
        self.turns = self.turns.wrapping_add(u32::from(next.is_some()));
        Ok(next)
    }

    /// Reads a page if nothing of this kind is at hand and the store may have something. Nothing is taken in before what
    /// is at hand is gone: that bounds the lane's memory.
    async fn fill(
        &mut self,
        class: AttemptClass,
        store: &Store,
        (handle, room): (&LaneHandle, &Room),
        subscription: &Subscription,
    ) -> Result<(), StoreError> {
        let now_ms = now_ms();
        let held = &self.held;
        let shelf = match class {
            AttemptClass::First => &mut self.first,
            AttemptClass::Retry => &mut self.further,
        };
        if shelf.next_due_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            shelf.next_due_at_ms = None;
            shelf.look = true;
        }
        if !shelf.ready.is_empty() || !shelf.look {
            return Ok(());
        }
        let page = store.due(subscription, class, PAGE, held.clone()).await?;
        shelf.look = page.more;
        shelf.next_due_at_ms = page.next_due_at_ms;
        for due in page.due {
            if self.held.insert(due.delivery.id) {
                shelf.ready.push_back(match handle.take_room(&due, room) {
                    Some(taken) => AtHand::loaded(due, taken),
                    None => AtHand::listed(due.delivery),
                });
            }
        }
        if class == AttemptClass::First {
            self.paged_through = self.paged_through.max(page.newest);
        }
        Ok(())
    }

    fn take_fresh(&mut self, handle: &LaneHandle, subscription: &Subscription) {
        let fresh = std::mem::take(&mut handle.fresh.lock().unwrap_or_else(PoisonError::into_inner).due);
        for one in fresh {
            let id = one.next.delivery.id;
            // Whose turn it is in an order only the store can tell.
            if subscription.settings.ordering.is_some() || self.paged_through >= Some(id) {
                self.first.look = true;
            } else if self.held.insert(id) {
                self.first.ready.push_back(one);
            }
        }
    }

    /// Gives back to the store what was not begun, because it may be over or older or younger there by now.
    pub(super) fn put_back(&mut self, handle: &LaneHandle) {
        drop(std::mem::take(&mut handle.fresh.lock().unwrap_or_else(PoisonError::into_inner).due));
        for at_hand in self.first.ready.drain(..).chain(self.further.ready.drain(..)) {
            self.held.remove(&at_hand.next.delivery.id);
        }
        self.look_again();
    }

    /// How many deliveries could follow without a look into the store.
    pub(super) fn at_hand(&self) -> u32 {
        u32::try_from(self.first.ready.len() + self.further.ready.len()).unwrap_or(u32::MAX)
    }

    /// An attempt ended, or did not begin.
    pub(super) fn forget(&mut self, id: DeliveryId, again_at_ms: Option<i64>) {
        self.held.remove(&id);
        // A try that did not count is still a first attempt.
        for shelf in [&mut self.first, &mut self.further] {
            shelf.next_due_at_ms = match (shelf.next_due_at_ms, again_at_ms) {
                (Some(known), Some(new)) => Some(known.min(new)),
                (known, new) => known.or(new),
            };
        }
    }

    /// The store may have more that is due.
    pub(super) fn look_again(&mut self) {
        (self.first.look, self.further.look) = (true, true);
    }

    /// Looks into the store again at this time.
    pub(super) fn look_at(&mut self, at_ms: i64) {
        (self.first.next_due_at_ms, self.further.next_due_at_ms) = (Some(at_ms), Some(at_ms));
    }

    /// When the next delivery that is not at hand and may begin becomes due, if that is known. Retries without room wait
    /// for an attempt to end, not for the clock.
    pub(super) fn next_due_at_ms(&self, room_for_further: bool) -> Option<i64> {
        let further = self.further.next_due_at_ms.filter(|_| room_for_further);
        [self.first.next_due_at_ms, further].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
