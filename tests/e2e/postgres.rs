//! A host on PostgreSQL: the same work as on SQLite, and what happens when the server ends, is away, or belongs to another host.

use crate::crash::kill_again_and_again;
use crate::harness::{ADMIN_KEY, Host, Postgres, Receiver, SECRET, event, example, program, until};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;

const KILLS: usize = 10;
const SENDERS: usize = 4;
const CONCURRENCY: usize = 8;

fn setting(server: &Postgres) -> String {
    format!("store={}", server.url())
}

#[tokio::test]
async fn an_event_goes_the_whole_way_and_a_restart_goes_on() {
    let server = Postgres::start().await;
    // As an account that may only use its own database.
    let store = format!("store={}", server.prepare("deploy/postgresql.sql").await);
    let receiver = Receiver::start().await;
    let host = Host::with().set(&store).set("log=\"trace\"").start().await;
    host.plugin("flatten", example("flatten")).await;
    let subscription = host.subscription(&receiver.url, json!({"plugin": "flatten"})).await;
    host.send(event("Contact is Created", 1)).await;
    let first = &receiver.expect(1).await[0];
    assert_eq!(first["verified"], true, "{first}");
    host.drained().await;
    let paused =
        host.ask(Method::POST, &format!("./subscriptions/{subscription}/pause"), r#"{"reason": "a test"}"#).await;
    assert_eq!(paused.status, 200, "{}", paused.text);
    host.send(event("Contact is Created", 2)).await;

    let (status, folder) = host.stop().await;
    assert!(status.success());
    assert!(!folder.path().join("data/hookloom.db").exists(), "nothing is in SQLite");
    let host = Host::with().set(&store).on(folder).start().await;
    host.ask(Method::POST, &format!("./subscriptions/{subscription}/resume"), "{}").await.ok();
    let both = receiver.expect(2).await;
    assert_eq!(both[1]["verified"], true, "{}", both[1]);
    host.drained().await;
    assert_eq!(host.ledger().await["delivered"], 2);
    let log = std::fs::read_to_string(host.folder.path().join("log")).unwrap();
    for secret in ["eventData", SECRET, ADMIN_KEY] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_host_that_is_killed_loses_nothing() {
    let server = Postgres::start().await;
    let tally = kill_again_and_again(KILLS, &[&setting(&server)]).await;
    println!("{tally:?} in {KILLS} kills");
}

/// Sends from several senders until it is told to stop. Returns the ids of the accepted events, and the number of refused requests.
async fn send_until(stop: &AtomicBool, host: &Host) -> (BTreeSet<String>, usize) {
    let accepted = Mutex::new(BTreeSet::new());
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let sender = async |sender: usize| {
        let mut number = sender;
        while !stop.load(Ordering::Relaxed) {
            number += SENDERS;
            let reply = host.ask(Method::POST, "./events", event("Contact is Updated", number)).await;
            match reply.status {
                202 => drop(accepted.lock().unwrap().insert(reply.json["events"][0]["id"].to_string())),
                503 => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    assert!(reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                status => panic!("{status}: {}", reply.text),
            }
        }
    };
    futures_util::future::join_all((0..SENDERS).map(sender)).await;
    (accepted.into_inner().unwrap(), refused.into_inner())
}

#[tokio::test]
async fn a_server_that_is_killed_costs_no_accepted_event() {
    let mut server = Postgres::start().await;
    let receiver = Receiver::start().await;
    let host = Host::with().set(&setting(&server)).start().await;
    host.subscription(&receiver.url, json!({"concurrency": CONCURRENCY})).await;
    let stop = AtomicBool::new(false);
    let crashes = 3;
    let crash = async {
        for _ in 0..crashes {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.crash().await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((accepted, refused), ()) = tokio::join!(send_until(&stop, &host), crash);
    host.drained().await;
    let ledger = host.ledger().await;
    assert_eq!(ledger["fan_out"], ledger["delivered"], "{ledger}");
    let delivered = usize::try_from(ledger["delivered"].as_u64().unwrap()).unwrap();
    let received = receiver.expect(delivered).await;
    let events: BTreeSet<String> =
        received.iter().map(|request| request["headers"]["hookloom-event-id"].to_string()).collect();
    let lost: Vec<&String> = accepted.difference(&events).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", accepted.len());
    let twice = received.len() - events.len();
    assert!(twice <= crashes * CONCURRENCY, "{twice} were sent twice");
    println!("{} accepted, {refused} refused, {twice} sent twice in {crashes} crashes of the server", accepted.len());
}

#[tokio::test]
async fn metrics_are_collected_while_the_database_is_away() {
    let mut server = Postgres::start().await;
    let host = Host::with().set(&setting(&server)).start().await;
    let reachable = async || {
        let asked_at = Instant::now();
        let reply = host.ask(Method::GET, "/metrics", "").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        // A scrape of Prometheus ends after ten seconds.
        assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
        assert!(reply.text.contains("hookloom_events_accepted_total"), "{}", reply.text);
        reply.text.lines().find_map(|line| line.strip_prefix("hookloom_database_reachable ")?.parse::<u8>().ok())
    };
    host.send(event("Contact is Created", 1)).await;
    assert_eq!(reachable().await, Some(1));
    server.kill().await;
    until("the metric to say that the database is away", async || (reachable().await == Some(0)).then_some(())).await;
    server.restart().await;
    until("the metric to say that the database is back", async || (reachable().await == Some(1)).then_some(())).await;
}

#[tokio::test]
async fn a_second_host_without_the_master_key_is_refused() {
    let server = Postgres::start().await;
    let _first = Host::with().set(&setting(&server)).start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut second = Command::new(program());
    second.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    let second = second.args(["--set", &setting(&server)]).output().await.unwrap();
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && message.contains("put its file there"), "{message}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Command::new(program());
    host.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    let ended = host.args(["--set", "store=postgres://u:hunter2@127.0.0.1:1/d"]).output().await.unwrap();
    let message = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && message.contains("127.0.0.1:1"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let mut shown = Command::new(program());
    shown.args(["config", "--set", "store=postgres://u:hunter2@127.0.0.1:1/d"]);
    let shown = shown.output().await.unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("postgres://u:***@127.0.0.1:1/d") && !shown.contains("hunter2"), "{shown}");
}

/// Runs `hookloom migrate`, and returns its exit code and what it printed.
async fn migrate(store: &str, options: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.arg("migrate").args(options).env("HOOKLOOM_STORE", store).current_dir(folder.path());
    let output = command.output().await.unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), text.concat())
}

#[tokio::test]
async fn a_database_is_migrated_by_hand_and_a_host_with_a_lesser_account_runs_on_it() {
    let server = Postgres::start().await;
    let store = server.prepare("deploy/postgresql.sql").await;
    let (code, shown) = migrate(&store, &["--check"]).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("the database has schema 0") && shown.contains("run `hookloom migrate`"), "{shown}");
    let (code, shown) = migrate(&store, &[]).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("making schema 1") && shown.contains("now; it had 0"), "{shown}");
    let (code, shown) = migrate(&store, &["--check"]).await;
    assert_eq!(code, Some(0), "{shown}");
    let (code, shown) = migrate(&store, &["--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &json["before"], &json["schema"]), (Some(0), &json["schema"], &json["before"]), "{shown}");
    let (code, shown) = migrate("", &[]).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("nothing to do by hand"), "{shown}");

    let limited = server.prepare_limited().await;
    let receiver = Receiver::start().await;
    let host = Host::with().set(&format!("store={limited}")).start().await;
    host.subscription(&receiver.url, json!({})).await;
    host.send(event("Contact is Created", 1)).await;
    receiver.expect(1).await;
    host.drained().await;
}
