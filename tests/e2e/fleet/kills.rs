//! kill -9 of a host under load: nothing is lost, and others go on.

use super::rounds::{check_time, rounds};
use super::trial::{Trial, print_times};
use serde_json::json;
use std::time::Duration;

const HOSTS: usize = 3;

/// Time after which another host must have gone on: a lease, the time to see its end, and the first page.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(7);

/// Settings of a subscription whose events have an order. Its lane rests after a takeover for as long as an attempt may take.
fn ordered() -> serde_json::Value {
    json!({"ordering": {"on_failure": "block"}, "timeout_ms": 1_000})
}

#[tokio::test]
async fn others_go_on_after_a_kill_with_order_and_rate() {
    let mut trial = Trial::start(HOSTS).await;
    for number in 0..4 {
        trial.subscribe(number % HOSTS, &format!("plain{number}"), json!({})).await;
        trial.subscribe(number % HOSTS, &format!("ordered{number}"), ordered()).await;
        trial.subscribe(number % HOSTS, &format!("limited{number}"), json!({"rate_per_s": 12})).await;
    }
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(500));
    trial.more_accepted(20).await;
    let mut times = Vec::new();
    let mut ordered_times = Vec::new();
    for round in 0..rounds(HOSTS) {
        let victim = round % HOSTS;
        let names = trial.owned_by(victim).await;
        let killed_at = trial.disrupted();
        trial.fleet.kill(victim).await;
        for (name, took) in names.iter().zip(trial.goes_on(&names, killed_at).await) {
            if name.starts_with("ordered") { &mut ordered_times } else { &mut times }.push(took);
        }
        trial.fleet.restart(victim).await;
        trial.fleet.spread().await;
        trial.more_accepted(10).await;
    }
    let max = print_times("another host goes on after a kill", times);
    let ordered_max = print_times("… with an order", ordered_times);
    trial.finish("kills").await;
    check_time("a takeover", max, TAKEN_OVER_WITHIN);
    check_time("a takeover with an order", ordered_max, TAKEN_OVER_WITHIN + Duration::from_secs(1));
}

#[tokio::test]
async fn a_killed_host_that_starts_at_once_goes_on_itself() {
    let mut trial = Trial::under_load(HOSTS, 9, Duration::from_millis(250)).await;
    trial.endpoint.delay(Duration::from_millis(20));
    trial.more_accepted(20).await;
    let mut times = Vec::new();
    let mut starts = Vec::new();
    for round in 0..rounds(2 * HOSTS) {
        let victim = round % HOSTS;
        let names = trial.owned_by(victim).await;
        let number = trial.fleet.number(victim).await;
        let killed_at = trial.disrupted();
        trial.fleet.kill(victim).await;
        trial.fleet.restart(victim).await;
        starts.push(trial.now() - killed_at);
        times.extend(trial.goes_on(&names, killed_at).await);
        assert_eq!(trial.fleet.number(victim).await, number);
        trial.more_accepted(5).await;
    }
    print_times("a killed host has started again", starts);
    let max = print_times("a killed host goes on itself", times);
    trial.finish("restarts in place").await;
    check_time("a restart in place, which is shorter than a takeover,", max, Duration::from_secs(4));
}
