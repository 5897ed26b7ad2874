//! Honest tenant B, on a separate thread: sends an event and requests `/healthz` every 20 ms, reads its deliveries ten times a
//! second, and receives them.
//!
//! Requests begin when they are due, even if earlier ones are unanswered, and each opens a separate connection, as Agile CRM's do.
//! So a host that does not answer is visible. Latencies are kept for each request, and belong to the window in which the request
//! was sent.

use super::figures::{Figures, Latencies};
use crate::harness::event;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use serde_json::Value;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Address of B, so that B has a separate share of connections.
pub(super) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// Time after which B gives up a request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Paths of B's two subscriptions: the second one has a plugin.
pub(super) const PATHS: [&str; 2] = ["plain", "plugin"];

/// Kinds of B's requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Post,
    Health,
    Read,
}

impl Kind {
    fn expected_status(self) -> u16 {
        if self == Kind::Post { 202 } else { 200 }
    }
}

/// Destination and credentials of tenant B's requests.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) tenant: String,
    pub(super) key: String,
    /// Time between two events.
    pub(super) pace: Duration,
}

/// Request of B.
struct Call {
    kind: Kind,
    /// Number of the event. 0 for a request without an event.
    number: usize,
    sent: Instant,
    /// Time to the answer and its status, 0 without an answer. None: under way.
    answered: Option<(Duration, u16)>,
}

impl Call {
    fn succeeded(&self) -> bool {
        self.answered.is_some_and(|(_, status)| status == self.kind.expected_status())
    }
}

#[derive(Default)]
struct Log {
    calls: Vec<Call>,
    /// First arrival of each event at each path.
    arrivals: HashMap<(usize, String), Instant>,
}

type SharedLog = Arc<Mutex<Log>>;

fn locked(log: &SharedLog) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handle of B's thread, which ends with it.
pub(super) struct Probe {
    /// URL of B's receiver, without a slash at the end.
    pub(super) receiver_url: String,
    log: SharedLog,
    target: watch::Sender<Option<Target>>,
}

impl Probe {
    /// Starts the thread and B's receiver. B sends nothing before it has a target.
    pub(super) async fn start() -> Probe {
        let log = SharedLog::default();
        let (target, targets) = watch::channel(None);
        let (bound, url) = oneshot::channel();
        let shared = log.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work(shared, targets, bound));
        });
        Probe { receiver_url: url.await.unwrap(), log, target }
    }

    /// Sets the target of further requests. None: sends nothing.
    pub(super) fn aim(&self, target: Option<Target>) {
        self.target.send_replace(target);
    }

    /// Waits until all requests are answered or given up, and all accepted events have arrived, at most until `deadline`.
    pub(super) async fn settle(&self, deadline: Instant) {
        while Instant::now() < deadline && !self.is_settled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_settled(&self) -> bool {
        let log = locked(&self.log);
        log.calls.iter().all(|call| call.answered.is_some())
            && log
                .calls
                .iter()
                .filter(|call| is_accepted(call))
                .all(|call| PATHS.iter().all(|path| log.arrived(call, path).is_some()))
    }

    /// Returns the time of the first accepted event that was sent after `from`.
    pub(super) fn first_accepted_after(&self, from: Instant) -> Option<Instant> {
        let log = locked(&self.log);
        let accepted = log.calls.iter().filter(|call| call.sent >= from && is_accepted(call));
        accepted.filter_map(|call| Some(call.sent + call.answered?.0)).min()
    }

    /// Returns the figures of the requests that were sent within this window.
    pub(super) fn figures(&self, window: &Range<Instant>) -> Figures {
        let log = locked(&self.log);
        let calls: Vec<&Call> = log.calls.iter().filter(|call| window.contains(&call.sent)).collect();
        let of = |kind: Kind| calls.iter().filter(move |call| call.kind == kind);
        let latencies = |kind: Kind| {
            Latencies::new(of(kind).filter(|call| call.succeeded()).filter_map(|call| Some(call.answered?.0)).collect())
        };
        let failed = |kind: Kind| of(kind).filter(|call| !call.succeeded()).count();
        let delivery = |path: &str| {
            let accepted = of(Kind::Post).filter(|call| call.succeeded());
            Latencies::new(accepted.filter_map(|call| Some(log.arrived(call, path)? - call.sent)).collect())
        };
        let accepted = of(Kind::Post).filter(|call| call.succeeded()).count();
        let delivered: usize = PATHS.iter().map(|path| delivery(path).count()).sum();
        Figures {
            post: latencies(Kind::Post),
            health: latencies(Kind::Health),
            read: latencies(Kind::Read),
            delivery: PATHS.map(delivery),
            sent: of(Kind::Post).count(),
            not_accepted: failed(Kind::Post),
            no_health: failed(Kind::Health),
            not_read: failed(Kind::Read),
            late: PATHS.len() * accepted - delivered,
        }
    }
}

fn is_accepted(call: &Call) -> bool {
    call.kind == Kind::Post && call.succeeded()
}

impl Log {
    fn arrived(&self, call: &Call, path: &str) -> Option<Instant> {
        self.arrivals.get(&(call.number, path.to_owned())).copied()
    }
}

/// Receives and sends until the probe is dropped.
async fn work(log: SharedLog, targets: watch::Receiver<Option<Target>>, bound: oneshot::Sender<String>) {
    let listener = tokio::net::TcpListener::bind((PEER, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/{path}", post(arrive)).with_state(log.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let _ = bound.send(url);
    send(log, targets).await;
}

async fn arrive(State(log): State<SharedLog>, Path(path): Path<String>, body: Bytes) {
    let at = Instant::now();
    let number = serde_json::from_slice::<Value>(&body).ok().and_then(|event| event["eventData"]["id"].as_u64());
    if let Some(number) = number {
        locked(&log).arrivals.entry((number as usize, path)).or_insert(at);
    }
}

async fn send(log: SharedLog, mut targets: watch::Receiver<Option<Target>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().local_address(PEER).pool_max_idle_per_host(0).timeout(TIMEOUT);
    let http = http.build().unwrap();
    let mut number = 0;
    while targets.changed().await.is_ok() {
        let Some(target) = targets.borrow_and_update().clone() else { continue };
        let mut ticks = tokio::time::interval(target.pace);
        while !targets.has_changed().unwrap_or(true) {
            ticks.tick().await;
            number += 1;
            begin(&log, &http, &target, Kind::Post, number);
            begin(&log, &http, &target, Kind::Health, 0);
            if number.is_multiple_of(5) {
                begin(&log, &http, &target, Kind::Read, 0);
            }
        }
    }
}

/// Begins a request, whose answer is awaited by a separate task.
fn begin(log: &SharedLog, http: &reqwest::Client, target: &Target, kind: Kind, number: usize) {
    let tenant = format!("{}/v1/tenants/{}", target.url, target.tenant);
    let request = match kind {
        Kind::Post => http.post(format!("{tenant}/events")).body(event("Contact is Created", number)),
        Kind::Health => http.get(format!("{}/healthz", target.url)),
        Kind::Read => http.get(format!("{tenant}/deliveries?limit=5")),
    };
    let sent = Instant::now();
    let request = request.bearer_auth(&target.key).send();
    let index = {
        let mut log = locked(log);
        log.calls.push(Call { kind, number, sent, answered: None });
        log.calls.len() - 1
    };
    let log = log.clone();
    tokio::spawn(async move {
        let status = request.await.map_or(0, |response| response.status().as_u16());
        locked(&log).calls[index].answered = Some((sent.elapsed(), status));
    });
}
