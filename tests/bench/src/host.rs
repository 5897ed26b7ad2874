//! Host under measurement: the real program, on an empty data folder, with default settings.

use crate::database::Database;
use crate::{Args, Failure};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub(crate) const KEY: &str = "admin-key-of-the-bench-only-0123456789";

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

    /// Starts a host on a database. It shares the work of another host on the same one.
    pub(crate) async fn start_on(database: &Database, beside: Option<&Host>, args: &Args) -> Result<Self, Failure> {
        let folder = TempDir::new_in("target")?;
        if let Some(other) = beside {
            let [from, to] = [other.folder.path(), folder.path()].map(|folder| folder.join("data"));
            std::fs::create_dir(&to)?;
            std::fs::copy(from.join("master.key"), to.join("master.key"))?;
        }
        Host::start_with(folder, args, &["--set", &format!("store={}", database.url())]).await
    }

    /// Stops the host and starts it again on its data.
    pub(crate) async fn restart(mut self, args: &Args) -> Result<Self, Failure> {
        self.process.kill().await?;
        Host::start_in(self.folder, args).await
    }

    async fn start_in(folder: TempDir, args: &Args) -> Result<Self, Failure> {
        Host::start_with(folder, args, &[]).await
    }

    async fn start_with(folder: TempDir, args: &Args, options: &[&str]) -> Result<Self, Failure> {
        let mut process = Command::new(std::path::absolute(&args.program)?)
            .args(["serve", "--listen", "127.0.0.1:0", "--allow-loopback", "--set", "log=\"error\"", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(options)
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
        self.request_of("default", method, path, body)
    }

    /// Returns a request under a tenant.
    pub(crate) fn request_of(
        &self,
        tenant: &str,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}/v1/tenants/{tenant}{path}", self.url);
        self.http.request(method, url).bearer_auth(KEY).body(body)
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Value, Failure> {
        self.ask_of("default", method, path, body).await
    }

    pub(crate) async fn ask_of(
        &self,
        tenant: &str,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Value, Failure> {
        let response = self.request_of(tenant, method, path, body).send().await?;
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
