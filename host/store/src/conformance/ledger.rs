//! Conservation law of the ledger, after every step of a long life.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, contact, end, many, operator, record};
use crate::{Ledger, Span, StateChange};
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::subscription::TenantId;
use serde_json::json;
use std::time::Duration;

conformance! {
    the_law_holds_after_everything,
    the_ledger_of_a_tenant_is_its_own,
    pending_deliveries_are_counted_by_subscription,
}

const EVERYTHING: Span = Span { from_ms: 0, to_ms: i64::MAX };

async fn the_law_holds_after_everything(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let two = store.subscribe(json!({"ordering": {"on_failure": "block"}})).await;
    store.take(vec![contact("1"), contact("1"), contact("2")]).await;
    store.lawful_ledger().await;
    let nexts = [end(DeliveryState::Delivered), end(DeliveryState::Dead), again(store.now_ms())];
    for (claim, next) in store.claims(&one).await.into_iter().zip(nexts) {
        let outcome = record(claim.delivery(), next);
        store.finish(claim, outcome).await.expect("recorded");
        store.lawful_ledger().await;
    }
    let claim = store.claims(&two).await.remove(0);
    let delivery = claim.delivery().id;
    store.give_up(claim, Reason::new("test", "given up")).await.expect("given up");
    store.retry(operator(), tenant(), delivery).await.expect("retried");
    store.cancel(operator(), tenant(), delivery).await.expect("cancelled");
    store.replay(operator(), &one, EVERYTHING).await.expect("replayed");
    store.test(operator(), &two, contact("3")).await.expect("a test");
    let states = vec![DeliveryState::Dead, DeliveryState::Cancelled];
    store.redrive(operator(), &one, states.clone(), EVERYTHING).await.expect("redriven");
    store.lawful_ledger().await;
    store.disable(one.id).await;
    store.lawful_ledger().await;
    store.resume(one.id).await;
    store.redrive(operator(), &one, states, EVERYTHING).await.expect("redriven");
    store.delete_subscription(operator(), &tenant(), two.id).await.expect("deleted");
    let before = store.lawful_ledger().await;
    assert_eq!((before.fan_out, before.replayed, before.tests, before.events), (6, 3, 1, 5), "with one host event");
    store.reopen().await;
    assert_eq!(store.lawful_ledger().await, before);
    store.pass(48 * HOUR_MS);
    store.prune(Duration::from_secs(3_600)).await.expect("pruned");
    let after = store.lawful_ledger().await;
    assert_eq!((after.fan_out, after.replayed, after.tests), (6, 3, 1));
    assert_eq!(after.events + after.pruned.events, 5);
    store.reopen().await;
    assert_eq!(store.lawful_ledger().await, after);
}

async fn the_ledger_of_a_tenant_is_its_own(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    store.subscribe(json!({})).await;
    store.take(many(2)).await;
    assert_eq!(store.ledger(other).await.expect("a ledger"), Ledger::default());
    assert_eq!(store.ledger(TenantId("nobody".into())).await.expect("a ledger"), Ledger::default());
    assert_eq!(store.lawful_ledger().await.pending, 2);
}

async fn pending_deliveries_are_counted_by_subscription(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let two = store.subscribe(json!({})).await;
    store.take(many(2)).await;
    let first = store.all_deliveries().await.pop().expect("the oldest delivery");
    for claim in store.claims(&one).await {
        let outcome = record(claim.delivery(), end(DeliveryState::Delivered));
        store.finish(claim, outcome).await.expect("recorded");
    }
    let pause = StateChange::Pause { reason: "test".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), two.id, pause).await.expect("paused");
    let pending = store.pending(&tenant());
    assert_eq!((pending.len(), pending.get(&two.id)), (1, Some(&2)), "{pending:?}");
    let oldest = store.oldest_pending(tenant(), vec![one.id, two.id]).await.expect("times");
    assert_eq!(oldest.keys().collect::<Vec<_>>(), [&two.id]);
    let made_ms = oldest[&two.id];
    assert!(made_ms >= first.id.made_at_ms());
    assert_eq!(store.oldest_pending_for_host(tenant()).await.expect("a time"), Some(made_ms));
    store.reopen().await;
    assert_eq!(store.pending(&tenant()), pending);
    store.delete_subscription(operator(), &tenant(), two.id).await.expect("deleted");
    assert!(store.pending(&tenant()).is_empty());
    assert_eq!(store.oldest_pending_for_host(tenant()).await.expect("no time"), None);
}
