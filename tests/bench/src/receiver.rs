//! Receiver in a separate process: answers 200 at once, counts requests, and records their arrival times.

use crate::Failure;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{get, post};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

#[derive(Default)]
struct Seen {
    count: AtomicU64,
    /// Number in each body, and its arrival time, in microseconds since the epoch.
    arrivals: Mutex<Vec<(u64, u64)>>,
}

/// Returns microseconds since the epoch, from the clock that all processes of a machine share.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the digits after `"bench_number":"`.
fn number(body: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"bench_number";
    let at = body.windows(MARK.len()).position(|part| part == MARK)? + MARK.len();
    let rest = body[at..].iter().skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(rest.copied().collect()).ok()?.parse().ok()
}

/// Runs until it is killed. The first line of its output is its address.
pub(crate) async fn receive() -> Result<(), Failure> {
    let seen = Arc::new(Seen::default());
    async fn hook(State(seen): State<Arc<Seen>>, body: Bytes) {
        if let Some(number) = number(&body) {
            seen.arrivals.lock().expect("no holder panics").push((number, now_us()));
        }
        seen.count.fetch_add(1, Ordering::Relaxed);
    }
    async fn arrivals(State(seen): State<Arc<Seen>>) -> String {
        let taken = std::mem::take(&mut *seen.arrivals.lock().expect("no holder panics"));
        taken.iter().map(|(number, at)| format!("{number} {at}\n")).collect::<String>()
    }
    async fn count(State(seen): State<Arc<Seen>>) -> String {
        seen.count.load(Ordering::Relaxed).to_string()
    }
    // Floor of the intake: the body is read, and 202 is the answer.
    async fn door(_: Bytes) -> axum::http::StatusCode {
        axum::http::StatusCode::ACCEPTED
    }
    let router = Router::new()
        .route("/", post(hook))
        .route("/arrivals", get(arrivals))
        .route("/count", get(count))
        .route("/door", post(door))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    crate::print(&listener.local_addr()?.to_string());
    Ok(axum::serve(listener, router).await?)
}

/// Running receiver.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) process: Child,
    http: reqwest::Client,
}

impl Receiver {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--receive")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let address = lines.next_line().await?.ok_or("the receiver ended")?;
        Ok(Receiver { url: format!("http://{address}/"), process, http: reqwest::Client::new() })
    }

    async fn text(&self, path: &str) -> Result<String, Failure> {
        Ok(self.http.get(format!("{}{path}", self.url)).send().await?.text().await?)
    }

    pub(crate) async fn count(&self) -> Result<u64, Failure> {
        Ok(self.text("count").await?.parse()?)
    }

    /// Returns the numbers and times of the requests that arrived since the last call.
    pub(crate) async fn arrivals(&self) -> Result<Vec<(u64, u64)>, Failure> {
        let text = self.text("arrivals").await?;
        fn pair(line: &str) -> Option<(u64, u64)> {
            line.split_once(' ').and_then(|(number, at)| Some((number.parse().ok()?, at.parse().ok()?)))
        }
        Ok(text.lines().filter_map(pair).collect())
    }

    /// Waits until this number of requests has arrived since `from`.
    pub(crate) async fn until(&self, from: u64, wanted: u64) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
        loop {
            let came = self.count().await? - from;
            if came >= wanted {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("{came} of {wanted} deliveries came within 300 s").into());
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}
