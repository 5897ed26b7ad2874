//! Tests that the counters of a backend equal its stored rows, after any sequence of operations.
//!
//! # Theory of operation
//! A backend that counts gives a [`CountedRows`], which counts its rows by other means than its counters, and runs the cases of this
//! module.

mod rest;
mod world;

use crate::caps::Caps;
use crate::{Actor, NewEvent, PluginVersion, Span, Store, StoreError, TenantChange, UsageKind};
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::inspector::RequestHead;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use proptest::prelude::*;
use std::collections::HashMap;
pub(crate) use world::{What, World, WorldStep, contact};

/// Share that some of the operations exceed.
pub(crate) const SHARE: Caps = Caps { events: 24, bytes: 60_000 };

/// Rows of a backend, and whatever must outlive its store.
#[async_trait]
pub(crate) trait CountedRows: Send + Sync {
    /// Panics unless the counters equal the stored rows.
    async fn check(&self, store: &Store);

    /// Counts the pending deliveries that are stored.
    async fn pending(&self, store: &Store) -> HashMap<(TenantId, SubscriptionId), u64>;
}

/// Returns sequences of operations.
pub(crate) fn sequences() -> impl Strategy<Value = Vec<WorldStep>> {
    proptest::collection::vec(world::step(), 1..120)
}

/// Case: the counters equal the stored rows.
pub(crate) async fn counters_equal_rows(world: World, steps: Vec<WorldStep>) {
    for step in steps {
        world.take(step).await;
    }
    world.check().await;
    world.store.delete_discarded().await.expect("the rest of plugins");
    world.check().await;
    // Nothing of a deleted tenant is left, and another tenant of its name begins at zero.
    let tenant = TenantId("t0".into());
    let contents = world.store.tenant_contents(tenant.clone()).await.expect("its contents");
    world.store.delete_tenant(Actor::Key("admin".into()), tenant.clone(), contents, || ()).await.expect("deleted");
    let (log, _) = world.store.changes(None, None, 1).await.expect("the host's log");
    assert_eq!((&*log[0].action, &*log[0].subject), ("tenant.delete", "t0"));
    world.store.delete_discarded().await.expect("the rest of the tenant");
    world.check().await;
    assert!(matches!(world.store.usage(tenant.clone()).await, Err(StoreError::NotFound(_))));
    world.store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("its name is free");
    world.check().await;
    assert_eq!(world.store.usage(tenant).await.expect("usage").bytes, 0);
}

/// Case: every kind is refused over the share, but outcomes and what frees.
pub(crate) async fn refused_over_the_share(world: World) {
    let store = &world.store;
    let tenant = TenantId("t0".into());
    world.take(WorldStep { tenant: 0, what: What::Subscribe, pick: 1, size: 0 }).await;
    world.take(WorldStep { tenant: 0, what: What::MakeBin, pick: 1, size: 0 }).await;
    world.take(WorldStep { tenant: 0, what: What::Upload, pick: 0, size: 0 }).await;
    store.accept(tenant.clone(), vec![contact(1, 50_000)], SHARE).await.expect("there is room");
    let subscription = world.subscription(&tenant, 0).expect("it");
    check_is_full(store.accept(tenant.clone(), vec![large_event()], SHARE).await.err());
    check_is_full(store.test(Actor::Host, &subscription, large_event()).await.err());
    let version = PluginVersion::example("f".repeat(64), 9_000);
    let upload = store.add_version(Actor::Host, tenant.clone(), "p0".into(), version, Bytes::from(vec![0; 9_000]));
    check_is_full(upload.await.err());
    let bin = store.bins(tenant.clone()).await.expect("bins").remove(0);
    let received = store.receive_in_bin(&tenant, &bin, RequestHead::default(), Bytes::from(vec![0; 9_000]));
    check_is_full(received.await.err());
    // Requests that are not sent again have a tenth more.
    store.reject(tenant.clone(), "no event".into(), Bytes::from(vec![0; 9_000]), false).await.expect("kept");
    store.accept(tenant.clone(), vec![contact(0, 10)], SHARE.with_a_tenth_more()).await.expect("a tenth more");
    world.check().await;
    // Outcomes are recorded and counted, even above the share.
    let before = store.usage(tenant.clone()).await.expect("usage");
    world.record(&subscription, 4, 30_000).await;
    let after = store.usage(tenant.clone()).await.expect("usage");
    assert!(after.of(UsageKind::Attempts) >= before.of(UsageKind::Attempts) + 30_000, "{after:?}");
    assert!(after.bytes > SHARE.bytes);
    world.check().await;
    // Operations that make work are refused. Operations that free space are not.
    let everything = Span { from_ms: 0, to_ms: i64::MAX };
    let redriven = store.redrive(Actor::Host, &subscription, vec![DeliveryState::Dead], everything).await;
    assert!(matches!(redriven, Err(StoreError::TenantFull(usage)) if usage.bytes > SHARE.bytes));
    store.delete_bin(Actor::Host, tenant.clone(), bin.id).await.expect("deleted");
    store.delete_plugin(Actor::Host, tenant.clone(), "p0".into(), || ()).await.expect("deleted");
    store.delete_discarded().await.expect("its component");
    let freed = store.usage(tenant).await.expect("usage");
    assert_eq!((freed.of(UsageKind::Bins), freed.of(UsageKind::Plugins)), (0, 0));
    world.check().await;
}

fn large_event() -> NewEvent {
    contact(2, 9_000)
}

fn check_is_full(refused: Option<StoreError>) {
    match refused {
        Some(StoreError::TenantFull(usage)) => {
            assert!(usage.bytes <= SHARE.bytes && usage.bytes_max == SHARE.bytes);
            assert!(usage.largest().starts_with("events 50,"), "{}", usage.largest());
        }
        other => panic!("not refused for lack of room: {other:?}"),
    }
}
