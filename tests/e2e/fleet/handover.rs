//! SIGTERM: a host gives away what it owns before it ends.

use super::rounds::{check_time, rounds};
use super::trial::{Trial, print_times};
use serde_json::json;
use std::time::Duration;

const HOSTS: usize = 3;

/// Maximum time without a request of a subscription. The goal is 300 ms.
const SILENT_AT_MOST: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_rolling_restart_is_hardly_noticed() {
    let mut trial = Trial::start(HOSTS).await;
    for number in 0..6 {
        trial.subscribe(number % HOSTS, &format!("plain{number}"), json!({})).await;
        // Slower than the senders, so that a bucket of a new owner that is full at first exceeds it.
        trial.subscribe(number % HOSTS, &format!("limited{number}"), json!({"rate_per_s": 20})).await;
        trial
            .subscribe(number % HOSTS, &format!("ordered{number}"), json!({"ordering": {"on_failure": "block"}}))
            .await;
    }
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(150));
    trial.more_accepted(60).await;
    let mut silences = Vec::new();
    let mut stops = Vec::new();
    for round in 0..rounds(HOSTS) {
        let place = round % HOSTS;
        let names = trial.owned_by(place).await;
        let stopped_at = trial.now();
        stops.push(trial.fleet.stop(place).await);
        trial.goes_on(&names, stopped_at).await;
        assert_eq!(trial.fleet.takeovers().await, 0, "a host that stops gives away what it owns");
        trial.more_accepted(20).await;
        silences.extend(trial.silences(&names, stopped_at));
        let started_at = trial.now();
        trial.fleet.restart(place).await;
        print_times("spread after a start", vec![trial.fleet.spread().await]);
        trial.more_accepted(20).await;
        let names = trial.owned_by(place).await;
        print_times("silence while shards are given to a host that started", trial.silences(&names, started_at));
    }
    print_times("a host has stopped", stops);
    let max = print_times("silence after SIGTERM", silences);
    let records = trial.finish("a rolling restart").await;
    let twice: usize = records.subscriptions.iter().map(|one| records.duplicates_of(&one.name)).sum();
    assert_eq!(twice, 0, "a stop and a start cost nothing");
    check_time("silence after SIGTERM", max, SILENT_AT_MOST);
}

#[tokio::test]
async fn the_last_host_that_stops_keeps_its_work_for_the_next() {
    let mut trial = Trial::under_load(2, 4, Duration::from_millis(250)).await;
    trial.more_accepted(10).await;
    trial.fleet.stop(0).await;
    trial.more_accepted(10).await;
    assert_eq!(trial.fleet.shards(1).await.len(), 256, "it has everything");
    trial.fleet.stop(1).await;
    trial.fleet.restart(0).await;
    trial.fleet.spread().await;
    trial.fleet.restart(1).await;
    trial.fleet.spread().await;
    trial.finish("a stop of all hosts").await;
}
