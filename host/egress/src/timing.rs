//! Durations of the parts of a request: DNS lookup, connect with TLS, first byte, body.
//!
//! # Theory of operation
//! A request is one task. While it waits for a connection, the same task polls the lookup and the connect, so both record their
//! durations in a task-local variable. If a pooled connection becomes free first, the connect continues in another task, which has no
//! such variable, and records nothing: the request was sent on the pooled connection.

use hookloom_model::clock;
use hookloom_model::delivery::Timings;
use std::cell::Cell;
use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tower::Service;

tokio::task_local! {
    static PARTS: Cell<RequestParts>;
}

/// Parts of one request so far.
#[derive(Clone, Copy, Default)]
struct RequestParts {
    timings: Timings,
    /// Number of connects that have ended.
    connects: u32,
}

/// Failure of the connector. Other errors of the client without a connection come from its pool.
#[derive(Debug, thiserror::Error)]
#[error("no connection")]
pub(super) struct ConnectError(#[source] Box<dyn StdError + Send + Sync>);

/// Runs a request and returns the durations of its parts. Parts that did not happen are absent.
pub(super) async fn timed<T>(request: impl Future<Output = T>) -> (T, Timings) {
    let whole = async {
        let begun = clock::instant();
        let answer = request.await;
        note(|parts| parts.total_us = micros(begun));
        (answer, PARTS.with(Cell::get).timings)
    };
    PARTS.scope(Cell::default(), Box::pin(whole)).await
}

/// Returns the number of connects of the request that have ended in this task.
pub(super) fn connects() -> u32 {
    PARTS.try_with(Cell::get).unwrap_or_default().connects
}

/// Records the duration of a lookup that began at `begun`.
pub(super) fn looked_up(begun: Instant) {
    note(|parts| parts.dns_us = Some(micros(begun)));
}

/// Records the time to the head of the response, for a request that began at `begun`.
pub(super) fn answered(begun: Instant) {
    note(|parts| {
        parts.reused = parts.connect_us.is_none();
        parts.first_byte_us = Some(micros(begun));
    });
}

/// Records the duration of reading the body, since `begun`.
pub(super) fn read(begun: Instant) {
    note(|parts| parts.body_us = Some(micros(begun)));
}

fn connected(begun: Instant) {
    change(|parts| {
        // Connecting includes the lookup, which is shown apart.
        parts.timings.connect_us = Some(micros(begun).saturating_sub(parts.timings.dns_us.unwrap_or(0)));
        parts.connects += 1;
    });
}

fn note(change_timings: impl FnOnce(&mut Timings)) {
    change(|parts| change_timings(&mut parts.timings));
}

fn change(change: impl FnOnce(&mut RequestParts)) {
    let _ = PARTS.try_with(|cell| {
        let mut parts = cell.get();
        change(&mut parts);
        cell.set(parts);
    });
}

fn micros(since: Instant) -> u64 {
    u64::try_from(clock::since(since).as_micros()).unwrap_or(u64::MAX)
}

/// Connector that records the duration of connecting.
#[derive(Clone)]
pub(super) struct Timed<S>(S);

impl<S> Timed<S> {
    pub(super) fn new(connector: S) -> Self {
        Timed(connector)
    }
}

impl<S, T> Service<T> for Timed<S>
where
    S: Service<T>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = S::Response;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(context).map_err(|error| ConnectError(error.into()))
    }

    fn call(&mut self, to: T) -> Self::Future {
        let begun = clock::instant();
        let connecting = self.0.call(to);
        Box::pin(async move {
            let connection = connecting.await;
            connected(begun);
            connection.map_err(|error| ConnectError(error.into()))
        })
    }
}
