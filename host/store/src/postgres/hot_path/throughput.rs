//! Throughput of the hot path, next to that of the same rows without the store.
//!
//! # Theory of operation
//! The rows are written by one connection with one `INSERT` from arrays for each table, [`GROUP`] rows in a transaction, and without the
//! triggers that count. The rounds of both alternate, so that other work on the machine slows both.
//!
//! # Limits
//! Nothing is flushed. So the figures show the work of the processors, and not that of disks.

use super::load::{Load, accept_and_record, success};
use crate::postgres::connection::Connection;
use crate::postgres::outcomes::detail;
use crate::postgres::test_server::TestDatabase;
use hookloom_model::clock::{instant, now_ms, since};
use hookloom_model::ids::new_uuid;
use std::time::Duration;
use uuid::Uuid;

/// Number of events in a round.
const EVENTS: usize = 16_384;

/// Number of events that are accepted at once, and whose attempts are recorded at once.
const GROUP: usize = 512;

const ROUNDS: usize = 5;

const EVENT_ROWS: &str = "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
    SELECT 'raw', id, 'Contact is Created', 'Contact', entity_id, $3, 1, payload
    FROM unnest($1::uuid[], $2::text[], $4::bytea[]) new (id, entity_id, payload)";

const PENDING_ROWS: &str = "INSERT INTO deliveries_pending
    (tenant, id, event, subscription, kind, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms)
    SELECT 'raw', id, event, $3, 0, $4, 0, $4, $4, $4 FROM unnest($1::uuid[], $2::uuid[]) new (id, event)";

const ENDED_ROWS: &str = "WITH ended AS (DELETE FROM deliveries_pending d USING unnest($1::uuid[], $2::text[]) new (id, detail)
      WHERE d.tenant = 'raw' AND d.id = new.id RETURNING d.*, new.detail)
    INSERT INTO deliveries_ended (tenant, id, event, subscription, kind, order_key, due_at_ms, state, attempts_made, budget_spent,
      age_from_ms, created_at_ms, updated_at_ms, last_attempt)
    SELECT tenant, id, event, subscription, kind, order_key, 0, 1, 1, 1, age_from_ms, created_at_ms, $3, detail FROM ended";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and takes a while"]
async fn the_store_is_nearly_as_fast_as_its_rows() {
    let mut load = Load::new(TestDatabase::on_quiet_server().await).await;
    let connection = load.database.connect().await;
    connection.batch_execute("SET session_replication_role = replica").await.expect("no triggers");
    let mut of_store = Vec::new();
    let mut of_rows = Vec::new();
    for round in 0..=ROUNDS {
        let begun = instant();
        accept_and_record(&mut load, EVENTS, GROUP).await;
        of_store.push(since(begun));
        of_rows.push(raw_round(&connection).await);
        let [store, rows] = [of_store[round], of_rows[round]].map(rate);
        // The first round prepares the statements and the files.
        let note = if round == 0 { " (not counted)" } else { "" };
        println!("store {store:8.0}/s   rows {rows:8.0}/s   ratio {:.2}{note}", store / rows);
    }
    print_processor_time(&connection).await;
    let [store, rows] = [of_store, of_rows].map(|times| rate(median(times[1..].to_vec())));
    println!("median: store {store:.0}/s   rows {rows:.0}/s   ratio {:.2}", store / rows);
}

/// Prints the time of the processors for each event: of this process, and of the server for the store and for the rows.
async fn print_processor_time(connection: &Connection) {
    let sql = "SELECT pid::int8, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory')::int8, pg_backend_pid()::int8
               FROM pg_stat_activity a WHERE datname = current_database()";
    let counted = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let commits: i64 = connection.query_one(counted, &[]).await.expect("a count").get(0);
    let written = (EVENTS * (ROUNDS + 1)) as f64;
    // The rows have two transactions for each group, and so has every event.
    println!(
        "events and outcomes for each commit: {:.0}",
        2.0 * written / (commits as f64 - 2.0 * written / GROUP as f64)
    );
    println!("this process: {:.1} µs", processor_time("self"));
    for row in connection.query(sql, &[]).await.expect("processes of the server") {
        let [pid, locks, own] = [0, 1, 2].map(|column| row.get::<_, i64>(column));
        if locks > 0 {
            println!("server, for the store: {:.1} µs", processor_time(&pid.to_string()));
        } else if pid == own {
            println!("server, for the rows: {:.1} µs", processor_time(&pid.to_string()));
        }
    }
}

/// Returns the time of a process for each event, in microseconds.
fn processor_time(process: &str) -> f64 {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("its times");
    let (_, numbers) = line.rsplit_once(')').expect("its name");
    // User and system time, in hundredths of a second.
    let ticks: f64 =
        numbers.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks * 10_000.0 / (EVENTS * (ROUNDS + 1)) as f64
}

/// Writes the rows of a round, and returns how long that took.
async fn raw_round(connection: &Connection) -> Duration {
    let subscription = new_uuid();
    let details = vec![detail(&success().attempt).expect("a text"); GROUP];
    let payloads = vec![vec![b'x'; 336]; GROUP];
    let begun = instant();
    for _ in 0..EVENTS / GROUP {
        let events: Vec<Uuid> = (0..GROUP).map(|_| new_uuid()).collect();
        let deliveries: Vec<Uuid> = (0..GROUP).map(|_| new_uuid()).collect();
        let entities: Vec<String> = events.iter().map(|id| id.as_u128().to_string()[20..36].to_owned()).collect();
        connection.batch_execute("BEGIN").await.expect("begun");
        connection.execute(EVENT_ROWS, &[&events, &entities, &now_ms(), &payloads]).await.expect("events");
        connection.execute(PENDING_ROWS, &[&deliveries, &events, &subscription, &now_ms()]).await.expect("deliveries");
        connection.batch_execute("COMMIT").await.expect("committed");
        connection.batch_execute("BEGIN").await.expect("begun");
        let ended = connection.execute(ENDED_ROWS, &[&deliveries, &details, &now_ms()]).await.expect("outcomes");
        assert_eq!(ended, GROUP as u64);
        connection.batch_execute("COMMIT").await.expect("committed");
    }
    since(begun)
}

fn rate(time: Duration) -> f64 {
    EVENTS as f64 / time.as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
