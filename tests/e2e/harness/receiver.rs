//! Receiver in a separate process: `hookloom receive`, which verifies with the published library.

use super::{PATIENCE, SECRET, program, until};
use serde_json::Value;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Running receiver.
pub(crate) struct Receiver {
    /// URL of the receiver, with a slash at the end.
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Value>>>,
    _process: Child,
}

impl Receiver {
    /// Starts a receiver that always answers 200.
    pub(crate) async fn start() -> Receiver {
        Receiver::answering("200").await
    }

    /// Starts a receiver that answers with these statuses in turn, and then with the last one.
    pub(crate) async fn answering(statuses: &str) -> Receiver {
        Receiver::with(&["--respond", statuses], SECRET).await
    }

    /// Starts a receiver at a port of this machine, which verifies with a secret.
    pub(crate) async fn at(port: u16, secret: &str) -> Receiver {
        Receiver::with(&["--listen", &format!("127.0.0.1:{port}")], secret).await
    }

    async fn with(options: &[&str], secret: &str) -> Receiver {
        let mut process = Command::new(program())
            .args(["receive", "--json"])
            .args(options)
            .env("HOOKLOOM_SIGNING_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let list = received.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                list.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Receiver { url: first["listening"].as_str().unwrap().to_owned(), received, _process: process }
    }

    /// Returns the requests so far.
    pub(crate) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }

    /// Waits for this number of requests, and returns them. Every signature must verify.
    pub(crate) async fn expect(&self, count: usize) -> Vec<Value> {
        let received = until(&format!("{count} requests"), || async {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await;
        for request in &received {
            assert_eq!(request["verified"], true, "{request}");
        }
        received
    }
}
