//! Stop and start: attempts under way are completed, and everything else continues.

use crate::harness::{Host, RawReceiver, Receiver, event, example, fixture, program, text, until};
use serde_json::json;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

#[tokio::test]
async fn a_stop_finishes_the_attempts_under_way() {
    let host = Host::start().await;
    let go = Arc::new(Notify::new());
    let answer = go.clone();
    let receiver = RawReceiver::start(move |mut socket| {
        let go = answer.clone();
        async move {
            go.notified().await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    host.subscription(&receiver.url, json!({"concurrency": 1})).await;
    let first = host.send(event("Contact is Created", 1)).await;
    let second = host.send(event("Contact is Created", 2)).await;
    until("the first attempt", async || (receiver.requests() == 1).then_some(())).await;
    let log = host.folder.path().join("log");
    let stopping = host.stop();
    tokio::pin!(stopping);
    let logged = until("the stop", async || std::fs::read_to_string(&log).unwrap().contains("stopping").then_some(()));
    tokio::select! {
        _ = &mut stopping => panic!("it did not wait for the attempt under way"),
        () = logged => {}
    }
    go.notify_one();
    let (status, folder) = stopping.await;
    assert!(status.success());
    assert_eq!(receiver.requests(), 1, "no attempt begins while the host stops");

    let host = Host::with().on(folder).start().await;
    assert_eq!(host.ended(&first).await["attempts"].as_array().unwrap().len(), 1, "it was recorded before the stop");
    go.notify_one();
    assert_eq!(text(&host.ended(&second).await, "state"), "delivered");
    assert_eq!(receiver.requests(), 2);
}

#[tokio::test]
async fn a_restart_goes_on_with_plugins_subscriptions_and_secrets() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let version = host.plugin("flatten", example("flatten")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "flatten"})).await;
    let token = text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned();
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "restart"})).await;
    let waiting = host.send(fixture("guide/contact_created.json")).await;
    let (_, folder) = host.stop().await;

    let host = Host::with().on(folder).start().await;
    assert_eq!(host.get(&format!("./subscriptions/{id}")).await["state"], "paused");
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
    let delivery = host.ended(&waiting).await;
    assert_eq!(delivery["attempts"][0]["plugin_sha256"], version["sha256"]);
    receiver.expect(1).await;
    assert_eq!(host.ask_as("", reqwest::Method::POST, &token, fixture("guide/contact_updated.json")).await.status, 202);
    receiver.expect(2).await;
}

#[tokio::test]
async fn compiled_code_that_was_changed_on_disk_is_compiled_again() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("flatten", example("flatten")).await;
    host.subscription(&receiver.url, json!({"plugin": "flatten"})).await;
    let compiled = host.data().join("compiled");
    let (_, folder) = host.stop().await;
    let file = std::fs::read_dir(&compiled).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();

    let host = Host::with().on(folder).start().await;
    until("what is wrong", async || host.log().contains("does not verify").then_some(())).await;
    host.send(fixture("guide/contact_created.json")).await;
    receiver.expect(1).await;
}

#[tokio::test]
async fn a_second_host_on_the_same_data_says_whose_it_is() {
    let host = Host::start().await;
    let second = tokio::process::Command::new(program())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(host.data())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains(&format!("in use by the process {}", host.process.id().unwrap())), "{said}");
    assert!(said.contains("--data-dir"), "{said}");
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_says_so() {
    let host = Host::start().await;
    host.subscription("http://127.0.0.1:9999/", json!({})).await;
    let (_, folder) = host.stop().await;
    let data = folder.path().join("data");
    std::fs::write(data.join("master.key"), [7; 32]).unwrap();
    let start = tokio::process::Command::new(program())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .await
        .unwrap();
    assert_eq!(start.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&start.stderr).contains("was the key file replaced?"));
}
