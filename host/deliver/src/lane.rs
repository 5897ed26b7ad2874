//! A lane: the deliveries of one subscription, processed apart from those of all others.
//!
//! # Guarantees
//! - A slow or failing receiver delays only its lane.
//! - At most `concurrency` attempts are under way, and at most as many outcomes wait for their commit. While an outcome that
//!   disables the subscription waits for its commit, no attempt begins.
//! - At most half of the window are retries, so that new deliveries do not wait behind them.
//! - A subscription that is not active begins no attempt. When the subscription changes, everything that has not begun returns to
//!   the store.
//!
//! A lane sleeps until the subscription changes, an attempt ends, the next delivery is due, or [flow control](super::flow_control) admits an attempt.
//!
//! # Limits
//! The lane decides when an attempt begins. [`LaneQueue`] selects the delivery, and [`task`] carries the attempt out.

use super::LaneContext;
use super::flow_control::{Admission, PauseReason, ReceiverHealth};
use super::permits::{LanePermits, Stage};
use super::plugin_gate::PluginGate;
use super::queue::{LaneHandle, LaneQueue, NextDelivery};
use super::task::{self, Answered, AttemptEvent, AttemptStart, PANIC_WAIT_MS, Recorded, Returned};
use hookloom_model::clock::{self, now_ms};
use hookloom_model::delivery::{DeliveryId, Reason};
use hookloom_model::pauses::BY_HOST;
use hookloom_model::retry;
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState};
use hookloom_store::{Actor, Claim, StateChange, StoreError};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use utoipa::ToSchema;

/// Longest sleep of a lane. It bounds the delay after a jump of the wall clock.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Pause until a lane looks again whether the lease of this host was renewed.
const LEASE_PAUSE: Duration = Duration::from_millis(100);

/// Number of deliveries in a row, with a `bad-config` failure of the plugin, that pauses the subscription.
const BAD_CONFIG_MAX: usize = 3;

/// Time that a receiver must have been failing before that is stored, in milliseconds. Storing it costs a commit.
const FAILING_NOTED_MS: i64 = 60_000;

/// Present state of a lane.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct LaneStatus {
    /// Number of requests under way.
    pub in_flight: u32,
    /// Maximum number of requests under way: less than `concurrency` while the receiver throttles.
    pub window: u32,
    /// Circuit breaker: `closed`, `open` (the lane pauses, because the receiver fails) or `half-open` (one request is sent).
    pub breaker: &'static str,
    /// Remaining pause, in milliseconds.
    pub rests_ms: Option<u64>,
    /// Reason of the pause: `breaker`, `retry-after` (the receiver asked for it), `rate` (the subscription's `rate_per_s`),
    /// `throttled` (the rate that a throttling receiver seems to allow), `host-fault` (this host cannot send requests or run
    /// plugins), `start` (slow start of the first requests), `plugin` (the plugin is being compiled), `lease` (this host cannot
    /// reach the database that it shares with others) or `takeover` (the deliveries have an order, and attempts of a host that
    /// ended may still be under way).
    pub rests_for: Option<&'static str>,
}

/// Deliveries of one subscription, with everything that decides when they are attempted.
pub(super) struct Lane {
    context: Arc<LaneContext>,
    subscription: SubscriptionId,
    handle: Arc<LaneHandle>,
    status: Arc<Mutex<LaneStatus>>,
    queue: LaneQueue,
    gate: PluginGate,
    permits: LanePermits,
    in_flight: u32,
    retries_in_flight: u32,
    /// Number of outcomes that wait for their commit.
    unrecorded: u32,
    /// Number of these outcomes that disable the subscription.
    disabling: u32,
    failing_since_ms: Option<i64>,
    /// Notify URL of the receiver that flow control observed.
    notify_url: String,
    /// Latest deliveries in a row that ended in a `bad-config` failure.
    bad_configs: HashSet<DeliveryId>,
    events: (mpsc::UnboundedSender<AttemptEvent>, mpsc::UnboundedReceiver<AttemptEvent>),
}

impl Drop for Lane {
    /// Closes the handle, also after a panic.
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Lane {
    pub(super) fn new(
        context: Arc<LaneContext>,
        subscription: SubscriptionId,
        handle: Arc<LaneHandle>,
        status: Arc<Mutex<LaneStatus>>,
    ) -> Self {
        Lane {
            context,
            subscription,
            handle,
            status,
            queue: LaneQueue::default(),
            gate: PluginGate::default(),
            permits: LanePermits::default(),
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

    /// Runs the lane until the host stops or the subscription is deleted.
    pub(super) async fn run(mut self) {
        let mut stop = self.context.stop.clone();
        while !*stop.borrow() && !self.handle.is_retired() {
            self.take_events().await;
            if self.handle.take_changed() {
                self.queue.return_to_store(&self.handle);
                self.permits.release();
                // The subscription may have been resumed, so only the stored time counts.
                self.failing_since_ms = None;
            }
            let Some(subscription) = self.context.store.catalog().subscription_by_id(self.subscription) else { break };
            if self.notify_url != subscription.settings.notify_url {
                self.notify_url.clone_from(&subscription.settings.notify_url);
                self.handle.flow().reset_receiver();
            }
            let admission = self.admission(&subscription);
            if admission == Admission::Allow {
                match self.next(&subscription).await {
                    Ok(Some(next)) => {
                        self.start_attempt(next, &subscription).await;
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(subscription = %self.subscription, error = %hookloom_model::describe(&error), "due deliveries could not be read");
                        self.queue.recheck_store_at(now_ms() + 1_000);
                    }
                }
            }
            self.permits.release();
            let sleep = tokio::time::sleep(self.sleep_time(admission, &subscription));
            tokio::select! {
                // In this order, so that a simulation can be repeated.
                biased;
                _ = stop.changed() => {}
                () = self.handle.wake.notified() => {}
                Some(event) = self.events.1.recv() => self.on_event(event).await,
                () = sleep => {}
            }
        }
        // The board has the status of the next lane of the subscription, if this one is retired.
        if !self.handle.is_retired() {
            self.context.board.unregister(self.subscription);
        }
    }

    /// Decides whether an attempt may begin now, and publishes the lane's status. A paused lane is woken by a change of its
    /// subscription.
    fn admission(&mut self, subscription: &Subscription) -> Admission {
        let concurrency = subscription.settings.concurrency;
        let is_active = subscription.state == SubscriptionState::Active;
        let waits_for_plugin = is_active && !self.gate.is_open(&self.context.runner.judge, subscription, &self.handle);
        let admission = if !is_active || waits_for_plugin || self.unrecorded >= concurrency || self.disabling > 0 {
            Admission::AtCapacity
        } else if let Some((rest, reason)) = self.rest_as_owner(subscription) {
            Admission::NotBefore(clock::instant() + rest, reason)
        } else {
            let rate = subscription.settings.rate_per_s;
            self.handle.flow().admit(concurrency, rate, self.in_flight, clock::instant())
        };
        let rests = match admission {
            Admission::NotBefore(at, _) => Some(at.saturating_duration_since(clock::instant())),
            _ => None,
        };
        let rests_for = match admission {
            Admission::NotBefore(_, reason) => Some(reason.as_str()),
            _ => waits_for_plugin.then_some("plugin"),
        };
        let (window, breaker) = {
            let flow = self.handle.flow();
            (flow.window(concurrency), flow.breaker_state())
        };
        *self.status.lock() = LaneStatus {
            in_flight: self.in_flight,
            window,
            breaker,
            rests_ms: rests.map(|rests| u64::try_from(rests.as_millis()).unwrap_or(u64::MAX)),
            rests_for,
        };
        admission
    }

    /// Returns the pause of a lane whose subscription may be another host's by now, or was until a moment ago.
    fn rest_as_owner(&self, subscription: &Subscription) -> Option<(Duration, PauseReason)> {
        let store = &self.context.store;
        if !store.may_begin_attempts() {
            return Some((LEASE_PAUSE, PauseReason::Lease));
        }
        subscription.settings.ordering?;
        let time_max = Duration::from_millis(subscription.settings.timeout_ms);
        Some((store.rests_after_takeover(self.subscription, time_max)?, PauseReason::Takeover))
    }

    /// Time until the lane must look again if nothing wakes it.
    fn sleep_time(&self, admission: Admission, subscription: &Subscription) -> Duration {
        let wait = match admission {
            // The end of an attempt or a change of the subscription wakes the lane, not the clock.
            Admission::AtCapacity => SLEEP_MAX,
            Admission::NotBefore(at, _) => at.saturating_duration_since(clock::instant()),
            Admission::Allow => match self.queue.next_due_at_ms(self.may_retry(subscription)) {
                Some(at_ms) => Duration::from_millis(u64::try_from(at_ms - now_ms()).unwrap_or(0)),
                None => SLEEP_MAX,
            },
        };
        wait.min(SLEEP_MAX).min(clock::wait_max())
    }

    /// Returns whether a retry may begin: retries have at most half of the window.
    fn may_retry(&self, subscription: &Subscription) -> bool {
        self.retries_in_flight < (self.handle.flow().window(subscription.settings.concurrency) / 2).max(1)
    }

    /// Takes the next delivery to attempt.
    async fn next(&mut self, subscription: &Subscription) -> Result<Option<NextDelivery>, StoreError> {
        let may_retry = self.may_retry(subscription);
        let LaneContext { store, budget, .. } = &*self.context;
        self.queue.next(store, &self.handle, budget, subscription, may_retry).await
    }

    /// Waits for a permit, and starts the attempt in a new task.
    async fn start_attempt(&mut self, next: NextDelivery, subscription: &Subscription) {
        let window = self.handle.flow().window(subscription.settings.concurrency);
        let usable = match subscription.settings.rate_per_s {
            Some(_) => 1,
            None if self.handle.flow().is_throttled() => 1,
            None => (self.queue.queued() + 1).min(window.saturating_sub(self.in_flight)),
        };
        let stage = Stage::first(subscription);
        let permit = self.permits.next(&self.context.permits, stage, &subscription.tenant, usable).await;
        // Reading the page and waiting for a permit may have taken long: attempts may have ended, and the receiver may have failed or
        // asked for a pause; the subscription, the delivery or the host may have changed.
        if self.take_events().await && self.admission(subscription) != Admission::Allow {
            next.claim.release();
            return self.queue.recheck_store();
        }
        let changes = self.handle.changes();
        let current = self.context.store.catalog().subscription_by_id(self.subscription);
        let stale = self.handle.has_changed() || *self.context.stop.borrow() || !next.claim.is_valid();
        let Some(subscription) = current.filter(|current| current.state == SubscriptionState::Active && !stale) else {
            next.claim.release();
            return self.queue.recheck_store();
        };
        if let Some(reason) = retry::too_old_by_now(&subscription.settings.retry, next.delivery(), now_ms()) {
            return self.give_up(next.claim, reason).await;
        }
        self.in_flight += 1;
        self.retries_in_flight += u32::from(next.delivery().attempts_made > 0);
        self.handle.flow().attempt_started(clock::instant());
        let start = AttemptStart { next, subscription, permit, handle: self.handle.clone(), changes };
        let context = self.context.clone();
        let events = self.events.0.clone();
        // Boxed, because spawning moves the future several times.
        self.context.attempts.spawn(Box::pin(task::run_attempt(context, start, events)));
    }

    /// Ends a delivery that exceeded its maximum age while it waited for a failing receiver, a permit or an earlier delivery.
    async fn give_up(&mut self, claim: Claim, reason: Reason) {
        if let Err(unfinished) = self.context.store.give_up(claim, reason).await {
            let id = unfinished.claim.delivery().id;
            tracing::error!(delivery = %id, error = %hookloom_model::describe(&unfinished.error), "a delivery that is too old could not be ended");
            self.queue.note_due_again(now_ms() + PANIC_WAIT_MS);
        }
        self.queue.recheck_store();
    }

    /// Handles the events of attempts that have come. Returns true if there were any.
    async fn take_events(&mut self) -> bool {
        let mut were_any = false;
        while let Ok(event) = self.events.1.try_recv() {
            self.on_event(event).await;
            were_any = true;
        }
        were_any
    }

    async fn on_event(&mut self, event: AttemptEvent) {
        let current = self.context.store.catalog().subscription_by_id(self.subscription);
        match event {
            AttemptEvent::Answered(answered) => self.on_answered(answered).await,
            AttemptEvent::Recorded(recorded) => self.on_recorded(&recorded, current.as_deref()).await,
            AttemptEvent::Returned(returned) => self.on_returned(&returned),
        }
    }

    /// Handles an attempt that was not made. The delivery is unchanged in the store.
    fn on_returned(&mut self, returned: &Returned) {
        self.in_flight -= 1;
        self.retries_in_flight -= u32::from(returned.is_retry);
        match returned.again_at_ms {
            Some(at_ms) => self.queue.note_due_again(at_ms),
            None => self.queue.recheck_store(),
        }
    }

    /// Handles the end of an attempt at its receiver.
    async fn on_answered(&mut self, answered: Answered) {
        self.in_flight -= 1;
        self.retries_in_flight -= u32::from(answered.is_retry);
        self.unrecorded += 1;
        self.disabling += u32::from(answered.disables);
        match answered.bad_config {
            Some((generation, message)) => self.count_bad_config(answered.id, generation, &message).await,
            None => self.bad_configs.clear(),
        }
    }

    /// Handles the commit of an outcome. The subscription changes only after it, so that no outcome is lost.
    async fn on_recorded(&mut self, recorded: &Recorded, subscription: Option<&Subscription>) {
        self.unrecorded -= 1;
        self.disabling -= u32::from(recorded.disables);
        if let Some(at_ms) = recorded.again_at_ms {
            self.queue.note_due_again(at_ms);
        }
        if recorded.changed {
            self.queue.recheck_store();
        }
        let Some(subscription) = subscription else { return };
        if subscription.settings.ordering.is_some() {
            // A later delivery of the same entity may be due now.
            self.queue.recheck_store();
        }
        self.note_health(recorded.health, subscription).await;
    }

    /// Stores since when the receiver has been failing, and disables the subscription after `disable_after_s`.
    async fn note_health(&mut self, health: ReceiverHealth, subscription: &Subscription) {
        let now_ms = now_ms();
        let noted = subscription.failing_since_ms;
        let since = match health {
            ReceiverHealth::Unknown | ReceiverHealth::HostFault => return,
            ReceiverHealth::Ok => None,
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
            let note = self.context.store.note_failing(&subscription.tenant, self.subscription, since).await;
            if let Err(error) = note {
                tracing::error!(subscription = %self.subscription, error = %hookloom_model::describe(&error), "the beginning of a receiver's failures could not be recorded");
            }
        }
    }

    /// Counts a `bad-config` failure, and pauses the subscription after [`BAD_CONFIG_MAX`] in a row. Failures of an earlier
    /// generation of the config do not count.
    async fn count_bad_config(&mut self, id: DeliveryId, generation: u64, message: &str) {
        let current = self.context.store.catalog().subscription_by_id(self.subscription);
        if current.is_none_or(|current| current.generation != generation) {
            return;
        }
        self.bad_configs.insert(id);
        if self.bad_configs.len() >= BAD_CONFIG_MAX {
            self.bad_configs.clear();
            let reason = format!("{BY_HOST}the plugin said so of {BAD_CONFIG_MAX} events in a row: {message}");
            self.change(StateChange::Pause { reason, by_host: true }).await;
        }
    }

    async fn change(&self, change: StateChange) {
        let Some(subscription) = self.context.store.catalog().subscription_by_id(self.subscription) else { return };
        let store = &self.context.store;
        let changed = store.set_subscription_state(Actor::Host, &subscription.tenant, self.subscription, change).await;
        if let Err(error) = changed {
            tracing::error!(subscription = %self.subscription, error = %hookloom_model::describe(&error), "the subscription's state could not be changed");
        }
    }
}
