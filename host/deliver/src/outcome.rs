//! Consequences of an attempt: the record for the store, and the result for the lane.
//!
//! # Guarantees
//! - An outcome is not lost while the host runs: [`record`] tries again until the store has committed it.
//!
//! # Limits
//! Sends nothing, and decides by the rules of [`retry`] only.

use super::LaneContext;
use super::flow_control::{self, ReceiverHealth};
use hookloom_model::chance;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Attempt, DeliveryKind, Outcome, Reason};
use hookloom_model::retry::{self, Moment, Next};
use hookloom_model::subscription::Subscription;
use hookloom_store::{AttemptRecord, Claim, Due, LiveUpdate, StoreError, Unfinished};
use hookloom_telemetry as telemetry;
use std::sync::Arc;
use std::time::Duration;

/// Result of an attempt: the claim and its record, and what the lane needs of it.
pub(super) struct AttemptResult {
    pub(super) claim: Claim,
    pub(super) record: AttemptRecord,
    pub(super) health: ReceiverHealth,
    /// Time at which the delivery is due again, if it is, in milliseconds since the epoch.
    pub(super) again_at_ms: Option<i64>,
    /// Pause that the receiver asked for.
    pub(super) retry_after: Option<Duration>,
    /// Generation of the config that the plugin rejected, and the plugin's message.
    pub(super) bad_config: Option<(u64, String)>,
}

/// Decides what follows from an attempt, and counts the attempt in metrics, traces and statistics.
pub(super) fn evaluate(
    context: &LaneContext,
    due: Due,
    subscription: &Subscription,
    attempt: Attempt,
    outcome: &Outcome,
) -> AttemptResult {
    let policy = &subscription.settings.retry;
    let delivery = due.delivery();
    let moment = Moment {
        attempts: delivery.attempts_in_budget + 1,
        age_from_ms: delivery.age_from_ms,
        now_ms: now_ms(),
        jitter: chance::share(),
        retry_after_max_ms: u64::try_from(context.retry_after_max.as_millis()).unwrap_or(u64::MAX),
    };
    let next = retry::next(policy, outcome, moment);
    let next = if delivery.kind == DeliveryKind::Test { retry::once(next) } else { next };
    let disables = retry::disables_subscription(outcome).then(|| Reason::new("gone", "the receiver answered 410 Gone"));
    let again_at_ms = match &next {
        // If an earlier generation of the config is concerned, the store makes the delivery due again at once.
        _ if disables.is_some() => Some(moment.now_ms),
        Next::Again { at_ms, .. } => Some(*at_ms),
        // The version or config that the delivery waits for may be there already: the store decides.
        Next::AwaitPlugin { .. } => Some(moment.now_ms),
        Next::End { .. } => None,
    };
    telemetry::attempted(&delivery.tenant, attempt.outcome.as_str(), attempt.post_us);
    context.traces.attempted(delivery, &attempt);
    context.store.count(&delivery.tenant, delivery.subscription, &attempt);
    tracing::debug!(delivery = %delivery.id, attempt = attempt.number, outcome = %attempt.outcome, "attempted");
    let age_end_ms = retry::age_end_ms(policy, moment);
    // The lane pauses no longer than the answered delivery does: the deliveries that wait in it have a maximum age as well.
    let pause_ms_max = match &next {
        Next::Again { at_ms, .. } => u64::try_from(at_ms - moment.now_ms).unwrap_or(0),
        _ => policy.age_max_s.saturating_mul(1_000) / 2,
    };
    let retry_after = flow_control::retry_after(outcome).map(|pause| pause.min(Duration::from_millis(pause_ms_max)));
    let bad_config = match outcome {
        Outcome::BadConfig(reason) => Some((subscription.generation, reason.message.clone())),
        _ => None,
    };
    let record = AttemptRecord { attempt, next, age_end_ms, disables };
    AttemptResult {
        claim: due.claim,
        record,
        health: ReceiverHealth::of(outcome),
        again_at_ms,
        retry_after,
        bad_config,
    }
}

/// Records an outcome, which ends the claim. Tries again every second until the store has committed it, for example while the disk is
/// full. Returns early when the host stops.
pub(super) async fn record(context: &LaneContext, claim: Claim, record: AttemptRecord) {
    let tenant = claim.delivery().tenant.clone();
    let record = Arc::new(record);
    let mut claim = claim;
    let mut stop = context.stop.clone();
    loop {
        let Unfinished { claim: unfinished, error } = match context.store.finish(claim, record.clone()).await {
            Ok(()) => return context.store.publish_live_update(|| LiveUpdate::Attempt(tenant)),
            Err(unfinished) => *unfinished,
        };
        if matches!(error, StoreError::Stopped) {
            return;
        }
        if !error.is_outage() {
            tracing::error!(delivery = %unfinished.delivery().id, error = %hookloom_model::describe(&error), "an outcome could not be recorded; trying again");
        }
        if *stop.borrow() {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), stop.changed()).await;
        claim = unfinished;
    }
}
