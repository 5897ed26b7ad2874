//! Tests that the counters equal the stored rows, after any sequence of operations.

use super::*;
use crate::postgres::test_server::TestDatabase;
use crate::usage_world::{CountedRows, SHARE, World, counters_equal_rows, refused_over_the_share, sequences};
use crate::{Store, StoreLimits};
use async_trait::async_trait;
use hookloom_model::subscription::SubscriptionId;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Database of a store, and a connection beside the store's.
pub(crate) struct PostgresRows {
    connection: Connection,
    _database: TestDatabase,
}

impl PostgresRows {
    pub(crate) async fn of(database: TestDatabase) -> Self {
        PostgresRows { connection: database.connect().await, _database: database }
    }
}

async fn new_world() -> World {
    let database = TestDatabase::new().await;
    let limits = StoreLimits { share: SHARE, ..StoreLimits::default() };
    let opened = Store::open_postgres(&database.url(), &database.master_key(), limits).await;
    let (store, _) = opened.expect("a store");
    World::new(store, PostgresRows::of(database).await).await
}

#[async_trait]
impl CountedRows for PostgresRows {
    async fn check(&self, _: &Store) {
        let disabled = "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'";
        assert!(!self.connection.exists(disabled, &[]).await.expect("triggers"), "a trigger is disabled");
        check_usage(&self.connection).await.expect("counted");
    }

    async fn pending(&self, _: &Store) -> HashMap<(TenantId, SubscriptionId), u64> {
        let sql = "SELECT tenant, subscription, COUNT(*) FROM deliveries WHERE state = 0 GROUP BY tenant, subscription";
        let mut found = HashMap::new();
        for row in self.connection.query(sql, &[]).await.expect("counted") {
            let owner = rows::tenant(&row, 0).expect("a tenant");
            found.insert((owner, SubscriptionId(row.get(1))), number(&row, 2).expect("a number"));
        }
        found
    }
}

/// Panics unless the counters equal the stored rows.
async fn check_usage(connection: &Connection) -> Result<(), StoreError> {
    let mut counted = HashMap::new();
    for tenant in ["t0", "t1"].map(|name| TenantId(name.into())) {
        if let Some((events, bytes)) = kept(connection, &tenant).await? {
            let sql = "SELECT (SELECT COUNT(*) FROM events WHERE tenant = $1),
                              (SELECT coalesce(sum(octet_length(payload)), 0)::int8 FROM events WHERE tenant = $1),
                              coalesce(sum(bytes_kept), 0)::int8
                       FROM ledgers WHERE tenant = $1";
            let row = connection.query_one(sql, &[&&*tenant.0]).await?;
            assert_eq!(events, number::<u64>(&row, 0)?);
            assert_eq!(row.get::<_, i64>(1), row.get::<_, i64>(2));
            counted.insert(tenant, bytes);
        }
    }
    let mut found = recount(connection).await?;
    // The host's log of changes belongs to no tenant.
    found.remove(&TenantId("".into()));
    counted.keys().for_each(|tenant| {
        found.entry(tenant.clone()).or_default();
    });
    assert_eq!(counted, found);
    Ok(())
}

/// Counts the rows of all tables by tenant.
async fn recount(connection: &Connection) -> Result<HashMap<TenantId, BytesByKind>, StoreError> {
    let mut found: HashMap<TenantId, BytesByKind> = HashMap::new();
    for counted in usage_tables() {
        let CountedTable { table, kind, .. } = counted.counted;
        let tenant = counted.counted.tenant_of(ROW);
        let sizes = [counted.bytes(), counted.part_bytes()];
        let sql =
            format!("SELECT {tenant}, sum({})::int8, sum({})::int8 FROM {table} r GROUP BY 1", sizes[0], sizes[1]);
        for row in connection.query(&sql, &[]).await? {
            // Rows without a tenant belong to the host.
            let Some(owner) = row.try_get::<_, Option<&str>>(0)? else { continue };
            let bytes = found.entry(TenantId(owner.into())).or_default();
            bytes[*kind as usize] += number::<u64>(&row, 1)?;
            if let Some((_, part, _)) = counted.part {
                bytes[part as usize] += number::<u64>(&row, 2)?;
            }
        }
    }
    Ok(found)
}

/// Tables that do not count, with the reason.
const NOT_COUNTED: [(&str, &str); 16] = [
    ("host", "one row of the database"),
    ("hosts", "one row of each host"),
    ("fences", "one row of each host"),
    ("shards", "one row of each shard"),
    ("lost_hosts", "one row of each host that was lost within a week"),
    ("fleet_changes", "short rows that are deleted after an hour"),
    ("hints", "some rows for each host"),
    ("readiness", "one row of the host"),
    ("tenants", "bounded"),
    ("ledgers", "one row of fixed size for each tenant and host"),
    ("plugin_files", "one short row for each file that the operator puts into the plugins folder"),
    ("sweeps", "one short row for each change under way"),
    ("fan_outs", "one row for each request whose deliveries are being made"),
    ("components", "counted by the versions that have them"),
    ("deliveries_pending", "a part of deliveries"),
    ("deliveries_ended", "a part of deliveries"),
];

#[tokio::test]
async fn every_table_counts_or_says_why_not() {
    let database = TestDatabase::new().await;
    let connection = database.connect().await;
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let tables = connection.query(sql, &[]).await.expect("tables");
    let tables: BTreeSet<String> = tables.iter().map(|row| row.get(0)).collect();
    let known = usage_tables().map(|table| table.counted.table).chain(NOT_COUNTED.iter().map(|(table, _)| *table));
    assert_eq!(tables, known.map(str::to_owned).collect());
}

/// Inserts an event of the tenant `t` as a host.
async fn insert_as(connection: &Connection, host: i16) {
    let sql = format!(
        "SET hookloom.host = {host}; BEGIN; SET LOCAL lock_timeout = 1;
         INSERT INTO events (id, received_at_ms, fan_out, tenant, name, module, payload)
         VALUES (gen_random_uuid(), 0, 0, 't', 'n', 'm', 'four')"
    );
    connection.batch_execute(&sql).await.expect("no lock of another host");
}

#[tokio::test]
async fn hosts_count_without_waiting_for_each_other_and_a_tenant_keeps_the_sum() {
    let database = TestDatabase::new().await;
    let [one, other] = [database.connect().await, database.connect().await];
    let tenant = "INSERT INTO tenants (id, event_types, limits_max, egress, created_at_ms) VALUES ('t', '', '', '', 0)";
    one.batch_execute(tenant).await.expect("a tenant");
    let t = TenantId("t".into());
    assert_eq!(kept(&one, &t).await.expect("counted"), Some((0, BytesByKind::default())), "no host has written for it");
    insert_as(&one, 1).await;
    insert_as(&other, 2).await;
    for connection in [&one, &other] {
        connection.batch_execute("COMMIT").await.expect("committed");
    }
    assert_eq!(kept(&one, &t).await.expect("counted").map(|kept| kept.0), Some(2));
    // What one host has counted is deleted by another one.
    other.batch_execute("DELETE FROM events").await.expect("deleted");
    assert_eq!(kept(&one, &t).await.expect("counted"), Some((0, BytesByKind::default())));
    crate::postgres::ledger::add(&one, &t, "tests", 2).await.expect("added");
    crate::postgres::ledger::add(&other, &t, "tests", 3).await.expect("added");
    // A tenant that does not exist has no ledger, and neither has the host.
    for id in ["", "u"] {
        crate::postgres::ledger::add(&one, &TenantId(id.into()), "tests", 1).await.expect("nothing is added");
    }
    let sql =
        "SELECT count(*), sum(tests)::int8, sum(events_kept)::int8, min(host)::int8, max(host)::int8 FROM ledgers";
    let row = one.query_one(sql, &[]).await.expect("the rows");
    assert_eq!([0, 1, 2, 3, 4].map(|column| row.get::<_, i64>(column)), [2, 5, 0, 1, 2]);
}

proptest! {
    // Fewer cases than in a file: each has a database of its own.
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..ProptestConfig::default() })]

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
