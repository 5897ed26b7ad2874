//! Hosts behind PgBouncer in transaction mode, with fewer connections to the server than the hosts open.

use super::hosts::Fleet;
use super::rounds::{check_time, rounds};
use super::trial::{Trial, print_times};
use crate::harness::until;
use serde_json::json;
use std::time::Duration;

const HOSTS: usize = 3;

/// Number of connections of the pooler to the server.
const CONNECTIONS: usize = 10;

/// Time after which another host must have gone on, as without a pooler.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(7);

#[tokio::test]
async fn nothing_is_lost_behind_a_pooler_when_hosts_end_or_stand_still() {
    let mut trial = Trial::of(Fleet::start_behind_pooler(HOSTS, CONNECTIONS).await).await;
    for number in 0..3 {
        let ordered = json!({"ordering": {"on_failure": "block"}, "timeout_ms": 1_000});
        trial.subscribe(number, &format!("plain{number}"), json!({})).await;
        trial.subscribe(number, &format!("ordered{number}"), ordered).await;
        trial.subscribe(number, &format!("limited{number}"), json!({"rate_per_s": 12})).await;
    }
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(400));
    trial.more_accepted(20).await;
    trial.pause("plain0", [0, 1], Duration::from_millis(500)).await;

    let mut taken_over = Vec::new();
    let mut gone_on = Vec::new();
    let mut stops = Vec::new();
    for round in 0..rounds(1) {
        let [stopped, killed, frozen] = [0, 1, 2].map(|place| (place + round) % HOSTS);
        let names = trial.owned_by(killed).await;
        let killed_at = trial.disrupted();
        trial.fleet.kill(killed).await;
        taken_over.extend(trial.goes_on(&names, killed_at).await);
        trial.fleet.restart(killed).await;
        trial.fleet.spread().await;

        let names = trial.owned_by(frozen).await;
        let frozen_at = trial.disrupted();
        trial.fleet.freeze(frozen).await;
        gone_on.extend(trial.goes_on(&names, frozen_at).await);
        trial.fleet.thaw(frozen).await;
        until("the host to register again", async || trial.fleet.number(frozen).await).await;
        trial.fleet.spread().await;

        stops.push(trial.fleet.stop(stopped).await);
        trial.more_accepted(20).await;
        trial.fleet.restart(stopped).await;
        trial.fleet.spread().await;
    }
    let max = print_times("another host goes on behind a pooler", taken_over);
    print_times("… after a standstill", gone_on);
    print_times("a host stops behind a pooler within", stops);
    trial.finish("hosts behind a pooler").await;
    check_time("a takeover", max, TAKEN_OVER_WITHIN + Duration::from_secs(1));
}

#[tokio::test]
async fn the_end_of_the_pooler_is_an_outage_of_the_database() {
    let fleet = Fleet::start_behind_pooler(HOSTS, CONNECTIONS).await;
    let mut trial = Trial::with(fleet, 6, Duration::from_millis(400)).await;
    let all = trial.names();
    let owners = trial.fleet.owners().await;
    let mut times = Vec::new();
    for round in 0..rounds(2) {
        let lasts = Duration::from_secs([1, 7][round % 2]);
        trial.disrupted();
        trial.fleet.pooler.as_mut().unwrap().kill().await;
        let killed_at = trial.now();
        for place in 0..HOSTS {
            while trial.send_one(place).await != 503 {}
        }
        tokio::time::sleep(lasts.saturating_sub(trial.now() - killed_at)).await;
        let back_at = trial.now();
        trial.fleet.pooler.as_mut().unwrap().restart().await;
        times.extend(trial.goes_on(&all, back_at).await);
        trial.more_accepted(10).await;
    }
    // Long enough for a host that would take over from another.
    trial.more_accepted(40).await;
    assert_eq!(trial.fleet.owners().await, owners);
    print_times("a subscription goes on after the pooler was started", times);
    trial.finish("outages of the pooler").await;
}

#[tokio::test]
async fn the_end_of_the_server_behind_a_pooler_is_an_outage_as_well() {
    let fleet = Fleet::start_behind_pooler(2, CONNECTIONS).await;
    let mut trial = Trial::of(fleet).await;
    trial.subscribe(0, "plain", json!({})).await;
    trial.send(Duration::from_millis(400));
    trial.more_accepted(10).await;
    let mut times = Vec::new();
    for _ in 0..rounds(1) {
        trial.disrupted();
        trial.fleet.server.kill().await;
        for place in 0..2 {
            while trial.send_one(place).await != 503 {}
        }
        trial.fleet.server.restart().await;
        let back_at = trial.now();
        times.extend(trial.goes_on(&["plain".to_owned()], back_at).await);
        trial.more_accepted(10).await;
    }
    print_times("a subscription goes on after the server behind a pooler was started", times);
    trial.finish("an outage of the server behind a pooler").await;
}

/// Number of events whose way is measured.
const MEASURED: usize = 200;

/// Sends events to the host that does not own the only subscription, and prints how long they took. Returns the time of the slowest
/// but one in a hundred.
async fn way_over_two_hosts(fleet: Fleet, what: &str) -> Duration {
    let mut trial = Trial::of(fleet).await;
    trial.subscribe(0, "plain", json!({})).await;
    let accepts = usize::from(!trial.owned_by(0).await.is_empty());
    let mut times = Vec::new();
    for sent in 1..=MEASURED {
        let at = trial.now();
        assert_eq!(trial.send_one(accepts).await, 202);
        until("the event", async || (trial.endpoint.count(|_| true) == sent).then_some(())).await;
        times.push(trial.endpoint.receipts()[sent - 1].begun_at - at);
    }
    times.sort();
    let slow = times[MEASURED * 99 / 100];
    println!("{what}: p99 {} ms", slow.as_millis());
    print_times(what, times);
    trial.finish(what).await;
    slow
}

/// Maximum time to another host: much less than the time after which it looks without a hint.
const HINTED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_event_that_another_host_accepts_is_soon_delivered() {
    let slow = way_over_two_hosts(Fleet::start(2).await, "an event comes from another host").await;
    check_time("a hint", slow, HINTED_WITHIN);
}

#[tokio::test]
async fn an_event_that_another_host_accepts_is_soon_delivered_behind_a_pooler() {
    let fleet = Fleet::start_behind_pooler(2, CONNECTIONS).await;
    let slow = way_over_two_hosts(fleet, "an event comes from another host behind a pooler").await;
    check_time("a hint", slow, HINTED_WITHIN);
}
