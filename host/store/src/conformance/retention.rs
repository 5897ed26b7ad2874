//! Retention: old events are deleted, and the ledger keeps their numbers.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{contact, end, event_of, many, record};
use crate::{Actor, Caps, EventFilter, Ledger, StoreError};
use hookloom_model::delivery::DeliveryState;
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::Subscription;
use serde_json::json;
use std::time::Duration;

conformance! {
    events_are_pruned_by_their_age,
    a_pending_delivery_keeps_its_event,
    the_history_of_an_entity_has_no_gap,
    an_event_is_kept_while_the_next_one_is_pending,
    the_ledger_keeps_the_numbers_of_pruned_deliveries,
    many_events_are_pruned_in_steps,
    pruning_is_by_tenant,
    a_retention_of_zero_keeps_events,
}

const DAY: Duration = Duration::from_secs(86_400);

async fn prune(store: &TestStore) {
    store.prune(DAY).await.expect("pruned");
}

/// Returns the stored events, oldest first.
async fn stored(store: &TestStore) -> Vec<EventId> {
    let filter = EventFilter { limit: usize::MAX, ..EventFilter::default() };
    let mut events: Vec<EventId> =
        store.events(tenant(), filter).await.expect("events").iter().map(|one| one.id).collect();
    events.reverse();
    events
}

/// Ends all due deliveries of a subscription.
async fn end_all(store: &TestStore, of: &Subscription, state: DeliveryState) {
    for claim in store.claims(of).await {
        let outcome = record(claim.delivery(), end(state));
        store.finish(claim, outcome).await.expect("recorded");
    }
}

async fn events_are_pruned_by_their_age(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let old = store.take_one("").await.event;
    end_all(store, &of, DeliveryState::Delivered).await;
    let delivery = store.all_deliveries().await[0].id;
    store.pass(20 * HOUR_MS);
    let young = store.take_one("").await.event;
    end_all(store, &of, DeliveryState::Delivered).await;
    store.pass(3 * HOUR_MS);
    prune(store).await;
    assert_eq!(stored(store).await, [old, young]);
    store.pass(2 * HOUR_MS);
    prune(store).await;
    assert_eq!(stored(store).await, [young]);
    assert!(matches!(store.event(tenant(), old).await, Err(StoreError::NotFound("event"))));
    assert!(matches!(store.delivery(tenant(), delivery).await, Err(StoreError::NotFound("delivery"))));
    assert!(store.attempts_of_event(tenant(), old).await.expect("none").is_empty());
    assert_eq!(store.all_deliveries().await.len(), 1);
}

async fn a_pending_delivery_keeps_its_event(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let two = store.subscribe(json!({})).await;
    let event = store.take_one("").await.event;
    end_all(store, &one, DeliveryState::Delivered).await;
    store.pass(48 * HOUR_MS);
    prune(store).await;
    assert_eq!((stored(store).await, store.all_deliveries().await.len()), (vec![event], 2));
    end_all(store, &two, DeliveryState::Dead).await;
    prune(store).await;
    assert!(stored(store).await.is_empty());
    store.lawful_ledger().await;
}

async fn the_history_of_an_entity_has_no_gap(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let first = store.take_one("1").await.event;
    let events = store.take(vec![contact("1"), contact("2"), event_of(Module::Deal, "1")]).await;
    // Only the first event has a pending delivery.
    for claim in store.claims(&of).await.into_iter().skip(1) {
        let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
        store.finish(claim, outcome).await.expect("recorded");
    }
    store.pass(48 * HOUR_MS);
    prune(store).await;
    assert_eq!(stored(store).await, [first, events[0].event], "an older event of the contact is stored");
    end_all(store, &of, DeliveryState::Delivered).await;
    prune(store).await;
    assert!(stored(store).await.is_empty());
}

async fn an_event_is_kept_while_the_next_one_is_pending(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let first = store.take_one("1").await.event;
    end_all(store, &of, DeliveryState::Delivered).await;
    let second = store.take_one("1").await.event;
    store.pass(48 * HOUR_MS);
    prune(store).await;
    assert_eq!(stored(store).await, [first, second], "the second event is not delivered, and has a history");
    let claim = store.claim(&of).await;
    let event = store.event_of(claim.delivery()).await.expect("a read").expect("the event");
    let previous = store.previous(tenant(), &event).await.expect("a read");
    assert_eq!(previous.map(|event| event.id), Some(first));
    drop(claim);
    end_all(store, &of, DeliveryState::Delivered).await;
    prune(store).await;
    assert!(stored(store).await.is_empty());
}

async fn the_ledger_keeps_the_numbers_of_pruned_deliveries(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let states = [DeliveryState::Delivered, DeliveryState::Dropped, DeliveryState::Dead, DeliveryState::Cancelled];
    for (count, state) in (1..).zip(states) {
        store.take(many(count)).await;
        end_all(store, &of, state).await;
    }
    store.test(Actor::Host, &of, contact("")).await.expect("a test");
    end_all(store, &of, DeliveryState::Delivered).await;
    let before = store.lawful_ledger().await;
    store.pass(48 * HOUR_MS);
    prune(store).await;
    store.reopen().await;
    let Ledger { events, bytes, fan_out, tests, delivered, dropped, dead, cancelled, pruned, .. } =
        store.lawful_ledger().await;
    assert_eq!((events, bytes, delivered, dropped, dead, cancelled), (0, 0, 0, 0, 0, 0));
    assert_eq!((fan_out, tests, pruned.events), (10, 1, 11));
    assert_eq!((pruned.delivered, pruned.dropped, pruned.dead, pruned.cancelled), (2, 2, 3, 4));
    assert_eq!(before.fan_out, fan_out, "promised deliveries stay promised");
}

async fn many_events_are_pruned_in_steps(store: &mut TestStore) {
    store.take(many(600)).await;
    store.pass(48 * HOUR_MS);
    let young = store.take_one("").await.event;
    prune(store).await;
    assert_eq!(stored(store).await, [young]);
    assert_eq!(store.lawful_ledger().await.pruned.events, 600);
}

async fn pruning_is_by_tenant(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    let kept = store.take_one("1").await.event;
    store.accept(other.clone(), many(2), Caps::NONE).await.expect("accepted");
    store.pass(48 * HOUR_MS);
    let step = store.seam().prune_events(&other, None, store.now_ms()).await.expect("a step");
    assert_eq!(step.pruned, 2);
    let next = store.seam().prune_events(&other, step.after, store.now_ms()).await.expect("a step");
    assert_eq!((next.pruned, next.after), (0, None));
    assert_eq!(stored(store).await, [kept]);
}

async fn a_retention_of_zero_keeps_events(store: &mut TestStore) {
    let event = store.take_one("1").await.event;
    store.pass(10_000 * HOUR_MS);
    store.prune(Duration::ZERO).await.expect("pruned");
    assert_eq!(stored(store).await, [event]);
}
