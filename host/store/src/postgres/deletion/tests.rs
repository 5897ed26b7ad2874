//! Tests that a deletion knows every table, and ends.

use super::*;
use crate::TenantChange;
use crate::postgres::test_server::TestDatabase;
use std::collections::BTreeSet;

/// Tables with rows of tenants that are deleted in another way, or stay.
const OTHERS: [(&str, &str); 6] = [
    ("plugin_versions", "deleted with their components"),
    ("ledgers", "deleted with the tenant"),
    ("fleet_changes", "names of tenants, deleted after an hour"),
    ("deliveries_pending", "a part of deliveries"),
    ("deliveries_ended", "a part of deliveries"),
    ("plugin_files", "stays, so that a file does not bring a deleted plugin back"),
];

#[tokio::test]
async fn every_table_with_rows_of_tenants_is_emptied() {
    let database = TestDatabase::new().await;
    let sql = "SELECT DISTINCT table_name::text FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name IN ('tenant', 'bin', 'key')";
    let tables = database.connect().await.query(sql, &[]).await.expect("tables");
    let tables: BTreeSet<String> = tables.iter().map(|row| row.get(0)).collect();
    let known = ROWS.iter().map(|one| one.table).chain(OTHERS.iter().map(|(table, _)| *table));
    assert_eq!(tables, known.map(str::to_owned).collect());
}

#[tokio::test]
async fn a_tenant_with_many_rows_is_deleted_in_steps_and_no_other_tenant() {
    let database = TestDatabase::new().await;
    let (store, _store_events) = database.open().await;
    for id in ["t", "u"] {
        let created = store.create_tenant(Actor::Host, TenantId(id.into()), TenantChange::default());
        created.await.expect("a tenant");
    }
    let connection = database.connect().await;
    let fill = "INSERT INTO bins (id, tenant, settings, created_at_ms)
                SELECT id || n, id, '{}', 0 FROM tenants, generate_series(1, 100) n;
                INSERT INTO bin_requests SELECT id, gen_random_uuid(), 0, '{}', 'x' FROM bins, generate_series(1, 5);
                INSERT INTO keys (id, tenant, hash, hint, scopes, label, created_at_ms)
                SELECT gen_random_uuid(), id, sha256(convert_to(id || n, 'UTF8')), '', '[]', '', 0 FROM tenants, generate_series(1, 300) n";
    connection.batch_execute(fill).await.expect("filled");
    let tenant = TenantId("t".into());
    let contents = store.tenant_contents(tenant.clone()).await.expect("contents");
    assert_eq!((contents.bins, contents.keys), (100, 300));
    store.delete_tenant(Actor::Host, tenant.clone(), contents, || ()).await.expect("deleted");
    let mut steps = 1;
    while !store.backend.delete_tenant_step(&tenant).await.expect("a step").done {
        steps += 1;
    }
    assert!(steps > 1, "the last step finds nothing");
    // A host that has found `u` in an earlier deletion must not delete the tenant that has the name now.
    assert!(store.backend.delete_tenant_step(&TenantId("u".into())).await.expect("a step").done);
    let sql = "SELECT (SELECT COUNT(*) FROM bins), (SELECT COUNT(*) FROM bin_requests), (SELECT COUNT(*) FROM keys),
                      (SELECT COUNT(*) FROM tenants), (SELECT COUNT(DISTINCT tenant) FROM ledgers)";
    let left = connection.query_one(sql, &[]).await.expect("counts");
    assert_eq!([0, 1, 2, 3, 4].map(|column| left.get::<_, i64>(column)), [100, 500, 300, 1, 1]);
}
