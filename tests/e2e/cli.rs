//! The command line: what it prints, and its exit codes.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, fixtures, program};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = TempDir::new().unwrap();
    Command::new(program())
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .output()
        .await
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_demo_shows_everything_and_ends_well() {
    let program = program();
    let plugins = program.ancestors().nth(2).unwrap().join("wasm32-wasip2/guest");
    let demo = run(&["demo", "--plugins", plugins.to_str().unwrap()], &[]).await;
    let shown = out(&demo);
    assert!(demo.status.success(), "{shown}{}", err(&demo));
    for part in [
        "event 1: Contact is Created",
        "event 4: Opportunity is Updated",
        "drop (probability 95 < 97)",
        "the same 431 bytes",
        "j***@alien.comm",
        "4 events, 8 deliveries promised = 7 delivered + 1 dropped + 0 dead + 0 pending",
        "all as it should be",
        "hookloom serve",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    assert_eq!(shown.matches("verified by the receiver").count(), 7);
    assert!(!shown.contains('\u{1b}'), "colour, but no terminal");
}

#[tokio::test]
async fn the_demo_without_its_plugins_fails_and_says_why() {
    let demo = run(&["demo"], &[]).await;
    assert_eq!(demo.status.code(), Some(1));
    assert!(err(&demo).contains("--plugins"), "{}", err(&demo));
}

#[tokio::test]
async fn send_takes_files_and_ndjson() {
    let (host, receiver) = (Host::start().await, Receiver::start().await);
    host.subscription(&receiver.url, json!({})).await;
    let key = [("HOOKLOOM_KEY", ADMIN_KEY), ("HOOKLOOM_URL", host.url.as_str())];
    let file = |name: &str| fixtures().join(name).to_str().unwrap().to_owned();
    let sent = run(&["send", &file("guide/contact_created.json"), &file("burst_duplicate.json")], &key).await;
    assert!(sent.status.success(), "{}", err(&sent));
    assert!(
        out(&sent).contains("accepted as") && out(&sent).contains("3 events accepted, 3 deliveries"),
        "{}",
        out(&sent)
    );

    let mut child = Command::new(program())
        .args(["send", "--json"])
        .envs(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = format!("{}\n{}\n", event("Contact is Created", 1), event("Contact is Updated", 2));
    child.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    let sent = child.wait_with_output().await.unwrap();
    let answer: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(answer["events"].as_array().unwrap().len(), 2);
    receiver.expect(6).await;

    let refused = run(&["send", &file("zapier_flat_contact.json")], &key).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("unexpected key"), "{}", err(&refused));
    let no_key = run(&["send", "--key", "wrong", &file("guide/contact_created.json")], &key[1..]).await;
    assert!(err(&no_key).contains("unknown or revoked"), "{}", err(&no_key));
}

#[tokio::test]
async fn the_contract_is_printed_as_it_stands() {
    let wit = run(&["plugin", "wit"], &[]).await;
    let stands = std::fs::read_to_string(fixtures().join("../../wit/plugin.wit")).unwrap();
    assert_eq!(out(&wit), stands);
}

#[tokio::test]
async fn settings_are_told_with_their_sources() {
    let config = run(&["config", "--json", "--set", "stop_grace_s=7"], &[("HOOKLOOM_LOG", "debug")]).await;
    let entries: Vec<Value> = serde_json::from_slice(&config.stdout).unwrap();
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!((&entry("stop_grace_s")["value"], &entry("stop_grace_s")["source"]), (&json!("7"), &json!("flag")));
    assert_eq!(entry("log")["source"], "HOOKLOOM_LOG");
    assert_eq!(entry("listen")["source"], "default");
    let wrong = run(&["config"], &[("HOOKLOOM_COLOUR", "red")]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(err(&wrong).contains("HOOKLOOM_COLOUR names no setting"), "{}", err(&wrong));
}

#[tokio::test]
async fn usage_faults_and_refused_starts() {
    assert_eq!(run(&["frobnicate"], &[]).await.status.code(), Some(2));
    assert_eq!(run(&["--help"], &[]).await.status.code(), Some(0));
    let open = run(&["serve", "--listen", "0.0.0.0:0"], &[]).await;
    assert_eq!(open.status.code(), Some(1));
    assert!(err(&open).contains("behind_proxy"), "{}", err(&open));
    let short = run(&["serve", "--listen", "127.0.0.1:0"], &[("HOOKLOOM_ADMIN_KEY", "short")]).await;
    assert!(err(&short).contains("fewer than 24 characters") && !err(&short).contains("short\""), "{}", err(&short));
}
