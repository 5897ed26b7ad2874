//! Senders that post events to the hosts of a fleet in turn, and record what was answered.
//!
//! # Theory of operation
//! A sender has entities of its own, and sends the next event after the one before was accepted. Each event has an `Idempotency-Key`: after
//! a refusal, and after an answer that was lost, it is sent to the next host with the same key.

use super::hosts::HostUrls;
use super::records::SentEvent;
use crate::harness::{ADMIN_KEY, Reply, client, exchange};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Time after which an answer counts as lost.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Number of senders.
const SENDERS: u32 = 4;

/// Entities of one sender.
const ENTITIES: u64 = 2;

/// Running senders.
pub(super) struct Traffic {
    shared: Arc<TrafficState>,
    senders: JoinSet<()>,
}

struct TrafficState {
    began: Instant,
    urls: HostUrls,
    numbers: AtomicU64,
    stops: AtomicBool,
    sent: Mutex<Vec<SentEvent>>,
    http: reqwest::Client,
}

/// Result of one request.
enum Sent {
    Accepted(String),
    Refused,
    Unknown,
}

impl Traffic {
    /// Starts senders, each of which sends an event in every interval. Their times are since `began`.
    pub(super) fn start(began: Instant, urls: HostUrls, every: Duration) -> Traffic {
        let shared = Arc::new(TrafficState {
            began,
            urls,
            numbers: AtomicU64::new(0),
            stops: AtomicBool::new(false),
            sent: Mutex::default(),
            http: client(),
        });
        let mut tasks = JoinSet::new();
        for sender in 0..SENDERS {
            let shared = shared.clone();
            tasks.spawn(async move {
                // At different times.
                let first = tokio::time::Instant::now() + every * sender / SENDERS;
                let mut ticks = tokio::time::interval_at(first, every);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while !shared.stops.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    shared.send(u64::from(sender)).await;
                }
            });
        }
        Traffic { shared, senders: tasks }
    }

    /// Returns the number of events that were accepted so far.
    pub(super) fn accepted(&self) -> usize {
        self.shared.sent.lock().iter().filter(|one| one.accepted.is_some()).count()
    }

    /// Stops after the events that are being sent. Returns what was sent.
    pub(super) async fn stop(mut self) -> Vec<SentEvent> {
        self.shared.stops.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.shared.sent.lock())
    }
}

impl TrafficState {
    /// Sends one event until it is accepted.
    async fn send(&self, sender: u64) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let entity = sender * ENTITIES + number % ENTITIES;
        let sent_at = self.began.elapsed();
        let mut sent = SentEvent::new(number, entity, sent_at);
        for tried in 0.. {
            let Some(url) = self.url(number + tried) else { break };
            match self.post(&url, &sent).await {
                Sent::Accepted(event) => {
                    sent.accepted = Some((event, self.began.elapsed()));
                    break;
                }
                Sent::Refused => sent.refused += 1,
                Sent::Unknown => sent.unknown += 1,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.sent.lock().push(sent);
    }

    /// Returns the URL of a host. None: no host runs.
    fn url(&self, turn: u64) -> Option<String> {
        let urls = self.urls.lock();
        let turn = usize::try_from(turn).unwrap();
        urls.values().nth(turn % urls.len().max(1)).cloned()
    }

    async fn post(&self, url: &str, event: &SentEvent) -> Sent {
        let request = self.http.post(format!("{url}/v1/tenants/default/events")).bearer_auth(ADMIN_KEY);
        let request = request.header("idempotency-key", format!("n{}", event.number)).timeout(ANSWERS_WITHIN);
        match exchange(request.body(event.body())).await {
            Ok(reply) => accepted_or_refused(&reply),
            Err(error) if error.is_connect() => Sent::Refused,
            Err(_) => Sent::Unknown,
        }
    }
}

fn accepted_or_refused(reply: &Reply) -> Sent {
    match reply.status {
        202 => Sent::Accepted(reply.json["events"][0]["id"].as_str().unwrap().to_owned()),
        503 => {
            assert!(reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
            Sent::Refused
        }
        status => panic!("{status}: {}", reply.text),
    }
}
