//! Large fan-outs: the deliveries follow in steps, each exactly once.

use super::test_store::{TestStore, tenant};
use super::test_values::{contact, many};
use crate::backend::intake::{FanOutAnswer, IntakeAnswer, IntakeRequest};
use crate::{Actor, Caps, StoreEvent};
use futures_util::future::join_all;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::event::{EventId, Module};
use hookloom_model::ids;
use hookloom_model::subscription::SubscriptionId;
use serde_json::json;
use std::collections::HashSet;
use uuid::Uuid;

conformance! {
    a_large_fan_out_is_complete_when_it_is_answered,
    an_interrupted_fan_out_is_completed_at_the_next_start,
    a_step_with_former_receivers_is_stale,
    a_change_during_a_fan_out_corrects_its_size,
}

/// Number of subscriptions: more than make their deliveries in one step.
const SUBSCRIPTIONS: usize = 80;

/// Number of events of a request.
const EVENTS: usize = 10;

async fn subscribe_many(store: &TestStore) {
    join_all((0..SUBSCRIPTIONS).map(|_| store.subscribe(json!({})))).await;
}

/// Accepts events whose deliveries follow in steps, and returns the id of their fan-out.
async fn accept_in_steps(store: &TestStore, events: usize) -> Uuid {
    let id = ids::new_uuid();
    let events = vec![contact(""); events];
    let receivers = store.catalog().receivers(&tenant()).match_events(&events).await;
    let request = IntakeRequest {
        tenant: tenant(),
        events,
        receivers,
        caps: Caps::NONE,
        once: None,
        steps: Some(id),
        replaces: None,
    };
    let answer = store.seam().accept(request).await.expect("an answer");
    assert!(matches!(answer, IntakeAnswer::Accepted(all) if all.iter().all(|one| one.deliveries == SUBSCRIPTIONS)));
    id
}

async fn step(store: &TestStore, id: Uuid) -> FanOutAnswer {
    let receivers = store.catalog().receivers(&tenant());
    store.seam().fan_out_step(&tenant(), id, receivers).await.expect("a step")
}

/// Returns the event and the subscription of every delivery.
async fn pairs(store: &TestStore) -> Vec<(EventId, SubscriptionId)> {
    store.all_deliveries().await.iter().map(|view| (view.event, view.subscription)).collect()
}

/// Asserts that each event has been delivered to each subscription, once.
async fn check_complete(store: &TestStore, events: usize, subscriptions: usize) {
    let pairs = pairs(store).await;
    assert_eq!(pairs.len(), events * subscriptions);
    assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), pairs.len());
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.fan_out, ledger.pending), (pairs.len() as u64, pairs.len() as u64));
    assert!(store.seam().fan_outs().await.expect("fan-outs").is_empty());
}

async fn a_large_fan_out_is_complete_when_it_is_answered(store: &mut TestStore) {
    subscribe_many(store).await;
    drop(store.store_events());
    let accepted = store.accept(tenant(), many(EVENTS), Caps::NONE).await.expect("accepted");
    assert!(accepted.iter().all(|one| one.deliveries == SUBSCRIPTIONS));
    check_complete(store, EVENTS, SUBSCRIPTIONS).await;
    let published = store.store_events();
    let due = published.iter().map(|event| match event {
        StoreEvent::Accepted(new) => new.due.len(),
        StoreEvent::Changed(_) | StoreEvent::OwnershipChanged => 0,
    });
    assert_eq!(due.sum::<usize>(), EVENTS * SUBSCRIPTIONS, "each delivery is published with its claim");
}

async fn an_interrupted_fan_out_is_completed_at_the_next_start(store: &mut TestStore) {
    subscribe_many(store).await;
    let id = accept_in_steps(store, EVENTS).await;
    let promised = (EVENTS * SUBSCRIPTIONS) as u64;
    let ledger = store.ledger(tenant()).await.expect("a ledger");
    assert_eq!((ledger.fan_out, ledger.pending, pairs(store).await.len()), (promised, promised, 0));
    assert_eq!(step(store, id).await, FanOutAnswer::More);
    let made = pairs(store).await.len();
    assert!((1..EVENTS * SUBSCRIPTIONS).contains(&made), "a step is bounded: {made}");
    store.reopen().await;
    assert_eq!(store.seam().fan_outs().await.expect("fan-outs"), [(tenant(), id)]);
    let ledger = store.ledger(tenant()).await.expect("a ledger");
    assert_eq!((ledger.fan_out, ledger.pending), (promised, promised), "the law holds in between");
    store.complete_fan_outs().await.expect("completed");
    check_complete(store, EVENTS, SUBSCRIPTIONS).await;
    assert_eq!(step(store, id).await, FanOutAnswer::Complete, "there is nothing left");
    check_complete(store, EVENTS, SUBSCRIPTIONS).await;
}

async fn a_step_with_former_receivers_is_stale(store: &mut TestStore) {
    subscribe_many(store).await;
    let id = accept_in_steps(store, 1).await;
    let former = store.catalog().receivers(&tenant());
    let disabled = former.of(Module::Contact)[3].id;
    store.disable(disabled).await;
    let answer = store.seam().fan_out_step(&tenant(), id, former).await.expect("an answer");
    assert_eq!((answer, pairs(store).await.len()), (FanOutAnswer::Stale, 0));
    store.complete_fan_outs().await.expect("completed");
    assert!(pairs(store).await.iter().all(|(_, subscription)| *subscription != disabled));
    check_complete(store, 1, SUBSCRIPTIONS - 1).await;
}

async fn a_change_during_a_fan_out_corrects_its_size(store: &mut TestStore) {
    subscribe_many(store).await;
    let id = accept_in_steps(store, 2).await;
    assert_eq!(step(store, id).await, FanOutAnswer::More);
    let made: HashSet<SubscriptionId> = pairs(store).await.iter().map(|(_, subscription)| *subscription).collect();
    let all = store.catalog().subscriptions(&tenant());
    let [early, late] = [true, false].map(|is_made| all.iter().find(|one| made.contains(&one.id) == is_made));
    let [early, late] = [early, late].map(|one| one.expect("a subscription").id);
    for id in [early, late] {
        store.delete_subscription(Actor::Host, &tenant(), id).await.expect("deleted");
    }
    store.subscribe(json!({})).await;
    store.complete_fan_outs().await.expect("completed");
    let ledger = store.lawful_ledger().await;
    let deliveries = store.all_deliveries().await;
    assert_eq!(ledger.fan_out, deliveries.len() as u64);
    let cancelled: Vec<_> = deliveries.iter().filter(|view| view.state == DeliveryState::Cancelled).collect();
    assert!(cancelled.len() == 1 && cancelled[0].subscription == early);
    assert!(deliveries.iter().all(|view| view.subscription != late));
    // The deleted one of the first event, and the new one of both.
    assert_eq!(deliveries.len(), 2 * (SUBSCRIPTIONS - 2) + 1 + 2);
}
