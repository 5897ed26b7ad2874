//! Random ends, standstills and outages of the hosts and of the database, one after another and across each other.
//!
//! A test of some minutes, for a machine with nothing else to do: `cargo test -p hookloom --test e2e fleet::chaos -- --ignored --nocapture`.

use super::trial::Trial;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use std::time::Duration;

const HOSTS: usize = 4;
const STEPS: usize = 40;

/// Environment variable with the number from which the steps follow. Without it, they are new ones.
const SEED_VARIABLE: &str = "TEST_FLEET_SEED";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostCondition {
    Runs,
    StandsStill,
    Ended,
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn nothing_is_lost_in_random_steps() {
    let seed = std::env::var(SEED_VARIABLE).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{SEED_VARIABLE}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut trial = Trial::start(HOSTS).await;
    for number in 0..4 {
        let ordered = json!({"ordering": {"on_failure": "block"}, "timeout_ms": 1_000});
        trial.subscribe(number, &format!("plain{number}"), json!({"concurrency": 2})).await;
        trial.subscribe(number, &format!("ordered{number}"), ordered).await;
        trial.subscribe(number, &format!("limited{number}"), json!({"rate_per_s": 12})).await;
    }
    trial.endpoint.delay(Duration::from_millis(30));
    trial.send(Duration::from_millis(400));
    let mut hosts = [HostCondition::Runs; HOSTS];
    for _ in 0..STEPS {
        step(&mut trial, &mut hosts, &mut random).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2_500))).await;
    }
    for (place, condition) in hosts.into_iter().enumerate() {
        match condition {
            HostCondition::Runs => {}
            HostCondition::StandsStill => trial.fleet.thaw(place).await,
            HostCondition::Ended => trial.fleet.restart(place).await,
        }
    }
    trial.fleet.spread().await;
    trial.more_accepted(20).await;
    trial.finish("random steps").await;
}

/// Does one step to a random host or to the database. One host runs at any time.
async fn step(trial: &mut Trial, hosts: &mut [HostCondition], random: &mut StdRng) {
    let place = random.random_range(0..hosts.len());
    let others_run = hosts.iter().enumerate().any(|(other, one)| other != place && *one == HostCondition::Runs);
    let what = random.random_range(0..8);
    println!("{:?}: host {place} {:?}, step {what}", trial.now(), hosts[place]);
    match (hosts[place], what) {
        (HostCondition::Runs, 0) => {
            trial.disrupted();
            trial.fleet.server.kill().await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..7_000))).await;
            trial.fleet.server.restart().await;
        }
        (HostCondition::Runs, 1 | 2) if others_run => {
            trial.disrupted();
            trial.fleet.kill(place).await;
            hosts[place] = HostCondition::Ended;
        }
        (HostCondition::Runs, 3) => {
            trial.disrupted();
            trial.fleet.kill(place).await;
            trial.fleet.restart(place).await;
        }
        (HostCondition::Runs, 4 | 5) if others_run => {
            trial.fleet.stop(place).await;
            hosts[place] = HostCondition::Ended;
        }
        (HostCondition::Runs, _) if others_run => {
            trial.disrupted();
            trial.fleet.freeze(place).await;
            hosts[place] = HostCondition::StandsStill;
        }
        (HostCondition::Runs, _) => {}
        (HostCondition::StandsStill, 0 | 1) => {
            trial.fleet.kill(place).await;
            hosts[place] = HostCondition::Ended;
        }
        (HostCondition::StandsStill, _) => {
            trial.fleet.thaw(place).await;
            hosts[place] = HostCondition::Runs;
        }
        (HostCondition::Ended, _) => {
            trial.fleet.restart(place).await;
            hosts[place] = HostCondition::Runs;
        }
    }
}
