//! States of a subscription: pauses, disabling by an answer, and host events.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{attempt, end, many, operator, settings, subscription_of};
use crate::{Actor, AttemptRecord, Caps, Claim, EventFilter, StateChange, StoreError, StoreEvent};
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::event::Module;
use hookloom_model::subscription::SubscriptionState;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

conformance! {
    an_answer_of_gone_disables_the_subscription,
    an_answer_of_gone_to_an_earlier_config_disables_nothing,
    an_answer_of_gone_is_recorded_after_the_deletion,
    a_host_event_is_not_sent_to_its_own_subscription,
    an_operator_makes_no_host_event,
    a_paused_subscription_gets_events_that_wait,
    a_disabled_subscription_cannot_be_paused,
    a_failing_receiver_is_noted,
    endings_of_many_deliveries_are_complete,
    an_interrupted_ending_is_completed,
}

/// Records an answer of `410 Gone` to the first config.
async fn gone(store: &TestStore, claim: Claim) {
    let reason = Reason::new("gone", "the receiver answered 410 Gone");
    let outcome = AttemptRecord {
        disables: Some(reason),
        next: end(DeliveryState::Dead),
        attempt: attempt(claim.delivery()),
        age_end_ms: i64::MAX,
    };
    store.finish(claim, Arc::new(outcome)).await.expect("recorded");
}

async fn an_answer_of_gone_disables_the_subscription(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let watching = store.subscribe(json!({"modules": ["Subscription"]})).await;
    store.take(many(3)).await;
    let mut claims = store.claims(&of).await;
    let claim = claims.remove(0);
    drop(claims);
    let attempted = claim.delivery().id;
    gone(store, claim).await;
    drop(store.store_events());
    let disabled = store.current(of.id);
    assert_eq!((disabled.state, disabled.generation), (SubscriptionState::Disabled, 1));
    assert_eq!(disabled.state_reason.as_deref(), Some("the receiver answered 410 Gone"));
    let deliveries = store.all_deliveries().await;
    let dead = deliveries.iter().filter(|view| view.state == DeliveryState::Dead);
    assert_eq!(dead.filter(|view| view.subscription == of.id).count(), 3);
    assert_eq!(store.delivery(tenant(), attempted).await.expect("the delivery").1.len(), 1);
    let event = store.claim(&watching).await.delivery().event;
    let event = store.event(tenant(), event).await.expect("a host event");
    assert_eq!((&*event.event.name, event.event.module), ("Subscription is Disabled", Module::Subscription));
    assert_eq!((event.fan_out, event.event.entity_id.clone()), (1, Some(of.id.to_string())));
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.dead, ledger.pending), (3, 1));
}

async fn an_answer_of_gone_to_an_earlier_config_disables_nothing(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(2)).await;
    let mut claims = store.claims(&of).await;
    store.update_subscription(operator(), &of, subscription_of(settings(json!({})))).await.expect("edited");
    let claim = claims.remove(0);
    drop(claims);
    let id = claim.delivery().id;
    gone(store, claim).await;
    let current = store.current(of.id);
    assert_eq!((current.state, current.generation), (SubscriptionState::Active, 2));
    let (view, attempts) = store.delivery(tenant(), id).await.expect("the delivery");
    assert_eq!((view.state, view.due_at_ms, attempts.len()), (DeliveryState::Pending, Some(store.now_ms()), 1));
    assert_eq!((view.attempts_made, view.reason.expect("a reason").code), (1, "config-changed".to_owned()));
    assert_eq!(store.claims(&current).await.len(), 2);
    assert_eq!(store.lawful_ledger().await.events, 2, "there is no host event");
}

async fn an_answer_of_gone_is_recorded_after_the_deletion(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let id = claim.delivery().id;
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    gone(store, claim).await;
    let (view, attempts) = store.delivery(tenant(), id).await.expect("the delivery");
    assert_eq!((view.state, attempts.len()), (DeliveryState::Cancelled, 1));
    store.lawful_ledger().await;
}

async fn a_host_event_is_not_sent_to_its_own_subscription(store: &mut TestStore) {
    let failing = store.subscribe(json!({"modules": ["Subscription"]})).await;
    let other = store.subscribe(json!({"modules": ["Subscription"]})).await;
    let pause = StateChange::Pause { reason: "it fails".into(), by_host: true };
    store.set_subscription_state(Actor::Host, &tenant(), failing.id, pause.clone()).await.expect("paused");
    let deliveries = store.all_deliveries().await;
    assert_eq!((deliveries.len(), deliveries[0].subscription), (1, other.id));
    store.set_subscription_state(Actor::Host, &tenant(), failing.id, pause).await.expect("paused again");
    let events = store.events(tenant(), EventFilter { limit: 9, ..EventFilter::default() }).await.expect("events");
    assert_eq!((events.len(), &*events[0].name), (1, "Subscription is Paused"), "the state did not change again");
    store.lawful_ledger().await;
}

async fn an_operator_makes_no_host_event(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.subscribe(json!({"modules": ["Subscription"]})).await;
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused");
    store.resume(of.id).await;
    assert_eq!(store.lawful_ledger().await.events, 0);
    let other = store.add_tenant("u").await;
    let unknown = store.set_subscription_state(operator(), &other, of.id, StateChange::Resume).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("subscription"))), "{unknown:?}");
}

async fn a_paused_subscription_gets_events_that_wait(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    let paused = store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused");
    assert_eq!(paused.state, SubscriptionState::Paused);
    store.accept(tenant(), many(1), Caps::NONE).await.expect("accepted");
    let published = store.store_events();
    let claimed = published.iter().filter_map(|event| match event {
        StoreEvent::Accepted(new) => Some((new.due.len(), new.later.len())),
        StoreEvent::Changed(_) | StoreEvent::OwnershipChanged => None,
    });
    assert_eq!(claimed.collect::<Vec<_>>(), [(0, 1)], "nothing is claimed for it");
    assert_eq!(store.lawful_ledger().await.pending, 1);
    assert_eq!(store.resume(of.id).await.state, SubscriptionState::Active);
    assert_eq!(store.claims(&of).await.len(), 1);
}

async fn a_disabled_subscription_cannot_be_paused(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.disable(of.id).await;
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    let refused = store.set_subscription_state(operator(), &tenant(), of.id, pause).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(store.current(of.id).state, SubscriptionState::Disabled);
}

async fn a_failing_receiver_is_noted(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let since = Some(store.now_ms() - HOUR_MS);
    store.note_failing(&tenant(), of.id, since).await.expect("noted");
    assert_eq!(store.current(of.id).failing_since_ms, since);
    store.reopen().await;
    assert_eq!(store.current(of.id).failing_since_ms, since);
    assert_eq!(store.resume(of.id).await.failing_since_ms, None, "a resumption begins again");
    store.note_failing(&tenant(), of.id, since).await.expect("noted");
    store.note_failing(&tenant(), of.id, None).await.expect("noted");
    assert_eq!(store.current(of.id).failing_since_ms, None);
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    assert!(matches!(store.note_failing(&tenant(), of.id, None).await, Err(StoreError::NotFound("subscription"))));
}

async fn endings_of_many_deliveries_are_complete(store: &mut TestStore) {
    let [disabled, deleted] = [store.subscribe(json!({})).await, store.subscribe(json!({})).await];
    store.take(many(600)).await;
    store.disable(disabled.id).await;
    store.delete_subscription(operator(), &tenant(), deleted.id).await.expect("deleted");
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.dead, ledger.cancelled, ledger.pending), (600, 600, 0));
}

async fn an_interrupted_ending_is_completed(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(600)).await;
    store.seam().delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    let left = store.lawful_ledger().await.pending;
    assert!((1..600).contains(&left), "one transaction ends a limited number: {left} are left");
    store.reopen().await;
    store.prune(Duration::ZERO).await.expect("pruned");
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.cancelled, ledger.pending), (600, 0));
    let outcome = store.all_deliveries().await;
    assert!(outcome.iter().all(|view| view.reason.as_ref().is_some_and(|one| one.code == "subscription-deleted")));
    assert_eq!(store.seam().end_pending(&tenant(), of.id, None).await.expect("nothing is left"), 0);
}
