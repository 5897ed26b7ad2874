//! Rows of deliveries: event, contact or deal, state, and of a pending one the time of its next attempt with the reason.
//!
//! # Guarantees
//! - The events of a page are read at once, by their keys, without their payloads.

use super::kind;
use crate::api::ApiState;
use crate::api::pages::webhook_words::name;
use crate::api::pages::{DisplayTime, PageError};
use crate::clock::now_ms;
use crate::deliver::LaneStatus;
use crate::delivery::DeliveryState;
use crate::store::DeliveryView;
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use std::collections::HashMap;
use std::sync::Arc;

/// Delivery in a list.
pub(in crate::api::pages) struct DeliveryRow {
    pub(in crate::api::pages) id: String,
    pub(in crate::api::pages) made: DisplayTime,
    pub(in crate::api::pages) event: String,
    /// Module and id of the contact or deal. Empty without one.
    pub(in crate::api::pages) entity: String,
    pub(in crate::api::pages) webhook: String,
    pub(in crate::api::pages) state: &'static str,
    pub(in crate::api::pages) kind: &'static str,
    pub(in crate::api::pages) attempts: u32,
    pub(in crate::api::pages) reason: String,
    pub(in crate::api::pages) next: Option<NextAttempt>,
}

/// Returns the rows of deliveries.
pub(in crate::api::pages) async fn rows(
    state: &ApiState,
    tenant: &TenantId,
    views: Vec<DeliveryView>,
) -> Result<Vec<DeliveryRow>, PageError> {
    let store = &state.operations.store;
    let ids = views.iter().map(|view| view.event).collect();
    let events = store.event_summaries(tenant.clone(), ids).await?;
    let all = store.catalog().subscriptions(tenant);
    let subscriptions: HashMap<SubscriptionId, &Arc<Subscription>> = all.iter().map(|one| (one.id, one)).collect();
    let now_ms = now_ms();
    let row = |view: DeliveryView| {
        let subscription = subscriptions.get(&view.subscription).map(|one| &***one);
        let event = events.get(&view.event);
        let entity = event.and_then(|event| Some(format!("{} {}", event.module.as_str(), event.entity_id.as_ref()?)));
        let lane = state.operations.lanes.status(view.subscription);
        DeliveryRow {
            id: view.id.to_string(),
            made: DisplayTime::at_ms(view.created_at_ms),
            event: event.map_or_else(|| "pruned event".to_owned(), |event| event.name.clone()),
            entity: entity.unwrap_or_default(),
            webhook: subscription.map_or_else(|| "deleted".to_owned(), name),
            state: view.state.as_str(),
            kind: kind(view.kind),
            attempts: view.attempts_made,
            next: NextAttempt::of(&view, subscription.map(|one| one.state), lane, now_ms),
            reason: view.reason.map(|reason| reason.message).unwrap_or_default(),
        }
    };
    Ok(views.into_iter().map(row).collect())
}

/// Time of the next attempt of a pending delivery: text, and the time if it is in the future.
pub(in crate::api::pages) struct NextAttempt {
    pub(in crate::api::pages) words: &'static str,
    pub(in crate::api::pages) at: Option<DisplayTime>,
}

impl NextAttempt {
    /// Returns the next attempt of a delivery whose webhook is in this state, with this lane.
    pub(super) fn of(
        view: &DeliveryView,
        state: Option<SubscriptionState>,
        lane: Option<LaneStatus>,
        now_ms: i64,
    ) -> Option<Self> {
        if view.state != DeliveryState::Pending {
            return None;
        }
        fn at(at_ms: i64) -> Option<DisplayTime> {
            Some(DisplayTime::at_ms(at_ms))
        }
        let due = view.due_at_ms.filter(|due_ms| *due_ms > now_ms).and_then(at);
        let rests =
            lane.and_then(|lane| Some((lane.rests_for?, now_ms.saturating_add(i64::try_from(lane.rests_ms?).ok()?))));
        let (words, at) = match (due, rests) {
            _ if state == Some(SubscriptionState::Paused) => ("when the webhook is resumed", None),
            (None, _) if view.awaiting_plugin => ("when another version or config of its plugin comes", None),
            (due, _) if view.awaiting_plugin => ("when another version or config of its plugin comes, or at", due),
            (Some(due), _) if view.is_settling => ("unless another event of its contact or deal follows,", Some(due)),
            (Some(due), _) => ("", Some(due)),
            (None, Some(("breaker", until_ms))) => ("after failures of the receiver,", at(until_ms)),
            (None, Some(("retry-after", until_ms))) => ("after the pause that the receiver asked for,", at(until_ms)),
            (None, Some(("host-fault", until_ms))) => ("after a fault of this host,", at(until_ms)),
            (None, _) => ("now, as soon as it is its turn", None),
        };
        Some(NextAttempt { words, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{DeliveryId, DeliveryKind};
    use crate::event::EventId;
    use uuid::Uuid;

    const NOW_MS: i64 = 1_709_287_745_000;

    /// Pending delivery that is due in some milliseconds.
    fn pending(due_in_ms: i64) -> DeliveryView {
        DeliveryView {
            id: DeliveryId(Uuid::nil()),
            event: EventId(Uuid::nil()),
            subscription: SubscriptionId(Uuid::nil()),
            kind: DeliveryKind::Usual,
            state: DeliveryState::Pending,
            awaiting_plugin: false,
            due_at_ms: Some(NOW_MS + due_in_ms),
            attempts_made: 1,
            reason: None,
            created_at_ms: 0,
            updated_at_ms: 0,
            settled: None,
            is_settling: false,
            superseded_by: None,
        }
    }

    #[track_caller]
    fn check(
        view: &DeliveryView,
        state: SubscriptionState,
        rests: Option<(&'static str, u64)>,
        expected: Option<(&str, Option<i64>)>,
    ) {
        let (rests_for, rests_ms) = rests.unzip();
        let lane = LaneStatus { in_flight: 0, window: 1, breaker: "closed", rests_ms, rests_for };
        let next = NextAttempt::of(view, Some(state), Some(lane), NOW_MS);
        let found = next.as_ref().map(|next| (next.words, next.at.as_ref().map(|at| at.ms - NOW_MS)));
        assert_eq!(found, expected, "{view:?}");
    }

    #[test]
    fn a_pending_delivery_tells_what_it_waits_for() {
        const ACTIVE: SubscriptionState = SubscriptionState::Active;
        check(&pending(-5), ACTIVE, None, Some(("now, as soon as it is its turn", None)));
        check(&pending(5_000), ACTIVE, Some(("breaker", 9)), Some(("", Some(5_000))));
        check(&pending(-5), ACTIVE, Some(("breaker", 900)), Some(("after failures of the receiver,", Some(900))));
        check(&pending(-5), ACTIVE, Some(("rate", 9)), Some(("now, as soon as it is its turn", None)));
        check(&pending(5), SubscriptionState::Paused, None, Some(("when the webhook is resumed", None)));
        let settling = DeliveryView { is_settling: true, ..pending(7) };
        check(&settling, ACTIVE, None, Some(("unless another event of its contact or deal follows,", Some(7))));
        let held = DeliveryView { awaiting_plugin: true, ..pending(-1) };
        check(&held, ACTIVE, None, Some(("when another version or config of its plugin comes", None)));
        let ended = DeliveryView { state: DeliveryState::Dead, ..pending(5) };
        check(&ended, ACTIVE, None, None);
    }
}
