//! Endpoint of every subscription of a trial: verifies signatures, and records when each request began and ended.

use super::records::Receipt;
use crate::harness::SECRET;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;
use standardwebhooks::Webhook;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Running endpoint.
pub(super) struct Endpoint {
    url: String,
    shared: Arc<EndpointState>,
}

struct EndpointState {
    began: Instant,
    receipts: Mutex<Vec<Receipt>>,
    delay_ms: AtomicU64,
    status: AtomicU16,
}

impl Endpoint {
    /// Starts an endpoint that answers with 200 at once. Its times are since `began`.
    pub(super) async fn start(began: Instant) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(EndpointState {
            began,
            receipts: Mutex::default(),
            delay_ms: AtomicU64::new(0),
            status: AtomicU16::new(200),
        });
        let routes = Router::new().route("/{name}", post(receive)).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Endpoint { url, shared }
    }

    /// Returns the Notify URL of a subscription.
    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// Delays every later answer.
    pub(super) fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Answers every later request with a status.
    pub(super) fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// Returns the requests so far.
    pub(super) fn receipts(&self) -> Vec<Receipt> {
        self.shared.receipts.lock().clone()
    }

    /// Returns the number of requests so far that a condition holds for.
    pub(super) fn count(&self, holds: impl Fn(&Receipt) -> bool) -> usize {
        self.shared.receipts.lock().iter().filter(|one| holds(one)).count()
    }
}

/// Records the end of a request, also if its connection ends before the answer.
struct UnderWay {
    shared: Arc<EndpointState>,
    index: usize,
    status: Option<u16>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended_at = self.shared.began.elapsed();
        let mut receipts = self.shared.receipts.lock();
        receipts[self.index].ended_at = Some(ended_at);
        receipts[self.index].status = self.status;
    }
}

async fn receive(
    State(shared): State<Arc<EndpointState>>,
    Path(subscription): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let payload: Value = serde_json::from_slice(&body).unwrap();
    let receipt = Receipt {
        subscription,
        webhook_id: text("webhook-id"),
        event: text("hookloom-event-id"),
        number: payload["eventData"]["mark"].as_u64().unwrap(),
        is_verified: Webhook::new(SECRET).unwrap().verify(&body, &headers).is_ok(),
        begun_at: shared.began.elapsed(),
        ended_at: None,
        status: None,
    };
    let index = {
        let mut receipts = shared.receipts.lock();
        receipts.push(receipt);
        receipts.len() - 1
    };
    let mut under_way = UnderWay { shared: shared.clone(), index, status: None };
    let delay = Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let status = shared.status.load(Ordering::SeqCst);
    under_way.status = Some(status);
    StatusCode::from_u16(status).unwrap()
}
