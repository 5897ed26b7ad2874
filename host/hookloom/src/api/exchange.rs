//! Exchange: a request with its answer, and the shares of the host that it holds.
//!
//! # Theory of operation
//! [`begin`] runs before every route. It removes the body from the request, so that handlers can only use [`Exchange::read`], which
//! charges the host's budget for bodies. It charges large answers to the same budget. Code that identifies the tenant of a request
//! (the extractors of `extract.rs`, `/in`, bins) calls [`Exchange::admit`]. From then on, the request holds a share of the requests
//! under way, its connection is not closed to make room for others, and its bodies are charged to that tenant. Before, they are
//! charged to the client's address.
//!
//! # Guarantees
//! - Shares are divided fairly between tenants and, before the tenant is known, between clients ([`FairSemaphore`]).
//! - Requests and streams together hold fewer connections than there may be, so a new connection always finds room.
//! - A permit lives as long as the thing it is for: the permit of a body is owned by the bytes of the body, and so is that of an
//!   answer.

use super::ApiState;
use super::connections::{Activity, client_of};
use super::peer::Peer;
use super::rate_limit::RateLimit;
use super::streams::{OpenStream, Streams};
use crate::clock;
use crate::config::Config;
use crate::fair_share::{FairPermit, FairSemaphore};
use crate::operations::Problem;
use crate::plural::counted;
use crate::subscription::TenantId;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::{Body as _, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Party whose share a request takes. Requests of a tenant's API, to its addresses for Agile CRM, and to its bins have separate
/// shares, so that neither the tenant nor anybody who knows the URL of a bin can use up the share of the intake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    /// Client without proof of access, by the address of [`client_of`].
    Client(IpAddr),
    /// Requests with a tenant's key or session, or of an admin for that tenant.
    Tenant(TenantId),
    /// Requests to a tenant's addresses for Agile CRM.
    Intake(TenantId),
    /// Requests to a tenant's bins.
    Bins(TenantId),
    /// Requests of an admin without a tenant.
    Operator,
}

/// Part of a shared resource, held until it is dropped.
pub(super) type SharePermit = FairPermit<Payer>;

/// Shares of requests, by party.
#[derive(Debug)]
pub struct Shares {
    requests: FairSemaphore<Payer>,
    streams: FairSemaphore<Payer>,
    delayed_replies: FairSemaphore<Payer>,
    pub(super) bodies: FairSemaphore<Payer>,
    of_sessions: Arc<Streams>,
    /// Maximum duration without progress of a body.
    pub(super) stall: Duration,
    /// Duration for which a connection is kept between two requests, for clients that reuse it (`Keep-Alive`, RFC 2068 §19.7.1.1).
    keep_alive: HeaderValue,
}

impl Shares {
    /// Creates the shares of these settings.
    pub fn new(config: &Config) -> Self {
        let connections = config.connections_max as u64;
        let share = |parts: u64| FairSemaphore::new(connections * parts / 8, connections);
        Shares {
            // An eighth of the connections is left for those without a request.
            requests: share(6),
            streams: share(1),
            delayed_replies: share(2),
            bodies: FairSemaphore::new(config.bodies_bytes_max, config.bodies_bytes_max),
            of_sessions: Streams::new(config.streams_per_session_max),
            stall: Duration::from_secs(config.stall_timeout_s),
            keep_alive: HeaderValue::try_from(format!("timeout={}", config.idle_timeout_s)).expect("visible ASCII"),
        }
    }
}

/// Maximum wait of a request when its tenant has too many under way.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);

/// Interval at which a waiting request tries to reserve memory.
const MEMORY_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum size of an answer that is not charged, in bytes. The connections bound the number of such answers.
const SMALL_ANSWER_BYTES: u64 = 64 << 10;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Request under way.
#[derive(Clone)]
pub(super) struct Exchange(Arc<Inner>);

struct Inner {
    shares: Arc<Shares>,
    activity: Arc<Activity>,
    held: Mutex<Held>,
}

/// Permits that a request holds.
struct Held {
    payer: Payer,
    /// Permit of the requests under way, or of the streams.
    permit: Option<SharePermit>,
    body: Option<Body>,
    /// Memory that was reserved before the answer was built.
    answer: Option<SharePermit>,
    /// Tenant or operator whose share of the requests under way this request takes, or could not take.
    admitted_as: Option<Payer>,
}

/// Begins the exchange of a request, and removes the body from the request.
pub(super) async fn begin(state: &Arc<ApiState>, request: Request) -> (Exchange, Request) {
    let (mut parts, body) = request.into_parts();
    let peer = Peer::from_request_parts(&mut parts, state).await;
    let client = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |Peer(address)| client_of(address));
    let activity = parts.extensions.get::<Arc<Activity>>().cloned();
    let activity = activity.unwrap_or_else(|| Arc::new(Activity::new(client, clock::instant())));
    activity.serves(client);
    let held = Held { payer: Payer::Client(client), permit: None, body: Some(body), answer: None, admitted_as: None };
    let exchange = Exchange(Arc::new(Inner { shares: state.shares.clone(), activity, held: Mutex::new(held) }));
    parts.extensions.insert(exchange.clone());
    (exchange, Request::from_parts(parts, Body::empty()))
}

impl<S: Sync> FromRequestParts<S> for Exchange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Exchange::of(parts)
    }
}

impl Exchange {
    /// Returns the exchange of a request.
    pub(super) fn of(parts: &Parts) -> Result<Exchange, Problem> {
        parts.extensions.get::<Exchange>().cloned().ok_or_else(|| {
            tracing::error!("a route is not behind the middleware that tracks requests");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "untracked", "this route cannot be used")
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock()
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.0.shares
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// Returns the party to which the request's bodies are charged.
    pub(super) fn payer(&self) -> Payer {
        self.held().payer.clone()
    }

    /// Takes the request's body, for its only reader.
    pub(super) fn take_body(&self) -> Option<Body> {
        self.held().body.take()
    }

    /// Returns the announced length of the body, in bytes.
    pub(super) fn announced_bytes(&self) -> Option<u64> {
        self.held().body.as_ref().and_then(|body| body.size_hint().exact())
    }

    /// Takes a permit of the requests under way, when the payer's turn comes. A request that has one of this payer keeps it.
    pub(super) async fn admit(&self, payer: Payer) -> Result<(), Problem> {
        {
            let held = self.held();
            if held.payer == payer && held.permit.is_some() {
                return Ok(());
            }
        }
        // Senders to a tenant's addresses and bins do not see how busy the tenant is.
        if matches!(payer, Payer::Tenant(_) | Payer::Operator) {
            self.held().admitted_as = Some(payer.clone());
        }
        let requests = &self.0.shares.requests;
        let permit = match requests.try_acquire(&payer, 1) {
            Some(permit) => Some(permit),
            None => tokio::time::timeout(ADMISSION_WAIT, requests.acquire(&payer, 1)).await.ok(),
        };
        let permit = permit.ok_or_else(|| {
            let held = requests.held(&payer);
            let held = counted(held, "request is", "requests are");
            too_many(format!("{held} in progress, which is your share at the moment"))
        })?;
        let mut held = self.held();
        (held.payer, held.permit) = (payer, Some(permit));
        self.0.activity.secure();
        Ok(())
    }

    /// Turns the request into a stream, which holds a permit of the streams and none of the requests.
    pub(super) fn become_stream(&self, session: [u8; 32]) -> Result<OpenStream, Problem> {
        let mut held = self.held();
        let permit = self.0.shares.streams.try_acquire(&held.payer, 1);
        held.permit = Some(permit.ok_or_else(|| too_many("too many event streams are open".to_owned()))?);
        Ok(self.0.shares.of_sessions.open(session))
    }

    /// Takes a permit of the delayed replies.
    pub(super) fn delay_reply(&self) -> Result<SharePermit, Problem> {
        self.0.shares.delayed_replies.try_acquire(&self.payer(), 1).ok_or_else(|| {
            let detail = "too many replies of this tenant's bins wait for their delay_ms; nothing was kept";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-delayed-replies", detail).remedy("try again later")
        })
    }

    /// Charges memory to the budget for bodies. None: there is no room.
    pub(super) fn charge(&self, bytes: u64) -> Option<SharePermit> {
        self.shares().bodies.try_acquire(&self.payer(), bytes)
    }

    /// Reserves memory for an answer before it is built. Waits a short time for it, but not in the queue, where a large answer
    /// would delay small bodies.
    pub(super) async fn reserve_answer(&self, bytes: u64) -> Result<(), Problem> {
        let bodies = &self.shares().bodies;
        // With a small budget, large answers are built one after the other instead of never.
        let bytes = bytes.min(bodies.capacity() / 4);
        let payer = self.payer();
        let give_up = clock::instant() + ADMISSION_WAIT;
        loop {
            if let Some(reserved) = bodies.try_acquire(&payer, bytes) {
                self.held().answer = Some(reserved);
                return Ok(());
            }
            if clock::instant() > give_up {
                return Err(over_budget());
            }
            tokio::time::sleep(MEMORY_RETRY_INTERVAL).await;
        }
    }

    /// Adds the time for which the connection is kept to the headers of an answer.
    pub(super) fn add_keep_alive(&self, headers: &mut HeaderMap) {
        headers.insert(KEEP_ALIVE, self.0.shares.keep_alive.clone());
    }

    /// Charges the answer, and ends the exchange when the answer has ended.
    pub(super) fn answer(self, response: Response) -> Response {
        // The accept loop discards the unread part of the request.
        drop(self.take_body());
        let bytes = response.body().size_hint().exact().unwrap_or_default();
        let (mut response, charge) = match self.charge_answer(bytes) {
            Ok(charge) => (response, charge),
            Err(problem) => (problem.into_response(), None),
        };
        if let Some(limit) = self.rate_limit() {
            limit.write(response.headers_mut());
        }
        response.map(|body| Body::new(ChargedBody { body, charge, _end: ExchangeEnd(self) }))
    }

    /// Returns the limit of requests under way for the party of this request. None: the request was answered without a permit.
    fn rate_limit(&self) -> Option<RateLimit> {
        let payer = self.held().admitted_as.clone()?;
        let requests = &self.0.shares.requests;
        Some(RateLimit::Requests { quota: requests.key_quota(), remaining: requests.remaining(&payer) })
    }

    fn charge_answer(&self, bytes: u64) -> Result<Option<Arc<SharePermit>>, Problem> {
        let mut held = self.held();
        let reserved = held.answer.take();
        if bytes <= SMALL_ANSWER_BYTES {
            return Ok(None);
        }
        let fitting = match reserved {
            Some(mut reserved) if reserved.units() >= bytes => reserved.split(bytes),
            reserved => {
                drop(reserved);
                self.0.shares.bodies.try_acquire(&held.payer, bytes)
            }
        };
        fitting.map(|permit| Some(Arc::new(permit))).ok_or_else(over_budget)
    }
}

fn too_many(detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail)
        .remedy("wait for answers before you send more, and try again")
}

/// Returns the answer to a request for whose bodies the budget has no room.
pub(super) fn over_budget() -> Problem {
    let detail = "the host has no memory left for bodies of this size; nothing was changed";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "over-body-budget", detail)
        .remedy("try again, with less at once if you can; the operator's setting is bodies_bytes_max")
}

/// End of an exchange, which returns its permits.
struct ExchangeEnd(Exchange);

impl Drop for ExchangeEnd {
    fn drop(&mut self) {
        self.0.held().permit = None;
        self.0.activity().answered();
    }
}

/// Body of an answer. Its bytes own their charge, and are dropped when they have been sent.
struct ChargedBody {
    body: Body,
    charge: Option<Arc<SharePermit>>,
    _end: ExchangeEnd,
}

impl hyper::body::Body for ChargedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let Some(charge) = &self.charge else { return frame };
        frame.map_ok(|frame| frame.map_data(|data| charged(data, charge.clone())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Charged<T, C> {
    bytes: T,
    _charge: C,
}

impl<T: AsRef<[u8]>, C> AsRef<[u8]> for Charged<T, C> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Returns bytes that own their charge, as all slices of them do.
pub(super) fn charged<T, C>(bytes: T, charge: C) -> Bytes
where
    T: AsRef<[u8]> + Send + 'static,
    C: Send + 'static,
{
    Bytes::from_owner(Charged { bytes, _charge: charge })
}
