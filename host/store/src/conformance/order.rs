//! Ordered lanes, and the history of an entity.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, contact, end, event_of, operator, record};
use crate::{Accepted, Caps, Span};
use hookloom_model::delivery::{DeliveryId, DeliveryState, Reason};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::Subscription;
use serde_json::{Value, json};
use std::collections::HashMap;

conformance! {
    an_earlier_delivery_of_an_entity_blocks_a_later_one,
    entities_do_not_block_each_other,
    subscriptions_do_not_block_each_other,
    a_delivery_stops_blocking_after_its_attempts,
    a_replay_has_no_order,
    the_blocking_delivery_is_named,
    the_previous_event_is_the_last_one_of_its_entity,
    the_history_is_in_the_order_of_acceptance,
}

fn block() -> Value {
    json!({"ordering": {"on_failure": "block"}})
}

/// Returns the events of the deliveries that can be claimed.
async fn due(store: &TestStore, of: &Subscription) -> Vec<EventId> {
    store.claims(of).await.iter().map(|claim| claim.delivery().event).collect()
}

fn ids(accepted: &[Accepted]) -> Vec<EventId> {
    accepted.iter().map(|one| one.event).collect()
}

async fn an_earlier_delivery_of_an_entity_blocks_a_later_one(store: &mut TestStore) {
    let of = store.subscribe(block()).await;
    let events = ids(&store.take(vec![contact("1"), contact("1"), contact("1")]).await);
    assert_eq!(due(store, &of).await, [events[0]]);
    let claim = store.claim(&of).await;
    assert_eq!(due(store, &of).await, [], "a claimed delivery blocks as well");
    let next = again(store.now_ms() + HOUR_MS);
    let outcome = record(claim.delivery(), next);
    store.finish(claim, outcome).await.expect("recorded");
    assert_eq!(due(store, &of).await, [], "a delivery that waits for a retry blocks as well");
    store.pass(HOUR_MS);
    for event in events {
        let claim = store.claim(&of).await;
        assert_eq!(claim.delivery().event, event);
        let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
        store.finish(claim, outcome).await.expect("recorded");
    }
}

async fn entities_do_not_block_each_other(store: &mut TestStore) {
    let mut more = block();
    more["modules"] = json!(["Contact", "Deal"]);
    let of = store.subscribe(more).await;
    let events = vec![
        contact("1"),
        contact("2"),
        event_of(Module::Deal, "1"),
        contact(""),
        contact(""),
        contact("1"),
        event_of(Module::Deal, "1"),
    ];
    let events = ids(&store.take(events).await);
    assert_eq!(due(store, &of).await, events[..5]);
}

async fn subscriptions_do_not_block_each_other(store: &mut TestStore) {
    let ordered = store.subscribe(block()).await;
    let other = store.subscribe(block()).await;
    let unordered = store.subscribe(json!({})).await;
    let events = ids(&store.take(vec![contact("1"), contact("1")]).await);
    let claim = store.claim(&ordered).await;
    let outcome = record(claim.delivery(), end(DeliveryState::Dead));
    store.finish(claim, outcome).await.expect("recorded");
    assert_eq!(due(store, &ordered).await, [events[1]]);
    assert_eq!(due(store, &other).await, [events[0]]);
    assert_eq!(due(store, &unordered).await, events);
}

async fn a_delivery_stops_blocking_after_its_attempts(store: &mut TestStore) {
    let of = store.subscribe(json!({"ordering": {"on_failure": "skip-after", "attempts": 2}})).await;
    let events = ids(&store.take(vec![contact("1"), contact("1")]).await);
    for attempts in 1..=2 {
        let claim = store.claim(&of).await;
        assert_eq!(claim.delivery().event, events[0]);
        let outcome = record(claim.delivery(), again(store.now_ms() + HOUR_MS));
        store.finish(claim, outcome).await.expect("recorded");
        let free: &[EventId] = if attempts < 2 { &[] } else { &events[1..] };
        assert_eq!(due(store, &of).await, free, "after {attempts} attempts");
        if attempts < 2 {
            store.pass(HOUR_MS);
        }
    }
}

async fn a_replay_has_no_order(store: &mut TestStore) {
    let of = store.subscribe(block()).await;
    let events = ids(&store.take(vec![contact("1"), contact("1")]).await);
    let everything = Span { from_ms: 0, to_ms: i64::MAX };
    assert_eq!(store.replay(operator(), &of, everything).await.expect("replayed"), 2);
    let mut found = due(store, &of).await;
    found.sort();
    assert_eq!(found, [events[0], events[0], events[1]], "the first one, and both replays");
}

async fn the_blocking_delivery_is_named(store: &mut TestStore) {
    let of = store.subscribe(block()).await;
    store.subscribe(json!({})).await;
    let events = ids(&store.take(vec![contact("1"), contact("1"), contact("1"), contact("2")]).await);
    let claim = store.claims(&of).await.remove(0);
    let outcome = record(claim.delivery(), again(store.now_ms()));
    let first = claim.delivery().id;
    store.finish(claim, outcome).await.expect("recorded");
    let mut found: Vec<HashMap<DeliveryId, (DeliveryId, u32)>> = Vec::new();
    for event in &events {
        found.push(store.earlier_ones(tenant(), *event).await.expect("earlier ones"));
    }
    assert!(found[0].is_empty() && found[3].is_empty(), "{found:?}");
    for (index, later) in [(1, &found[1]), (2, &found[2])] {
        assert_eq!(later.values().collect::<Vec<_>>(), [&(first, 1)]);
        let waiting = later.keys().next().expect("one delivery");
        assert_eq!(store.view(*waiting).await.event, events[index]);
    }
    let claim = store.claims(&of).await.into_iter().find(|claim| claim.delivery().id == first).expect("the first one");
    store.give_up(claim, Reason::new("test", "given up")).await.expect("given up");
    assert!(store.earlier_ones(tenant(), events[1]).await.expect("none").is_empty());
    assert_eq!(store.earlier_ones(tenant(), events[2]).await.expect("one").len(), 1);
}

async fn the_previous_event_is_the_last_one_of_its_entity(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    let events = vec![contact("1"), contact("2"), event_of(Module::Deal, "1"), contact(""), contact("1"), contact("1")];
    let accepted = store.take(events).await;
    store.accept(other.clone(), vec![contact("1")], Caps::NONE).await.expect("accepted");
    let expected = [None, None, None, None, Some(0), Some(4)];
    for (one, index) in accepted.iter().zip(expected) {
        let expected = index.map(|index: usize| accepted[index].event);
        let view = store.event(tenant(), one.event).await.expect("the event");
        assert_eq!(view.previous, expected);
        let previous = store.previous(tenant(), &view.event).await.expect("an event or none");
        assert_eq!(previous.map(|event| event.id), expected);
    }
}

async fn the_history_is_in_the_order_of_acceptance(store: &mut TestStore) {
    let mut before = None;
    for _ in 0..3 {
        let accepted = store.take_one("1").await;
        assert_eq!(store.event(tenant(), accepted.event).await.expect("the event").previous, before);
        before = Some(accepted.event);
        store.set_wall(-HOUR_MS);
        store.reopen().await;
    }
}
