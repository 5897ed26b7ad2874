//! `hookloom move-store --live`: the store of a host moves from SQLite to PostgreSQL under load, without the loss of an accepted event.

use super::hosts::Fleet;
use super::trial::Trial;
use crate::harness::{PATIENCE, client};
use serde_json::json;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Line after everything but the last changes was copied.
const READY: &str = "ready: stop the host now";

/// Starts a command whose lines are read.
fn begin(mut command: Command) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    (process, lines)
}

/// Waits for a line that begins so.
async fn line(lines: &mut Lines<BufReader<ChildStderr>>, begin: &str) -> String {
    let found = async {
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with(begin) {
                return line;
            }
            all.push(line);
        }
        panic!("no line {begin:?}: {all:#?}");
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a line")
}

/// Asks a host for its readiness until it answers with 503 and `Retry-After`, or until it need not.
fn watch_for_503(url: String, is_over: Arc<AtomicBool>) -> tokio::task::JoinHandle<bool> {
    tokio::spawn(async move {
        while !is_over.load(Ordering::Relaxed) {
            let answer = client().post(format!("{url}/v1/tenants/default/events")).body("{}").send().await;
            if let Ok(answer) = answer
                && answer.status() == 503
            {
                assert_eq!(answer.headers()["content-type"], "application/problem+json");
                assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                if answer.text().await.unwrap().contains("is being moved") {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    })
}

#[tokio::test]
async fn a_store_moves_under_load_without_a_loss() {
    let mut trial = Trial::of(Fleet::on_sqlite().await).await;
    let ordered = json!({"ordering": {"on_failure": "block"}, "timeout_ms": 1_000});
    trial.subscribe(0, "plain", json!({})).await;
    trial.subscribe(0, "ordered", ordered).await;
    trial.subscribe(0, "limited", json!({"rate_per_s": 40})).await;
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(80));
    trial.more_accepted(60).await;
    // Killed in the middle, early and late: the host goes on.
    for reached in ["counting and checking", READY] {
        let (mut process, mut lines) = begin(trial.fleet.move_store(0, &["--live"]));
        line(&mut lines, reached).await;
        process.kill().await.unwrap();
        trial.more_accepted(20).await;
    }
    // Interrupted: the same, with an explanation.
    let (process, mut lines) = begin(trial.fleet.move_store(0, &["--live"]));
    line(&mut lines, READY).await;
    let interrupt = Command::new("kill").args(["-INT", &process.id().unwrap().to_string()]).status().await.unwrap();
    assert!(interrupt.success());
    let error = line(&mut lines, "error: ").await;
    assert!(error.contains("interrupted: nothing was moved"), "{error}");
    trial.more_accepted(20).await;
    // Moved.
    let is_over = Arc::new(AtomicBool::new(false));
    let url = trial.fleet.host(0).url.clone();
    let answers = watch_for_503(url, is_over.clone());
    trial.disrupted();
    let moved = trial.fleet.move_store(0, &["--live", "--stop-host"]).output();
    let moved = tokio::time::timeout(PATIENCE, moved).await.expect("it ends").unwrap();
    is_over.store(true, Ordering::Relaxed);
    let [out, err] = [&moved.stdout, &moved.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(moved.status.success() && out.contains("every ledger adds up"), "{out}{err}");
    assert!(err.contains("stopping the host (process ") && err.contains("changes that the host made"), "{err}");
    println!("{}", out.lines().find(|line| line.starts_with("the host ended within")).unwrap());
    assert!(answers.await.unwrap(), "an answer 503 while no host is there: {err}");
    trial.fleet.restart_moved(0).await;
    trial.more_accepted(60).await;
    let records = trial.finish("a move under load").await;
    assert!(records.sent.iter().any(|one| one.refused > 0), "the move was under load");
}

#[tokio::test]
async fn an_operator_stops_the_host_and_the_folder_says_where_the_store_is() {
    let mut trial = Trial::of(Fleet::on_sqlite().await).await;
    trial.subscribe(0, "plain", json!({})).await;
    trial.send(Duration::from_millis(100));
    trial.more_accepted(20).await;
    let (mut process, mut lines) = begin(trial.fleet.move_store(0, &["--live"]));
    line(&mut lines, READY).await;
    trial.more_accepted(20).await;
    let data = trial.fleet.host(0).data();
    trial.disrupted();
    trial.fleet.host(0).signal_stop().await;
    line(&mut lines, "the host has ended").await;
    assert!(tokio::time::timeout(PATIENCE, process.wait()).await.expect("it ends").unwrap().success());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--set", "store=", "--data-dir"];
    let refused = Command::new(crate::harness::program()).args(arguments).arg(&data).output().await.unwrap();
    let err = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{err}");
    assert!(err.contains("was moved to postgres://postgres@/postgres?host=") && err.contains(" UTC: name"), "{err}");
    assert!(!data.join("hookloom.db.moving").exists(), "the move is over");
    trial.fleet.restart_moved(0).await;
    trial.more_accepted(20).await;
    trial.finish("a move whose host an operator stopped").await;
}

/// Number of events in each request of a large store.
const BATCH: usize = 500;

/// Fills the store of a host, moves it, and prints how long each part took.
async fn measure(events: usize) -> Duration {
    let mut trial = Trial::of(Fleet::on_sqlite().await).await;
    trial.subscribe(0, "plain", json!({"concurrency": 64})).await;
    let event = json!({"eventName": "Contact is Updated", "eventData": {"id": 1, "mark": 0, "text": "x".repeat(300)}});
    let batch = vec![event.to_string(); BATCH].join("\n");
    for _ in 0..events / BATCH {
        let reply = trial.fleet.host(0).ask(reqwest::Method::POST, "./events", batch.clone()).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
    }
    trial.fleet.host(0).drained().await;
    trial.send(Duration::from_millis(40));
    trial.more_accepted(20).await;
    let begun = Instant::now();
    let moved = trial.fleet.move_store(0, &["--live", "--stop-host", "--json"]).output().await.unwrap();
    let err = String::from_utf8_lossy(&moved.stderr);
    assert!(moved.status.success(), "{err}");
    let shown: serde_json::Value = serde_json::from_slice(&moved.stdout).unwrap();
    let [ending, cut_over] = ["host_ended_ms", "cut_over_ms"].map(|name| shown[name].as_u64().unwrap());
    println!(
        "{err}{events} events: moved in {:?}, the host ended in {ending} ms, the rest took {cut_over} ms",
        begun.elapsed()
    );
    trial.fleet.restart_moved(0).await;
    trial.more_accepted(20).await;
    let ledger = trial.fleet.host(0).ledger().await;
    assert!(ledger["delivered"].as_u64().unwrap() >= events as u64, "{ledger}");
    Duration::from_millis(cut_over)
}

/// The time without a host does not depend on the number of stored events.
///
/// `cargo test -p hookloom --test e2e fleet::live_move::the_cut_over -- --ignored --nocapture`
#[tokio::test]
#[ignore = "takes minutes"]
async fn the_cut_over_of_a_large_store_is_as_short() {
    let [small, large] = [measure(20_000).await, measure(200_000).await];
    assert!(large < small * 3 + Duration::from_millis(500), "{small:?} with 20,000 events, {large:?} with 200,000");
}
