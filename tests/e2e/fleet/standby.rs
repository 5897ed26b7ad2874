//! The server is lost, and its synchronous standby is promoted.

use super::hosts::{Fleet, HostStart};
use super::rounds::rounds;
use super::trial::{Trial, print_times};
use crate::harness::{Postgres, until};
use std::time::Duration;

const HOSTS: usize = 3;
const SUBSCRIPTIONS: usize = 6;

#[tokio::test]
async fn nothing_is_lost_when_a_synchronous_standby_is_promoted() {
    let mut times = Vec::new();
    for _ in 0..rounds(1) {
        let primary = Postgres::start().await;
        let standby = primary.standby().await;
        primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        primary.query("SELECT pg_reload_conf()").await;
        until("the standby", async || {
            let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            (primary.query(synchronous).await == ["1"]).then_some(())
        })
        .await;
        let store = primary.url_of_either(&standby);
        let fleet = Fleet::of(primary, vec![HostStart::at(store); HOSTS]).await;
        let mut trial = Trial::with(fleet, SUBSCRIPTIONS, Duration::from_millis(250)).await;

        trial.disrupted();
        trial.fleet.server.kill().await;
        standby.promote().await;
        let promoted_at = trial.now();
        trial.fleet.server = standby;
        times.extend(trial.goes_on(&trial.names(), promoted_at).await);
        trial.more_accepted(30).await;
        trial.fleet.spread().await;
        trial.finish("a promoted standby").await;
    }
    print_times("a subscription goes on after the standby was promoted", times);
}
