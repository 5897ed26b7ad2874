//! Tests of the ids that new ids follow.

use super::*;
use crate::postgres::test_server::TestDatabase;

/// Statements that insert a row whose id is the parameter.
const INSERTS: [&str; 6] = [
    "INSERT INTO events (tenant, id, name, module, received_at_ms, payload, fan_out) VALUES ('t', $1, 'n', 'Contact', 0, '', 1)",
    "INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms)
     VALUES ('t', $1, $1, $1, 0, 1, 0, 0, 0, 0)",
    "INSERT INTO rejected_requests VALUES ('t', $1, 0, '', false, '')",
    "INSERT INTO bin_requests VALUES ('b', $1, 0, '{}', '')",
    "INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('t', $1, 0, '', '', '')",
    "INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('', $1, 0, '', '', '')",
];

#[tokio::test]
async fn new_ids_follow_every_kind_of_row_that_is_ordered_by_its_id() {
    let database = TestDatabase::new().await;
    let connection = database.connect().await;
    let owners =
        "INSERT INTO tenants (id, event_types, limits_max, egress, created_at_ms) VALUES ('t', '{}', '{}', '{}', 0);
                  INSERT INTO bins (id, tenant, settings, created_at_ms) VALUES ('b', 't', '{}', 0)";
    connection.batch_execute(owners).await.expect("owners");
    let mut newest_ids = Vec::new();
    for sql in INSERTS {
        for _ in 0..2 {
            newest_ids.push(ids::new_uuid());
            connection.execute(sql, &[newest_ids.last().expect("an id")]).await.expect(sql);
        }
        // The first one is not the newest one of its table.
        newest_ids.remove(newest_ids.len() - 2);
    }
    let mut found = newest(&connection).await.expect("ids");
    found.sort();
    assert_eq!(found, newest_ids);
}
