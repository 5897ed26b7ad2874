//! Milestones of a tenant: reached once, and still reached when nothing of it is stored any more.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{end, record};
use crate::Milestones;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::{Subscription, TenantId};
use serde_json::json;
use std::time::Duration;

conformance! {
    milestones_are_reached_one_after_the_other,
    milestones_outlive_what_reached_them,
    milestones_are_of_one_tenant,
}

#[track_caller]
fn check(found: Milestones, accepted: bool, delivered: bool) {
    assert_eq!(found, Milestones { accepted, delivered });
}

async fn milestones(store: &TestStore) -> Milestones {
    store.milestones(tenant()).await.expect("milestones")
}

/// Ends the only due delivery of a subscription.
async fn end_one(store: &TestStore, of: &Subscription, state: DeliveryState) {
    let claim = store.claim(of).await;
    let outcome = record(claim.delivery(), end(state));
    store.finish(claim, outcome).await.expect("recorded");
}

async fn milestones_are_reached_one_after_the_other(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    check(milestones(store).await, false, false);
    store.take_one("").await;
    check(milestones(store).await, true, false);
    for state in [DeliveryState::Dead, DeliveryState::Dropped, DeliveryState::Cancelled] {
        end_one(store, &of, state).await;
        check(milestones(store).await, true, false);
        store.take_one("").await;
    }
    end_one(store, &of, DeliveryState::Delivered).await;
    check(milestones(store).await, true, true);
}

async fn milestones_outlive_what_reached_them(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("").await;
    end_one(store, &of, DeliveryState::Delivered).await;
    store.pass(48 * HOUR_MS);
    store.prune(Duration::from_secs(86_400)).await.expect("pruned");
    assert!(store.all_deliveries().await.is_empty());
    check(milestones(store).await, true, true);
    store.reopen().await;
    check(milestones(store).await, true, true);
}

async fn milestones_are_of_one_tenant(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    let of = store.subscribe(json!({})).await;
    store.take_one("").await;
    end_one(store, &of, DeliveryState::Delivered).await;
    check(store.milestones(other).await.expect("milestones"), false, false);
    check(store.milestones(TenantId("unknown".into())).await.expect("milestones"), false, false);
}
