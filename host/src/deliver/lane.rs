//! A lane: the deliveries of one subscription on their way, so that a slow receiver fills its own lane only.
//!
//! # Theory of operation
//! What must not be lost is in the store; a lane only remembers a bounded part of it. Fresh deliveries are handed over
//! by the dispatcher right after their commit, so that the usual event never waits for a read. Whatever does not fit,
//! every retry, and everything after a restart is read from the store in pages. A lane sleeps until news comes, an
//! attempt ends, or the next delivery is due.
//!
//! No delivery is attempted twice at once: the lane's ids are in `held` until the outcome is committed *and* the lane
//! itself has heard of it, which is never in the middle of reading a page. A fresh delivery that is no newer than the
//! newest one a page could have seen is left to the store, because a page may have brought it already.

use super::Shared;
use crate::delivery::{DeliveryId, Outcome, Reason};
use crate::retry::{self, Moment, Next};
use crate::store::{AttemptRecord, Due, StateChange, StoreError, now_ms};
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState};
use crate::telemetry;
use futures_util::FutureExt as _;
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How many fresh deliveries a lane takes into memory. More stay in the store.
const FRESH_MAX: usize = 256;

/// How many deliveries a lane reads from the store at once.
const PAGE: usize = 128;

/// A lane looks at the clock at least this often, so that a wall clock which jumps cannot make it oversleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// After so many events in a row that the plugin calls badly configured, the subscription is paused.
const BAD_CONFIG_MAX: usize = 3;

/// The door of a lane, for the dispatcher.
#[derive(Default)]
pub(super) struct Door {
    fresh: Mutex<VecDeque<Due>>,
    look_in_store: AtomicBool,
    /// Whether the subscription changed: what the lane holds but has not begun may be stale.
    changed: AtomicBool,
    news: Notify,
}

impl Door {
    /// Hands over a fresh delivery, or leaves it to the store if the lane is full.
    pub(super) fn offer(&self, due: Due) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        match fresh.len() < FRESH_MAX {
            true => fresh.push_back(due),
            false => self.look_in_store.store(true, Ordering::Release),
        }
        drop(fresh);
        self.news.notify_one();
    }

    /// Says that the subscription changed: deliveries of it may have ended, become due, or grown younger.
    pub(super) fn knock(&self) {
        self.changed.store(true, Ordering::Release);
        self.news.notify_one();
    }
}

/// How long a delivery rests whose attempt panicked.
const PANIC_WAIT_MS: i64 = 5_000;

/// What an attempt's task tells its lane.
struct Ended {
    id: DeliveryId,
    again_at_ms: Option<i64>,
    /// What the plugin said of its config, and which generation that was.
    bad_config: Option<(u64, String)>,
}

/// A lane.
pub(super) struct Lane {
    shared: Arc<Shared>,
    subscription: SubscriptionId,
    door: Arc<Door>,
    ready: VecDeque<Due>,
    held: HashSet<DeliveryId>,
    in_flight: u32,
    paged_through: Option<DeliveryId>,
    next_due_at_ms: Option<i64>,
    /// The deliveries in a row whose plugin calls its config wrong.
    bad_configs: HashSet<DeliveryId>,
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, subscription: SubscriptionId, door: Arc<Door>) -> Self {
        Lane {
            shared,
            subscription,
            door,
            ready: VecDeque::new(),
            held: HashSet::new(),
            in_flight: 0,
            paged_through: None,
            next_due_at_ms: None,
            bad_configs: HashSet::new(),
            ended: mpsc::unbounded_channel(),
        }
    }

    /// Works until the host stops or the subscription is gone.
    pub(super) async fn run(mut self) {
        let mut stop = self.shared.stop.clone();
        while !*stop.borrow() {
            while let Ok(ended) = self.ended.1.try_recv() {
                self.forget(ended).await;
            }
            if self.door.changed.swap(false, Ordering::AcqRel) {
                self.put_back();
            }
            self.look_if_due();
            let Some(subscription) = self.shared.store.catalog().subscription_by_id(self.subscription) else { break };
            if subscription.state == SubscriptionState::Active && self.in_flight < subscription.settings.concurrency {
                match self.next(&subscription).await {
                    Ok(Some(due)) => {
                        self.launch(due, &subscription).await;
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(subscription = %self.subscription, error = %crate::describe(&error), "due deliveries could not be read");
                        self.next_due_at_ms = Some(now_ms() + 1_000);
                    }
                }
            }
            let sleep = tokio::time::sleep(self.until_next_due(&subscription));
            tokio::select! {
                _ = stop.changed() => {}
                () = self.door.news.notified() => {}
                Some(ended) = self.ended.1.recv() => self.forget(ended).await,
                () = sleep => {}
            }
        }
    }

    fn until_next_due(&self, subscription: &Subscription) -> Duration {
        let wait_ms = match self.next_due_at_ms {
            // A full or resting lane is woken by what ends or changes, not by the clock.
            Some(at_ms)
                if subscription.state == SubscriptionState::Active
                    && self.in_flight < subscription.settings.concurrency =>
            {
                u64::try_from(at_ms - now_ms()).unwrap_or(0)
            }
            _ => u64::MAX,
        };
        Duration::from_millis(wait_ms).min(SLEEP_MAX)
    }

    fn look_if_due(&mut self) {
        if self.next_due_at_ms.is_some_and(|at_ms| at_ms <= now_ms()) {
            self.next_due_at_ms = None;
            self.door.look_in_store.store(true, Ordering::Release);
        }
    }

    /// The next delivery to attempt: one at hand, else one from the store if something is there, else a fresh one.
    ///
    /// Nothing is taken in before what is at hand is gone: that bounds the lane's memory, and lets retries have their
    /// turn in a lane that is never empty.
    async fn next(&mut self, subscription: &Subscription) -> Result<Option<Due>, StoreError> {
        if self.ready.is_empty() && self.door.look_in_store.swap(false, Ordering::AcqRel) {
            let page = self.take_page(subscription).await;
            page.inspect_err(|_| self.door.look_in_store.store(true, Ordering::Release))?;
        }
        if self.ready.is_empty() {
            self.take_fresh();
        }
        Ok(self.ready.pop_front())
    }

    /// Gives back to the store what was not begun, because it may be over or older or younger there by now.
    fn put_back(&mut self) {
        self.take_fresh();
        for due in self.ready.drain(..) {
            self.held.remove(&due.delivery.id);
        }
        self.door.look_in_store.store(true, Ordering::Release);
    }

    fn take_fresh(&mut self) {
        let fresh = std::mem::take(&mut *self.door.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        for due in fresh {
            if self.paged_through >= Some(due.delivery.id) {
                self.door.look_in_store.store(true, Ordering::Release);
            } else if self.held.insert(due.delivery.id) {
                self.ready.push_back(due);
            }
        }
    }

    async fn take_page(&mut self, subscription: &Subscription) -> Result<(), StoreError> {
        let (tenant, id) = (subscription.tenant.clone(), subscription.id);
        let page = self.shared.store.due(tenant, id, PAGE, self.held.clone()).await?;
        self.paged_through = self.paged_through.max(page.newest);
        self.next_due_at_ms = page.next_due_at_ms;
        if page.more {
            self.door.look_in_store.store(true, Ordering::Release);
        }
        for due in page.due {
            if self.held.insert(due.delivery.id) {
                self.ready.push_back(due);
            }
        }
        Ok(())
    }

    /// Starts an attempt in a task of its own, once the host and the tenant have room for one more.
    async fn launch(&mut self, due: Due, subscription: &Subscription) {
        let own = self.shared.room_of(&subscription.tenant).acquire_owned().await;
        let (Ok(own), Ok(all)) = (own, self.shared.in_flight.clone().acquire_owned().await) else { return };
        // Waiting for room may have taken long: look again at what changed meanwhile.
        let current = self.shared.store.catalog().subscription_by_id(self.subscription);
        let stale = self.door.changed.load(Ordering::Acquire) || *self.shared.stop.borrow();
        let Some(subscription) = current.filter(|current| current.state == SubscriptionState::Active && !stale) else {
            self.held.remove(&due.delivery.id);
            return self.door.look_in_store.store(true, Ordering::Release);
        };
        self.in_flight += 1;
        let (shared, tell) = (self.shared.clone(), self.ended.0.clone());
        self.shared.attempts.spawn(async move {
            let id = due.delivery.id;
            let attempt = AssertUnwindSafe(attempt_and_record(&shared, due, subscription)).catch_unwind();
            // A panic is a fault of ours; the delivery is still due, and must not be held for ever.
            let ended = attempt.await.unwrap_or_else(|_| {
                tracing::error!(delivery = %id, "an attempt panicked; it is made again");
                Ended { id, again_at_ms: Some(now_ms() + PANIC_WAIT_MS), bad_config: None }
            });
            drop((own, all));
            let _ = tell.send(ended);
        });
    }

    async fn forget(&mut self, ended: Ended) {
        self.in_flight -= 1;
        self.held.remove(&ended.id);
        self.next_due_at_ms = match (self.next_due_at_ms, ended.again_at_ms) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        match ended.bad_config {
            Some((generation, message)) => self.count_bad_config(ended.id, generation, &message).await,
            None => self.bad_configs.clear(),
        }
    }

    /// Pauses the subscription after so many events in a row; what an earlier config came to does not count.
    async fn count_bad_config(&mut self, id: DeliveryId, generation: u64, message: &str) {
        let current = self.shared.store.catalog().subscription_by_id(self.subscription);
        if current.is_none_or(|current| current.generation != generation) {
            return;
        }
        self.bad_configs.insert(id);
        if self.bad_configs.len() >= BAD_CONFIG_MAX {
            self.bad_configs.clear();
            self.pause(format!("bad-config: the plugin said so of {BAD_CONFIG_MAX} events in a row: {message}")).await;
        }
    }

    async fn pause(&self, reason: String) {
        let Some(subscription) = self.shared.store.catalog().subscription_by_id(self.subscription) else { return };
        let change = StateChange::Pause(reason);
        if let Err(error) =
            self.shared.store.set_subscription_state(&subscription.tenant, self.subscription, change).await
        {
            tracing::error!(subscription = %self.subscription, error = %crate::describe(&error), "the subscription could not be paused");
        }
    }
}

/// One attempt, its consequences, and the commit of both.
async fn attempt_and_record(shared: &Shared, due: Due, subscription: Arc<Subscription>) -> Ended {
    let (attempt, outcome) = shared.attempter.attempt(&due, &subscription).await;
    let policy = &subscription.settings.retry;
    let moment = Moment {
        attempts: due.delivery.attempts_in_budget + 1,
        age_from_ms: due.delivery.age_from_ms,
        now_ms: now_ms(),
        jitter: rand::random(),
    };
    let next = retry::next(policy, &outcome, moment);
    let again_at_ms = match &next {
        Next::Again { at_ms, .. } => Some(*at_ms),
        // The version or config that it waits for may be there already: the store knows.
        Next::AwaitPlugin { .. } => Some(moment.now_ms),
        Next::End { .. } => None,
    };
    let id = due.delivery.id;
    telemetry::attempted(&due.delivery.tenant, &attempt.outcome, attempt.post_us);
    tracing::debug!(delivery = %id, attempt = attempt.number, outcome = %attempt.outcome, "attempted");
    let age_end_ms = retry::age_end_ms(policy, moment);
    let disables =
        retry::disables_subscription(&outcome).then(|| Reason::new("gone", "the receiver answered 410 Gone"));
    record(shared, AttemptRecord { delivery: due.delivery, attempt, next, age_end_ms, disables }).await;
    let bad_config = match outcome {
        Outcome::BadConfig(reason) => Some((subscription.generation, reason.message)),
        _ => None,
    };
    Ended { id, again_at_ms, bad_config }
}

/// Records an outcome, however long the store takes to be able to (a full disk, as a rule): until then the attempt is
/// in flight, and nothing of its lane is forgotten.
async fn record(shared: &Shared, record: AttemptRecord) {
    let record = Arc::new(record);
    let mut stop = shared.stop.clone();
    loop {
        match shared.store.record(record.clone()).await {
            Ok(()) | Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::error!(delivery = %record.delivery.id, error = %crate::describe(&error), "an outcome could not be recorded; trying again");
            }
        }
        if *stop.borrow() {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), stop.changed()).await;
    }
}
