//! Pages of due deliveries, and the claims on them.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, contact, end, many, operator, record};
use crate::{AttemptClass, Caps, NewEvent, StateChange};
use bytes::Bytes;
use hookloom_model::delivery::{DeliveryState, Reason};
use serde_json::json;

conformance! {
    a_due_delivery_is_claimed_once,
    a_page_ends_at_its_limit,
    a_page_ends_at_its_size,
    a_page_names_the_next_due_time,
    deliveries_come_by_their_due_times,
    first_attempts_and_retries_have_pages_of_their_own,
    a_claim_ends_by_an_outcome,
    a_claim_ends_by_giving_up,
    a_claim_ends_by_its_release,
    a_claimed_delivery_stays_claimed_when_an_operator_retries_it,
    a_claim_has_the_delivery_as_it_is_stored,
    a_pause_does_not_count_as_age,
}

async fn a_due_delivery_is_claimed_once(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let other = store.subscribe(json!({})).await;
    store.take(many(3)).await;
    let held = store.page(&of, AttemptClass::First, 2).await.due;
    let rest = store.page(&of, AttemptClass::First, 9).await;
    let mut all: Vec<_> = held.iter().chain(&rest.due).map(|due| due.delivery().id).collect();
    all.sort();
    all.dedup();
    assert_eq!((held.len(), rest.due.len(), all.len()), (2, 1, 3));
    assert_eq!(store.page(&of, AttemptClass::First, 9).await.due.len(), 0);
    assert_eq!(store.page(&other, AttemptClass::First, 9).await.due.len(), 3, "lanes are apart");
}

async fn a_page_ends_at_its_limit(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let events = store.take(many(5)).await;
    let page = store.page(&of, AttemptClass::First, 3).await;
    let found: Vec<_> = page.due.iter().map(|due| due.event.id).collect();
    assert_eq!(found, events[..3].iter().map(|one| one.event).collect::<Vec<_>>());
    assert_eq!((page.more, page.next_due_at_ms), (true, None));
    let rest = store.page(&of, AttemptClass::First, 2).await;
    assert_eq!((rest.due.len(), rest.more, rest.next_due_at_ms), (2, false, None));
}

async fn a_page_ends_at_its_size(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let payload = Bytes::from(vec![b' '; 600 << 10]);
    store.take(vec![NewEvent { payload, ..contact("") }; 4]).await;
    let page = store.page(&of, AttemptClass::First, 9).await;
    assert!(page.more && (1..4).contains(&page.due.len()), "{} due", page.due.len());
    let rest = store.page(&of, AttemptClass::First, 9).await;
    assert!(!rest.due.is_empty(), "a page has at least one delivery");
}

async fn a_page_names_the_next_due_time(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(3)).await;
    let first = store.now_ms() + HOUR_MS;
    for (claim, at_ms) in store.claims(&of).await.into_iter().zip([first + 2, first, first + 1]) {
        let outcome = record(claim.delivery(), again(at_ms));
        store.finish(claim, outcome).await.expect("recorded");
    }
    let page = store.page(&of, AttemptClass::Retry, 9).await;
    assert_eq!((page.due.len(), page.more, page.next_due_at_ms), (0, false, Some(first)));
    assert_eq!(store.page(&of, AttemptClass::First, 9).await.next_due_at_ms, None);
    store.pass(HOUR_MS);
    let page = store.page(&of, AttemptClass::Retry, 9).await;
    assert_eq!((page.due.len(), page.more, page.next_due_at_ms), (1, false, Some(first + 1)));
}

async fn deliveries_come_by_their_due_times(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(4)).await;
    let mut expected = Vec::new();
    for (claim, minute) in store.claims(&of).await.into_iter().zip([3, 1, 2, 1]) {
        let delivery = claim.delivery().clone();
        expected.push((minute, delivery.id));
        store.finish(claim, record(&delivery, again(store.now_ms() + minute * 60_000))).await.expect("recorded");
    }
    expected.sort();
    store.pass(HOUR_MS);
    let found: Vec<_> = store.claims(&of).await.iter().map(|claim| claim.delivery().id).collect();
    assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

async fn first_attempts_and_retries_have_pages_of_their_own(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let outcome = record(claim.delivery(), again(store.now_ms()));
    let attempted = claim.delivery().id;
    store.finish(claim, outcome).await.expect("recorded");
    store.take_one("2").await;
    let first = store.page(&of, AttemptClass::First, 9).await.due;
    let retries = store.page(&of, AttemptClass::Retry, 9).await.due;
    assert_eq!((first.len(), retries.len(), retries[0].delivery().id), (1, 1, attempted));
    assert_eq!((first[0].delivery().attempts_made, retries[0].delivery().attempts_made), (0, 1));
}

async fn a_claim_ends_by_an_outcome(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let outcome = record(claim.delivery(), again(store.now_ms()));
    store.finish(claim, outcome).await.expect("recorded");
    let claim = store.claim(&of).await;
    assert_eq!((claim.delivery().attempts_made, claim.delivery().attempts_in_budget), (1, 1));
    let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
    store.finish(claim, outcome).await.expect("recorded");
    assert_eq!(store.claims(&of).await.len(), 0);
}

async fn a_claim_ends_by_giving_up(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let id = claim.delivery().id;
    store.give_up(claim, Reason::new("too-old", "it waited too long")).await.expect("given up");
    let (view, attempts) = store.delivery(tenant(), id).await.expect("the delivery");
    assert_eq!((view.state, view.due_at_ms, view.attempts_made), (DeliveryState::Dead, None, 0));
    assert_eq!((view.reason.expect("a reason").code, attempts.len()), ("too-old".to_owned(), 0));
    assert_eq!(store.claims(&of).await.len(), 0);
    store.retry(operator(), tenant(), id).await.expect("retried");
    assert_eq!(store.claim(&of).await.delivery().id, id, "its claim has ended");
}

async fn a_claim_ends_by_its_release(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let before = claim.delivery().clone();
    claim.release();
    let claim = store.claim(&of).await;
    assert_eq!(*claim.delivery(), before);
    drop(claim);
    assert_eq!(*store.claim(&of).await.delivery(), before);
}

async fn a_claimed_delivery_stays_claimed_when_an_operator_retries_it(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.accept(tenant(), vec![contact("1")], Caps::NONE).await.expect("accepted");
    let published = store.store_events();
    let id = store.all_deliveries().await[0].id;
    store.retry(operator(), tenant(), id).await.expect("retried");
    assert_eq!(store.claims(&of).await.len(), 0, "the intake holds its claim");
    drop(published);
    assert_eq!(store.claims(&of).await.len(), 1);
}

async fn a_claim_has_the_delivery_as_it_is_stored(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    let view = store.view(claim.delivery().id).await;
    assert_eq!((claim.delivery().event, claim.delivery().subscription), (view.event, of.id));
    assert_eq!((claim.delivery().kind, &claim.delivery().tenant), (view.kind, &tenant()));
    assert_eq!(claim.delivery().age_from_ms, view.created_at_ms);
    let event = store.event_of(claim.delivery()).await.expect("a read").expect("the event");
    assert_eq!((event.id, event.entity_id.as_deref()), (view.event, Some("1")));
}

async fn a_pause_does_not_count_as_age(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let before = store.claim(&of).await.delivery().age_from_ms;
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    store.pass(60_000);
    let paused = store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused");
    assert_eq!(paused.state_reason.as_deref(), Some("maintenance"));
    store.pass(HOUR_MS);
    store.reopen().await;
    let resumed = store.resume(of.id).await;
    assert_eq!(resumed.state_reason, None);
    assert_eq!(store.claim(&resumed).await.delivery().age_from_ms, before + HOUR_MS);
    store.reopen().await;
    assert_eq!(store.claim(&store.current(of.id)).await.delivery().age_from_ms, before + HOUR_MS);
}
