//! In-memory queue of a lane: due deliveries, first attempts apart from retries.
//!
//! # Guarantees
//! - A delivery is never attempted twice at once: what is queued is a claim, and the store makes only one for a delivery.
//! - New deliveries do not wait behind a backlog of retries: the two classes have separate queues. When both wait, every
//!   eighth attempt is a retry.
//! - Memory is bounded. All lanes together hold a budget of deliveries ([`QUEUE_BYTES`]), shared fairly between tenants; one lane holds at
//!   most an eighth of it, so that the backlog of a slow receiver leaves memory to others.
//!
//! # Theory of operation
//! The store is the source of truth; the queue caches a bounded part of it. The dispatcher pushes a new delivery right after its
//! commit, so the usual event is never read back. Everything else is claimed in pages: deliveries of paused and ordered
//! subscriptions and of those with an initial delay, deliveries that exceeded the memory budget when they were pushed, retries, and
//! all deliveries after a restart. A claim that is dropped leaves its delivery to the store, and the lane must be told afterwards that
//! the store has more; otherwise a page that was read in between could have left the delivery out.
//!
//! An event of a page that exceeds the budget is dropped and read again when its attempt begins, so that thousands of lanes do not
//! keep a page each.
//!
//! # Limits
//! The queue does not decide when an attempt begins; that is the task of the [`lane`](super::lane).

use super::flow_control::FlowControl;
use hookloom_fair_share::{FairPermit, FairSemaphore};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::DueDelivery;
use hookloom_model::event::Event;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_store::{AttemptClass, Claim, Due, Store, StoreError};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Usual memory for queued deliveries of all lanes together, in bytes.
pub const QUEUE_BYTES: usize = 64 << 20;

/// Memory of a queued delivery in addition to its payload, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 1 << 9;

/// Maximum number of deliveries that a lane reads from the store at once.
const PAGE_ROWS: usize = 256;

/// One of this many attempts is a retry when both classes wait.
const RETRY_EVERY: u32 = 8;

/// Memory budget for queued deliveries, shared by all lanes and divided fairly between tenants.
pub(super) struct MemoryBudget {
    free: FairSemaphore<TenantId>,
    /// Memory of all reservations, in bytes.
    reserved: Arc<AtomicU64>,
    bytes: u64,
    /// Maximum for one lane, in bytes.
    lane_max: usize,
}

impl MemoryBudget {
    /// Creates a budget of this many bytes.
    pub(super) fn of(bytes: usize) -> Self {
        MemoryBudget {
            free: FairSemaphore::new(bytes as u64, bytes as u64),
            reserved: Arc::default(),
            bytes: bytes as u64,
            lane_max: bytes / 8,
        }
    }

    /// Returns the bytes of the budget.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }
}

/// Memory reserved for one delivery, from the host's budget and from its lane's part. Released on drop.
struct Reservation {
    lane_bytes: Arc<AtomicUsize>,
    host_bytes: Arc<AtomicU64>,
    bytes: usize,
    _host_permit: FairPermit<TenantId>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.lane_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.host_bytes.fetch_sub(self.bytes as u64, Ordering::Relaxed);
    }
}

/// A delivery whose attempt may begin. It keeps the memory of its event until the attempt takes it.
pub(super) struct NextDelivery {
    pub(super) claim: Claim,
    /// The event. None: it exceeded the memory budget, and the attempt reads it from the store.
    pub(super) event: Option<Arc<Event>>,
    _reservation: Option<Reservation>,
}

impl NextDelivery {
    fn loaded(Due { claim, event }: Due, reservation: Reservation) -> Self {
        NextDelivery { claim, event: Some(event), _reservation: Some(reservation) }
    }

    fn without_event(claim: Claim) -> Self {
        NextDelivery { claim, event: None, _reservation: None }
    }

    pub(super) fn delivery(&self) -> &DueDelivery {
        self.claim.delivery()
    }
}

/// Deliveries that the dispatcher pushed and the lane has not taken yet.
#[derive(Default)]
struct Inbox {
    due: VecDeque<NextDelivery>,
    /// Set when the lane has ended: nothing is accepted any more.
    closed: bool,
}

/// Dispatcher-side handle of a lane: pushes new deliveries and signals changes.
#[derive(Default)]
pub(super) struct LaneHandle {
    inbox: Mutex<Inbox>,
    /// Memory that deliveries of this lane have reserved, in bytes.
    reserved_bytes: Arc<AtomicUsize>,
    /// Set when the store has due deliveries that were not pushed.
    store_dirty: AtomicBool,
    /// Set when another host owns the subscription.
    retired: AtomicBool,
    /// Set when the subscription changed: deliveries that the lane holds and has not begun may be stale.
    changed: AtomicBool,
    /// Number of changes. An attempt compares it before and after it waited.
    changes: AtomicU64,
    /// State of the receiver. Attempts tell it their end at once, and the lane reads it, so that neither waits for the other.
    flow: Mutex<FlowControl>,
    /// Wakes the lane.
    pub(super) wake: Notify,
}

impl LaneHandle {
    /// Pushes a new delivery, or leaves it to the store if the memory budget is exhausted or the lane has ended.
    pub(super) fn try_push(&self, due: Due, budget: &MemoryBudget) {
        let mut inbox = self.inbox();
        let reservation = if inbox.closed { None } else { self.reserve(&due, budget) };
        match reservation {
            Some(reservation) => inbox.due.push_back(NextDelivery::loaded(due, reservation)),
            None => {
                due.claim.release();
                return self.mark_store_dirty();
            }
        }
        drop(inbox);
        self.wake.notify_one();
    }

    /// Reserves memory for a delivery and its event. None: the host's budget or the lane's part of it is used up.
    fn reserve(&self, due: &Due, budget: &MemoryBudget) -> Option<Reservation> {
        if self.reserved_bytes.load(Ordering::Relaxed) >= budget.lane_max {
            return None;
        }
        let bytes = due.event.payload.len() + ENTRY_OVERHEAD_BYTES;
        let host_permit = budget.free.try_acquire(&due.delivery().tenant, bytes as u64)?;
        self.reserved_bytes.fetch_add(bytes, Ordering::Relaxed);
        budget.reserved.fetch_add(bytes as u64, Ordering::Relaxed);
        Some(Reservation {
            lane_bytes: self.reserved_bytes.clone(),
            host_bytes: budget.reserved.clone(),
            bytes,
            _host_permit: host_permit,
        })
    }

    /// Signals that the store has due deliveries that were not pushed.
    pub(super) fn mark_store_dirty(&self) {
        self.store_dirty.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Closes the handle when the lane ends. Deliveries that still wait in the inbox stay due in the store.
    pub(super) fn close(&self) {
        *self.inbox() = Inbox { due: VecDeque::new(), closed: true };
    }

    /// Ends the lane, because another host owns its subscription.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.notify_changed();
    }

    /// Returns true if the lane must end.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Signals that the subscription changed: deliveries of it may have ended, become due, or changed their age.
    pub(super) fn notify_changed(&self) {
        self.changed.store(true, Ordering::Release);
        // The flag is set before the number: a lane that has read the new number also finds the flag.
        self.changes.fetch_add(1, Ordering::Release);
        self.wake.notify_one();
    }

    /// Returns whether the subscription changed since the lane last took the flag.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Returns the state of flow control.
    pub(super) fn flow(&self) -> MutexGuard<'_, FlowControl> {
        self.flow.lock()
    }

    /// Number of changes so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns whether the subscription changed, and clears the flag.
    pub(super) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }
}

/// Queue of one attempt class.
#[derive(Default)]
struct ClassQueue {
    ready: VecDeque<NextDelivery>,
    /// Set when the store may have more due deliveries of this class.
    store_dirty: bool,
    next_due_at_ms: Option<i64>,
}

/// Due deliveries of a lane.
#[derive(Default)]
pub(super) struct LaneQueue {
    first: ClassQueue,
    retry: ClassQueue,
    /// Number of deliveries handed out, for the share of retries.
    handed_out: u32,
}

impl LaneQueue {
    /// Takes the next delivery to attempt. A retry is taken only if `may_retry` is set.
    pub(super) async fn next(
        &mut self,
        store: &Store,
        handle: &LaneHandle,
        budget: &MemoryBudget,
        subscription: &Subscription,
        may_retry: bool,
    ) -> Result<Option<NextDelivery>, StoreError> {
        if self.first.ready.is_empty() && handle.store_dirty.swap(false, Ordering::AcqRel) {
            self.first.store_dirty = true;
        }
        self.fill(AttemptClass::First, store, (handle, budget), subscription).await?;
        if self.first.ready.is_empty() {
            self.drain_inbox(handle, subscription);
            self.fill(AttemptClass::First, store, (handle, budget), subscription).await?;
        }
        if may_retry {
            self.fill(AttemptClass::Retry, store, (handle, budget), subscription).await?;
        }
        let retry_waits = may_retry && !self.retry.ready.is_empty();
        if retry_waits && (self.first.ready.is_empty() || self.handed_out % RETRY_EVERY == RETRY_EVERY - 1) {
            self.handed_out = self.handed_out.wrapping_add(1);
            return Ok(self.retry.ready.pop_front());
        }
        let next = self.first.ready.pop_front();
        self.handed_out = self.handed_out.wrapping_add(u32::from(next.is_some()));
        Ok(next)
    }

    /// Reads a page if the queue of this class is empty and the store may have due deliveries. Reading only into an empty queue
    /// bounds the lane's memory.
    async fn fill(
        &mut self,
        class: AttemptClass,
        store: &Store,
        (handle, budget): (&LaneHandle, &MemoryBudget),
        subscription: &Subscription,
    ) -> Result<(), StoreError> {
        let now_ms = now_ms();
        let queue = match class {
            AttemptClass::First => &mut self.first,
            AttemptClass::Retry => &mut self.retry,
        };
        if queue.next_due_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            queue.next_due_at_ms = None;
            queue.store_dirty = true;
        }
        if !queue.ready.is_empty() || !queue.store_dirty {
            return Ok(());
        }
        let page = store.claim_due(subscription, class, PAGE_ROWS).await?;
        queue.store_dirty = page.more;
        queue.next_due_at_ms = page.next_due_at_ms;
        for due in page.due {
            queue.ready.push_back(match handle.reserve(&due, budget) {
                Some(reservation) => NextDelivery::loaded(due, reservation),
                None => NextDelivery::without_event(due.claim),
            });
        }
        Ok(())
    }

    fn drain_inbox(&mut self, handle: &LaneHandle, subscription: &Subscription) {
        let pushed = std::mem::take(&mut handle.inbox().due);
        if subscription.settings.ordering.is_none() {
            self.first.ready.extend(pushed);
        } else if !pushed.is_empty() {
            // The subscription was given an order after these were pushed. Only the store knows which delivery is the next.
            drop(pushed);
            self.first.store_dirty = true;
        }
    }

    /// Releases every delivery that has not begun. The store may know by now that such a delivery has ended or that its age changed.
    pub(super) fn return_to_store(&mut self, handle: &LaneHandle) {
        drop(std::mem::take(&mut handle.inbox().due));
        self.first.ready.clear();
        self.retry.ready.clear();
        self.recheck_store();
    }

    /// Number of deliveries that can begin without another read of the store.
    pub(super) fn queued(&self) -> u32 {
        u32::try_from(self.first.ready.len() + self.retry.ready.len()).unwrap_or(u32::MAX)
    }

    /// Notes when a delivery is due again whose claim has ended.
    pub(super) fn note_due_again(&mut self, at_ms: i64) {
        // An attempt that does not count leaves the delivery in the class of first attempts.
        for queue in [&mut self.first, &mut self.retry] {
            queue.next_due_at_ms = Some(queue.next_due_at_ms.map_or(at_ms, |known| known.min(at_ms)));
        }
    }

    /// Reads the store again before the next delivery of either class.
    pub(super) fn recheck_store(&mut self) {
        self.first.store_dirty = true;
        self.retry.store_dirty = true;
    }

    /// Reads the store again at this time.
    pub(super) fn recheck_store_at(&mut self, at_ms: i64) {
        self.first.next_due_at_ms = Some(at_ms);
        self.retry.next_due_at_ms = Some(at_ms);
    }

    /// Time at which the next delivery becomes due that is not queued, if known. Without `may_retry`, retries are left out: a
    /// retry that exceeds its share of the window waits for an attempt to end, not for the clock.
    pub(super) fn next_due_at_ms(&self, may_retry: bool) -> Option<i64> {
        let retry = self.retry.next_due_at_ms.filter(|_| may_retry);
        [self.first.next_due_at_ms, retry].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
