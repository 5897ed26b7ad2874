//! Restarts: everything that was committed is there again.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, contact, end, operator, record, settings, subscription_of};
use crate::{AttemptClass, StateChange};
use hookloom_model::delivery::DeliveryState;
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{Subscription, SubscriptionState};
use serde_json::json;

conformance! {
    subscriptions_survive_a_restart,
    deliveries_survive_a_restart,
    claims_do_not_survive_a_restart,
    new_ids_follow_those_of_an_earlier_start,
    a_healthy_store_has_no_faults,
}

/// Returns what people see of a subscription, and its secrets.
fn shown(of: &Subscription) -> String {
    let signing: Vec<_> = of.signing.iter().map(|key| (key.secret.public_key(), key.until_ms)).collect();
    let secrets = of.settings.secrets().iter().map(|(name, secret)| (name, secret.expose().to_vec()));
    let secrets: Vec<_> = secrets.collect();
    format!("{of:?} {signing:?} {secrets:?}")
}

async fn subscriptions_survive_a_restart(store: &mut TestStore) {
    let keys = vec![
        SigningKey::current(SigningSecret::generate_pair()),
        SigningKey { until_ms: Some(9), ..SigningKey::current(SigningSecret::generate()) },
    ];
    let of = store.subscribe(json!({"description": "é", "headers": {"a": "{{secret:token}}"}})).await;
    let of = store.rotate_signing_keys(operator(), &of, keys).await.expect("rotated");
    let other = store.subscribe(json!({"retry": {"schedule_s": [0, 5]}, "rate_per_s": 3})).await;
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused");
    store.disable(other.id).await;
    store.note_failing(&tenant(), other.id, Some(5)).await.expect("noted");
    let before = [of.id, other.id].map(|id| shown(&store.current(id)));
    store.reopen().await;
    assert_eq!([of.id, other.id].map(|id| shown(&store.current(id))), before);
    assert_eq!(store.current(of.id).state, SubscriptionState::Paused);
    assert_eq!(store.catalog().subscriptions(&tenant()).len(), 2);
    let edited = subscription_of(settings(json!({"description": "new"})));
    let edited = store.update_subscription(operator(), &store.current(of.id), edited).await.expect("edited");
    assert_eq!((edited.generation, edited.state), (3, SubscriptionState::Paused));
}

async fn deliveries_survive_a_restart(store: &mut TestStore) {
    let of = store.subscribe(json!({"ordering": {"on_failure": "block"}})).await;
    store.take(vec![contact("1"), contact("1"), contact("2"), contact("3")]).await;
    let at_ms = store.now_ms() + HOUR_MS;
    let nexts = [again(at_ms), end(DeliveryState::Dropped)];
    for (claim, next) in store.claims(&of).await.into_iter().zip(nexts) {
        let outcome = record(claim.delivery(), next);
        store.finish(claim, outcome).await.expect("recorded");
    }
    let before = format!("{:?}", store.all_deliveries().await);
    let ledger = store.lawful_ledger().await;
    let pending = store.pending(&tenant());
    store.reopen().await;
    assert_eq!(format!("{:?}", store.all_deliveries().await), before);
    assert_eq!((store.lawful_ledger().await, store.pending(&tenant())), (ledger, pending));
    for view in store.all_deliveries().await {
        let attempts = store.delivery(tenant(), view.id).await.expect("the delivery").1;
        assert_eq!(attempts.len(), view.attempts_made as usize);
    }
    let of = store.current(of.id);
    let page = store.page(&of, AttemptClass::First, 9).await;
    assert_eq!(page.due.len(), 1, "the second event of the first contact is blocked");
    assert_eq!(store.page(&of, AttemptClass::Retry, 9).await.next_due_at_ms, Some(at_ms));
}

async fn claims_do_not_survive_a_restart(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    store.reopen().await;
    let found = store.claim(&of).await;
    assert_eq!(found.delivery(), claim.delivery());
    drop(claim);
    assert_eq!(store.claims(&of).await.len(), 0, "a claim of the former host ends nothing");
}

async fn new_ids_follow_those_of_an_earlier_start(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(store.take_one("1").await.event);
        store.set_wall(-24 * HOUR_MS);
        store.reopen().await;
    }
    assert!(events.is_sorted());
    let deliveries: Vec<_> = store.all_deliveries().await.iter().map(|view| view.id).collect();
    assert!(deliveries.is_sorted_by(|newer, older| newer > older) && deliveries.len() == 3);
    assert_eq!(store.current(of.id).id, of.id);
}

async fn a_healthy_store_has_no_faults(store: &mut TestStore) {
    let key = store.compiled_cache_key();
    for _ in 0..2 {
        store.check().await.expect("it can read and write");
        assert_eq!((store.failed_commits(), store.folder_faults()), (0, Vec::new()));
        assert!(store.damage(None).is_empty() && store.damage(Some(&tenant())).is_empty());
        assert_eq!(store.compiled_cache_key(), key, "the key stays");
        store.reopen().await;
    }
}
