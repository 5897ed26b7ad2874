//! Hosts whose clocks differ from that of the server, and clocks that are set while hosts run.
//!
//! A library between the program and the system ([`Shim`]) shows another wall clock. Steady clocks are not concerned, as on a machine whose
//! clock is set.

use super::hosts::{Fleet, HostStart};
use super::rounds::rounds;
use super::trial::{Trial, print_times};
use crate::harness::{Postgres, Shim};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds by which the clocks of the hosts are ahead, at first.
const AHEAD_S: [i64; 3] = [3_600, -3_600, 0];

/// Maximum difference between a time of an event and the test's own.
const SAME_TIME_MS: u128 = 5_000;

#[tokio::test]
async fn hosts_follow_the_clock_of_the_server() {
    let shims = AHEAD_S.map(|ahead_s| {
        let shim = Shim::new();
        shim.set_clock(ahead_s);
        shim
    });
    let server = Postgres::start().await;
    let starts =
        shims.iter().map(|shim| HostStart { environment: shim.environment().into(), ..HostStart::at(server.url()) });
    let starts = starts.collect();
    let mut trial = Trial::of(Fleet::of(server, starts).await).await;
    trial.subscribe_all(6).await;
    trial.subscribe(0, "ordered", json!({"ordering": {"on_failure": "block"}, "timeout_ms": 1_000})).await;
    trial.subscribe(1, "limited", json!({"rate_per_s": 12})).await;
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(300));
    trial.more_accepted(40).await;
    let mut times = Vec::new();
    for round in 0..rounds(2) {
        // One host is killed, and goes on with a clock that was set; the clock of another is set while it runs.
        let victim = round % AHEAD_S.len();
        let names = trial.owned_by(victim).await;
        let killed_at = trial.disrupted();
        trial.fleet.kill(victim).await;
        let other = (victim + 1) % AHEAD_S.len();
        shims[other].set_clock(AHEAD_S[round % AHEAD_S.len()]);
        times.extend(trial.goes_on(&names, killed_at).await);
        shims[victim].set_clock(AHEAD_S[(round + 1) % AHEAD_S.len()]);
        trial.fleet.restart(victim).await;
        trial.fleet.spread().await;
        trial.more_accepted(20).await;
        let page = trial.fleet.host(victim).get("./events?limit=1").await;
        let received_ms = page["events"][0]["received_at_ms"].as_u64().unwrap();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!(now_ms.abs_diff(received_ms.into()) < SAME_TIME_MS, "now {now_ms}, {page}");
    }
    print_times("another host goes on after a kill, with clocks that differ", times);
    trial.finish("clocks that differ").await;
}
