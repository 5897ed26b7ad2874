//! Steps of the wall clock: due times move with it.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, many, record};
use crate::AttemptClass;
use crate::backend::upkeep::ClockStep;
use hookloom_model::subscription::Subscription;
use serde_json::json;
use uuid::Uuid;

conformance! {
    due_times_move_with_a_clock_that_is_set_back,
    each_class_is_moved_alone,
    many_due_times_are_moved_once,
    a_delivery_of_the_corrected_clock_is_not_moved,
    a_delivery_is_due_when_the_clock_is_set_forward,
}

/// Sets the clock back by an hour, and returns the step.
fn set_back(store: &TestStore) -> ClockStep {
    store.set_wall(-HOUR_MS);
    ClockStep { now_ms: store.now_ms(), back_ms: HOUR_MS }
}

/// Moves the due times of a class, and returns the number of steps.
async fn move_all(store: &TestStore, of: &Subscription, class: AttemptClass, step: ClockStep) -> usize {
    let mut after = (step.now_ms, Uuid::max());
    for steps in 0.. {
        let moved = store.seam().move_due(&tenant(), of.id, class, step, after).await.expect("moved");
        let Some((next, _)) = moved else { return steps };
        assert!(next > after, "a step comes after the one before");
        after = next;
    }
    unreachable!()
}

async fn due_times_move_with_a_clock_that_is_set_back(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(2)).await;
    let before = store.now_ms();
    for (claim, wait_ms) in store.claims(&of).await.into_iter().zip([60_000, 3 * HOUR_MS]) {
        let outcome = record(claim.delivery(), again(before + wait_ms));
        store.finish(claim, outcome).await.expect("recorded");
    }
    store.pass(10_000);
    let step = set_back(store);
    move_all(store, &of, AttemptClass::Retry, step).await;
    let page = store.page(&of, AttemptClass::Retry, 9).await;
    assert_eq!((page.due.len(), page.next_due_at_ms), (0, Some(before + 60_000 - HOUR_MS)));
    let mut due: Vec<_> = store.all_deliveries().await.iter().map(|view| view.due_at_ms).collect();
    due.sort();
    assert_eq!(due, [60_000, 3 * HOUR_MS].map(|wait_ms| Some(before + wait_ms - HOUR_MS)));
    store.pass(60_000);
    let claim = store.claim(&of).await;
    assert!(claim.delivery().age_from_ms <= step.now_ms, "it has no age in the future");
}

async fn each_class_is_moved_alone(store: &mut TestStore) {
    let of = store.subscribe(json!({"retry": {"schedule_s": [7_200]}})).await;
    store.take(many(2)).await;
    let due = store.all_deliveries().await[0].due_at_ms.expect("a time");
    store.pass(10_000);
    let step = set_back(store);
    assert_eq!(move_all(store, &of, AttemptClass::Retry, step).await, 0);
    assert!(store.all_deliveries().await.iter().all(|view| view.due_at_ms == Some(due)));
    assert_eq!(move_all(store, &of, AttemptClass::First, step).await, 1);
    assert!(store.all_deliveries().await.iter().all(|view| view.due_at_ms == Some(due - HOUR_MS)));
}

async fn many_due_times_are_moved_once(store: &mut TestStore) {
    let of = store.subscribe(json!({"retry": {"schedule_s": [36_000]}})).await;
    let other = store.subscribe(json!({"retry": {"schedule_s": [36_000]}})).await;
    store.take(many(600)).await;
    let due = store.all_deliveries().await[0].due_at_ms.expect("a time");
    store.pass(10_000);
    let step = set_back(store);
    assert!(move_all(store, &of, AttemptClass::First, step).await > 1);
    for view in store.all_deliveries().await {
        let expected = if view.subscription == other.id { due } else { due - HOUR_MS };
        assert_eq!(view.due_at_ms, Some(expected));
    }
}

async fn a_delivery_of_the_corrected_clock_is_not_moved(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    store.pass(10_000);
    let step = set_back(store);
    store.pass(1_000);
    let at_ms = store.now_ms() + 2 * HOUR_MS;
    let claims = store.claims(&of).await;
    assert_eq!(claims.len(), 0, "it was due by the former clock");
    move_all(store, &of, AttemptClass::First, step).await;
    let claim = store.claim(&of).await;
    let id = claim.delivery().id;
    let outcome = record(claim.delivery(), again(at_ms));
    store.finish(claim, outcome).await.expect("recorded");
    move_all(store, &of, AttemptClass::Retry, step).await;
    assert_eq!(store.view(id).await.due_at_ms, Some(at_ms));
}

async fn a_delivery_is_due_when_the_clock_is_set_forward(store: &mut TestStore) {
    let of = store.subscribe(json!({"retry": {"schedule_s": [3_600]}})).await;
    store.take_one("1").await;
    assert_eq!(store.claims(&of).await.len(), 0);
    store.set_wall(2 * HOUR_MS);
    assert_eq!(store.claims(&of).await.len(), 1);
}
