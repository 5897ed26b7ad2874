//! A request with its answer, and the shares of the host that it holds meanwhile.
//!
//! # Theory of operation
//! [`track`] stands before every route. It takes the body out of the request, so that a handler has no other way to it than
//! [`Exchange::read`], which charges the host's budget for bodies, and it charges large answers to the same budget.
//! Whoever finds out for whom a request is (the extractors of `extract.rs`, `/in`, bins) calls [`Exchange::admit`]: from
//! then on the request holds a share of the requests under way, its connection is not closed to make room for others,
//! and its bodies are charged to that tenant. Until then they are charged to the client's address.
//!
//! # Guarantees
//! - Shares are divided fairly between tenants and, before that is known, between clients ([`FairSemaphore`]).
//! - Requests and streams together hold fewer connections than there are, so a new connection always finds room.
//! - A permit lives as long as what it was taken for: a body's is owned by the bytes of the body, and so is an answer's.

use super::ApiState;
use super::connections::{Activity, client_of};
use super::peer::Peer;
use super::problem::Problem;
use super::rate_limit::RateLimit;
use super::streams::{OpenStream, Streams};
use crate::config::Config;
use crate::fair_share::{FairPermit, FairSemaphore};
use crate::plural::counted;
use crate::subscription::TenantId;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::body::{Body as _, Frame, SizeHint};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The party whose share a request takes. Each is a share of its own: what a tenant does through its API leaves the
/// tenant's address for Agile CRM its share, and so do strangers who know the URL of one of its bins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    /// A client that has proven nothing yet, as [`client_of`] counts it.
    Client(IpAddr),
    /// Requests with a tenant's key or session, or those of an admin for that tenant.
    Tenant(TenantId),
    /// Requests to a tenant's addresses for Agile CRM.
    Intake(TenantId),
    /// Requests to a tenant's bins.
    Bins(TenantId),
    /// Requests of an admin for no tenant.
    Operator,
}

/// A part of a shared resource that is held until this is dropped.
pub(super) type SharePermit = FairPermit<Payer>;

/// Shares of requests by tenant.
#[derive(Debug)]
pub struct Shares {
    requests: FairSemaphore<Payer>,
    streams: FairSemaphore<Payer>,
    delayed_replies: FairSemaphore<Payer>,
    pub(super) bodies: FairSemaphore<Payer>,
    of_sessions: Arc<Streams>,
    /// Maximum time for which a body may stall.
    pub(super) stall: Duration,
    /// Time for which a connection is kept between two requests, for clients that use it again (`Keep-Alive`, RFC 2068 §19.7.1.1).
    keep_alive: HeaderValue,
}

impl Shares {
    /// The shares that these settings give.
    pub fn new(config: &Config) -> Self {
        let connections = config.connections_max as u64;
        let share = |parts: u64| FairSemaphore::new(connections * parts / 8, connections);
        Shares {
            // An eighth is left for connections that have not asked for anything yet.
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

/// Time for which a request waits for its turn when its tenant has too many under way.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);

/// Interval at which a request looks for memory meanwhile.
const MEMORY_LOOK: Duration = Duration::from_millis(10);

/// An answer up to this size is not charged: connections bound how many there are.
const SMALL_ANSWER_BYTES: u64 = 64 << 10;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A request under way.
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
    /// The share of requests under way, or of streams.
    turn: Option<SharePermit>,
    body: Option<Body>,
    /// Memory that was reserved for the answer before it was built.
    answer: Option<SharePermit>,
    /// The tenant or operator whose share of the requests under way this one takes, or could not take.
    admitted_as: Option<Payer>,
}

/// Goes before every route: see the theory of operation.
pub(super) async fn track(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let peer = Peer::from_request_parts(&mut parts, &state).await;
    let client = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |Peer(address)| client_of(address));
    let activity = parts.extensions.get::<Arc<Activity>>().cloned();
    let activity = activity.unwrap_or_else(|| Arc::new(Activity::new(client, Instant::now())));
    activity.serves(client);
    let held = Held { payer: Payer::Client(client), turn: None, body: Some(body), answer: None, admitted_as: None };
    let exchange = Exchange(Arc::new(Inner { shares: state.shares.clone(), activity, held: Mutex::new(held) }));
    parts.extensions.insert(exchange.clone());
    // The headers of a bin's answer are its owner's.
    let is_of_bin = parts.uri.path().starts_with("/bins/");
    let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
    if !is_of_bin {
        response.headers_mut().insert(KEEP_ALIVE, state.shares.keep_alive.clone());
    }
    exchange.answer(response)
}

impl<S: Sync> FromRequestParts<S> for Exchange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Exchange::of(parts)
    }
}

impl Exchange {
    /// The exchange of a request.
    pub(super) fn of(parts: &Parts) -> Result<Exchange, Problem> {
        parts.extensions.get::<Exchange>().cloned().ok_or_else(|| {
            tracing::error!("a route is not behind the middleware that tracks requests");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "untracked", "this route cannot be used")
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.0.shares
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// The party to which the request's bodies are charged.
    pub(super) fn payer(&self) -> Payer {
        self.held().payer.clone()
    }

    /// The request's body, for the one reader that it may have.
    pub(super) fn take_body(&self) -> Option<Body> {
        self.held().body.take()
    }

    /// Returns the length of the body that the sender has announced, in bytes.
    pub(super) fn announced_bytes(&self) -> Option<u64> {
        self.held().body.as_ref().and_then(|body| body.size_hint().exact())
    }

    /// Takes a share of the requests under way, in the payer's turn. A request that has one of this payer keeps it.
    pub(super) async fn admit(&self, payer: Payer) -> Result<(), Problem> {
        {
            let held = self.held();
            if held.payer == payer && held.turn.is_some() {
                return Ok(());
            }
        }
        // Strangers at a tenant's addresses and bins are not told how busy they are.
        if matches!(payer, Payer::Tenant(_) | Payer::Operator) {
            self.held().admitted_as = Some(payer.clone());
        }
        let requests = &self.0.shares.requests;
        let turn = match requests.try_acquire(&payer, 1) {
            Some(turn) => Some(turn),
            None => tokio::time::timeout(ADMISSION_WAIT, requests.acquire(&payer, 1)).await.ok(),
        };
        let turn = turn.ok_or_else(|| {
            let held = requests.held(&payer);
            let held = counted(held, "request is", "requests are");
            too_many(format!("{held} in progress, which is your share at the moment"))
        })?;
        let mut held = self.held();
        (held.payer, held.turn) = (payer, Some(turn));
        self.0.activity.secure();
        Ok(())
    }

    /// Makes the request a stream, which holds a share of the streams and none of the requests.
    pub(super) fn become_stream(&self, session: [u8; 32]) -> Result<OpenStream, Problem> {
        let mut held = self.held();
        let turn = self.0.shares.streams.try_acquire(&held.payer, 1);
        held.turn = Some(turn.ok_or_else(|| too_many("too many event streams are open".to_owned()))?);
        Ok(self.0.shares.of_sessions.open(session))
    }

    /// Takes a share of the replies that wait before they are sent.
    pub(super) fn delay_reply(&self) -> Result<SharePermit, Problem> {
        self.0.shares.delayed_replies.try_acquire(&self.payer(), 1).ok_or_else(|| {
            let detail = "too many replies of this tenant's bins wait for their delay_ms; nothing was kept";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-delayed-replies", detail).remedy("try again later")
        })
    }

    /// Charges memory to the budget for bodies, for the payer. None: there is not so much.
    pub(super) fn charge(&self, bytes: u64) -> Option<SharePermit> {
        self.shares().bodies.try_acquire(&self.payer(), bytes)
    }

    /// Reserves memory for an answer that is about to be made. Waits a little for it, but not in a queue: what is large would
    /// keep small bodies waiting.
    pub(super) async fn reserve_answer(&self, bytes: u64) -> Result<(), Problem> {
        let bodies = &self.shares().bodies;
        // With a small budget a large answer takes turns instead of being impossible.
        let bytes = bytes.min(bodies.capacity() / 4);
        let payer = self.payer();
        let give_up = Instant::now() + ADMISSION_WAIT;
        loop {
            if let Some(reserved) = bodies.try_acquire(&payer, bytes) {
                self.held().answer = Some(reserved);
                return Ok(());
            }
            if Instant::now() > give_up {
                return Err(over_budget());
            }
            tokio::time::sleep(MEMORY_LOOK).await;
        }
    }

    /// Charges the answer, and ends the exchange when the answer has ended.
    fn answer(self, response: Response) -> Response {
        // What was not read of the request is the accept loop's to discard.
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

    /// The limit of requests under way, as it stands for the party that made this one. None: it was answered without a share.
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

/// The answer to a request for whose bodies there is no memory.
pub(super) fn over_budget() -> Problem {
    let detail = "the host has no memory left for bodies of this size; nothing was changed";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "over-body-budget", detail)
        .remedy("try again, with less at once if you can; the operator's setting is bodies_bytes_max")
}

/// Ends an exchange: gives its share back.
struct ExchangeEnd(Exchange);

impl Drop for ExchangeEnd {
    fn drop(&mut self) {
        self.0.held().turn = None;
        self.0.activity().answered();
    }
}

/// The body of an answer. Its bytes own what was charged for them, and are dropped when they are sent.
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

/// Bytes that own what was charged for them, as all slices of them do.
pub(super) fn charged<T, C>(bytes: T, charge: C) -> Bytes
where
    T: AsRef<[u8]> + Send + 'static,
    C: Send + 'static,
{
    Bytes::from_owner(Charged { bytes, _charge: charge })
}
