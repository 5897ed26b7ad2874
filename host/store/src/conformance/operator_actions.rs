//! Operator actions on deliveries: retry, cancel, redrive and test.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, contact, end, event_of, many, operator, record};
use crate::backend::operator_actions::EndedDeliveries;
use crate::{Actor, Claim, EventFilter, Span, StoreError};
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DeliveryState, DueDelivery};
use hookloom_model::event::Module;
use hookloom_model::subscription::Subscription;
use serde_json::json;
use uuid::Uuid;

conformance! {
    a_retry_makes_a_pending_delivery_due,
    a_retry_gives_an_ended_delivery_a_new_budget_and_age,
    a_retry_needs_a_subscription_that_is_not_disabled,
    a_cancelled_delivery_is_not_attempted,
    only_pending_deliveries_are_cancelled,
    a_delivery_of_another_tenant_is_not_found,
    a_redrive_makes_ended_deliveries_pending,
    a_redrive_of_many_runs_in_steps,
    a_redrive_needs_a_subscription_that_is_not_disabled,
    a_span_has_its_beginning_and_not_its_end,
    a_test_is_one_delivery_to_one_subscription,
}

const EVERYTHING: Span = Span { from_ms: 0, to_ms: i64::MAX };

/// Makes an event and ends its only delivery.
async fn ended(store: &mut TestStore, of: &Subscription, state: DeliveryState) -> DueDelivery {
    store.take_one("").await;
    let claim = store.claim(of).await;
    let delivery = claim.delivery().clone();
    store.finish(claim, record(&delivery, end(state))).await.expect("recorded");
    delivery
}

fn is_conflict<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

fn is_missing<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotFound("delivery")))
}

async fn a_retry_makes_a_pending_delivery_due(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let before = claim.delivery().clone();
    store.finish(claim, record(&before, again(store.now_ms() + HOUR_MS))).await.expect("recorded");
    store.pass(60_000);
    store.retry(operator(), tenant(), before.id).await.expect("retried");
    let claim = store.claim(&of).await;
    assert_eq!((claim.delivery().attempts_made, claim.delivery().attempts_in_budget), (1, 1));
    assert_eq!(claim.delivery().age_from_ms, before.age_from_ms, "its age goes on");
    assert_eq!(store.lawful_ledger().await.pending, 1);
}

async fn a_retry_gives_an_ended_delivery_a_new_budget_and_age(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let states = [DeliveryState::Dead, DeliveryState::Delivered, DeliveryState::Dropped, DeliveryState::Cancelled];
    for state in states {
        let delivery = ended(store, &of, state).await;
        store.pass(HOUR_MS);
        store.retry(operator(), tenant(), delivery.id).await.expect("retried");
        assert_eq!(store.view(delivery.id).await.due_at_ms, Some(store.now_ms()));
        let claim = store.claim(&of).await;
        let again = claim.delivery().clone();
        assert_eq!((again.id, again.attempts_made, again.attempts_in_budget), (delivery.id, 1, 0));
        assert_eq!(again.age_from_ms, store.now_ms());
        store.finish(claim, record(&again, end(DeliveryState::Delivered))).await.expect("recorded");
        assert_eq!(store.delivery(tenant(), delivery.id).await.expect("the delivery").1.len(), 2);
    }
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.fan_out, ledger.delivered), (4, 4));
}

async fn a_retry_needs_a_subscription_that_is_not_disabled(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let delivery = ended(store, &of, DeliveryState::Dead).await;
    store.disable(of.id).await;
    assert!(is_conflict(&store.retry(operator(), tenant(), delivery.id).await));
    store.resume(of.id).await;
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    assert!(is_conflict(&store.retry(operator(), tenant(), delivery.id).await));
    assert_eq!(store.view(delivery.id).await.state, DeliveryState::Dead);
    assert_eq!(store.lawful_ledger().await.dead, 1);
}

async fn a_cancelled_delivery_is_not_attempted(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(2)).await;
    let id = store.all_deliveries().await[0].id;
    store.pass(1_000);
    store.cancel(operator(), tenant(), id).await.expect("cancelled");
    let view = store.view(id).await;
    assert_eq!((view.state, view.due_at_ms, view.updated_at_ms), (DeliveryState::Cancelled, None, store.now_ms()));
    assert_ne!(store.claim(&of).await.delivery().id, id);
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.cancelled, ledger.pending), (1, 1));
}

async fn only_pending_deliveries_are_cancelled(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let delivery = ended(store, &of, DeliveryState::Delivered).await;
    assert!(is_conflict(&store.cancel(operator(), tenant(), delivery.id).await));
    assert_eq!(store.view(delivery.id).await.state, DeliveryState::Delivered);
    assert!(store.changes(Some(tenant()), None, 9).await.expect("changes").0.is_empty());
}

async fn a_delivery_of_another_tenant_is_not_found(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    store.subscribe(json!({})).await;
    store.take_one("1").await;
    let id = store.all_deliveries().await[0].id;
    assert!(is_missing(&store.retry(operator(), other.clone(), id).await));
    assert!(is_missing(&store.cancel(operator(), other.clone(), id).await));
    assert!(is_missing(&store.delivery(other, id).await));
    assert!(is_missing(&store.retry(operator(), tenant(), DeliveryId::new()).await));
    assert_eq!(store.view(id).await.state, DeliveryState::Pending);
}

async fn a_redrive_makes_ended_deliveries_pending(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let dead = ended(store, &of, DeliveryState::Dead).await;
    let dropped = ended(store, &of, DeliveryState::Dropped).await;
    ended(store, &of, DeliveryState::Delivered).await;
    store.test(operator(), &of, contact("test")).await.expect("a test");
    let claim = store.claim(&of).await;
    let outcome = record(claim.delivery(), end(DeliveryState::Dead));
    store.finish(claim, outcome).await.expect("recorded");
    let other = store.subscribe(json!({"modules": ["Deal"]})).await;
    store.take(vec![event_of(Module::Deal, "")]).await;
    store.disable(other.id).await;
    store.pass(HOUR_MS);
    let states = vec![DeliveryState::Dead, DeliveryState::Dropped, DeliveryState::Pending];
    assert_eq!(store.count_ended(&of, states.clone(), EVERYTHING).await.expect("a number"), 2, "a test is not counted");
    assert_eq!(store.redrive(operator(), &of, states.clone(), EVERYTHING).await.expect("redriven"), 2);
    let claims = store.claims(&of).await;
    let found: Vec<_> = claims.iter().map(Claim::delivery).collect();
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [dead.id, dropped.id]);
    for one in found {
        assert_eq!((one.attempts_made, one.attempts_in_budget, one.age_from_ms), (1, 0, store.now_ms()));
    }
    assert_eq!(store.redrive(operator(), &of, states, EVERYTHING).await.expect("none is left"), 0);
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.pending, ledger.delivered, ledger.dead), (2, 1, 2));
}

async fn a_redrive_of_many_runs_in_steps(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(1_100)).await;
    let disabled = store.disable(of.id).await;
    assert_eq!(store.lawful_ledger().await.dead, 1_100, "all of them ended");
    store.resume(of.id).await;
    let states = vec![DeliveryState::Dead];
    let step = store.seam().select_ended(
        EndedDeliveries { tenant: tenant(), subscription: of.id, states: states.clone() },
        Uuid::nil(),
        Uuid::max(),
    );
    let step = step.await.expect("a step");
    assert!(step.ids.len() < 1_100 && step.ids.is_sorted() && step.next.is_some());
    assert_eq!(store.redrive(operator(), &disabled, states, EVERYTHING).await.expect("redriven"), 1_100);
    assert_eq!(store.lawful_ledger().await.pending, 1_100);
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    assert_eq!((entries.len(), &*entries[0].action), (1, "subscription.redrive"), "the first step has the entry");
    assert_eq!(entries[0].after.as_ref().expect("a state").get("deliveries"), None, "it does not know the number");
}

async fn a_redrive_needs_a_subscription_that_is_not_disabled(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    ended(store, &of, DeliveryState::Dead).await;
    store.disable(of.id).await;
    let states = vec![DeliveryState::Dead];
    assert!(is_conflict(&store.redrive(operator(), &of, states.clone(), EVERYTHING).await));
    store.delete_subscription(Actor::Host, &tenant(), of.id).await.expect("deleted");
    assert!(is_conflict(&store.redrive(operator(), &of, states, EVERYTHING).await));
    assert_eq!(store.lawful_ledger().await.dead, 1);
    assert!(store.changes(Some(tenant()), None, 9).await.expect("changes").0.is_empty());
}

async fn a_span_has_its_beginning_and_not_its_end(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let delivery = ended(store, &of, DeliveryState::Dead).await;
    // A span is one of ids, which begin with their time.
    let made_ms = delivery.id.made_at_ms();
    let event_ms = DeliveryId(delivery.event.0).made_at_ms();
    for (from, to, expected) in [(0, 1, 1), (-5, 0, 0), (1, 5, 0), (-5, 5, 1), (0, 0, 0)] {
        let span = Span { from_ms: made_ms + from, to_ms: made_ms + to };
        let states = vec![DeliveryState::Dead];
        assert_eq!(store.count_ended(&of, states, span).await.expect("a number"), expected, "{from} to {to}");
        let span = Span { from_ms: event_ms + from, to_ms: event_ms + to };
        assert_eq!(store.count_replayable(&of, span).await.expect("a number"), expected, "{from} to {to}");
        let filter = EventFilter { span: Some(span), limit: 9, ..EventFilter::default() };
        assert_eq!(store.events(tenant(), filter).await.expect("events").len() as u64, expected, "{from} to {to}");
    }
}

async fn a_test_is_one_delivery_to_one_subscription(store: &mut TestStore) {
    let of = store.subscribe(json!({"modules": ["Deal"], "ordering": {"on_failure": "block"}})).await;
    store.subscribe(json!({})).await;
    let id = store.test(operator(), &of, contact("1")).await.expect("a test");
    let view = store.view(id).await;
    assert_eq!((view.kind, view.subscription, view.state), (DeliveryKind::Test, of.id, DeliveryState::Pending));
    let event = store.event(tenant(), view.event).await.expect("its event");
    assert_eq!((event.fan_out, event.deliveries.len()), (0, 1));
    let claim = store.claim(&of).await;
    assert_eq!((claim.delivery().id, claim.delivery().kind), (id, DeliveryKind::Test));
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.tests, ledger.fan_out, ledger.events), (1, 0, 1));
    assert!(store.recent_events(tenant(), vec![Module::Contact], 9).await.expect("events").is_empty());
    assert!(store.last_events_of(tenant(), vec![of.id], 9).await.expect("events").is_empty());
}
