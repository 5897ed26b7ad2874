//! Full disk: refused writes, continuing operations, and the return to normal operation.

use crate::harness::{Host, Receiver, event, text, until};
use reqwest::Method;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Returns an event of about 200 KB.
fn large(number: usize) -> String {
    let filler = "x".repeat(200_000);
    format!(r#"{{"eventName":"Contact is Created","eventData":{{"id":{number},"properties":[],"filler":"{filler}"}}}}"#)
}

/// Number of times that an event and readiness must be refused, one after the other, for a disk to count as full.
const FULL_AFTER: usize = 5;

/// Sends large events to a tenant until the disk is full: events are refused, and readiness reports it each time. After the first
/// refusals, some may be accepted, in the space that the log used until it was copied. Returns the number of accepted events.
async fn fill(host: &Host, tenant: &str) -> usize {
    let mut accepted = 0;
    let mut refused = 0;
    for number in 0..2_000 {
        let reply = host.ask(Method::POST, &format!("/v1/tenants/{tenant}/events"), large(number)).await;
        let unready = host.ask_as("", Method::GET, "/readyz", "").await;
        if reply.status == 202 {
            accepted += 1;
            refused = 0;
            continue;
        }
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(reply.headers.contains_key("retry-after"), "{}", reply.text);
        if unready.status == 200 {
            refused = 0;
            continue;
        }
        assert_eq!(unready.status, 503, "{}", unready.text);
        assert!(text(&unready.json, "detail").contains("the disk of the data folder is full"), "{}", unready.text);
        assert!(text(&unready.json, "remedy").contains("deleting works on a full disk"), "{}", unready.text);
        refused += 1;
        if refused == FULL_AFTER {
            return accepted;
        }
    }
    panic!("the disk never filled up: {accepted} events were accepted");
}

/// Deletes a tenant, and waits until its rows are gone.
async fn delete_tenant(host: &Host, tenant: &str) {
    let deleted = host.ask(Method::DELETE, &format!("/v1/tenants/{tenant}?confirm={tenant}"), "").await;
    assert_eq!(deleted.status / 100, 2, "{}", deleted.text);
    until("the tenant to be gone", async || {
        let left = host.ask(Method::GET, &format!("/v1/tenants/{tenant}/deletion"), "").await;
        (left.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_seen_and_deleting_is_the_way_out() {
    let receiver = Receiver::start().await;
    let host = Host::with().on_small_disk().start().await;
    let ready = async || host.ask_as("", Method::GET, "/readyz", "").await;
    host.subscription(&receiver.url, json!({})).await;
    let before = host.send(event("Contact is Created", 1)).await;
    assert_eq!(text(&host.ended(&before).await, "state"), "delivered");
    // More than once, because a used reserve is filled again.
    for round in 0..3 {
        host.post("/v1/tenants", &json!({"id": "large"})).await;
        let accepted = fill(&host, "large").await;
        assert!(accepted > 50, "round {round}: {accepted} events of 200 KB on a disk of 48 MiB");
        // Actions of an operator are recorded meanwhile.
        host.ask(Method::PATCH, "/v1/tenants/large", json!({"limits_max": {"cpu_ms": 20}}).to_string()).await.ok();
        delete_tenant(&host, "large").await;
        let again = until("room for an event", async || {
            let reply = host.ask(Method::POST, "./events", event("Contact is Created", 2)).await;
            (reply.status == 202).then(|| text(&reply.json["events"][0], "id").to_owned())
        });
        assert_eq!(text(&host.ended(&again.await).await, "state"), "delivered");
        until("readiness", async || (ready().await.status == 200).then_some(())).await;
    }
    let (status, _) = host.stop().await;
    assert!(status.success());
}

/// Starts a process that reads the database within a transaction until its standard input is closed. The disk is mounted for the
/// host alone, so the process enters the host's namespaces.
fn read_snapshot(host: &Host) -> Child {
    const PROGRAM: &str = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute('BEGIN')
database.execute('SELECT COUNT(*) FROM tenants').fetchone()
print('reading', flush=True)
sys.stdin.read()";
    let mut command = Command::new("nsenter");
    command.args(["--target", &host.process.id().unwrap().to_string(), "--mount"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["python3", "-c", PROGRAM]).arg(host.data().join("hookloom.db"));
    let mut reader = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(reader.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "reading\n");
    reader
}

/// While a reader of an older state is at work, the log cannot restart. Copying it must still be possible on a full disk.
#[tokio::test]
async fn deletions_are_possible_after_a_reader_held_the_log_on_a_full_disk() {
    let host = Host::with().on_small_disk().start().await;
    host.post("/v1/tenants", &json!({"id": "large"})).await;
    let mut reader = read_snapshot(&host);
    let accepted = fill(&host, "large").await;
    assert!(accepted > 10, "{accepted} events of 200 KB in a log on a disk of 48 MiB");
    drop(reader.stdin.take());
    assert!(reader.wait().unwrap().success());
    delete_tenant(&host, "large").await;
    until("room for an event", async || {
        (host.ask(Method::POST, "./events", event("Contact is Created", 1)).await.status == 202).then_some(())
    })
    .await;
}
