//! Deliveries that wait for another plugin version or config.

use super::test_store::{TestStore, tenant};
use super::test_values::{
    AGE_END_MS, attempt, await_plugin, component, many, operator, record, settings, subscription_of, version,
};
use crate::{Actor, AttemptClass, AttemptRecord, DeliveryView, Span, StoreEvent};
use futures_util::future::join_all;
use hookloom_model::delivery::{Attempt, DeliveryState, DueDelivery, Reason};
use hookloom_model::subscription::Subscription;
use serde_json::json;
use std::sync::Arc;

conformance! {
    a_delivery_waits_until_its_age_limit,
    a_version_that_came_meanwhile_is_tried_at_once,
    a_config_that_came_meanwhile_is_tried_at_once,
    a_pinned_version_does_not_become_another_one,
    an_activation_makes_waiting_deliveries_due,
    an_edit_makes_waiting_deliveries_due,
    many_waiting_deliveries_become_due_by_a_sweep,
    a_delivery_that_was_judged_after_the_change_waits_for_the_next_one,
    a_delivery_that_ended_does_not_wait,
}

async fn upload(store: &TestStore, text: &'static str) {
    let uploaded = store.activate_plugin(Actor::Host, tenant(), "p".into(), version(text), component(text), || ());
    uploaded.await.expect("active");
}

/// Subscribes with a plugin whose active version is `a`.
async fn with_plugin(store: &TestStore) -> Arc<Subscription> {
    upload(store, "a").await;
    store.subscribe(json!({"plugin": "p"})).await
}

/// Returns an attempt that the version of a component has judged.
fn judged(delivery: &DueDelivery, text: &'static str, arm: &str) -> Attempt {
    let step = json!({"plugin": "p", "sha256": version(text).sha256, "arm": arm, "verdict": "fault", "reason": null,
        "cost": {"wall_us": 0, "cpu_us": 0, "memory_bytes": 0, "host_calls": 0}});
    Attempt { steps: vec![serde_json::from_value(step).expect("a step")], ..attempt(delivery) }
}

/// Records that a plugin's fault lets a delivery wait, and returns the delivery.
async fn fault(store: &TestStore, delivery: DueDelivery, attempt: Attempt) -> DeliveryView {
    let outcome = AttemptRecord { attempt, next: await_plugin(), age_end_ms: AGE_END_MS, disables: None };
    store.seam().record(&delivery, Arc::new(outcome)).await.expect("recorded");
    store.view(delivery.id).await
}

fn is_waiting(view: &DeliveryView) -> bool {
    assert_eq!(view.awaiting_plugin, view.due_at_ms == Some(AGE_END_MS), "{view:?}");
    view.awaiting_plugin
}

async fn a_delivery_waits_until_its_age_limit(store: &mut TestStore) {
    let of = with_plugin(store).await;
    store.take_one("1").await;
    let delivery = store.claim(&of).await.delivery().clone();
    let view = fault(store, delivery.clone(), judged(&delivery, "a", "active")).await;
    assert!(is_waiting(&view));
    assert_eq!((view.state, view.attempts_made), (DeliveryState::Pending, 1));
    assert_eq!(view.reason.expect("a reason").code, "trap");
    assert_eq!(store.claims(&of).await.len(), 0);
    let page = store.page(&of, AttemptClass::Retry, 9).await;
    assert_eq!(page.next_due_at_ms, Some(AGE_END_MS));
}

async fn a_version_that_came_meanwhile_is_tried_at_once(store: &mut TestStore) {
    let of = with_plugin(store).await;
    store.take_one("1").await;
    let delivery = store.claim(&of).await.delivery().clone();
    upload(store, "b").await;
    let view = fault(store, delivery.clone(), judged(&delivery, "a", "active")).await;
    assert!(!is_waiting(&view));
    assert_eq!((view.due_at_ms, view.attempts_made), (Some(store.now_ms()), 1));
    let delivery = store.claim(&of).await.delivery().clone();
    let view = fault(store, delivery.clone(), judged(&delivery, "b", "active")).await;
    assert!(is_waiting(&view), "no other version has come");
}

async fn a_config_that_came_meanwhile_is_tried_at_once(store: &mut TestStore) {
    let of = with_plugin(store).await;
    store.take_one("1").await;
    let delivery = store.claim(&of).await.delivery().clone();
    let new = subscription_of(settings(json!({"plugin": "p", "config": {"a": "b"}})));
    let edited = store.update_subscription(operator(), &of, new).await.expect("edited");
    assert_eq!(edited.generation, 2);
    assert!(!is_waiting(&fault(store, delivery.clone(), judged(&delivery, "a", "active")).await));
    let delivery = store.claim(&edited).await.delivery().clone();
    let attempt = Attempt { config_generation: 2, ..judged(&delivery, "a", "active") };
    assert!(is_waiting(&fault(store, delivery, attempt).await), "no other config has come");
}

async fn a_pinned_version_does_not_become_another_one(store: &mut TestStore) {
    let of = with_plugin(store).await;
    store.take(many(2)).await;
    upload(store, "b").await;
    for (claim, arm) in store.claims(&of).await.into_iter().zip(["pinned", "canary"]) {
        let delivery = claim.delivery().clone();
        let view = fault(store, delivery.clone(), judged(&delivery, "a", arm)).await;
        assert!(is_waiting(&view), "the {arm} version is not the active one, and has not changed");
    }
}

async fn an_activation_makes_waiting_deliveries_due(store: &mut TestStore) {
    let of = with_plugin(store).await;
    let other = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let mut waiting = Vec::new();
    for of in [&of, &other] {
        let delivery = store.claim(of).await.delivery().clone();
        waiting.push(delivery.id);
        assert!(is_waiting(&fault(store, delivery.clone(), attempt(&delivery)).await));
    }
    store.pass(60_000);
    drop(store.store_events());
    upload(store, "b").await;
    let view = store.view(waiting[0]).await;
    assert!(!is_waiting(&view));
    assert_eq!(view.due_at_ms, Some(store.now_ms()));
    assert!(is_waiting(&store.view(waiting[1]).await), "another subscription does not use the plugin");
    let published = store.store_events();
    assert!(published.iter().any(|event| matches!(event, StoreEvent::Changed(id) if *id == of.id)), "{published:?}");
    assert_eq!(store.claim(&of).await.delivery().id, waiting[0]);
}

async fn an_edit_makes_waiting_deliveries_due(store: &mut TestStore) {
    let of = with_plugin(store).await;
    let other = store.subscribe(json!({"plugin": "p"})).await;
    store.take_one("1").await;
    for of in [&of, &other] {
        let delivery = store.claim(of).await.delivery().clone();
        assert!(is_waiting(&fault(store, delivery.clone(), judged(&delivery, "a", "active")).await));
    }
    let new = subscription_of(settings(json!({"plugin": "p"})));
    let edited = store.update_subscription(operator(), &of, new).await.expect("edited");
    assert_eq!((store.claims(&edited).await.len(), store.claims(&other).await.len()), (1, 0));
}

async fn many_waiting_deliveries_become_due_by_a_sweep(store: &mut TestStore) {
    const MANY: usize = 300;
    let of = with_plugin(store).await;
    store.take(many(MANY)).await;
    let claims = store.claims(&of).await;
    let finished = claims.into_iter().map(|claim| {
        let outcome = record(claim.delivery(), await_plugin());
        store.finish(claim, outcome)
    });
    assert!(join_all(finished).await.iter().all(Result::is_ok));
    assert_eq!(store.claims(&of).await.len(), 0);
    store.pass(60_000);
    upload(store, "b").await;
    let at_once = store.claims(&of).await.len();
    assert!((1..MANY).contains(&at_once), "the transaction of the change is bounded: {at_once}");
    store.reopen().await;
    assert!(store.seam().next_sweep().await.expect("a read").is_some(), "the rest is left, also for the next start");
    store.sweep().await.expect("swept");
    assert_eq!(store.claims(&of).await.len(), MANY);
    assert!(store.seam().next_sweep().await.expect("a read").is_none());
    assert!(store.all_deliveries().await.iter().all(|view| !view.awaiting_plugin));
}

async fn a_delivery_that_was_judged_after_the_change_waits_for_the_next_one(store: &mut TestStore) {
    let of = with_plugin(store).await;
    store.take(many(2)).await;
    let mut claims = store.claims(&of).await;
    let changed_at_ms = store.now_ms();
    let [early, late] = [claims.remove(0), claims.remove(0)].map(|claim| claim.delivery().clone());
    fault(store, early.clone(), attempt(&early)).await;
    store.pass(60_000);
    fault(store, late.clone(), attempt(&late)).await;
    let ids = vec![early.id, late.id];
    assert_eq!(store.seam().waiting(&tenant(), of.id, None).await.expect("a read"), ids);
    assert_eq!(store.seam().waiting(&tenant(), of.id, Some(early.id)).await.expect("a read"), ids[1..]);
    store.seam().make_due(&tenant(), of.id, ids, changed_at_ms).await.expect("made due");
    assert!(!is_waiting(&store.view(early.id).await) && is_waiting(&store.view(late.id).await));
}

async fn a_delivery_that_ended_does_not_wait(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(3)).await;
    let waiting: Vec<DueDelivery> = store.claims(&of).await.iter().map(|claim| claim.delivery().clone()).collect();
    for delivery in &waiting {
        assert!(is_waiting(&fault(store, delivery.clone(), attempt(delivery)).await));
    }
    store.seam().give_up(&waiting[0], Reason::new("too-old", "it waited too long")).await.expect("given up");
    store.cancel(operator(), tenant(), waiting[1].id).await.expect("cancelled");
    store.disable(of.id).await;
    for view in store.all_deliveries().await {
        assert!(view.state != DeliveryState::Pending && !view.awaiting_plugin, "{view:?}");
    }
    store.resume(of.id).await;
    let everything = Span { from_ms: 0, to_ms: i64::MAX };
    let states = vec![DeliveryState::Dead, DeliveryState::Cancelled];
    assert_eq!(store.redrive(operator(), &of, states, everything).await.expect("redriven"), 3);
    assert!(store.all_deliveries().await.iter().all(|view| view.due_at_ms.is_some() && !view.awaiting_plugin));
    assert!(store.seam().waiting(&tenant(), of.id, None).await.expect("a read").is_empty());
}
