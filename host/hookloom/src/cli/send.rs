//! `hookloom send`: sends events from files or stdin to a running host.
//!
//! # Guarantees
//! - A file that cannot be read, or an event that the host refuses, does not prevent other events from being sent. If NDJSON is
//!   refused, its lines are sent one by one, so that only invalid lines are left.
//! - An error that would concern every event ends the command: the host does not answer, or the key may not send.
//! - Everything that was not accepted is reported on stderr. The command ends with a summary, and an exit code other than 0 in that
//!   case.

use super::Failure;
use super::client::{HostClient, JSON, Refused};
use super::terminal::{self, Message, errln, outln};
use crate::plural::counted;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;

/// Options of `send`.
#[derive(Args)]
pub(super) struct SendArgs {
    /// Files with one event, a JSON array of events, or one event a line. Without files, or with `-`: NDJSON from stdin.
    files: Vec<PathBuf>,
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Key with the scope send.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Print the host's answers as JSON, one a line.
    #[arg(long)]
    json: bool,
}

/// Approximate size of a batch of NDJSON from stdin, in bytes. Bounds the memory for an endless stream.
const BATCH_BYTES: usize = 4 << 20;

/// Statuses after which no other event would be accepted either, because of the key, its scopes, or the tenant.
const FATAL_STATUSES: [u16; 3] = [401, 403, 404];

pub(super) async fn send(args: SendArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, &args.key)?;
    let mut sender = Sender { host, tenant: args.tenant, json: args.json, summary: SendSummary::default() };
    let stdin = [PathBuf::from("-")];
    let files: &[PathBuf] = if args.files.is_empty() { &stdin } else { &args.files };
    for (index, file) in files.iter().enumerate() {
        if let Err(failure) = sender.send_file(file).await {
            sender.summary.files_left = (files.len() - index - 1) as u64;
            sender.summary.is_broken_off = true;
            sender.print_failure(&file.display().to_string(), &failure)?;
            break;
        }
    }
    sender.summary.files = files.len() as u64;
    sender.finish()
}

/// Summary of everything that was sent.
#[derive(Default)]
struct SendSummary {
    files: u64,
    events: u64,
    deliveries: u64,
    refused: u64,
    /// Number of files that were not tried.
    files_left: u64,
    /// True if the last file was not sent to its end.
    is_broken_off: bool,
}

impl SendSummary {
    fn is_whole(&self) -> bool {
        self.refused == 0 && !self.is_broken_off
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} accepted, {}",
            counted(self.events, "event", "events"),
            counted(self.deliveries, "delivery", "deliveries")
        );
        if self.refused > 0 {
            text += &format!("; {} refused or not readable", self.refused);
        }
        if self.is_broken_off {
            text += "; broken off";
        }
        if self.files_left > 0 {
            text += &format!("; {} not sent", counted(self.files_left, "file", "files"));
        }
        text
    }
}

struct Sender {
    host: HostClient,
    tenant: TenantId,
    json: bool,
    summary: SendSummary,
}

impl Sender {
    /// Sends a file, or stdin.
    ///
    /// # Errors
    /// Only failures that would concern every other event as well.
    async fn send_file(&mut self, file: &PathBuf) -> Result<(), Failure> {
        if file.as_os_str() == "-" {
            return self.send_stdin().await;
        }
        let name = file.display().to_string();
        match std::fs::read(file) {
            Ok(body) => self.send_body(&name, 1, Bytes::from(body)).await,
            Err(error) => {
                self.summary.refused += 1;
                self.print_failure(&name, &error.into())
            }
        }
    }

    async fn send_stdin(&mut self) -> Result<(), Failure> {
        let mut stdin = std::io::stdin().lock();
        let mut waiting = Vec::new();
        let mut piece = vec![0; 64 << 10];
        let mut line = 1;
        loop {
            let read = stdin.read(&mut piece)?;
            waiting.extend_from_slice(&piece[..read]);
            if read > 0 && waiting.len() < BATCH_BYTES {
                continue;
            }
            // All but the last line, which may be incomplete. At the end of the input, everything.
            let whole = if read == 0 {
                waiting.len()
            } else {
                waiting.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
            };
            let rest = waiting.split_off(whole);
            let lines = waiting.iter().filter(|byte| **byte == b'\n').count();
            if !waiting.trim_ascii().is_empty() {
                self.send_body("stdin", line, Bytes::from(waiting)).await?;
            }
            if read == 0 {
                return Ok(());
            }
            line += lines;
            waiting = rest;
        }
    }

    /// Sends a body whose first line has this number in its source.
    async fn send_body(&mut self, name: &str, first_line: usize, body: Bytes) -> Result<(), Failure> {
        let refusal = match self.post(name, body.clone()).await {
            Ok(()) => return Ok(()),
            Err(failure) => self.refusal(failure)?,
        };
        let lines = ndjson_lines(&body, first_line);
        if lines.len() < 2 {
            self.summary.refused += 1;
            return self.print_failure(name, &refusal);
        }
        for (number, line) in lines {
            let name = format!("{name}, line {number}");
            if let Err(failure) = self.post(&name, line).await {
                let refusal = self.refusal(failure)?;
                self.summary.refused += 1;
                self.print_failure(&name, &refusal)?;
            }
        }
        Ok(())
    }

    /// Returns a failure that concerns only this event. Any other failure is an error, which ends the command.
    fn refusal(&self, failure: Failure) -> Result<Failure, Failure> {
        let status = failure.downcast_ref::<Refused>().map(|refused| refused.status);
        if status.is_some_and(|status| !FATAL_STATUSES.contains(&status)) { Ok(failure) } else { Err(failure) }
    }

    async fn post(&mut self, name: &str, body: Bytes) -> Result<(), Failure> {
        let path = UrlPath::api_of(&self.tenant).then("events");
        let answer = self.host.ask(Method::POST, &path, JSON, body).await?;
        let events = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        let deliveries: u64 = events.iter().filter_map(|event| event["deliveries"].as_u64()).sum();
        self.summary.events += events.len() as u64;
        self.summary.deliveries += deliveries;
        if self.json {
            return Ok(terminal::json(&answer)?);
        }
        let deliveries = counted(deliveries, "delivery", "deliveries");
        match events {
            [one] => outln!("{}: accepted as {}, {}", name, one["id"].as_str().unwrap_or_default(), deliveries),
            several => {
                let events = counted(several.len() as u64, "event", "events");
                outln!("{}: {} accepted, {}", name, events, deliveries);
            }
        }
        Ok(())
    }

    /// Reports on stderr an event that was not accepted, with the reason.
    fn print_failure(&self, name: &str, failure: &Failure) -> Result<(), Failure> {
        let why = crate::describe(failure.as_ref());
        if self.json {
            terminal::json_failure(&json!({"source": name, "error": why}));
        } else {
            errln!("{}: {}", name, Message(&why));
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        let summary = self.summary.text();
        if !self.summary.is_whole() {
            return Err(summary.into());
        }
        if self.summary.files > 1 && !self.json {
            outln!("{}: {}", counted(self.summary.files, "file", "files"), summary);
        }
        Ok(())
    }
}

/// Returns the events of NDJSON with their line numbers. Empty if the body is not NDJSON.
fn ndjson_lines(body: &Bytes, first_line: usize) -> Vec<(usize, Bytes)> {
    if body.trim_ascii_start().starts_with(b"[") || serde_json::from_slice::<Value>(body).is_ok() {
        return Vec::new();
    }
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines.map(|(index, line)| (first_line + index, body.slice_ref(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ndjson_keep_their_numbers() {
        #[track_caller]
        fn check(body: &'static str, expected: &[(usize, &str)]) {
            let lines = ndjson_lines(&Bytes::from_static(body.as_bytes()), 5);
            let lines: Vec<_> =
                lines.iter().map(|(number, line)| (*number, std::str::from_utf8(line).expect("text"))).collect();
            assert_eq!(lines, expected);
        }
        check("{\"a\":1}\n\n{\n{\"b\":2}", &[(5, "{\"a\":1}"), (7, "{"), (8, "{\"b\":2}")]);
        check("{\n\"one\": 1\n}", &[]);
        check(" [1,\n2", &[]);
    }

    #[test]
    fn the_summary_counts_what_is_missing() {
        let summary = SendSummary { files: 3, events: 1, deliveries: 2, refused: 1, ..SendSummary::default() };
        assert_eq!(summary.text(), "1 event accepted, 2 deliveries; 1 refused or not readable");
        assert!(!summary.is_whole());
        let broken = SendSummary { files_left: 1, is_broken_off: true, ..SendSummary::default() };
        assert_eq!(broken.text(), "0 events accepted, 0 deliveries; broken off; 1 file not sent");
    }
}
