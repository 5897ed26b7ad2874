//! Costs of the hot path: what an event with one delivery and its successful first attempt writes to the server's log.
//!
//! # Guarantees
//! - The number of records and bytes for each delivered event stays below a bound, so that it cannot grow unnoticed.
//!
//! # Limits
//! The server of these tests writes no full pages to its log and flushes nothing. The bound holds for full groups, which share
//! transactions; an event that arrives alone costs more.

pub(super) mod load;

use super::connection::Connection;
use super::test_server::TestDatabase;
use load::{Load, accept_and_record};
use std::collections::BTreeMap;

/// Number of events that are measured.
const EVENTS: usize = 4_096;

/// Number of events that are accepted at once, and whose attempts are recorded at once.
const GROUP: usize = 256;

/// Bound of the bytes of the log for each delivered event.
const BYTES_MAX: f64 = 2_650.0;

/// Bound of the records of the log for each delivered event.
const RECORDS_MAX: f64 = 10.4;

/// Part of the server's log.
struct LogPart {
    from: String,
    to: String,
}

async fn position(connection: &Connection) -> String {
    connection.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("a position").get(0)
}

impl LogPart {
    /// Returns the number of bytes, with the headers of pages.
    async fn bytes(&self, connection: &Connection) -> i64 {
        let sql = "SELECT pg_wal_lsn_diff($2::text::pg_lsn, $1::text::pg_lsn)::int8";
        connection.query_one(sql, &[&self.from, &self.to]).await.expect("a number").get(0)
    }

    /// Returns the number of records and their bytes by type and relation.
    async fn by_relation(&self, connection: &Connection) -> BTreeMap<(String, String), (i64, i64)> {
        let sql = "SELECT r.resource_manager || ' ' || r.record_type, coalesce(c.relname::text, ''), count(*), sum(r.record_length)::int8
                   FROM pg_get_wal_records_info($1::text::pg_lsn, $2::text::pg_lsn) r
                   LEFT JOIN pg_class c
                     ON c.relfilenode = substring(r.block_ref FROM 'rel [0-9]+/[0-9]+/([0-9]+)')::oid AND c.relfilenode > 0
                   GROUP BY 1, 2";
        let rows = connection.query(sql, &[&self.from, &self.to]).await.expect("records");
        rows.iter().map(|row| ((row.get(1), row.get(0)), (row.get(2), row.get(3)))).collect()
    }
}

#[tokio::test]
async fn a_delivered_event_costs_few_bytes_and_records_of_the_log() {
    let mut load = Load::new(TestDatabase::on_quiet_server().await).await;
    let connection = load.database.connect().await;
    connection.batch_execute("CREATE EXTENSION pg_walinspect").await.expect("a package of PostgreSQL");
    // Statements are planned again with the first rows, and the first pages of the indexes split often.
    accept_and_record(&mut load, EVENTS, GROUP).await;
    connection.batch_execute("CHECKPOINT").await.expect("done");
    let from = position(&connection).await;
    accept_and_record(&mut load, EVENTS, GROUP).await;
    let part = LogPart { from, to: position(&connection).await };
    fn each(count: i64) -> f64 {
        count as f64 / EVENTS as f64
    }
    let mut records = 0;
    for ((relation, kind), (count, bytes)) in part.by_relation(&connection).await {
        records += count;
        println!("{relation:32} {kind:32} {:8.3} records {:9.1} bytes", each(count), each(bytes));
    }
    let bytes = each(part.bytes(&connection).await);
    let records = each(records);
    println!("for each delivered event: {bytes:.0} bytes, {records:.2} records");
    assert!(bytes <= BYTES_MAX && records <= RECORDS_MAX, "{bytes:.0} bytes, {records:.2} records");
}
