//! How long the parts of a request take: DNS, connect with TLS, first byte, body.
//!
//! # Theory of operation
//! A request is one task. While it waits for a connection, that task itself polls the lookup and the connecting, so both
//! can note their times in a task-local place. If a pooled connection wins the race meanwhile, the connecting goes on in a
//! task of its own, finds no such place, and notes nothing: the request was carried by the pooled one, which is what its
//! times say.

use crate::delivery::Timings;
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tower::Service;

tokio::task_local! {
    static PARTS: Cell<Timings>;
}

/// Runs a request and says how long its parts took. Whatever it did not come to is absent.
pub(super) async fn timed<T>(request: impl Future<Output = T>) -> (T, Timings) {
    let whole = async {
        let begun = Instant::now();
        let answer = request.await;
        note(|parts| parts.total_us = micros(begun));
        (answer, PARTS.with(Cell::get))
    };
    PARTS.scope(Cell::default(), Box::pin(whole)).await
}

/// The lookup of a name, which began then, has ended.
pub(super) fn looked_up(begun: Instant) {
    note(|parts| parts.dns_us = Some(micros(begun)));
}

/// The head of the answer to a request that began then is there.
pub(super) fn answered(begun: Instant) {
    note(|parts| {
        parts.reused = parts.connect_us.is_none();
        parts.first_byte_us = Some(micros(begun));
    });
}

/// What is read of the body, from then on, is there.
pub(super) fn read(begun: Instant) {
    note(|parts| parts.body_us = Some(micros(begun)));
}

fn connected(begun: Instant) {
    // The lookup is a part of connecting; it is shown apart.
    note(|parts| parts.connect_us = Some(micros(begun).saturating_sub(parts.dns_us.unwrap_or(0))));
}

fn note(change: impl FnOnce(&mut Timings)) {
    let _ = PARTS.try_with(|parts| {
        let mut timings = parts.get();
        change(&mut timings);
        parts.set(timings);
    });
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A connector with a clock.
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
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: T) -> Self::Future {
        let (begun, connecting) = (Instant::now(), self.0.call(to));
        Box::pin(async move {
            let connection = connecting.await;
            connected(begun);
            connection
        })
    }
}
