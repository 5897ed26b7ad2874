//! Receiver of the demo: `hookloom receive --json` in a separate process, and its output.

use super::super::Failure;
use super::PATIENCE;
use serde_json::Value;
use std::collections::HashMap;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running receiver.
pub(super) struct DemoReceiver {
    /// URL of the receiver, with a slash at the end.
    pub(super) url: String,
    lines: Lines<BufReader<ChildStdout>>,
    received: HashMap<String, Value>,
    // Killed on drop.
    _process: Child,
}

impl DemoReceiver {
    pub(super) async fn start(secret: &str) -> Result<Self, Failure> {
        let mut process = Command::new(crate::plugin::current_program()?)
            .args(["receive", "--json"])
            // Not as an argument, because other users can read arguments.
            .env("HOOKLOOM_SIGNING_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the receiver has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await??.unwrap_or_default();
        let first: Value = serde_json::from_str(&first)?;
        let url = first["listening"].as_str().ok_or("the receiver does not say where it listens")?.to_owned();
        Ok(DemoReceiver { url, lines, received: HashMap::new(), _process: process })
    }

    /// Returns the request that was received for a delivery. None if nothing was sent.
    pub(super) async fn of(&mut self, id: &str, delivery: &Value) -> Result<Option<Value>, Failure> {
        if delivery["attempts"][0]["status"].is_null() {
            return Ok(self.received.remove(id));
        }
        while !self.received.contains_key(id) {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await??.ok_or("the receiver ended")?;
            let received: Value = serde_json::from_str(&line)?;
            self.received.insert(received["headers"]["webhook-id"].as_str().unwrap_or_default().to_owned(), received);
        }
        Ok(self.received.remove(id))
    }
}
