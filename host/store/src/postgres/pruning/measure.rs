//! Costs of pruning, and of the vacuum after it: time, and what they write to the server's log.
//!
//! # Limits
//! Nothing is flushed. Everything that is stored is deleted and is in the cache of the server.

use crate::postgres::test_server::TestDatabase;
use crate::{Actor, TenantChange};
use hookloom_model::clock::{instant, since};
use hookloom_model::subscription::TenantId;
use std::time::Duration;

/// Number of events, each with one delivery that ended at its first attempt.
const EVENTS: u32 = 200_000;

/// Events with the payload and the report of the tests of the hot path. Half of them have an earlier event of the same entity.
fn fill() -> String {
    format!(
        "INSERT INTO events (tenant, id, received_at_ms, fan_out, name, module, entity_id, payload)
         SELECT 't', (lpad(to_hex(1000000 + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid, n, 1, 'Contact is Created',
           'Contact', CASE WHEN n % 2 = 0 THEN 'u' || n ELSE 'e' || n % 20000 END, convert_to(repeat('x', 336), 'UTF8')
         FROM generate_series(1, {EVENTS}) n;
         INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms, last_attempt)
         SELECT tenant, (left(id::text, 14) || '7001' || substr(id::text, 19))::uuid, id,
           (lpad('', 30, '0') || lpad(to_hex(received_at_ms % 20), 2, '0'))::uuid, 0, 1, 0, 0, 0, 0, repeat('l', 945) FROM events;
         ANALYZE events; ANALYZE deliveries"
    )
}

#[tokio::test]
#[ignore = "measures, and takes a while"]
async fn pruning_by_rows() {
    let database = TestDatabase::on_quiet_server().await;
    let (store, _store_events) = database.open().await;
    let tenant = TenantId("t".into());
    store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
    let connection = database.connect().await;
    connection.batch_execute(&fill()).await.expect("filled");
    connection.batch_execute("CHECKPOINT").await.expect("done");
    let size =
        "SELECT sum(pg_total_relation_size(c))::int8 FROM unnest(ARRAY['events', 'deliveries_ended']::regclass[]) c";
    let size: i64 = connection.query_one(size, &[]).await.expect("a size").get(0);
    println!("stored for each event with its delivery: {} bytes", size / i64::from(EVENTS));
    let position = "SELECT pg_current_wal_insert_lsn()::text";
    let from: String = connection.query_one(position, &[]).await.expect("a position").get(0);
    let mut after = None;
    let mut took = Duration::ZERO;
    let mut pruned = 0;
    let mut steps = 0_u32;
    loop {
        let step = store.backend.prune_events(&tenant, after, i64::MAX).await.expect("a step");
        took += step.took;
        pruned += step.pruned;
        steps += 1;
        let Some(next) = step.after else { break };
        after = Some(next);
    }
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::int8";
    let bytes: i64 = connection.query_one(sql, &[&from]).await.expect("a number").get(0);
    let each = took.as_secs_f64() * 1e6 / f64::from(EVENTS);
    println!(
        "{pruned} events in {steps} steps: {took:.2?} in transactions that are alone ({each:.1} µs each), {bytes} bytes of the log"
    );
    let begun = instant();
    connection.batch_execute("VACUUM (TRUNCATE off) events, deliveries, attempts").await.expect("vacuumed");
    let vacuum = since(begun);
    let all_bytes: i64 = connection.query_one(sql, &[&from]).await.expect("a number").get(0);
    println!("vacuum beside other work: {vacuum:.2?}, {} bytes of the log", all_bytes - bytes);
    assert_eq!(pruned, u64::from(EVENTS));
}
