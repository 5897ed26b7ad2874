//! The task of one attempt: judge, wait for a permit to send, send, record, and tell the lane.
//!
//! # Guarantees
//! - The lane hears of each attempt exactly once that its receiver is done with it, and once that the store knows of it; or
//!   once that it was returned without having been made.
//! - While plugins judge, no permit to send is held. What they prepared waits for one, and everything that may have changed
//!   meanwhile is looked at again: after a pause was answered, a request of a webhook with a plugin no longer begins.
//! - A panic ends an attempt like a fault of the host: the delivery is attempted again.

use super::Shared;
use super::attempt::Prepared;
use super::conclusion::{Conclusion, conclude, record};
use super::flow_control::ReceiverHealth;
use super::permits::{Permit, Stage};
use super::queue::{LaneHandle, NextDelivery};
use crate::delivery::{DeliveryId, DeliveryState};
use crate::retry;
use crate::store::{Due, now_ms};
use crate::subscription::{Subscription, SubscriptionState, TenantId};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Time for which a delivery rests whose attempt panicked, in milliseconds.
pub(super) const PANIC_WAIT_MS: i64 = 5_000;

/// A message from an attempt's task to its lane.
///
/// The next attempt begins after [`AttemptEvent::Answered`]: a receiver does not wait for our disk. But none begins while as
/// many outcomes as the subscription's `concurrency` wait for [`AttemptEvent::Recorded`], so that a store which cannot write
/// stops its lanes; nor while one waits that disables the subscription.
pub(super) enum AttemptEvent {
    /// The receiver is done with it.
    Answered(Answered),
    /// The store knows of it.
    Recorded(Recorded),
    /// It was not made: the subscription or the delivery changed, the host stops, or the event could not be read. The store knows
    /// what follows.
    Returned(Returned),
}

/// An attempt that came to something.
pub(super) struct Answered {
    pub(super) id: DeliveryId,
    /// Whether it was not the delivery's first attempt.
    pub(super) is_retry: bool,
    pub(super) began: Instant,
    pub(super) health: ReceiverHealth,
    pub(super) disables: bool,
    /// How long the receiver wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The plugin's complaint about its config, and the generation of that config.
    pub(super) bad_config: Option<(u64, String)>,
}

impl Answered {
    /// An attempt that came to nothing.
    fn nothing(id: DeliveryId, is_retry: bool, began: Instant) -> Self {
        Answered {
            id,
            is_retry,
            began,
            health: ReceiverHealth::Unknown,
            disables: false,
            retry_after: None,
            bad_config: None,
        }
    }
}

/// An attempt that is recorded.
pub(super) struct Recorded {
    pub(super) id: DeliveryId,
    pub(super) again_at_ms: Option<i64>,
    pub(super) health: ReceiverHealth,
    pub(super) disables: bool,
}

/// An attempt that was not made.
pub(super) struct Returned {
    pub(super) id: DeliveryId,
    pub(super) is_retry: bool,
    /// When it may be tried again, if not at once.
    pub(super) again_at_ms: Option<i64>,
}

/// An attempt that a lane begins.
pub(super) struct AttemptStart {
    pub(super) next: NextDelivery,
    pub(super) subscription: Arc<Subscription>,
    /// Of the stage in which attempts of the subscription begin.
    pub(super) permit: Permit,
    pub(super) handle: Arc<LaneHandle>,
    /// The number of changes that the lane knew of.
    pub(super) changes: u64,
}

/// Makes an attempt and tells its lane.
pub(super) async fn run(shared: Arc<Shared>, start: AttemptStart, events: mpsc::UnboundedSender<AttemptEvent>) {
    let (id, is_retry, began) = (start.next.delivery.id, start.next.delivery.attempts_made > 0, Instant::now());
    let attempt = AssertUnwindSafe(attempt(&shared, start)).catch_unwind().await;
    let (conclusion, permit) = match attempt {
        Ok(Err(NotMade { again_at_ms })) => {
            let _ = events.send(AttemptEvent::Returned(Returned { id, is_retry, again_at_ms }));
            return;
        }
        Ok(Ok((conclusion, permit))) => (Some(conclusion), Some(permit)),
        Err(_) => (None, None),
    };
    let (outcome, again_at_ms, answered) = match conclusion {
        Some(Conclusion { record, again_at_ms, health, retry_after, bad_config }) => {
            let disables = record.disables.is_some();
            (Some(record), again_at_ms, Answered { id, is_retry, began, health, disables, retry_after, bad_config })
        }
        None => (None, None, Answered::nothing(id, is_retry, began)),
    };
    let (health, disables) = (answered.health, answered.disables);
    let _ = events.send(AttemptEvent::Answered(answered));
    let recorded = match outcome {
        Some(outcome) => AssertUnwindSafe(record(&shared, outcome)).catch_unwind().await.is_ok(),
        None => false,
    };
    // A panic is a fault of ours; the delivery is still due, and must not be held for ever.
    let again_at_ms = if recorded { again_at_ms } else { Some(now_ms() + PANIC_WAIT_MS) };
    if !recorded {
        tracing::error!(delivery = %id, "an attempt panicked; it is made again");
    }
    drop(permit);
    let _ = events.send(AttemptEvent::Recorded(Recorded { id, again_at_ms, health, disables }));
}

/// An attempt that was not made after all.
struct NotMade {
    again_at_ms: Option<i64>,
}

impl NotMade {
    /// What follows is in the store.
    const UNWANTED: NotMade = NotMade { again_at_ms: None };
}

/// Makes an attempt.
async fn attempt(shared: &Shared, start: AttemptStart) -> Result<(Conclusion, Permit), NotMade> {
    let AttemptStart { next, subscription, permit, handle, changes } = start;
    let due = load(shared, next).await?;
    let prepared = shared.attempter.prepare(&due, &subscription).await;
    let permit = if prepared.is_request() && Stage::first(&subscription) == Stage::Judge {
        let to_send = permit_to_send(shared, &subscription.tenant).await.ok_or(NotMade::UNWANTED)?;
        drop(permit);
        if !is_wanted(shared, &due, &subscription, handle.changes() != changes).await {
            return Err(NotMade::UNWANTED);
        }
        to_send
    } else {
        permit
    };
    let Prepared { attempt, request } = prepared;
    let (attempt, outcome) = shared.attempter.complete(attempt, request, &due, &subscription).await;
    Ok((conclude(shared, due, &subscription, attempt, &outcome), permit))
}

/// Reads the event of a delivery, unless it is in memory. A store that cannot be read costs no attempt.
async fn load(shared: &Shared, NextDelivery { delivery, event }: NextDelivery) -> Result<Due, NotMade> {
    if let Some(event) = event {
        return Ok(Due { delivery, event });
    }
    match shared.store.event_of(&delivery).await {
        Ok(Some(event)) => Ok(Due { delivery, event }),
        Ok(None) => Err(NotMade::UNWANTED),
        Err(error) => {
            tracing::error!(delivery = %delivery.id, error = %crate::describe(&error), "the event of a delivery could not be read");
            Err(NotMade { again_at_ms: Some(now_ms() + PANIC_WAIT_MS) })
        }
    }
}

/// Waits for a permit to send. None: the host stops.
async fn permit_to_send(shared: &Shared, tenant: &TenantId) -> Option<Permit> {
    let mut stop = shared.stop.clone();
    tokio::select! {
        // What need not wait goes out, also while the host stops: it is under way already.
        biased;
        permit = shared.permits.of(Stage::Send).acquire(tenant, 1) => Some(permit),
        _ = stop.wait_for(|stopped| *stopped) => None,
    }
}

/// Whether an attempt that was prepared is still to be made: its subscription is as it was and active, and its delivery is
/// pending and not too old. `changed`: something changed that the subscription may not show.
async fn is_wanted(shared: &Shared, due: &Due, subscription: &Subscription, changed: bool) -> bool {
    let current = shared.store.catalog().subscription_by_id(subscription.id);
    let unchanged = current.is_some_and(|current| {
        current.state == SubscriptionState::Active && current.generation == subscription.generation
    });
    if !unchanged || retry::too_old_by_now(&subscription.settings.retry, &due.delivery, now_ms()).is_some() {
        return false;
    }
    if !changed {
        return true;
    }
    // This delivery may have been cancelled, among others.
    match shared.store.delivery(due.delivery.tenant.clone(), due.delivery.id).await {
        Ok((delivery, _)) => {
            delivery.state == DeliveryState::Pending && delivery.attempts_made == due.delivery.attempts_made
        }
        Err(_) => false,
    }
}
