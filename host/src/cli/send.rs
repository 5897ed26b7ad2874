//! `hookloom send`: events from files or stdin to a running host.

use super::Failure;
use super::client::HostClient;
use super::terminal::{self, outln};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;
use std::io::Read as _;
use std::path::PathBuf;

/// What to send, and where to.
#[derive(Args)]
pub(super) struct SendArgs {
    /// Files with one event, a JSON array of events, or one event a line. None, or `-`: NDJSON on stdin.
    files: Vec<PathBuf>,
    /// The host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// A key that may send.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// The tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Print the host's answers as JSON, one a line.
    #[arg(long)]
    json: bool,
}

/// NDJSON from stdin goes out in batches of about this size, so that an endless stream needs no endless memory.
const BATCH_BYTES: usize = 4 << 20;

pub(super) async fn send(args: SendArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, &args.key)?;
    let sender = Sender { host, args };
    if sender.args.files.is_empty() {
        return sender.send_stdin().await;
    }
    for file in &sender.args.files {
        if file.as_os_str() == "-" {
            sender.send_stdin().await?;
            continue;
        }
        let body = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        sender.send_body(&file.display().to_string(), Bytes::from(body)).await?;
    }
    Ok(())
}

struct Sender {
    host: HostClient,
    args: SendArgs,
}

impl Sender {
    async fn send_stdin(&self) -> Result<(), Failure> {
        let mut stdin = std::io::stdin().lock();
        let (mut waiting, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let read = stdin.read(&mut piece)?;
            waiting.extend_from_slice(&piece[..read]);
            if read > 0 && waiting.len() < BATCH_BYTES {
                continue;
            }
            // All but the last line, which may be half a line, goes out; at the end everything does.
            let whole = if read == 0 {
                waiting.len()
            } else {
                waiting.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
            };
            let rest = waiting.split_off(whole);
            if !waiting.trim_ascii().is_empty() {
                self.send_body("stdin", Bytes::from(waiting)).await?;
            }
            if read == 0 {
                return Ok(());
            }
            waiting = rest;
        }
    }

    async fn send_body(&self, name: &str, body: Bytes) -> Result<(), Failure> {
        let path = UrlPath::api_of(&self.args.tenant).then("events");
        let answer = self.host.ask(Method::POST, &path, "application/json", body).await;
        let answer = answer.map_err(|error| format!("{name}: {error}"))?;
        if self.args.json {
            return Ok(terminal::json(&answer)?);
        }
        let events = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        let deliveries: u64 = events.iter().filter_map(|event| event["deliveries"].as_u64()).sum();
        match events {
            [one] => {
                outln!("{}: accepted as {}, {} deliveries", name, one["id"].as_str().unwrap_or_default(), deliveries);
            }
            several => outln!("{}: {} events accepted, {} deliveries", name, several.len(), deliveries),
        }
        debug_assert!(answer["events"] != Value::Null);
        Ok(())
    }
}
