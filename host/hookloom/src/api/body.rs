//! Reading of request bodies, with bounds for memory and time.
//!
//! # Guarantees
//! - [`Exchange::read`] is the only access to a body. It charges received bytes to the host's budget for bodies,
//!   in steps, in the share of the tenant or client. An announced length reserves nothing. If the budget has no room, the answer is
//!   503 at once; if the announced length cannot fit, before the body is read.
//! - The bytes own their charge, which is returned when the last slice of the body is dropped.
//! - A body that stalls, or that takes longer than [`DEADLINE`], is given up, and its memory is released.
//!
//! # Limits
//! While a body moves into a larger buffer, the smaller one exists as well, for the duration of one copy on one thread.

use super::ApiState;
use super::connections::Progress;
use super::exchange::{Exchange, Payer, SharePermit, charged, over_budget};
use crate::clock;
use crate::fair_share::FairSemaphore;
use crate::operations::Problem;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Maximum time for a body to arrive.
const DEADLINE: Duration = Duration::from_secs(60);

/// Maximum size of a body on a route, in bytes. Without it: [`BODY_BYTES_MAX`].
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyCap(pub(super) usize);

/// Maximum size of a body on most routes, in bytes. Settings are small.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Maximum size of a body from a client without a key, in bytes: the sign-in form.
const UNPROVEN_BODY_BYTES_MAX: usize = 64 << 10;

/// Size of the first buffer of a body, in bytes.
const FIRST_BYTES: usize = 16 << 10;

/// Result of reading a body.
pub(super) struct ReadBody {
    /// Kept beginning of the body.
    pub(super) kept: Bytes,
    /// Number of received bytes.
    pub(super) bytes: usize,
    /// Reason for which reading stopped.
    pub(super) end: End,
}

/// End of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The body is complete.
    Whole,
    /// The body is longer than the reader wanted.
    TooLong,
    /// The connection broke.
    CutOff,
    /// The body stalled, or its time was over.
    TooSlow,
    /// The budget has no room for the body.
    OverBudget,
}

impl End {
    /// Returns the answer to a request whose body ended like this. None: the body is complete.
    pub(super) fn problem(self) -> Option<Problem> {
        match self {
            End::Whole => None,
            End::TooLong => Some(too_large()),
            End::CutOff => {
                let detail = "the body broke off before its end";
                Some(Problem::new(StatusCode::BAD_REQUEST, "body-cut-off", detail).remedy("send it again"))
            }
            End::TooSlow => {
                let detail = format!("the body stalled, or did not arrive within {} s", DEADLINE.as_secs());
                let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail);
                Some(problem.remedy("send it again, in smaller parts if need be"))
            }
            End::OverBudget => Some(over_budget()),
        }
    }
}

fn too_large() -> Problem {
    let detail = "the body is larger than this route accepts";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail).remedy(
        "send less at once, or let the operator raise the cap (event_bytes_max, batch_bytes_max, component_bytes_max)",
    )
}

impl Exchange {
    /// Reads the body of a request. Keeps the first `keep` bytes, and stops after more than `most`.
    pub(super) async fn read(&self, keep: usize, most: usize) -> ReadBody {
        let announced = self.announced_bytes().and_then(|bytes| usize::try_from(bytes).ok());
        let mut buffer = Buffer::new(self, announced.map_or(keep, |bytes| bytes.min(keep)));
        if !buffer.may_fit(announced.is_some()) {
            return ReadBody { kept: Bytes::new(), bytes: 0, end: End::OverBudget };
        }
        let mut stream = self.take_body().unwrap_or_default().into_data_stream();
        self.activity().awaits_body();
        let stall = self.shares().stall;
        let begun = clock::instant();
        let mut progress = Progress::new(begun);
        let mut bytes = 0;
        let end = loop {
            let patience = progress.end(stall).min(begun + DEADLINE);
            let Ok(chunk) =
                tokio::time::timeout(patience.saturating_duration_since(clock::instant()), stream.next()).await
            else {
                let now = clock::instant();
                if now >= begun + DEADLINE || progress.is_stalled(now, stall) {
                    break End::TooSlow;
                }
                continue;
            };
            let chunk = match chunk {
                None => break End::Whole,
                Some(Err(_)) => break End::CutOff,
                Some(Ok(chunk)) => chunk,
            };
            bytes += chunk.len();
            progress.note(chunk.len(), clock::instant());
            if !buffer.push(&chunk[..chunk.len().min(keep - buffer.bytes.len())]) {
                break End::OverBudget;
            }
            if bytes > most {
                break End::TooLong;
            }
        };
        self.activity().handling();
        ReadBody { kept: buffer.finish(), bytes, end }
    }
}

/// Kept part of a body, and its charge.
struct Buffer<'a> {
    budget: &'a FairSemaphore<Payer>,
    payer: Payer,
    bytes: Vec<u8>,
    charge: Option<SharePermit>,
    /// Maximum size of the body, in bytes.
    most: usize,
}

impl<'a> Buffer<'a> {
    fn new(exchange: &'a Exchange, most: usize) -> Self {
        Buffer { budget: &exchange.shares().bodies, payer: exchange.payer(), bytes: Vec::new(), charge: None, most }
    }

    /// Returns true if the body fits into the budget now, if its size is announced.
    fn may_fit(&self, is_announced: bool) -> bool {
        let wanted = self.budget.held(&self.payer).saturating_add(self.most as u64);
        !is_announced || self.most <= FIRST_BYTES || wanted <= self.budget.free()
    }

    /// Adds bytes. Returns false if the budget has no room for them.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let length = self.bytes.len() + bytes.len();
        if length > self.bytes.capacity() {
            // Doubles each time, so that a body is copied at most twice, up to its maximum size.
            let wanted = length.max(FIRST_BYTES).max(2 * self.bytes.capacity()).min(self.most.max(length));
            let charged = self.charge.as_ref().map_or(0, SharePermit::units);
            let more = (wanted as u64).saturating_sub(charged);
            let has_room = match &mut self.charge {
                Some(charge) => charge.try_grow(more),
                None => {
                    self.charge = self.budget.try_acquire(&self.payer, more);
                    self.charge.is_some()
                }
            };
            if !has_room {
                return false;
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    fn finish(self) -> Bytes {
        match self.charge {
            Some(charge) => charged(self.bytes, charge),
            None => Bytes::new(),
        }
    }
}

/// Body as received, up to the maximum of the route.
pub(super) struct Body(pub(super) Bytes);

impl Body {
    /// Reads the body of the request with this head.
    pub(super) async fn of(parts: &Parts) -> Result<Body, Problem> {
        let exchange = Exchange::of(parts)?;
        let cap = parts.extensions.get::<BodyCap>().map_or(BODY_BYTES_MAX, |cap| cap.0);
        let most = match exchange.payer() {
            Payer::Client(_) => cap.min(UNPROVEN_BODY_BYTES_MAX),
            _ => cap,
        };
        if exchange.announced_bytes().is_some_and(|bytes| bytes > most as u64) {
            return Err(too_large());
        }
        let received = exchange.read(most, most).await;
        received.end.problem().map_or(Ok(Body(received.kept)), Err)
    }
}

impl FromRequest<Arc<ApiState>> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<ApiState>) -> Result<Self, Problem> {
        Body::of(&request.into_parts().0).await
    }
}

/// JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let Body(body) = Body::from_request(request, state).await?;
        serde_json::from_slice(&body).map(Json).map_err(Problem::invalid_body)
    }
}
