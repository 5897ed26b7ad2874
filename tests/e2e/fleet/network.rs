//! Networks that lose packets between a host and the server, in one direction or in both.
//!
//! The test runs itself in a network namespace of its own. There, the server has an address for each host, and a rule of the packet filter
//! (nftables) drops what goes to or comes from one of them.

use super::hosts::{Fleet, HostStart};
use super::rounds::{check_time, rounds};
use super::trial::{Trial, print_times};
use crate::harness::{Postgres, until};
use std::time::Duration;
use tokio::process::Command;

const HOSTS: usize = 3;
const SUBSCRIPTIONS: usize = 9;

/// Environment variable of a test that runs in a namespace.
const NAMESPACE_VARIABLE: &str = "TEST_NAMESPACE";

/// Time in which another host must have gone on.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(8);

/// Rules that drop packets.
const FILTER: &str = "add table ip fleet; add chain ip fleet lost { type filter hook output priority 0; }";

#[derive(Clone, Copy, Debug)]
enum Lost {
    ToServer,
    FromServer,
    Both,
}

/// Returns the address of the server for a host.
fn address(place: usize) -> String {
    format!("127.1.0.{}", place + 1)
}

async fn run(program: &str, arguments: &[&str]) {
    let ran = Command::new(program).args(arguments).output().await.unwrap();
    assert!(ran.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Loses what a host and the server send to each other.
async fn cut_off(place: usize, lost: Lost) {
    let address = address(place);
    let rule =
        async |what: &str| run("nft", &["add", "rule", "ip", "fleet", "lost", "ip", what, &address, "drop"]).await;
    if !matches!(lost, Lost::FromServer) {
        rule("daddr").await;
    }
    if !matches!(lost, Lost::ToServer) {
        rule("saddr").await;
    }
}

/// Loses nothing from now on.
async fn heal() {
    run("nft", &["flush", "chain", "ip", "fleet", "lost"]).await;
}

/// Runs a test of this module in a network namespace.
async fn in_namespace(test: &str) {
    let mut unshare = Command::new("unshare");
    if !hookloom_postgres_server::is_root() {
        unshare.args(["--map-current-user", "--keep-caps"]);
    }
    unshare.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    unshare.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    let ran = unshare.env(NAMESPACE_VARIABLE, "1").kill_on_drop(true).output().await.unwrap();
    let [out, errors] = [&ran.stdout, &ran.stderr].map(|output| String::from_utf8_lossy(output));
    println!("{out}");
    assert!(ran.status.success() && out.contains("1 passed"), "{errors}");
}

#[tokio::test]
async fn a_host_that_is_cut_off_is_taken_over_and_comes_back() {
    if std::env::var_os(NAMESPACE_VARIABLE).is_none() {
        return in_namespace("fleet::network::a_host_that_is_cut_off_is_taken_over_and_comes_back").await;
    }
    run("nft", &[FILTER]).await;
    let addresses: Vec<String> = (0..HOSTS).map(address).collect();
    let server = Postgres::with(&[&format!("listen_addresses={}", addresses.join(","))]).await;
    let starts = addresses.iter().map(|address| HostStart::at(format!("postgres://postgres@{address}/postgres")));
    let fleet = Fleet::of(server, starts.collect()).await;
    let mut trial = Trial::with(fleet, SUBSCRIPTIONS, Duration::from_millis(400)).await;
    let mut taken_over = Vec::new();
    let mut back = Vec::new();
    for round in 0..rounds(1) {
        for (turn, lost) in [Lost::ToServer, Lost::FromServer, Lost::Both].into_iter().enumerate() {
            let victim = (round + turn) % HOSTS;
            let names = trial.owned_by(victim).await;
            let cut_at = trial.disrupted();
            cut_off(victim, lost).await;
            taken_over.extend(trial.goes_on(&names, cut_at).await);
            until("others to take over", async || trial.fleet.number(victim).await.is_none().then_some(())).await;
            trial.more_accepted(10).await;
            let healed_at = trial.disrupted();
            heal().await;
            until("the host to register again", async || trial.fleet.number(victim).await).await;
            trial.fleet.spread().await;
            back.push(trial.now() - healed_at);
            println!("{lost:?}: the host has its part again after {:?}", back.last());
            trial.more_accepted(20).await;
        }
    }
    let max = print_times("another host goes on after a host was cut off", taken_over);
    print_times("the host has its part again after the network is whole", back);
    trial.finish("cut-offs by the network").await;
    check_time("a takeover", max, TAKEN_OVER_WITHIN);
}
