//! Tests that the counters equal the stored rows, after any sequence of operations.

use super::*;
use crate::caps::Caps;
use crate::fair_queue::Owner;
use crate::usage_world::{CountedRows, SHARE, World, contact, counters_equal_rows, refused_over_the_share, sequences};
use crate::{Actor, Store, StoreLimits, TenantChange};
use async_trait::async_trait;
use hookloom_model::subscription::SubscriptionId;
use proptest::prelude::*;

/// Rows of a store on SQLite, and its folder.
struct SqliteRows {
    _folder: tempfile::TempDir,
}

async fn new_world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = StoreLimits { share: SHARE, ..StoreLimits::default() };
    let (store, _) = Store::open_with(folder.path(), limits).expect("a store");
    World::new(store, SqliteRows { _folder: folder }).await
}

#[async_trait]
impl CountedRows for SqliteRows {
    async fn check(&self, store: &Store) {
        store.sqlite().readers.read(Owner::Host, check_usage).await.expect("counted");
    }

    async fn pending(&self, store: &Store) -> HashMap<(TenantId, SubscriptionId), u64> {
        store.sqlite().readers.read(Owner::Host, pending_counts).await.expect("counted")
    }
}

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
    fn the_counters_equal_the_stored_rows(steps in sequences()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { counters_equal_rows(new_world().await, steps).await });
    }
}

#[tokio::test]
async fn every_kind_is_refused_over_the_share_but_outcomes_and_what_frees() {
    refused_over_the_share(new_world().await).await;
}

fn pending_counts(connection: &Connection) -> Result<HashMap<(TenantId, SubscriptionId), u64>, StoreError> {
    let sql = "SELECT tenant, subscription, COUNT(*) FROM deliveries WHERE state = 0 GROUP BY tenant, subscription";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        Ok(((tenant, SubscriptionId(row.get(1)?)), row.get::<_, u64>(2)?))
    })?;
    Ok(rows.collect::<Result<HashMap<_, _>, _>>()?)
}

/// Panics unless the counters equal the stored rows.
fn check_usage(connection: &Connection) -> Result<(), StoreError> {
    let mut counted = HashMap::new();
    for tenant in ["t0", "t1"].map(|name| TenantId(name.into())) {
        if let Some((events, bytes)) = kept(connection, &tenant)? {
            let sql = "SELECT COUNT(*), ifnull(SUM(LENGTH(payload)), 0) FROM events WHERE tenant = ?1";
            let (rows, payload) =
                connection.query_row(sql, [&*tenant.0], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)))?;
            let sql = "SELECT bytes_kept FROM ledgers WHERE tenant = ?1";
            let bytes_kept: u64 = connection.query_row(sql, [&*tenant.0], |row| row.get(0))?;
            assert_eq!((events, bytes_kept), (rows, payload));
            counted.insert(tenant, bytes);
        }
    }
    let mut found = recount(connection)?;
    // The host's log of changes belongs to no tenant.
    found.remove(&TenantId("".into()));
    counted.keys().for_each(|tenant| {
        found.entry(tenant.clone()).or_default();
    });
    assert_eq!(counted, found);
    Ok(())
}
