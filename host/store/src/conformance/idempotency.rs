//! Idempotency keys: a repeated request gets the answer of the first one.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{contact, many};
use crate::{AcceptedOnce, Caps, Repeatable, StoreError, StoreLimits};
use hookloom_model::subscription::TenantId;
use serde_json::json;
use std::time::Duration;

conformance! {
    a_repetition_gets_the_answer_of_the_first_request,
    a_key_is_not_used_for_another_body,
    a_key_belongs_to_its_tenant,
    a_refused_request_leaves_its_key_free,
    a_repetition_is_answered_when_more_subscriptions_match,
    keys_are_kept_for_a_week,
}

fn request(key: &str, body: u8) -> Repeatable {
    Repeatable { key: key.into(), body_sha256: [body; 32] }
}

async fn once(store: &TestStore, key: &str, count: usize) -> Result<AcceptedOnce, StoreError> {
    store.accept_once(request(key, 1), tenant(), many(count), Caps::NONE).await
}

async fn a_repetition_gets_the_answer_of_the_first_request(store: &mut TestStore) {
    store.subscribe(json!({})).await;
    let first = once(store, "a", 2).await.expect("accepted");
    assert!(!first.is_repetition && first.events.len() == 2);
    store.subscribe(json!({})).await;
    let second = once(store, "a", 2).await.expect("repeated");
    assert_eq!((second.is_repetition, &second.events), (true, &first.events));
    store.reopen().await;
    assert_eq!(once(store, "a", 2).await.expect("repeated"), second);
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.events, ledger.fan_out), (2, 2));
    assert!(!once(store, "b", 1).await.expect("accepted").is_repetition);
}

async fn a_key_is_not_used_for_another_body(store: &mut TestStore) {
    once(store, "a", 1).await.expect("accepted");
    let reused = store.accept_once(request("a", 2), tenant(), many(1), Caps::NONE).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)), "{reused:?}");
    let answer = store.seam().answer(tenant(), request("a", 2)).await;
    assert!(matches!(answer, Err(StoreError::KeyReused)));
    assert!(store.seam().answer(tenant(), request("b", 2)).await.expect("no answer").is_none());
    assert_eq!(store.lawful_ledger().await.events, 1);
}

async fn a_key_belongs_to_its_tenant(store: &mut TestStore) {
    let other: TenantId = store.add_tenant("u").await;
    let first = once(store, "a", 1).await.expect("accepted");
    let second = store.accept_once(request("a", 2), other, many(1), Caps::NONE).await.expect("accepted");
    assert!(!second.is_repetition && second.events != first.events);
}

async fn a_refused_request_leaves_its_key_free(store: &mut TestStore) {
    let full = Caps { events: 0, bytes: u64::MAX };
    let refused = store.accept_once(request("a", 1), tenant(), many(1), full).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))), "{refused:?}");
    let other = store.accept_once(request("a", 2), tenant(), many(1), Caps::NONE).await.expect("accepted");
    assert!(!other.is_repetition);
    // A repetition is answered even if the share is used up by now.
    let repeated = store.accept_once(request("a", 2), tenant(), many(1), full).await.expect("repeated");
    assert_eq!((repeated.is_repetition, repeated.events), (true, other.events));
}

async fn a_repetition_is_answered_when_more_subscriptions_match(store: &mut TestStore) {
    store.reopen_with(StoreLimits { request_deliveries_max: 2, ..StoreLimits::default() }).await;
    store.subscribe(json!({})).await;
    let first = once(store, "a", 2).await.expect("accepted");
    store.subscribe(json!({})).await;
    assert!(matches!(once(store, "b", 2).await, Err(StoreError::TooManyDeliveries { .. })));
    assert_eq!(once(store, "a", 2).await.expect("repeated").events, first.events);
}

async fn keys_are_kept_for_a_week(store: &mut TestStore) {
    let first = once(store, "old", 1).await.expect("accepted");
    store.pass(24 * HOUR_MS);
    once(store, "young", 1).await.expect("accepted");
    store.pass(6 * 24 * HOUR_MS - HOUR_MS);
    store.prune(Duration::ZERO).await.expect("pruned");
    assert_eq!(once(store, "old", 1).await.expect("repeated").events, first.events);
    store.pass(2 * HOUR_MS);
    store.prune(Duration::ZERO).await.expect("pruned");
    assert!(once(store, "young", 1).await.expect("repeated").is_repetition);
    assert!(!once(store, "old", 1).await.expect("accepted").is_repetition, "its key is forgotten");
    assert_eq!(store.take(vec![contact("1")]).await.len(), 1);
}
