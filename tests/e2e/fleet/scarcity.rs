//! A database server that lacks something: space on its disk, connections, or the removal of old rows.

use super::hosts::Fleet;
use super::rounds::{check_time, rounds};
use super::trial::{Trial, print_times};
use crate::harness::Postgres;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

const HOSTS: usize = 3;
const SUBSCRIPTIONS: usize = 6;

/// Starts hosts on a server, with senders.
async fn trial_on(server: Postgres) -> Trial {
    Trial::with(Fleet::on(server, HOSTS).await, SUBSCRIPTIONS, Duration::from_millis(250)).await
}

/// Waits until every host has refused an event, each time with 503 and `Retry-After`.
async fn refused_everywhere(trial: &mut Trial) {
    for place in 0..HOSTS {
        while trial.send_one(place).await != 503 {}
    }
}

/// Connects to the server of a trial. None: it refuses the connection.
async fn connected(trial: &Trial) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(&trial.fleet.server.url(), NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

#[tokio::test]
async fn a_full_disk_of_the_server_refuses_events_and_loses_none() {
    // The log of the server stays small, so that it needs space soon.
    let server = Postgres::on_small_disk(160, &["min_wal_size=32MB", "max_wal_size=48MB"]).await;
    let mut trial = trial_on(server).await;
    let mut times = Vec::new();
    for _ in 0..rounds(2) {
        trial.disrupted();
        trial.fleet.server.disk().fill();
        // The server needs space when it begins another file of its log, and may end.
        if let Some(client) = connected(&trial).await {
            let _ = tokio::time::timeout(Duration::from_secs(1), client.batch_execute("SELECT pg_switch_wal()")).await;
        }
        refused_everywhere(&mut trial).await;
        trial.fleet.server.disk().empty();
        let emptied_at = trial.now();
        trial.fleet.server.ready_again().await;
        times.extend(trial.goes_on(&trial.names(), emptied_at).await);
        trial.more_accepted(20).await;
    }
    print_times("a subscription goes on after the disk has space", times);
    trial.finish("full disks of the server").await;
}

#[tokio::test]
async fn a_server_without_connections_refuses_events_and_loses_none() {
    let mut trial = trial_on(Postgres::with(&["max_connections=60"]).await).await;
    let mut times = Vec::new();
    for _ in 0..rounds(2) {
        trial.disrupted();
        let first = connected(&trial).await.expect("a connection");
        let mut others = Vec::new();
        // Hosts take connections that become free, as the test does.
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hookloom'";
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hookloom'";
        while first.query_one(count, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            first.execute(ended, &[]).await.unwrap();
            while let Some(another) = connected(&trial).await {
                others.push(another);
            }
        }
        refused_everywhere(&mut trial).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        drop((first, others));
        let free_at = trial.now();
        times.extend(trial.goes_on(&trial.names(), free_at).await);
        trial.fleet.spread().await;
        trial.more_accepted(20).await;
    }
    print_times("a subscription goes on after there are connections", times);
    trial.finish("exhausted connections").await;
}

#[tokio::test]
async fn a_snapshot_that_is_held_delays_nothing() {
    let trial = trial_on(Postgres::start().await).await;
    for _ in 0..rounds(2) {
        let holder = connected(&trial).await.expect("a connection");
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM deliveries").await.unwrap();
        trial.more_accepted(100).await;
        let accepted_at = trial.now();
        let silent = trial.goes_on(&trial.names(), accepted_at).await;
        check_time("a subscription's next request", silent.into_iter().max().unwrap(), Duration::from_secs(2));
    }
    let records = trial.finish("a held snapshot").await;
    assert_eq!(records.receipts.len(), records.deliveries.len(), "each exactly once");
}
