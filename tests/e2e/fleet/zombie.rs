//! Host that stands still for longer than its lease, and goes on while others have taken over.

use super::rounds::rounds;
use super::trial::{Trial, print_times};
use crate::harness::until;
use std::time::Duration;

const HOSTS: usize = 3;

#[tokio::test]
async fn a_host_that_stood_still_writes_nothing_and_joins_again() {
    let mut trial = Trial::under_load(HOSTS, 9, Duration::from_millis(400)).await;
    trial.endpoint.delay(Duration::from_millis(30));
    trial.more_accepted(20).await;
    let mut taken_over = Vec::new();
    let mut back = Vec::new();
    for round in 0..rounds(1) {
        let zombie = round % HOSTS;
        let names = trial.owned_by(zombie).await;
        let frozen_at = trial.disrupted();
        trial.fleet.freeze(zombie).await;
        taken_over.extend(trial.goes_on(&names, frozen_at).await);
        // A request that was under way can arrive later than the standstill began.
        until("others to take over", async || trial.fleet.number(zombie).await.is_none().then_some(())).await;
        trial.more_accepted(10).await;

        let thawed_at = trial.now();
        trial.fleet.thaw(zombie).await;
        until("the host to register again", async || trial.fleet.number(zombie).await).await;
        trial.fleet.spread().await;
        back.push(trial.now() - thawed_at);
        let log = trial.fleet.log(zombie);
        assert!(log.contains("the lease of this host has ended; it registers again"), "{log}");
        trial.more_accepted(20).await;
    }
    print_times("another host goes on after a standstill", taken_over);
    print_times("the host has its part again", back);
    trial.finish("a standstill").await;
}

#[tokio::test]
async fn a_standstill_within_the_lease_changes_no_owner() {
    let trial = Trial::under_load(2, 4, Duration::from_millis(250)).await;
    trial.more_accepted(10).await;
    let owners = trial.fleet.owners().await;
    trial.fleet.freeze(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    trial.fleet.thaw(1).await;
    trial.more_accepted(20).await;
    assert_eq!(trial.fleet.owners().await, owners);
    trial.finish("a short standstill").await;
}
