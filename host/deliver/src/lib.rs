//! Delivery of due events to their receivers, and the record of each attempt.
//!
//! # Guarantees
//! - A delivery is attempted until it ends, over restarts as well: the store is the source of truth, and a lane only caches it.
//! - No delivery has two attempts under way at once ([`queue`]).
//! - A stop begins no attempt, and waits for those under way ([`Dispatcher::stop`]).
//!
//! The dispatcher listens to the events of the store and wakes the [`lane`] of the subscription; a lane decides when an attempt
//! begins; an [`attempt`] calls the plugins, signs and sends; [`outcome`] decides what follows and records it.
//!
//! # Limits
//! Knows neither intake nor the API: they share the store only.

mod adaptive_rate;
mod attempt;
mod flow_control;
mod lane;
mod outcome;
mod permits;
mod plugin_gate;
mod queue;
mod services;
mod task;
pub mod traces;
mod transcript;

pub use lane::LaneStatus;
pub use permits::AttemptLimits;
pub use services::{Judge, Sender, Sent};

use attempt::AttemptRunner;
use bytes::Bytes;
use hookloom_model::clock;
use hookloom_model::event::Event;
use hookloom_model::subscription::SubscriptionId;
use hookloom_store::{Due, NewDeliveries, Store, StoreEvent};
use lane::Lane;
use parking_lot::Mutex;
use permits::AttemptPermits;
pub use queue::QUEUE_BYTES;
use queue::{LaneHandle, MemoryBudget};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use traces::Traces;

/// State that all lanes share.
struct LaneContext {
    permits: AttemptPermits,
    budget: MemoryBudget,
    store: Arc<Store>,
    runner: AttemptRunner,
    attempts: TaskTracker,
    board: LaneBoard,
    traces: Traces,
    /// Longest delay that a receiver's `Retry-After` can cause.
    retry_after_max: Duration,
    stop: watch::Receiver<bool>,
}

/// Limits of all deliveries, from the settings.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Maximum numbers of attempts under way.
    pub attempts: AttemptLimits,
    /// Longest delay that a receiver's `Retry-After` can cause (`retry_after_max_s`).
    pub retry_after_max: Duration,
    /// Memory for queued deliveries of all lanes together, in bytes: [`QUEUE_BYTES`]. The store keeps the rest.
    pub queue_bytes: usize,
}

/// Owner of the lanes, which starts them and passes on the events of the store.
pub struct Dispatcher {
    context: Arc<LaneContext>,
    stop: watch::Sender<bool>,
    attempts: TaskTracker,
    listening: JoinHandle<()>,
}

impl Dispatcher {
    /// Starts a lane for every subscription. Each reads the store first, so that it resumes after a restart.
    pub fn start(
        store: Arc<Store>,
        judge: Arc<dyn Judge>,
        sender: Arc<dyn Sender>,
        store_events: mpsc::UnboundedReceiver<StoreEvent>,
        board: LaneBoard,
        traces: Traces,
        limits: DeliveryLimits,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let attempts = TaskTracker::new();
        let context = Arc::new(LaneContext {
            permits: AttemptPermits::new(limits.attempts),
            budget: MemoryBudget::of(limits.queue_bytes),
            runner: AttemptRunner { judge, sender, store: store.clone() },
            store,
            attempts: attempts.clone(),
            board,
            traces,
            retry_after_max: limits.retry_after_max,
            stop: stopped,
        });
        let listening = tokio::spawn(listen(context.clone(), store_events));
        Dispatcher { context, stop, attempts, listening }
    }

    /// Returns the memory of the queued deliveries, in bytes.
    pub fn queued_bytes(&self) -> u64 {
        self.context.budget.reserved()
    }

    /// Returns the maximum of [`Dispatcher::queued_bytes`].
    pub fn queue_bytes_max(&self) -> u64 {
        self.context.budget.bytes()
    }

    /// Begins no more attempts, and waits for those under way, at most for `grace`. An attempt that is cut off is repeated after the
    /// next start.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(true);
        let _ = self.listening.await;
        self.attempts.close();
        if tokio::time::timeout(grace, self.attempts.wait()).await.is_err() {
            tracing::warn!(
                attempts = self.attempts.len(),
                "the grace period is over; these attempts are made again after the next start"
            );
        }
    }
}

async fn listen(context: Arc<LaneContext>, mut store_events: mpsc::UnboundedReceiver<StoreEvent>) {
    let mut lanes = Lanes { context: context.clone(), handles: HashMap::new() };
    lanes.follow_ownership();
    let mut stop = context.stop.clone();
    loop {
        tokio::select! {
            // In this order, so that a simulation can be repeated.
            biased;
            _ = stop.changed() => break,
            event = store_events.recv() => match event {
                None => break,
                Some(StoreEvent::Changed(id)) => lanes.notify_changed(id),
                Some(StoreEvent::OwnershipChanged) => lanes.follow_ownership(),
                Some(StoreEvent::Accepted(NewDeliveries { due, later })) => {
                    for one in detached(due) {
                        lanes.push(one);
                        // One request may make thousands of deliveries, and other tasks need this thread.
                        tokio::task::coop::consume_budget().await;
                    }
                    later.into_iter().for_each(|id| lanes.mark_store_dirty(id));
                }
            },
        }
    }
}

/// Copies payloads out of the bodies of their requests. A queued delivery would otherwise keep the whole body of a batch in memory,
/// and the memory charged for that body.
fn detached(due: Vec<Due>) -> impl Iterator<Item = Due> {
    let mut payloads = PayloadCopies::default();
    due.into_iter().map(move |one| Due { event: payloads.copy(&one.event), ..one })
}

/// Copies of events with payloads of their own. Deliveries of one event follow each other and share its copy.
#[derive(Default)]
struct PayloadCopies {
    /// Event that was copied last, and its copy.
    last: Option<(Arc<Event>, Arc<Event>)>,
}

impl PayloadCopies {
    fn copy(&mut self, event: &Arc<Event>) -> Arc<Event> {
        if let Some((original, copy)) = &self.last
            && Arc::ptr_eq(original, event)
        {
            return copy.clone();
        }
        let payload = Bytes::copy_from_slice(&event.payload);
        let copy = Arc::new(Event { payload, ..Event::clone(event) });
        self.last = Some((event.clone(), copy.clone()));
        copy
    }
}

/// Reason for the start of a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LaneStart {
    /// The subscription is new.
    New,
    /// The subscription had a lane before, at another host or before a restart.
    GoesOn,
}

struct Lanes {
    context: Arc<LaneContext>,
    handles: HashMap<SubscriptionId, (Arc<LaneHandle>, JoinHandle<()>)>,
}

/// Present states of all lanes, by subscription.
#[derive(Clone, Default)]
pub struct LaneBoard(Arc<Mutex<HashMap<SubscriptionId, Arc<Mutex<LaneStatus>>>>>);

impl LaneBoard {
    /// Returns the state of a subscription's lane. None: the lane has not started.
    pub fn status(&self, id: SubscriptionId) -> Option<LaneStatus> {
        let lane = self.0.lock().get(&id).cloned()?;
        let status = *lane.lock();
        Some(status)
    }

    fn register(&self, id: SubscriptionId) -> Arc<Mutex<LaneStatus>> {
        self.0.lock().entry(id).or_default().clone()
    }

    fn unregister(&self, id: SubscriptionId) {
        self.0.lock().remove(&id);
    }
}

impl Lanes {
    /// Starts the lanes of all subscriptions that this host owns, and ends those of others. What waits in the lanes that go on may be
    /// stale, because another host may have owned their subscriptions for a while.
    fn follow_ownership(&mut self) {
        let LaneContext { store, board, .. } = &*self.context;
        let store = store.clone();
        let mut lost: Vec<_> = self.handles.extract_if(|id, _| !store.owns(*id)).collect();
        // In an order, so that a simulation can be repeated.
        lost.sort_unstable_by_key(|(id, _)| *id);
        for (id, (handle, _)) in lost {
            handle.retire();
            board.unregister(id);
        }
        for subscription in store.catalog().all_subscriptions() {
            if let Some(handle) = self.handle(subscription.id, LaneStart::GoesOn) {
                handle.notify_changed();
            }
        }
    }

    fn notify_changed(&mut self, id: SubscriptionId) {
        if let Some(handle) = self.handle(id, LaneStart::New) {
            handle.notify_changed();
        }
    }

    fn mark_store_dirty(&mut self, id: SubscriptionId) {
        if let Some(handle) = self.handle(id, LaneStart::New) {
            handle.mark_store_dirty();
        }
    }

    /// Pushes a new delivery to its lane. One that another host owns by now is released.
    fn push(&mut self, due: Due) {
        let context = self.context.clone();
        if due.claim.is_valid()
            && let Some(handle) = self.handle(due.delivery().subscription, LaneStart::New)
        {
            handle.try_push(due, &context.budget);
        }
    }

    /// Returns the handle of a lane. The first call for a subscription starts its lane. None: another host owns the subscription, or the
    /// catalog does not have it and there is no lane. Another host may have made it, and a lane that starts before it was loaded would end
    /// at once.
    fn handle(&mut self, id: SubscriptionId, start: LaneStart) -> Option<&LaneHandle> {
        let store = &self.context.store;
        if !store.owns(id) || !self.handles.contains_key(&id) && store.catalog().subscription_by_id(id).is_none() {
            return None;
        }
        // Lanes of deleted subscriptions have ended. Their handles are dropped in bulk, when the map is large.
        if self.handles.len() > 1_024 && self.handles.len().is_power_of_two() {
            self.handles.retain(|_, (_, lane)| !lane.is_finished());
        }
        let (handle, _) = self.handles.entry(id).or_insert_with(|| {
            let handle = Arc::new(LaneHandle::default());
            if start == LaneStart::GoesOn {
                handle.flow().goes_on(clock::instant());
            }
            let lane = Lane::new(self.context.clone(), id, handle.clone(), self.context.board.register(id));
            (handle, tokio::spawn(lane.run()))
        });
        Some(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::event::{EventId, Module};

    /// Body of a request that keeps another value alive.
    struct HeldBody(Vec<u8>, Arc<()>);

    impl AsRef<[u8]> for HeldBody {
        fn as_ref(&self) -> &[u8] {
            assert_eq!(*self.1, ());
            &self.0
        }
    }

    #[test]
    fn deliveries_of_an_event_share_one_copy_and_let_the_request_go() {
        let held = Arc::new(());
        let body = Bytes::from_owner(HeldBody(vec![b'x'; 1_000], held.clone()));
        let event = Arc::new(Event {
            id: EventId::new(),
            name: "Contact is Created".into(),
            module: Module::Contact,
            entity_id: None,
            received_at_ms: 0,
            payload: body.slice(..10),
        });
        drop(body);
        assert_eq!(Arc::strong_count(&held), 2, "the event is a slice of the body");
        let mut payloads = PayloadCopies::default();
        let copies = [payloads.copy(&event), payloads.copy(&event)];
        drop((payloads, event));
        assert!(Arc::ptr_eq(&copies[0], &copies[1]));
        assert_eq!((&copies[0].payload[..], Arc::strong_count(&held)), (&[b'x'; 10][..], 1));
    }
}
