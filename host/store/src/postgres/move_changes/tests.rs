//! Plans of the statements that a round of a move runs on changed rows.

use super::*;
use crate::postgres::connection::Connection;
use crate::postgres::test_server::TestDatabase;
use crate::table_rows::StoredValue;

/// Number of rows of each table. A plan that joins all of them with all keys would read 30 million pairs.
const ROWS: u32 = 10_000;

/// Number of changed rows.
const CHANGED: u128 = 3_000;

async fn fill(connection: &Connection) {
    let sql = format!(
        "INSERT INTO events (tenant, id, received_at_ms, fan_out, name, module, payload)
         SELECT 't', lpad(to_hex(n), 32, '0')::uuid, n, 1, 'Contact is Created', 'Contact', 'p' FROM generate_series(1, {ROWS}) n;
         INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms)
         SELECT tenant, id, id, id, 0, received_at_ms % 2, 0, 0, 0, 0 FROM events"
    );
    connection.batch_execute(&sql).await.expect("filled");
}

/// Returns the key of a row.
fn key_of(number: u128) -> Vec<StoredValue> {
    vec![StoredValue::Text("t".into()), StoredValue::Bytes(number.to_be_bytes().to_vec())]
}

/// Keys of changed rows, of a table whose key is the tenant and an id.
async fn changed(target: &MoveTarget, table: &str) -> ChangedRows {
    let columns = target.columns(table).await.expect("columns");
    let key = columns.into_iter().filter(|column| ["tenant", "id"].contains(&&*column.name));
    let mut key: Vec<TargetColumn> = key.collect();
    key.sort_by_key(|column| column.name != "tenant");
    ChangedRows { table: table.to_owned(), keys: Some((key, (1..=CHANGED).map(key_of).collect())) }
}

/// Asserts that a statement looks up each row of a table by its key.
async fn check(target: &MoveTarget, sql: &str) {
    let rows = target.connection.query(&format!("EXPLAIN {sql}"), &[]).await.expect(sql);
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let has = |part: &str| plan.iter().any(|line| line.contains(part));
    assert!(has("Index Cond: ((tenant = k.tenant) AND (id = k.id))") && !has("Join Filter"), "{plan:#?}");
}

#[tokio::test]
async fn changed_rows_are_looked_up_by_their_keys_with_and_without_statistics() {
    let database = TestDatabase::new().await;
    let target = MoveTarget::open(&database.url(), &["events", "deliveries"]).await.expect("an empty database");
    fill(&target.connection).await;
    for analyze in ["SELECT 1", "ANALYZE events, deliveries"] {
        target.connection.batch_execute(analyze).await.expect("done");
        let [events, deliveries] = [changed(&target, "events").await, changed(&target, "deliveries").await];
        target.connection.batch_execute(BY_KEY).await.expect("set");
        for rows in [&events, &deliveries] {
            target.write_keys(rows).await.expect("written");
            check(&target, &format!("SELECT r.tenant, count(*) FROM {} r GROUP BY r.tenant", rows.rows())).await;
            check(&target, &rows.deletion()).await;
        }
    }
    target.roll_back().await;
}
