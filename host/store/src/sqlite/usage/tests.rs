//! Tests that the counters equal the stored rows, after any sequence of operations.

mod world;

use super::*;
use crate::caps::Caps;
use crate::{Actor, NewEvent, PluginVersion, Span, Store, StoreLimits, TenantChange};
use bytes::Bytes;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::inspector::RequestHead;
use proptest::prelude::*;
use world::{What, World, WorldStep, contact, step};

/// Share that some of the operations exceed.
const SHARE: Caps = Caps { events: 24, bytes: 60_000 };

#[test]
fn every_table_counts_or_says_why_not() {
    let mut connection = Connection::open_in_memory().expect("a database");
    crate::sqlite::schema::migrate(&mut connection).expect("the schema");
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(sql).expect("a query");
    let tables = statement.query_map([], |row| row.get::<_, String>(0)).expect("tables");
    let tables: std::collections::BTreeSet<String> = tables.map(|table| table.expect("a name")).collect();
    let known = COUNTED.iter().map(|counted| counted.table).chain(NOT_COUNTED.iter().map(|(table, _)| *table));
    assert_eq!(tables, known.map(str::to_owned).collect());
}

#[test]
fn data_of_an_older_host_is_counted_at_the_first_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        |share| Store::open_with(folder.path(), StoreLimits { share, ..StoreLimits::default() }).expect("a store").0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tenant = TenantId("t".into());
    let before = runtime.block_on(async {
        let store = store(Caps::NONE);
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        store.accept(tenant.clone(), vec![contact(1, 100)], Caps::NONE).await.expect("accepted");
        store.usage(tenant.clone()).await.expect("usage")
    });
    let connection = Connection::open(folder.path().join("hookloom.db")).expect("the database");
    let forget = "DROP TRIGGER usage_events_delete; UPDATE ledgers SET bytes_of_events = 7, bytes_of_bins = 8";
    connection.execute_batch(forget).expect("forgotten");
    drop(connection);
    runtime.block_on(async {
        let store = store(Caps::NONE);
        assert_eq!(store.usage(tenant).await.expect("usage"), before);
        assert!(before.of(UsageKind::Events) > 100 && before.of(UsageKind::Bins) == 0);
    });
}

/// Tables that do not count, with the reason.
const NOT_COUNTED: [(&str, &str); 9] = [
    ("identity", "one row of the host"),
    ("readiness", "one row of the host"),
    ("tenants", "bounded, and only admins write it"),
    ("ledgers", "one row of fixed size for each tenant"),
    ("plugin_files", "one short row for each file that the operator puts into the plugins folder"),
    ("sweeps", "one short row for each change under way"),
    ("fan_outs", "one row for each request whose deliveries are being made"),
    ("damage", "bounded, and only the host writes it"),
    ("components", "counted by the versions that have them"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_counters_equal_the_stored_rows(steps in proptest::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new().await;
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
        });
    }
}

#[tokio::test]
async fn every_kind_is_refused_over_the_share_but_outcomes_and_what_frees() {
    let world = World::new().await;
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
