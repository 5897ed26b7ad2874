//! The database is killed, and comes back after less and after more than a lease.

use super::rounds::rounds;
use super::trial::{Trial, print_times};
use crate::harness::until;
use std::time::Duration;

const HOSTS: usize = 3;

/// Durations of the outages. A lease takes five seconds.
const OUTAGES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(7)];

/// Warnings and errors that a host logs for one outage, whatever the number of requests that it refuses.
const LINES_MAX: usize = 20;

#[tokio::test]
async fn nobody_takes_over_from_hosts_that_lost_the_database_as_well() {
    let mut trial = Trial::under_load(HOSTS, 9, Duration::from_millis(400)).await;
    trial.endpoint.delay(Duration::from_millis(20));
    trial.more_accepted(20).await;
    let owners = trial.fleet.owners().await;
    let all = trial.names();
    let mut times = Vec::new();
    for round in 0..rounds(OUTAGES.len()) {
        let lasts = OUTAGES[round % OUTAGES.len()];
        trial.disrupted();
        trial.fleet.server.kill().await;
        let killed_at = trial.now();
        for place in 0..HOSTS {
            // A process of the server may still have committed one.
            while trial.send_one(place).await != 503 {}
        }
        tokio::time::sleep(lasts.saturating_sub(trial.now() - killed_at)).await;
        let back_at = trial.now();
        trial.fleet.server.restart().await;
        times.extend(trial.goes_on(&all, back_at).await);
        trial.more_accepted(10).await;
        until("every host to be there", async || {
            let rows = trial.fleet.server.query("SELECT count(*) FROM hosts WHERE lease_until > now()").await;
            (rows == [HOSTS.to_string()]).then_some(())
        })
        .await;
        assert_eq!(trial.fleet.owners().await, owners, "after {lasts:?}");
    }
    // Long enough for a host that would take over from another.
    trial.more_accepted(40).await;
    assert_eq!(trial.fleet.owners().await, owners);
    for place in 0..HOSTS {
        let log = trial.fleet.log(place);
        assert!(!log.contains("were taken over"), "{log}");
        let lines = log.lines().filter(|line| line.contains(" ERROR ") || line.contains(" WARN ")).count();
        assert!(lines <= LINES_MAX * rounds(OUTAGES.len()), "{lines} lines for an outage: {log}");
    }
    print_times("a subscription goes on after the database was started", times);
    trial.finish("outages of the database").await;
}
