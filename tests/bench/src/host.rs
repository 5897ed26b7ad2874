//! Host under measurement: the real program, on an empty data folder, with default settings.

use crate::{Args, Failure};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const KEY: &str = "admin-key-of-the-bench-only-0123456789";

pub(crate) struct Host {
    pub(crate) url: String,
    pub(crate) process: Child,
    pub(crate) folder: TempDir,
    pub(crate) http: reqwest::Client,
}

impl Host {
    pub(crate) async fn start(args: &Args) -> Result<Self, Failure> {
        // On a disk instead of a folder in memory, so that a flush has its real cost.
        Host::start_in(TempDir::new_in("target")?, args).await
    }

    /// Stops the host and starts it again on its data.
    pub(crate) async fn restart(mut self, args: &Args) -> Result<Self, Failure> {
        self.process.kill().await?;
        Host::start_in(self.folder, args).await
    }

    async fn start_in(folder: TempDir, args: &Args) -> Result<Self, Failure> {
        let mut process = Command::new(std::path::absolute(&args.program)?)
            .args(["serve", "--listen", "127.0.0.1:0", "--allow-loopback", "--set", "log=\"error\"", "--data-dir"])
            .arg(folder.path().join("data"))
            .env("HOOKLOOM_ADMIN_KEY", KEY)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(rest) = line.strip_prefix("listening on ") {
                let url = rest.split(' ').next().unwrap_or_default().to_owned();
                return Ok(Host { url, process, folder, http: reqwest::Client::new() });
            }
        }
        Err("the host ended".into())
    }

    /// Returns a request under the default tenant.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}/v1/tenants/default{path}", self.url);
        self.http.request(method, url).bearer_auth(KEY).body(body)
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Value, Failure> {
        let response = self.request(method, path, body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if status.is_success() {
            Ok(serde_json::from_str(&text).unwrap_or_default())
        } else {
            Err(format!("{path}: {status} {text}").into())
        }
    }

    pub(crate) async fn plugin(&self, args: &Args, name: &str) -> Result<(), Failure> {
        let component = std::fs::read(args.plugins.join(format!("{name}.wasm")))?;
        self.ask(Method::PUT, &format!("/plugins/{name}"), component).await.map(drop)
    }

    /// Creates a subscription and returns its id.
    pub(crate) async fn subscription(&self, notify_url: &str, also: Value) -> Result<String, Failure> {
        let mut body = json!({"notify_url": notify_url, "modules": ["Contact"], "concurrency": 64});
        if let (Some(body), Value::Object(also)) = (body.as_object_mut(), also) {
            body.extend(also);
        }
        let made = self.ask(Method::POST, "/subscriptions", body.to_string()).await?;
        Ok(made["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until no delivery made since this time is pending, in milliseconds since the epoch. Reads only the newest, because
    /// counting a million would take longer than the measurement.
    pub(crate) async fn recorded_since(&self, since_ms: u64) -> Result<(), Failure> {
        loop {
            let newest = self.ask(Method::GET, "/deliveries?state=pending&limit=1", "").await?;
            if newest["deliveries"][0]["created_at_ms"].as_u64().is_none_or(|made_ms| made_ms < since_ms) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

/// Returns the CPU seconds of a process so far (`proc(5)`), with its ended children.
pub(crate) fn cpu_s(pid: Option<u32>) -> f64 {
    let path = pid.map_or_else(|| "/proc/self/stat".to_owned(), |pid| format!("/proc/{pid}/stat"));
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Returns how often the threads of a process have waited and were woken so far (`voluntary_ctxt_switches` of `proc(5)`), without
/// threads that have ended.
pub(crate) fn wakeups(pid: Option<u32>) -> f64 {
    fn of_thread(thread: &std::fs::DirEntry) -> f64 {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0.0)
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.unwrap_or(0))) else { return 0.0 };
    threads.flatten().map(|thread| of_thread(&thread)).sum()
}

/// Returns the resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: Option<u32>) -> f64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", pid.unwrap_or(0))).unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4_096.0 / 1_048_576.0
}

/// Returns a contact event of 337 bytes in the vendor's format, with a number.
pub(crate) fn event(number: u64) -> String {
    event_of(number, 337)
}

/// Returns an event with more bytes, by a longer note.
pub(crate) fn event_of(number: u64, bytes: usize) -> String {
    let head = format!(
        "{{\"eventName\":\"Contact is Created\",\"eventData\":{{\"id\":{number},\"type\":\"PERSON\",\"tags\":[\"lead\"],\"properties\":[{{\"type\":\"SYSTEM\",\"name\":\"first_name\",\"value\":\"Dana\"}},{{\"type\":\"SYSTEM\",\"name\":\"last_name\",\"value\":\"Scully\"}},{{\"type\":\"CUSTOM\",\"name\":\"bench_number\",\"value\":\"{number}\"}}],\"note\":\""
    );
    let room = bytes.saturating_sub(head.len() + 4);
    format!("{head}{}\"}}}}", "x".repeat(room))
}

/// Returns this number of events as NDJSON.
pub(crate) fn batch(from: u64, count: u64) -> Bytes {
    (from..from + count).map(|number| event(number) + "\n").collect::<String>().into()
}
