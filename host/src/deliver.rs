//! Delivery: from what is due to what is recorded.
//!
//! The dispatcher listens to the events of the store and wakes the [`lane`] of the subscription; a lane decides when an attempt
//! begins; an [`attempt`] judges, signs and sends; a [`conclusion`] says what follows, and has the store record it. Intake does not
//! know this module, nor this one intake: they meet in the store, so a restart and a normal event take the same path.

mod attempt;
pub mod client;
mod conclusion;
mod flow_control;
mod lane;
mod notify_urls;
mod permits;
mod plugin_gate;
mod queue;
mod task;
mod throttle;
pub mod traces;

pub use lane::LaneStatus;
pub use permits::AttemptLimits;

use crate::event::Event;
use crate::plugin::Plugins;
use crate::store::{Due, NewDeliveries, News, Store};
use crate::subscription::{SubscriptionId, SubscriptionState};
use attempt::Attempter;
use bytes::Bytes;
use client::Clients;
use lane::Lane;
use notify_urls::NotifyUrls;
use permits::AttemptPermits;
use queue::{LaneHandle, MemoryBudget};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use traces::Traces;

/// What every lane shares.
struct Shared {
    permits: AttemptPermits,
    budget: MemoryBudget,
    store: Arc<Store>,
    attempter: Attempter,
    attempts: TaskTracker,
    board: LaneBoard,
    traces: Traces,
    /// Longest delay that a receiver's `Retry-After` is granted.
    retry_after_max: Duration,
    stop: watch::Receiver<bool>,
}

/// Limits of all deliveries, from the settings.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Maximum numbers of attempts under way.
    pub attempts: AttemptLimits,
    /// Longest delay that a receiver's `Retry-After` is granted (`retry_after_max_s`).
    pub retry_after_max: Duration,
}

/// The dispatcher: owns the lanes.
pub struct Dispatcher {
    stop: watch::Sender<bool>,
    attempts: TaskTracker,
    listening: JoinHandle<()>,
}

impl Dispatcher {
    /// Starts a lane for every subscription: each looks into the store first, and so goes on where it was.
    pub fn start(
        store: Arc<Store>,
        plugins: Arc<Plugins>,
        clients: Arc<Clients>,
        news: mpsc::UnboundedReceiver<News>,
        board: LaneBoard,
        traces: Traces,
        limits: DeliveryLimits,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let attempts = TaskTracker::new();
        let shared = Arc::new(Shared {
            permits: AttemptPermits::new(limits.attempts),
            budget: MemoryBudget::default(),
            attempter: Attempter { plugins, clients, store: store.clone(), notify_urls: NotifyUrls::default() },
            store,
            attempts: attempts.clone(),
            board,
            traces,
            retry_after_max: limits.retry_after_max,
            stop: stopped,
        });
        let listening = tokio::spawn(listen(shared, news));
        Dispatcher { stop, attempts, listening }
    }

    /// Begins no further attempt, and waits for those under way, at most for `grace`. What is cut off is attempted
    /// again after the next start.
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

async fn listen(shared: Arc<Shared>, mut news: mpsc::UnboundedReceiver<News>) {
    let mut lanes = Lanes { shared: shared.clone(), handles: HashMap::new() };
    for subscription in shared.store.catalog().all_subscriptions() {
        lanes.handle(subscription.id).notify_changed();
    }
    let mut stop = shared.stop.clone();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            piece = news.recv() => match piece {
                None => break,
                Some(News::Changed(id)) => lanes.handle(id).notify_changed(),
                Some(News::Accepted(NewDeliveries { due, later })) => {
                    for one in detached(due) {
                        lanes.hand_over(one);
                        // A request may make thousands, and others need this thread.
                        tokio::task::coop::consume_budget().await;
                    }
                    later.into_iter().for_each(|id| lanes.handle(id).mark_store_dirty());
                }
            },
        }
    }
}

/// Copies payloads out of the requests that brought them. A delivery waits in memory for as long as its receiver lets it, and
/// must not keep the whole body of a batch alive, nor the memory that the body was charged.
fn detached(due: Vec<Due>) -> impl Iterator<Item = Due> {
    let mut last: Option<(Arc<Event>, Arc<Event>)> = None;
    due.into_iter().map(move |one| {
        let copied = last.take().filter(|(original, _)| Arc::ptr_eq(original, &one.event));
        let (original, copy) = copied.unwrap_or_else(|| {
            let payload = Bytes::copy_from_slice(&one.event.payload);
            (one.event.clone(), Arc::new(Event { payload, ..Event::clone(&one.event) }))
        });
        last = Some((original, copy.clone()));
        Due { event: copy, ..one }
    })
}

struct Lanes {
    shared: Arc<Shared>,
    handles: HashMap<SubscriptionId, (Arc<LaneHandle>, JoinHandle<()>)>,
}

/// How the lanes go, for those who ask.
#[derive(Clone, Default)]
pub struct LaneBoard(Arc<Mutex<HashMap<SubscriptionId, Arc<Mutex<LaneStatus>>>>>);

impl LaneBoard {
    /// How a subscription's lane goes. None: it has not begun.
    pub fn status(&self, id: SubscriptionId) -> Option<LaneStatus> {
        let lane = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()?;
        let status = *lane.lock().unwrap_or_else(PoisonError::into_inner);
        Some(status)
    }

    fn begin(&self, id: SubscriptionId) -> Arc<Mutex<LaneStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    fn end(&self, id: SubscriptionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Lanes {
    /// Hands a fresh delivery to its lane, if it can be of use there: one that rests for its owner keeps nothing in memory, and
    /// whose turn it is in an order only the store can tell.
    fn hand_over(&mut self, due: Due) {
        let id = due.delivery.subscription;
        let of_use = self.shared.store.catalog().subscription_by_id(id).is_some_and(|subscription| {
            subscription.state == SubscriptionState::Active && subscription.settings.ordering.is_none()
        });
        let shared = self.shared.clone();
        let handle = self.handle(id);
        if of_use { handle.try_push(due, &shared.budget) } else { handle.mark_store_dirty() }
    }

    /// Returns the handle of a lane. The first call for a subscription starts its lane.
    fn handle(&mut self, id: SubscriptionId) -> &LaneHandle {
        // Lanes of deleted subscriptions have ended. Their handles are dropped in bulk, when the map is large.
        if self.handles.len() > 1_024 && self.handles.len().is_power_of_two() {
            self.handles.retain(|_, (_, lane)| !lane.is_finished());
        }
        let (handle, _) = self.handles.entry(id).or_insert_with(|| {
            let handle = Arc::new(LaneHandle::default());
            let lane = Lane::new(self.shared.clone(), id, handle.clone(), self.shared.board.begin(id));
            (handle, tokio::spawn(lane.run()))
        });
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{DeliveryId, DeliveryKind, DueDelivery};
    use crate::event::{EventId, Module};
    use crate::subscription::TenantId;

    /// A request's body with something that it holds.
    struct Body(Vec<u8>, Arc<()>);

    impl AsRef<[u8]> for Body {
        fn as_ref(&self) -> &[u8] {
            assert_eq!(*self.1, ());
            &self.0
        }
    }

    #[test]
    fn deliveries_of_an_event_share_one_copy_and_let_the_request_go() {
        let held = Arc::new(());
        let body = Bytes::from_owner(Body(vec![b'x'; 1_000], held.clone()));
        let event = Arc::new(Event {
            id: EventId::new(),
            name: "Contact is Created".into(),
            module: Module::Contact,
            entity_id: None,
            received_at_ms: 0,
            payload: body.slice(..10),
        });
        let delivery = DueDelivery {
            id: DeliveryId::new(),
            tenant: TenantId("default".into()),
            event: event.id,
            subscription: SubscriptionId::new(),
            kind: DeliveryKind::Usual,
            attempts_made: 0,
            attempts_in_budget: 0,
            age_from_ms: 0,
        };
        let due = vec![Due { delivery: delivery.clone(), event: event.clone() }, Due { delivery, event }];
        drop(body);
        assert_eq!(Arc::strong_count(&held), 2, "the events are slices of the body");
        let copies: Vec<Due> = detached(due).collect();
        assert!(Arc::ptr_eq(&copies[0].event, &copies[1].event));
        assert_eq!((&copies[0].event.payload[..], Arc::strong_count(&held)), (&[b'x'; 10][..], 1));
    }
}
