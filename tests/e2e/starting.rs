//! Start of `hookloom serve`: help, names of settings, addresses, and signals.

use crate::harness::{Host, PATIENCE, RawReceiver, event, program, until};
use serde_json::json;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let Output { status, stdout, stderr } =
        Command::new(program()).args(arguments).current_dir(folder.path()).output().await.unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code(), said)
}

#[tokio::test]
async fn the_help_shows_defaults() {
    let (code, said) = run(&["serve", "--help"]).await;
    assert_eq!(code, Some(0));
    for expected in ["[default: hookloom-data]", "[default: 127.0.0.1:8420]", "retention_s = 2592000", "log = \"info\""]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn a_misspelt_setting_suggests_the_nearest() {
    for (wrong, right) in
        [("retention=3", "retention_s"), ("max_attempts=3", "attempts_max"), ("plugin_thread=1", "plugin_threads")]
    {
        let (code, said) = run(&["serve", "--set", wrong]).await;
        assert!(code == Some(1) && said.contains(&format!("did you mean {right}?")), "{wrong}: {said}");
    }
}

#[tokio::test]
async fn an_address_that_lacks_a_part_says_which() {
    for (wrong, right) in [("8420", "127.0.0.1:8420"), ("localhost", "localhost:8420"), ("[::1]", "[::1]:8420")] {
        let (code, said) = run(&["serve", "--listen", wrong]).await;
        assert!(code == Some(1) && said.contains(&format!("write \"{right}\"")), "{wrong}: {said}");
    }
}

#[tokio::test]
async fn a_host_name_is_an_address() {
    let folder = TempDir::new().unwrap();
    let mut host = Command::new(program());
    host.args(["serve", "--listen", "localhost:0", "--data-dir"]).arg(folder.path().join("data"));
    let mut host = host.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("listening on http://127.0.0.1:") {
                return;
            }
        }
        panic!("the host ended");
    };
    tokio::time::timeout(PATIENCE, listening).await.unwrap();
}

async fn signal(host: &Host, signal: &str) {
    let pid = host.process.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

#[tokio::test]
async fn a_hangup_ends_with_grace() {
    use tokio::io::AsyncWriteExt as _;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let answer = go.clone();
    let receiver = RawReceiver::start(move |mut socket| {
        let go = answer.clone();
        async move {
            go.notified().await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let host = Host::with().with_default_hangups().start().await;
    host.subscription(&receiver.url, json!({})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    until("the attempt", async || (receiver.requests() == 1).then_some(())).await;
    signal(&host, "-HUP").await;
    until("the stop", async || host.log().contains("stopping").then_some(())).await;
    go.notify_one();
    let (status, folder) = host.stopped().await;
    assert_eq!(status.code(), Some(0), "it ended by itself");
    let host = Host::with().on(folder).start().await;
    assert_eq!(host.ended(&id).await["attempts"].as_array().unwrap().len(), 1, "the attempt was finished");
}

#[tokio::test]
async fn a_host_under_nohup_outlives_its_terminal() {
    let mut host = Host::with().ignoring_hangups().start().await;
    signal(&host, "-HUP").await;
    host.send(event("Contact is Created", 1)).await;
    assert!(host.process.try_wait().unwrap().is_none());
    host.signal_stop().await;
    let (status, _) = tokio::time::timeout(PATIENCE, host.stopped()).await.unwrap();
    assert!(status.success());
}
