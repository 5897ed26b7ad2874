//! Outcomes of attempts: what a delivery is after one.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, end, many, operator, record};
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::retry::Next;
use serde_json::json;
use std::slice;

conformance! {
    an_outcome_ends_its_delivery,
    an_outcome_makes_the_delivery_due_again,
    an_outcome_that_is_recorded_again_changes_nothing,
    an_attempt_that_does_not_count_is_replaced,
    a_delivery_that_was_cancelled_meanwhile_keeps_the_attempt,
    a_late_outcome_does_not_revive_a_delivery,
    a_deleted_subscription_leaves_the_attempt_with_its_delivery,
    attempts_of_an_event_are_listed_by_delivery,
    a_long_reason_is_shortened,
}

async fn an_outcome_ends_its_delivery(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(4)).await;
    let ends = [DeliveryState::Delivered, DeliveryState::Dropped, DeliveryState::Dead, DeliveryState::Cancelled];
    store.pass(5_000);
    for (claim, state) in store.claims(&of).await.into_iter().zip(ends) {
        let delivery = claim.delivery().clone();
        let outcome = record(&delivery, end(state));
        store.finish(claim, outcome.clone()).await.expect("recorded");
        let (view, attempts) = store.delivery(tenant(), delivery.id).await.expect("the delivery");
        assert_eq!((view.state, view.due_at_ms, view.attempts_made), (state, None, 1));
        assert_eq!((view.awaiting_plugin, view.updated_at_ms), (false, store.now_ms()));
        assert_eq!(view.reason.is_none(), state == DeliveryState::Delivered);
        assert_eq!(attempts, slice::from_ref(&outcome.attempt));
    }
    let ledger = store.lawful_ledger().await;
    let counts = [ledger.delivered, ledger.dropped, ledger.dead, ledger.cancelled, ledger.pending];
    assert_eq!(counts, [1, 1, 1, 1, 0]);
}

async fn an_outcome_makes_the_delivery_due_again(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let at_ms = store.now_ms() + HOUR_MS;
    let claim = store.claim(&of).await;
    let delivery = claim.delivery().clone();
    store.finish(claim, record(&delivery, again(at_ms))).await.expect("recorded");
    let view = store.view(delivery.id).await;
    assert_eq!((view.state, view.due_at_ms, view.attempts_made), (DeliveryState::Pending, Some(at_ms), 1));
    assert_eq!(view.reason.expect("a reason").code, "status");
    assert_eq!(store.claims(&of).await.len(), 0);
    store.pass(HOUR_MS);
    let claim = store.claim(&of).await;
    assert_eq!((claim.delivery().attempts_made, claim.delivery().age_from_ms), (1, delivery.age_from_ms));
}

async fn an_outcome_that_is_recorded_again_changes_nothing(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let delivery = claim.delivery().clone();
    let outcome = record(&delivery, again(store.now_ms()));
    store.seam().record(&delivery, outcome.clone()).await.expect("recorded, but the answer was lost");
    store.finish(claim, outcome).await.expect("recorded again");
    let (view, attempts) = store.delivery(tenant(), delivery.id).await.expect("the delivery");
    assert_eq!((view.attempts_made, attempts.len()), (1, 1));
    let claim = store.claim(&of).await;
    let delivery = claim.delivery().clone();
    assert_eq!((delivery.attempts_made, delivery.attempts_in_budget), (1, 1));
    let outcome = record(&delivery, end(DeliveryState::Delivered));
    store.seam().record(&delivery, outcome.clone()).await.expect("recorded");
    store.finish(claim, outcome).await.expect("recorded again");
    let (view, attempts) = store.delivery(tenant(), delivery.id).await.expect("the delivery");
    assert_eq!((view.state, view.attempts_made, attempts.len()), (DeliveryState::Delivered, 2, 2));
    assert_eq!(store.lawful_ledger().await.delivered, 1);
}

async fn an_attempt_that_does_not_count_is_replaced(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    for pause_ms in [60_000, 120_000] {
        let claim = store.claim(&of).await;
        assert_eq!((claim.delivery().attempts_made, claim.delivery().attempts_in_budget), (0, 0));
        let at_ms = store.now_ms() + pause_ms;
        let next = Next::Again { at_ms, counts: false, reason: Reason::new("later", pause_ms.to_string()) };
        let outcome = record(claim.delivery(), next);
        store.finish(claim, outcome).await.expect("recorded");
        store.pass(pause_ms);
    }
    let claim = store.claim(&of).await;
    let (view, attempts) = store.delivery(tenant(), claim.delivery().id).await.expect("the delivery");
    assert_eq!((view.attempts_made, attempts.len()), (0, 1));
    assert_eq!(view.reason.expect("a reason").message, "120000");
    let outcome = record(claim.delivery(), again(store.now_ms()));
    store.finish(claim, outcome).await.expect("recorded");
    let (view, attempts) = store.delivery(tenant(), view.id).await.expect("the delivery");
    assert_eq!((view.attempts_made, attempts.len(), attempts[0].number), (1, 1, 1));
}

async fn a_delivery_that_was_cancelled_meanwhile_keeps_the_attempt(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let id = claim.delivery().id;
    store.cancel(operator(), tenant(), id).await.expect("cancelled");
    let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
    store.finish(claim, outcome).await.expect("recorded");
    let (view, attempts) = store.delivery(tenant(), id).await.expect("the delivery");
    assert_eq!((view.state, view.attempts_made, attempts.len()), (DeliveryState::Cancelled, 0, 1));
    assert_eq!(view.reason.expect("a reason").code, "cancelled");
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.cancelled, ledger.delivered), (1, 0));
}

async fn a_late_outcome_does_not_revive_a_delivery(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let delivery = claim.delivery().clone();
    store.disable(of.id).await;
    let outcome = record(&delivery, again(store.now_ms()));
    store.finish(claim, outcome).await.expect("recorded");
    let (view, attempts) = store.delivery(tenant(), delivery.id).await.expect("the delivery");
    assert_eq!((view.state, attempts.len()), (DeliveryState::Dead, 1));
    store.resume(of.id).await;
    assert_eq!(store.claims(&of).await.len(), 0);
    // Giving up a delivery that has ended changes nothing either.
    store.seam().give_up(&delivery, Reason::new("other", "given up")).await.expect("nothing to do");
    assert_eq!(store.view(delivery.id).await.reason.expect("a reason").code, "test");
    assert_eq!(store.lawful_ledger().await.dead, 1);
}

async fn a_deleted_subscription_leaves_the_attempt_with_its_delivery(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let id = claim.delivery().id;
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
    store.finish(claim, outcome).await.expect("recorded");
    let (view, attempts) = store.delivery(tenant(), id).await.expect("the delivery");
    assert_eq!((view.state, attempts.len()), (DeliveryState::Cancelled, 1));
    assert_eq!(view.reason.expect("a reason").code, "subscription-deleted");
}

async fn attempts_of_an_event_are_listed_by_delivery(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let two = store.subscribe(json!({})).await;
    store.subscribe(json!({})).await;
    let event = store.take_one("1").await.event;
    store.take_one("2").await;
    for of in [&one, &one, &two] {
        for claim in store.claims(of).await.into_iter().filter(|claim| claim.delivery().event == event) {
            let outcome = record(claim.delivery(), again(store.now_ms()));
            store.finish(claim, outcome).await.expect("recorded");
        }
    }
    let attempts = store.attempts_of_event(tenant(), event).await.expect("attempts");
    let mut numbers = Vec::new();
    for (delivery, attempts) in &attempts {
        let of = store.view(*delivery).await.subscription;
        numbers.push((of, attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>()));
    }
    numbers.sort();
    assert_eq!(numbers, [(one.id, vec![1, 2]), (two.id, vec![1])]);
}

async fn a_long_reason_is_shortened(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(2)).await;
    let mut claims = store.claims(&of).await;
    let reason = Reason::new("long", "x".repeat(1 << 20));
    let claim = claims.pop().expect("a claim");
    let outcome = record(claim.delivery(), Next::End { state: DeliveryState::Dead, reason: Some(reason.clone()) });
    store.finish(claim, outcome).await.expect("recorded");
    store.give_up(claims.pop().expect("a claim"), reason.clone()).await.expect("given up");
    for view in store.all_deliveries().await {
        assert_eq!(view.reason.as_ref(), Some(&*reason.bounded()));
    }
}
