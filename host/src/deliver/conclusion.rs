//! From an attempt to what follows from it, and into the store.
//!
//! A [`Conclusion`] is data: what the store shall record, and what the lane shall know. Recording does not end before the
//! store could: an outcome is never forgotten while the host runs.

use super::Shared;
use super::flow_control::{self, ReceiverHealth};
use crate::delivery::{Attempt, DeliveryKind, Outcome, Reason};
use crate::retry::{self, Moment, Next};
use crate::store::{AttemptRecord, Due, Notice, StoreError, now_ms};
use crate::subscription::Subscription;
use crate::telemetry;
use std::sync::Arc;
use std::time::Duration;

/// What an attempt means for its lane.
pub(super) struct Conclusion {
    pub(super) record: AttemptRecord,
    pub(super) health: ReceiverHealth,
    /// When it is due again, if it is.
    pub(super) again_at_ms: Option<i64>,
    /// How long the receiver wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// What the plugin said of its config, and which generation that was.
    pub(super) bad_config: Option<(u64, String)>,
}

/// Decides what follows from an attempt.
pub(super) fn conclude(
    shared: &Shared,
    due: Due,
    subscription: &Subscription,
    attempt: Attempt,
    outcome: &Outcome,
) -> Conclusion {
    let policy = &subscription.settings.retry;
    let moment = Moment {
        attempts: due.delivery.attempts_in_budget + 1,
        age_from_ms: due.delivery.age_from_ms,
        now_ms: now_ms(),
        jitter: rand::random(),
        retry_after_max_ms: u64::try_from(shared.retry_after_max.as_millis()).unwrap_or(u64::MAX),
    };
    let next = retry::next(policy, outcome, moment);
    let next = if due.delivery.kind == DeliveryKind::Test { retry::once(next) } else { next };
    let disables = retry::disables_subscription(outcome).then(|| Reason::new("gone", "the receiver answered 410 Gone"));
    let again_at_ms = match &next {
        // If it was a former config's receiver that said so, the store makes it due again at once.
        _ if disables.is_some() => Some(moment.now_ms),
        Next::Again { at_ms, .. } => Some(*at_ms),
        // The version or config that it waits for may be there already: the store knows.
        Next::AwaitPlugin { .. } => Some(moment.now_ms),
        Next::End { .. } => None,
    };
    let id = due.delivery.id;
    telemetry::attempted(&due.delivery.tenant, &attempt.outcome, attempt.post_us);
    shared.traces.attempted(&due, &attempt);
    shared.store.count(&due.delivery.tenant, due.delivery.subscription, &attempt);
    tracing::debug!(delivery = %id, attempt = attempt.number, outcome = %attempt.outcome, "attempted");
    let age_end_ms = retry::age_end_ms(policy, moment);
    // The lane rests no longer than the delivery that was answered: what waits in it has an age limit as well.
    let pause_ms_max = match &next {
        Next::Again { at_ms, .. } => u64::try_from(at_ms - moment.now_ms).unwrap_or(0),
        _ => policy.age_max_s.saturating_mul(1_000) / 2,
    };
    let retry_after = flow_control::retry_after(outcome).map(|pause| pause.min(Duration::from_millis(pause_ms_max)));
    let bad_config = match outcome {
        Outcome::BadConfig(reason) => Some((subscription.generation, reason.message.clone())),
        _ => None,
    };
    let record = AttemptRecord { delivery: due.delivery, attempt, next, age_end_ms, disables };
    Conclusion { record, health: ReceiverHealth::of(outcome), again_at_ms, retry_after, bad_config }
}

/// Records an outcome, however long the store takes to be able to (a full disk, as a rule): until then the delivery is held,
/// and nothing of its lane is forgotten.
pub(super) async fn record(shared: &Shared, record: AttemptRecord) {
    let record = Arc::new(record);
    let mut stop = shared.stop.clone();
    loop {
        match shared.store.record(record.clone()).await {
            Ok(()) => return shared.store.notify(|| Notice::Attempt(record.delivery.tenant.clone())),
            Err(StoreError::Stopped) => return,
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
