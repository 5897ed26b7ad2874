//! Task of one attempt: calls the plugins, waits for a permit to send, sends, records, and reports to the lane.
//!
//! # Guarantees
//! - The lane gets for each attempt either one [`AttemptEvent::Answered`] and then one [`AttemptEvent::Recorded`], or one
//!   [`AttemptEvent::Returned`].
//! - No permit to send is held while plugins judge. The prepared request waits for a permit.
//! - Once a pause was answered, no request begins: after each wait (for the event, the plugins, the permit), the subscription and the
//!   delivery are checked again. Nor does one begin in a pause that the receiver asked for during these waits, or while the circuit
//!   breaker is open.
//! - A panic counts as a fault of this host: the delivery is attempted again.
//! - The claim of the delivery ends before the lane hears of it, so that the lane can claim the delivery again.

use super::LaneContext;
use super::attempt::Prepared;
use super::flow_control::ReceiverHealth;
use super::outcome::{AttemptResult, evaluate, record};
use super::permits::{Permit, Stage};
use super::queue::{LaneHandle, NextDelivery};
use futures_util::FutureExt as _;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::retry;
use hookloom_model::subscription::{Subscription, SubscriptionState, TenantId};
use hookloom_store::Due;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Delay of a delivery whose attempt panicked, in milliseconds.
pub(super) const PANIC_WAIT_MS: i64 = 5_000;

/// Message from an attempt's task to its lane.
///
/// The next attempt may begin after [`AttemptEvent::Answered`], so that a receiver does not wait for this host's disk. No attempt
/// begins while as many outcomes as the subscription's `concurrency` wait for [`AttemptEvent::Recorded`], so that a store that
/// cannot write stops its lanes; nor while an outcome waits that disables the subscription.
pub(super) enum AttemptEvent {
    /// The receiver has answered, or no answer will come.
    Answered(Answered),
    /// The outcome is committed.
    Recorded(Recorded),
    /// The attempt was not made: the subscription or the delivery changed, the receiver needs a pause, the host stops, or the event
    /// could not be read. The delivery is unchanged in the store.
    Returned(Returned),
}

/// Attempt that has an outcome.
pub(super) struct Answered {
    pub(super) id: DeliveryId,
    /// Set unless this was the delivery's first attempt.
    pub(super) is_retry: bool,
    pub(super) disables: bool,
    /// Generation of the config that the plugin rejected, and the plugin's message.
    pub(super) bad_config: Option<(u64, String)>,
}

/// Attempt whose outcome is committed, or that panicked.
pub(super) struct Recorded {
    pub(super) again_at_ms: Option<i64>,
    pub(super) health: ReceiverHealth,
    pub(super) disables: bool,
    /// Set when the subscription or a delivery of it changed during the attempt. A page that was read meanwhile has left this delivery
    /// out, which an operator may have made due again.
    pub(super) changed: bool,
}

/// Attempt that was not made.
pub(super) struct Returned {
    pub(super) is_retry: bool,
    /// Earliest time of the next attempt. None: at once.
    pub(super) again_at_ms: Option<i64>,
}

/// Arguments of an attempt that a lane begins.
pub(super) struct AttemptStart {
    pub(super) next: NextDelivery,
    pub(super) subscription: Arc<Subscription>,
    /// Permit of the stage in which attempts of the subscription begin.
    pub(super) permit: Permit,
    pub(super) handle: Arc<LaneHandle>,
    /// Number of changes of the subscription when the attempt began.
    pub(super) changes: u64,
}

/// Runs an attempt and reports its events to the lane.
pub(super) async fn run_attempt(
    context: Arc<LaneContext>,
    start: AttemptStart,
    events: mpsc::UnboundedSender<AttemptEvent>,
) {
    let _under_way = context.store.begin_attempt();
    let id = start.next.delivery().id;
    let is_retry = start.next.delivery().attempts_made > 0;
    let began = clock::instant();
    let handle = start.handle.clone();
    let changes = start.changes;
    let concurrency = start.subscription.settings.concurrency;
    let attempt = AssertUnwindSafe(attempt(&context, start)).catch_unwind().await;
    let (result, permit) = match attempt {
        Ok(Err(NotMade { again_at_ms })) => {
            let _ = events.send(AttemptEvent::Returned(Returned { is_retry, again_at_ms }));
            return;
        }
        Ok(Ok((result, permit))) => (Some(result), Some(permit)),
        Err(_) => (None, None),
    };
    let health = result.as_ref().map_or(ReceiverHealth::Unknown, |result| result.health);
    let retry_after = result.as_ref().and_then(|result| result.retry_after);
    // At once, and not when the lane reads the event, so that no request of another attempt under way begins in a pause.
    handle.flow().attempt_ended(health, retry_after, concurrency, (began, clock::instant()));
    let (outcome, again_at_ms, disables, bad_config) = match result {
        Some(AttemptResult { claim, record, again_at_ms, bad_config, .. }) => {
            let disables = record.disables.is_some();
            (Some((claim, record)), again_at_ms, disables, bad_config)
        }
        None => (None, None, false, None),
    };
    let _ = events.send(AttemptEvent::Answered(Answered { id, is_retry, disables, bad_config }));
    let recorded = match outcome {
        Some((claim, outcome)) => AssertUnwindSafe(record(&context, claim, outcome)).catch_unwind().await.is_ok(),
        None => false,
    };
    // After a panic the delivery is still due in the store.
    let again_at_ms = if recorded { again_at_ms } else { Some(now_ms() + PANIC_WAIT_MS) };
    if !recorded {
        tracing::error!(delivery = %id, "an attempt panicked; it is made again");
    }
    drop(permit);
    // After the end of the claim: a later change is signalled to a lane that can claim the delivery.
    let changed = handle.changes() != changes;
    let _ = events.send(AttemptEvent::Recorded(Recorded { again_at_ms, health, disables, changed }));
}

/// Reason to return a delivery without an attempt.
struct NotMade {
    again_at_ms: Option<i64>,
}

impl NotMade {
    /// The attempt is not wanted now: the store has the current state of the delivery.
    const UNWANTED: NotMade = NotMade { again_at_ms: None };
}

/// Prepares and sends the request of an attempt, and evaluates the outcome.
async fn attempt(context: &LaneContext, start: AttemptStart) -> Result<(AttemptResult, Permit), NotMade> {
    let AttemptStart { next, subscription, permit, handle, changes } = start;
    let due = load(context, next).await?;
    // Also if the event was in memory: a change may have been answered before this task began.
    if !is_wanted(context, &due, &subscription, handle.changes() != changes).await {
        return Err(NotMade::UNWANTED);
    }
    let prepared = context.runner.prepare(&due, &subscription).await;
    let permit = if prepared.is_request() && Stage::first(&subscription) == Stage::Judge {
        let to_send = permit_to_send(context, &subscription.tenant).await.ok_or(NotMade::UNWANTED)?;
        drop(permit);
        if !is_wanted(context, &due, &subscription, handle.changes() != changes).await {
            return Err(NotMade::UNWANTED);
        }
        to_send
    } else {
        permit
    };
    if prepared.is_request() && handle.flow().is_paused(clock::instant()) {
        return Err(NotMade::UNWANTED);
    }
    let Prepared { attempt, request } = prepared;
    let (attempt, outcome) = context.runner.complete(attempt, request, &due, &subscription).await;
    Ok((evaluate(context, due, &subscription, attempt, &outcome), permit))
}

/// Reads the event of a delivery, unless it is in memory. A read error does not count as an attempt.
async fn load(context: &LaneContext, NextDelivery { claim, event, .. }: NextDelivery) -> Result<Due, NotMade> {
    if let Some(event) = event {
        return Ok(Due { claim, event });
    }
    match context.store.event_of(claim.delivery()).await {
        Ok(Some(event)) => Ok(Due { claim, event }),
        Ok(None) => Err(NotMade::UNWANTED),
        Err(error) => {
            tracing::error!(delivery = %claim.delivery().id, error = %hookloom_model::describe(&error), "the event of a delivery could not be read");
            Err(NotMade { again_at_ms: Some(now_ms() + PANIC_WAIT_MS) })
        }
    }
}

/// Waits for a permit to send. None: the host stops.
async fn permit_to_send(context: &LaneContext, tenant: &TenantId) -> Option<Permit> {
    let mut stop = context.stop.clone();
    tokio::select! {
        // A free permit is taken even while the host stops: the attempt is under way already.
        biased;
        permit = context.permits.of(Stage::Send).acquire(tenant, 1) => Some(permit),
        _ = stop.wait_for(|stopped| *stopped) => None,
    }
}

/// Returns whether a prepared request is still to be sent: this host owns the subscription, which is active and unchanged, and the
/// delivery is pending and within its maximum age. `changed`: a change was signalled, which may concern the delivery and not the subscription.
async fn is_wanted(context: &LaneContext, due: &Due, subscription: &Subscription, changed: bool) -> bool {
    // The change may have cancelled this delivery. Read first: nothing may wait after the subscription was checked.
    if changed && !is_unchanged(context, due).await {
        return false;
    }
    let current = context.store.catalog().subscription_by_id(subscription.id);
    let unchanged = current.is_some_and(|current| {
        current.state == SubscriptionState::Active && current.generation == subscription.generation
    });
    let is_owned = due.claim.is_valid() && context.store.may_begin_attempts();
    is_owned && unchanged && retry::too_old_by_now(&subscription.settings.retry, due.delivery(), now_ms()).is_none()
}

/// Returns whether a delivery is pending in the store, without another attempt since it was claimed.
async fn is_unchanged(context: &LaneContext, due: &Due) -> bool {
    match context.store.delivery(due.delivery().tenant.clone(), due.delivery().id).await {
        Ok((delivery, _)) => {
            delivery.state == DeliveryState::Pending && delivery.attempts_made == due.delivery().attempts_made
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_an_attempt_is_small() {
        // 5,024 bytes on 64 bits. With the futures of the HTTP client inline it was 12 kB.
        let bytes = size_of_future(run_attempt);
        assert!(bytes <= 5_200, "{bytes} bytes");
    }
}
