//! Concurrent changes: edits, uploads, pauses and stops during deliveries. Each test is for a fixed bug.

use crate::harness::{Host, RawReceiver, Receiver, event, guest, text, until};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_version_that_comes_during_the_attempt_judges_too() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("panics")).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "concurrency": 256})).await;
    let batch: Vec<String> = (0..200).map(|number| event("Contact is Created", number)).collect();
    let body = batch.join("\n");
    let send = async {
        for _ in 0..5 {
            host.ask(Method::POST, "./events", body.clone()).await.ok();
        }
    };
    let upload = host.plugin("p", guest("passes"));
    tokio::join!(send, upload);
    until("every delivery", async || (host.ledger().await["delivered"] == 1_000).then_some(())).await;
}

#[tokio::test]
async fn a_config_that_comes_during_the_attempt_judges_too() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("bad", guest("panics")).await;
    host.plugin("good", guest("passes")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "bad"})).await;
    let batch: Vec<String> = (0..400).map(|number| event("Contact is Created", number)).collect();
    host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
    let edit = json!({"notify_url": receiver.url, "modules": ["Contact"], "plugin": "good"});
    host.ask(Method::PUT, &format!("./subscriptions/{id}"), edit.to_string()).await.ok();
    until("every delivery", async || (host.ledger().await["delivered"] == 400).then_some(())).await;
}

#[tokio::test]
async fn dead_deliveries_are_not_sent_after_a_resume() {
    let host = Host::start().await;
    let gone = Arc::new(AtomicBool::new(true));
    let says_gone = gone.clone();
    let receiver = RawReceiver::start(move |mut socket| {
        let status = if says_gone.load(Ordering::SeqCst) { "410 Gone" } else { "200 OK" };
        async move {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = socket.write_all(head.as_bytes()).await;
        }
    })
    .await;
    let id = host.subscription(&receiver.url, json!({"concurrency": 1})).await;
    let batch: Vec<String> = (0..30).map(|number| event("Contact is Created", number)).collect();
    host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
    until("the end of all", async || (host.ledger().await["dead"] == 30).then_some(())).await;
    let before = receiver.requests();
    gone.store(false, Ordering::SeqCst);
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
    let fresh = host.send(event("Contact is Created", 31)).await;
    assert_eq!(text(&host.ended(&fresh).await, "state"), "delivered");
    assert_eq!(receiver.requests(), before + 1, "only the fresh one is sent");
    assert_eq!(host.ledger().await["dead"], 30);
}

#[tokio::test]
async fn paused_time_is_no_age_also_for_what_was_already_read() {
    let host = Host::with().turnable().start().await;
    let receiver = RawReceiver::start(|mut socket| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = socket.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    // One attempt each: a delivery that ended as too old was never of that age while the subscription was active.
    let retry = json!({"schedule_s": [0], "age_max_s": 3_600});
    let id = host.subscription(&receiver.url, json!({"concurrency": 1, "retry": retry})).await;
    let ids = join_all((0..5).map(|number| host.send(event("Contact is Created", number)))).await;
    until("the first attempt", async || (receiver.requests() > 0).then_some(())).await;
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "longer than the age limit"})).await;
    host.pass(Duration::from_secs(7_200)).await;
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
    for id in ids {
        let delivery = host.attempted(&id).await;
        assert_ne!(delivery["reason"]["code"], "too-old", "{delivery}");
    }
}

#[tokio::test]
async fn no_acknowledged_edit_is_lost() {
    let host = Host::start().await;
    let id = host.subscription("http://127.0.0.1:9999/", json!({})).await;
    let edit = async |number: usize| {
        let name = format!("s{number}");
        let body = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Deal"], "secrets": {name: "x"}});
        host.ask(Method::PUT, &format!("./subscriptions/{id}"), body.to_string()).await.ok();
    };
    join_all((0..8).map(edit)).await;
    let shown = host.get(&format!("./subscriptions/{id}")).await;
    assert_eq!((shown["secrets"].as_array().unwrap().len(), &shown["config_generation"]), (8, &json!(9)));
}

#[tokio::test]
async fn a_rejected_request_is_accepted_once_and_a_token_replaced_once() {
    let host = Host::start().await;
    let token = host.post("./intake-tokens", &json!({})).await;
    let rejected = host.ask_as("", Method::POST, text(&token, "path"), event("Contact is Deleted", 1)).await;
    let names = json!({"event_types": {"Contact is Deleted": {"module": "Contact"}}});
    host.ask(Method::PATCH, "/v1/tenants/default", names.to_string()).await.ok();
    let path = format!("./rejected-requests/{}/resubmit", text(&rejected.json, "rejected_request"));
    let accepted = join_all((0..8).map(|_| host.ask(Method::POST, &path, ""))).await;
    assert_eq!(accepted.iter().filter(|reply| reply.status == 202).count(), 1);
    assert_eq!(host.ledger().await["events"], 1);

    let path = format!("./intake-tokens/{}/rotate", text(&token, "id"));
    let rotated = join_all((0..8).map(|_| host.ask(Method::POST, &path, ""))).await;
    assert_eq!(rotated.iter().filter(|reply| reply.status == 201).count(), 1);
    assert_eq!(host.get("./intake-tokens").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn uploads_at_the_same_time_leave_what_is_stored_running() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    join_all(["later", "transient", "passes", "world"].map(|name| host.plugin("p", guest(name)))).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let versions: Value = host.get("./plugins/p/versions").await;
    let active = versions.as_array().unwrap().iter().find(|version| version["active"] == true).unwrap();
    assert_eq!(delivery["attempts"][0]["plugin_sha256"], active["sha256"]);
}

#[tokio::test]
async fn large_events_from_the_store_use_the_whole_concurrency() {
    let host = Host::start().await;
    let receiver = RawReceiver::start(|socket| async move {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        drop(socket);
    })
    .await;
    let id = host.subscription(&receiver.url, json!({"timeout_ms": 30_000})).await;
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "to read them from the store"})).await;
    let large = format!("\"pad\":\"{}\",\"properties\"", "x".repeat(200_000));
    for number in 0..20 {
        host.send(event("Contact is Created", number).replace("\"properties\"", &large)).await;
    }
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
    until("all of them at once", async || (receiver.requests() == 20).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_hung_up_on() {
    let host = Host::with().set("head_timeout_s=1").start().await;
    let address = host.url.strip_prefix("http://").unwrap();
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nX:").await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    for socket in [&mut half, &mut silent] {
        let read = tokio::time::timeout(crate::harness::PATIENCE, socket.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open after {:?}", crate::harness::PATIENCE);
    }
    assert_eq!(host.ask_as("", Method::GET, "/healthz", "").await.status, 200);
}
