//! Hosts of two versions on one database, during a rolling upgrade and back.
//!
//! `cargo xtask soak fleet --before PROGRAM` runs it with the program of another version.

use super::hosts::{Fleet, HostStart};
use super::rounds::rounds;
use super::trial::{Trial, print_times};
use crate::harness::Postgres;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const HOSTS: usize = 3;

/// Environment variable with the program before the upgrade.
const BEFORE_VARIABLE: &str = "TEST_PROGRAM_BEFORE";

#[tokio::test]
#[ignore = "needs the program of another version"]
async fn a_rolling_upgrade_and_back_lose_nothing() {
    let before = PathBuf::from(std::env::var_os(BEFORE_VARIABLE).expect("the program of another version"));
    let server = Postgres::start().await;
    let start = HostStart { program: Some(before.clone()), ..HostStart::at(server.url()) };
    let mut trial = Trial::of(Fleet::of(server, vec![start; HOSTS]).await).await;
    trial.subscribe_all(6).await;
    trial.subscribe(0, "ordered", json!({"ordering": {"on_failure": "block"}})).await;
    trial.subscribe(1, "limited", json!({"rate_per_s": 20})).await;
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(150));
    trial.more_accepted(40).await;
    let mut silences = Vec::new();
    for _ in 0..rounds(1) {
        for program in [None, Some(before.clone())] {
            for place in 0..HOSTS {
                let names = trial.owned_by(place).await;
                let stopped_at = trial.now();
                trial.fleet.stop(place).await;
                trial.goes_on(&names, stopped_at).await;
                silences.extend(trial.silences(&names, stopped_at));
                trial.fleet.run_program(place, program.clone());
                trial.fleet.restart(place).await;
                trial.fleet.spread().await;
                trial.more_accepted(20).await;
            }
        }
    }
    print_times("silence of a subscription whose host is replaced", silences);
    let records = trial.finish("rolling upgrades and back").await;
    assert_eq!(records.receipts.len(), records.deliveries.len(), "each exactly once");
}
