//! Replays: events are delivered once more to one subscription.

use super::test_store::{TestStore, tenant};
use super::test_values::{contact, end, event_of, many, operator, record};
use crate::backend::operator_actions::ReplayableEvents;
use crate::{Span, StoreError};
use hookloom_model::delivery::{DeliveryKind, DeliveryState};
use hookloom_model::event::{EventId, Module};
use serde_json::json;

conformance! {
    a_replay_delivers_matching_events_once_more,
    a_replay_of_many_runs_in_steps,
    a_replay_leaves_out_events_that_are_gone,
    a_replay_needs_a_subscription_that_is_not_disabled,
    a_replay_stays_within_the_share,
}

const EVERYTHING: Span = Span { from_ms: 0, to_ms: i64::MAX };

async fn a_replay_delivers_matching_events_once_more(store: &mut TestStore) {
    let before = store.take(vec![contact("1"), event_of(Module::Deal, "1")]).await;
    let of = store.subscribe(json!({})).await;
    let after = store.take_one("2").await;
    let claim = store.claim(&of).await;
    let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
    store.finish(claim, outcome).await.expect("recorded");
    assert_eq!(store.count_replayable(&of, EVERYTHING).await.expect("a number"), 2);
    assert_eq!(store.replay(operator(), &of, EVERYTHING).await.expect("replayed"), 2);
    let claims = store.claims(&of).await;
    let found: Vec<_> = claims.iter().map(|claim| (claim.delivery().event, claim.delivery().kind)).collect();
    assert_eq!(found, [before[0].event, after.event].map(|event| (event, DeliveryKind::Replay)));
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.fan_out, ledger.replayed, ledger.pending, ledger.delivered), (1, 2, 2, 1));
    let event = store.event(tenant(), after.event).await.expect("the event");
    assert_eq!((event.fan_out, event.deliveries.len()), (1, 2));
}

async fn a_replay_of_many_runs_in_steps(store: &mut TestStore) {
    store.take(many(1_100)).await;
    let of = store.subscribe(json!({})).await;
    assert_eq!(store.replay(operator(), &of, EVERYTHING).await.expect("replayed"), 1_100);
    assert_eq!(store.lawful_ledger().await.replayed, 1_100);
    let mut events: Vec<EventId> = store.all_deliveries().await.iter().map(|view| view.event).collect();
    events.sort();
    events.dedup();
    assert_eq!(events.len(), 1_100, "each of them once");
    assert_eq!(store.changes(Some(tenant()), None, 9).await.expect("changes").0.len(), 1);
}

async fn a_replay_leaves_out_events_that_are_gone(store: &mut TestStore) {
    let of = store.subscribe(json!({"modules": ["Deal"]})).await;
    let accepted = store.take_one("1").await;
    let of = ReplayableEvents { tenant: tenant(), subscription: of.id, modules: vec![Module::Contact] };
    let ids = vec![EventId::new(), accepted.event, EventId::new()];
    assert_eq!(store.seam().replay(of, ids, None).await.expect("replayed"), 1);
    assert_eq!(store.lawful_ledger().await.replayed, 1);
}

async fn a_replay_needs_a_subscription_that_is_not_disabled(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    store.disable(of.id).await;
    assert!(matches!(store.replay(operator(), &of, EVERYTHING).await, Err(StoreError::Conflict(_))));
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    assert!(matches!(store.replay(operator(), &of, EVERYTHING).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.lawful_ledger().await.replayed, 0);
}

async fn a_replay_stays_within_the_share(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(20)).await;
    store.reopen_with_room(1_000).await;
    let refused = store.replay(operator(), &of, EVERYTHING).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))), "{refused:?}");
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.replayed, ledger.pending), (0, 20));
}
