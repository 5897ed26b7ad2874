//! A lane: the deliveries of one subscription on their way, so that a slow receiver fills its own lane only.
//!
//! A lane sleeps until news comes, an attempt ends, the next delivery is due, or its [`Pace`] lets it go on. What is at
//! hand and what is read from the store is [`LaneQueue`]'s business.

use super::Shared;
use super::flow_control::{Leave, Pace, Rest, Sign};
use super::permits::{LanePermits, Stage};
use super::plugin_gate::PluginGate;
use super::queue::{LaneHandle, LaneQueue, NextDelivery};
use super::task::{self, Answered, AttemptEvent, AttemptStart, PANIC_WAIT_MS, Recorded, Returned};
use crate::delivery::{DeliveryId, DueDelivery, Reason};
use crate::retry;
use crate::store::{StateChange, StoreError, now_ms};
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState};
use serde::Serialize;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use utoipa::ToSchema;

/// A lane looks at the clock at least this often, so that a wall clock which jumps cannot make it oversleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// After so many events in a row that the plugin calls badly configured, the subscription is paused.
const BAD_CONFIG_MAX: usize = 3;

/// A receiver that fails for less than this is not noted: the note is a commit.
const FAILING_NOTED_MS: i64 = 60_000;

/// How a lane goes, for those who ask.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct LaneStatus {
    /// How many requests are under way.
    pub in_flight: u32,
    /// How many may be: fewer than `concurrency` while the receiver throttles.
    pub window: u32,
    /// `closed`, `open` (the lane rests, because the receiver is ill) or `half-open` (one request tries).
    pub breaker: &'static str,
    /// How long it rests, in milliseconds.
    pub rests_ms: Option<u64>,
    /// What for: `breaker`, `retry-after` (the receiver said so), `rate` (the owner's `rate_per_s`), `throttled` (the rate that a
    /// throttling receiver seems to allow), `host-fault` (this host cannot send or judge), `start` (the first requests begin
    /// few at a time) or `plugin` (its code is being compiled).
    pub rests_for: Option<&'static str>,
}

/// A lane.
pub(super) struct Lane {
    shared: Arc<Shared>,
    subscription: SubscriptionId,
    handle: Arc<LaneHandle>,
    status: Arc<Mutex<LaneStatus>>,
    queue: LaneQueue,
    gate: PluginGate,
    permits: LanePermits,
    pace: Pace,
    in_flight: u32,
    retries_in_flight: u32,
    /// Outcomes that the store does not know yet.
    unrecorded: u32,
    /// Those among them that disable the subscription.
    disabling: u32,
    failing_since_ms: Option<i64>,
    /// Where it sends: what the pace knows is about this receiver.
    notify_url: String,
    /// The deliveries in a row whose plugin calls its config wrong.
    bad_configs: HashSet<DeliveryId>,
    events: (mpsc::UnboundedSender<AttemptEvent>, mpsc::UnboundedReceiver<AttemptEvent>),
}

impl Drop for Lane {
    /// However it ended.
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Lane {
    pub(super) fn new(
        shared: Arc<Shared>,
        subscription: SubscriptionId,
        handle: Arc<LaneHandle>,
        status: Arc<Mutex<LaneStatus>>,
    ) -> Self {
        Lane {
            shared,
            subscription,
            handle,
            status,
            queue: LaneQueue::default(),
            gate: PluginGate::default(),
            permits: LanePermits::default(),
            pace: Pace::new(),
            in_flight: 0,
            retries_in_flight: 0,
            unrecorded: 0,
            disabling: 0,
            failing_since_ms: None,
            notify_url: String::new(),
            bad_configs: HashSet::new(),
            events: mpsc::unbounded_channel(),
        }
    }

    /// Works until the host stops or the subscription is gone.
    pub(super) async fn run(mut self) {
        let mut stop = self.shared.stop.clone();
        while !*stop.borrow() {
            while let Ok(event) = self.events.1.try_recv() {
                self.on_event(event).await;
            }
            if self.handle.take_changed() {
                self.queue.return_to_store(&self.handle);
                self.permits.give_back();
                // A subscription that was resumed begins anew; what is noted of it counts.
                self.failing_since_ms = None;
            }
            let Some(subscription) = self.shared.store.catalog().subscription_by_id(self.subscription) else { break };
            if self.notify_url != subscription.settings.notify_url {
                self.notify_url.clone_from(&subscription.settings.notify_url);
                self.pace.forget_receiver();
            }
            let leave = self.leave(&subscription);
            if leave == Leave::Go {
                match self.next(&subscription).await {
                    Ok(Some(next)) => {
                        self.launch(next, &subscription).await;
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(subscription = %self.subscription, error = %crate::describe(&error), "due deliveries could not be read");
                        self.queue.recheck_store_at(now_ms() + 1_000);
                    }
                }
            }
            self.permits.give_back();
            let sleep = tokio::time::sleep(self.until_something(leave, &subscription));
            tokio::select! {
                _ = stop.changed() => {}
                () = self.handle.wake.notified() => {}
                Some(event) = self.events.1.recv() => self.on_event(event).await,
                () = sleep => {}
            }
        }
        self.shared.board.end(self.subscription);
    }

    /// Whether an attempt may begin now; one of a resting subscription waits for news.
    fn leave(&mut self, subscription: &Subscription) -> Leave {
        let (concurrency, rate) = (subscription.settings.concurrency, subscription.settings.rate_per_s);
        let is_active = subscription.state == SubscriptionState::Active;
        let waits_for_plugin =
            is_active && !self.gate.is_open(&self.shared.attempter.plugins, subscription, &self.handle);
        let leave = match subscription.state {
            _ if waits_for_plugin => Leave::Full,
            SubscriptionState::Active if self.unrecorded >= concurrency || self.disabling > 0 => Leave::Full,
            SubscriptionState::Active => self.pace.leave(concurrency, rate, self.in_flight, Instant::now()),
            _ => Leave::Full,
        };
        let rests = match leave {
            Leave::NotBefore(at, _) => Some(at.saturating_duration_since(Instant::now())),
            _ => None,
        };
        let rests_for = match leave {
            Leave::NotBefore(_, rest) => Some(Rest::as_str(rest)),
            _ => waits_for_plugin.then_some("plugin"),
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = LaneStatus {
            in_flight: self.in_flight,
            window: self.pace.window(concurrency),
            breaker: self.pace.breaker_word(),
            rests_ms: rests.map(|rests| u64::try_from(rests.as_millis()).unwrap_or(u64::MAX)),
            rests_for,
        };
        leave
    }

    fn until_something(&self, leave: Leave, subscription: &Subscription) -> Duration {
        let wait = match leave {
            // A full or resting lane is woken by what ends or changes, not by the clock.
            Leave::Full => SLEEP_MAX,
            Leave::NotBefore(at, _) => at.saturating_duration_since(Instant::now()),
            Leave::Go => match self.queue.next_due_at_ms(self.may_retry(subscription)) {
                Some(at_ms) => Duration::from_millis(u64::try_from(at_ms - now_ms()).unwrap_or(0)),
                None => SLEEP_MAX,
            },
        };
        wait.min(SLEEP_MAX)
    }

    /// Retries have half of the window at the most, so that a first attempt finds room.
    fn may_retry(&self, subscription: &Subscription) -> bool {
        self.retries_in_flight < (self.pace.window(subscription.settings.concurrency) / 2).max(1)
    }

    /// The next delivery to attempt.
    async fn next(&mut self, subscription: &Subscription) -> Result<Option<NextDelivery>, StoreError> {
        let may_retry = self.may_retry(subscription);
        let Shared { store, budget, .. } = &*self.shared;
        self.queue.next(store, &self.handle, budget, subscription, may_retry).await
    }

    /// Starts an attempt in a task of its own, once there is a permit for it.
    async fn launch(&mut self, next: NextDelivery, subscription: &Subscription) {
        let window = self.pace.window(subscription.settings.concurrency);
        let usable = match subscription.settings.rate_per_s {
            Some(_) => 1,
            None if self.pace.is_throttled() => 1,
            None => (self.queue.queued() + 1).min(window.saturating_sub(self.in_flight)),
        };
        let stage = Stage::first(subscription);
        let permit = self.permits.next(&self.shared.permits, stage, &subscription.tenant, usable).await;
        // Waiting for a permit may have taken long: look again at what changed meanwhile.
        let changes = self.handle.changes();
        let current = self.shared.store.catalog().subscription_by_id(self.subscription);
        let stale = self.handle.has_changed() || *self.shared.stop.borrow();
        let Some(subscription) = current.filter(|current| current.state == SubscriptionState::Active && !stale) else {
            self.queue.release(next.delivery.id, None);
            return self.queue.recheck_store();
        };
        if let Some(reason) = retry::too_old_by_now(&subscription.settings.retry, &next.delivery, now_ms()) {
            return self.give_up(&next.delivery, reason).await;
        }
        self.in_flight += 1;
        self.retries_in_flight += u32::from(next.delivery.attempts_made > 0);
        self.pace.begin(Instant::now());
        let start = AttemptStart { next, subscription, permit, handle: self.handle.clone(), changes };
        let (shared, events) = (self.shared.clone(), self.events.0.clone());
        // In a box: a task is moved several times before it is where it stays.
        self.shared.attempts.spawn(Box::pin(task::run(shared, start, events)));
    }

    /// Ends a delivery that waited until it was too old: for an ill receiver, for its turn, or for an earlier one.
    async fn give_up(&mut self, delivery: &DueDelivery, reason: Reason) {
        let given_up = self.shared.store.give_up(delivery, reason).await;
        let again_at_ms = given_up.err().map(|error| {
            tracing::error!(delivery = %delivery.id, error = %crate::describe(&error), "a delivery that is too old could not be ended");
            now_ms() + PANIC_WAIT_MS
        });
        self.queue.release(delivery.id, again_at_ms);
        self.queue.recheck_store();
    }

    async fn on_event(&mut self, event: AttemptEvent) {
        let current = self.shared.store.catalog().subscription_by_id(self.subscription);
        match event {
            AttemptEvent::Answered(answered) => self.on_answered(answered, current.as_deref()).await,
            AttemptEvent::Recorded(recorded) => self.on_recorded(&recorded, current.as_deref()).await,
            AttemptEvent::Returned(returned) => self.on_returned(&returned),
        }
    }

    /// One was not made: it is in the store as it was.
    fn on_returned(&mut self, returned: &Returned) {
        self.in_flight -= 1;
        self.retries_in_flight -= u32::from(returned.is_retry);
        self.queue.release(returned.id, returned.again_at_ms);
        if returned.again_at_ms.is_none() {
            self.queue.recheck_store();
        }
    }

    /// The receiver is done with one.
    async fn on_answered(&mut self, answered: Answered, subscription: Option<&Subscription>) {
        self.in_flight -= 1;
        self.retries_in_flight -= u32::from(answered.is_retry);
        self.unrecorded += 1;
        self.disabling += u32::from(answered.disables);
        if let Some(subscription) = subscription {
            let concurrency = subscription.settings.concurrency;
            self.pace.end(answered.sign, answered.wish, concurrency, (answered.began, Instant::now()));
        }
        match answered.bad_config {
            Some((generation, message)) => self.count_bad_config(answered.id, generation, &message).await,
            None => self.bad_configs.clear(),
        }
    }

    /// The store knows of one. What follows for the subscription comes after it, so that no outcome comes too late.
    async fn on_recorded(&mut self, recorded: &Recorded, subscription: Option<&Subscription>) {
        self.unrecorded -= 1;
        self.disabling -= u32::from(recorded.disables);
        self.queue.release(recorded.id, recorded.again_at_ms);
        let Some(subscription) = subscription else { return };
        if subscription.settings.ordering.is_some() {
            // What waited for this one may be due now.
            self.queue.recheck_store();
        }
        self.note_health(recorded.sign, subscription).await;
    }

    /// Remembers since when the receiver fails, and disables the subscription after days of it.
    async fn note_health(&mut self, sign: Sign, subscription: &Subscription) {
        let now_ms = now_ms();
        let noted = subscription.failing_since_ms;
        let since = match sign {
            Sign::Nothing | Sign::HostFault => return,
            Sign::Well => None,
            _ => self.failing_since_ms.or(noted).or(Some(now_ms)),
        };
        self.failing_since_ms = since;
        let lasts_ms = since.map_or(0, |since_ms| now_ms - since_ms);
        let limit_ms = i64::try_from(subscription.settings.disable_after_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        if limit_ms > 0 && lasts_ms >= limit_ms {
            let message = format!("the receiver has failed for {} s (disable_after_s)", lasts_ms / 1_000);
            let reason = Reason::new("failing", message);
            return self.change(StateChange::Disable { reason, generation: Some(subscription.generation) }).await;
        }
        if since != noted && (since.is_none() || lasts_ms >= FAILING_NOTED_MS) {
            let note = self.shared.store.note_failing(&subscription.tenant, self.subscription, since).await;
            if let Err(error) = note {
                tracing::error!(subscription = %self.subscription, error = %crate::describe(&error), "the beginning of a receiver's failures could not be recorded");
            }
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
            let reason = format!("bad-config: the plugin said so of {BAD_CONFIG_MAX} events in a row: {message}");
            self.change(StateChange::Pause { reason, by_host: true }).await;
        }
    }

    async fn change(&self, change: StateChange) {
        let Some(subscription) = self.shared.store.catalog().subscription_by_id(self.subscription) else { return };
        if let Err(error) =
            self.shared.store.set_subscription_state(&subscription.tenant, self.subscription, change).await
        {
            tracing::error!(subscription = %self.subscription, error = %crate::describe(&error), "the subscription's state could not be changed");
        }
    }
}
