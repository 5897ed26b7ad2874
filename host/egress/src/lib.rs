//! HTTP client for webhooks. The only crate that uses hyper's client.
//!
//! # Motivation
//! Notify URLs come from tenants and plugins, answers from strangers. So a request goes once, to a vetted address of its URL only,
//! and the answer is read up to a size limit and a deadline.
//!
//! # Theory of operation
//! The address guard checks the URL before each request. [`Vetting`] resolves a name and refuses it if one of its addresses is
//! refused; the connection is made to the vetted addresses, so DNS rebinding between check and dial has no effect. Afterwards the
//! peer's address is checked again. The client follows no redirects, reads no environment variables and decompresses nothing. Each
//! address policy and each custom transport has a separate client, because pooled connections are shared by all requests of a
//! client.
//!
//! A request is sent again within its deadline only if the receiver has not processed it ([`failure`]); this does not count as an
//! attempt. Faults of this host are reported apart ([`NotAnswered::Host`]) and logged at intervals ([`fault_log`]).
//!
//! With a forward proxy, the proxy connects to the receiver. The proxy's address is vetted like any other. The receiver's name is
//! resolved and vetted here as well, but the proxy resolves it again: its operator must restrict its destinations.
//!
//! The number of bytes that a receiver can make this host read is bounded for each request ([`meter`]), so that a connection that is
//! never idle ends as well.

mod connect;
mod connection_watch;
mod dial;
mod failure;
mod fault_log;
mod meter;
mod observed;
mod pool;
mod resolver;
mod salvage;
mod socket;
mod timing;
mod tls_failure;
pub mod transport;
mod vetting;

pub use connect::TlsError;
pub use failure::NotAnswered;
pub use pool::Clients;
pub use resolver::ResolverError;

use crate::transport::ReadyTransport;
use bytes::{Bytes, BytesMut};
use connect::Connector;
use connection_watch::ConnectionWatch;
use failure::SendFailure;
use fault_log::FaultLog;
use hookloom_model::address::{
    AddressError, AddressPolicy, check_address, check_target, is_bin_of_host, name_leads_back,
};
use hookloom_model::clock;
use hookloom_model::delivery::{NoAnswer, Timings};
use hookloom_model::target::Target;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use meter::{HEAD_BYTES_MAX, RequestMeter, STREAM_WINDOW_BYTES};
use resolver::Resolver;
use salvage::Salvaged;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timing::Timed;
use tokio::time::timeout_at;
use url::{Host, Url};
use vetting::{Vetting, VettingError, vetted};

/// Maximum size of a receiver's answer that is read and stored, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 16 << 10;

/// Time after which an idle connection is closed. Shorter than the 5 s after which Node closes it by default.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Maximum number of headers in an HTTP/1 answer. More make its head unreadable, but not its status.
const HEADERS_MAX: usize = 256;

/// Number of repeats of an unprocessed request without a pause, and maximum number of repeats.
const REPEATS_AT_ONCE: u32 = 8;
const REPEATS_MAX: u32 = 40;

/// Pause before an unprocessed request is repeated. None: the maximum is reached. A receiver that closes its connections after a few
/// requests may refuse one of many concurrent requests several times in a row.
fn repeat_pause(repeats: u32) -> Option<Duration> {
    match repeats {
        ..REPEATS_AT_ONCE => Some(Duration::ZERO),
        REPEATS_AT_ONCE..REPEATS_MAX => Some(Duration::from_millis(u64::from(repeats) * 5)),
        _ => None,
    }
}

/// A request to a receiver.
#[derive(Debug)]
pub struct Request {
    /// Method: POST for webhooks. The command line uses others.
    pub method: Method,
    /// Target of the request.
    pub target: Target,
    /// Headers, except those that HTTP adds.
    pub headers: HeaderMap,
    /// Request body.
    pub body: Bytes,
    /// Time limit of the whole exchange, including the answer's body.
    pub timeout: Duration,
    /// Maximum size of the answer's body that is read, in bytes.
    pub response_bytes_max: usize,
}

/// Answer of a receiver.
#[derive(Debug, Default)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// Beginning of the response body.
    pub body: Bytes,
    /// Unusual events of the exchange, one sentence each.
    pub notes: Vec<String>,
}

/// HTTP client with one address policy and one transport.
pub struct Client {
    http: HyperClient<Timed<Connector>, Full<Bytes>>,
    policy: Arc<AddressPolicy>,
    resolver: Resolver,
    fault_log: Arc<FaultLog>,
    /// Set when a forward proxy connects to receivers.
    behind_proxy: bool,
    /// `Proxy-Authorization` of requests that the proxy forwards.
    proxy_authorization: Option<HeaderValue>,
}

/// Reason why a client could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be configured, for example because the system's certificates cannot be read.
    #[error("the HTTP client could not be made")]
    Tls(#[from] TlsError),
    /// The resolver could not be created.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The subscription's transport is not valid, or no longer.
    #[error("the subscription's transport does not fit: {0}")]
    Transport(String),
}

impl Client {
    /// Creates a client that connects directly, with the system's certificates.
    pub fn new(policy: AddressPolicy) -> Result<Self, ClientError> {
        Client::with(policy, Resolver::new(&[])?, Arc::default(), &ReadyTransport::default())
    }

    fn with(
        policy: AddressPolicy,
        resolver: Resolver,
        fault_log: Arc<FaultLog>,
        transport: &ReadyTransport,
    ) -> Result<Self, ClientError> {
        let policy = Arc::new(policy);
        let vetting = Vetting { policy: policy.clone(), resolver: resolver.clone() };
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            // A repeat within the client would have no meter and no watch of its own.
            .retry_canceled_requests(false)
            .http1_max_buf_size(HEAD_BYTES_MAX as usize)
            // RFC 9112 section 5.2 wants folded lines understood. The other oddities must not hide a status that came.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_headers(HEADERS_MAX)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .build(Timed::new(connect::connector(vetting, transport)?));
        let (behind_proxy, proxy_authorization) = match &transport.proxy {
            None => (false, None),
            Some((_, authorization)) => (true, authorization.clone()),
        };
        Ok(Client { http, policy, resolver, fault_log, behind_proxy, proxy_authorization })
    }

    /// Sends a request and reads the answer. Follows no redirects, and repeats a request only if the receiver has not processed it.
    pub async fn send(&self, request: Request) -> (Result<Answer, NotAnswered>, Timings) {
        let (answer, timings) = timing::timed(self.exchange(request)).await;
        if let Err(NotAnswered::Host { detail }) = &answer {
            self.fault_log.note(detail);
        }
        (answer, timings)
    }

    async fn exchange(&self, request: Request) -> Result<Answer, NotAnswered> {
        check_target(&request.target, &self.policy).map_err(|error| NotAnswered::from(&error))?;
        let begun = clock::instant();
        let deadline = tokio::time::Instant::now() + request.timeout;
        let late = |_| late(&request);
        if self.behind_proxy || self.may_lead_back(request.target.url()) {
            timeout_at(deadline, self.vet_target(request.target.url())).await.map_err(late)??;
        }
        let mut repeats = 0;
        loop {
            match self.try_once(&request, begun, deadline).await {
                Ok(mut answer) => {
                    if repeats > 0 {
                        answer.notes.push(format!("repeated ({repeats}), because the receiver had not taken it"));
                    }
                    return Ok(answer);
                }
                Err(SendFailure::NotAnswered(error)) => return Err(error),
                Err(SendFailure::Salvaged(Salvaged { status, headers })) => {
                    timing::answered(begun);
                    let notes =
                        vec!["the head of the answer is not valid HTTP; its status counts in any case".to_owned()];
                    return Ok(Answer { status, headers, notes, ..Answer::default() });
                }
                Err(SendFailure::NotProcessed(why)) => {
                    let Some(pause) = repeat_pause(repeats) else {
                        return Err(NotAnswered::of(NoAnswer::Broken, format!("{why}, {repeats} times in a row")));
                    };
                    tracing::debug!(repeats, why, "a request was not processed; it is sent again");
                    repeats += 1;
                    timeout_at(deadline, tokio::time::sleep(pause)).await.map_err(late)?;
                }
            }
        }
    }

    /// Sends a request on one connection, and reads its answer up to the deadline.
    async fn try_once(
        &self,
        request: &Request,
        begun: Instant,
        deadline: tokio::time::Instant,
    ) -> Result<Answer, SendFailure> {
        let mut message = self.message(request)?;
        let mut meter = RequestMeter::new(&mut message, request.response_bytes_max);
        let response = timeout_at(deadline, self.response(message, &mut meter)).await.map_err(|_| late(request))??;
        timing::answered(begun);
        let to_bin_of_host = is_bin_of_host(request.target.url(), &self.policy);
        if let Some(peer) = response.extensions().get::<HttpInfo>().filter(|_| !to_bin_of_host) {
            check_address(peer.remote_addr().ip(), &self.policy).map_err(|error| NotAnswered::from(&error))?;
        }
        let answer = read(response, deadline, request.response_bytes_max).await;
        drop(meter);
        Ok(answer)
    }

    /// Converts a request into the form of the `http` crate.
    fn message(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, NotAnswered> {
        let uri = request.target.uri().cloned().ok_or_else(|| NotAnswered::from(&AddressError::NotHttp))?;
        let mut message = http::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = uri;
        *message.headers_mut() = request.headers.clone();
        if let Some(authorization) =
            self.proxy_authorization.clone().filter(|_| request.target.url().scheme() == "http")
        {
            message.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        Ok(message)
    }

    /// Sends a request, and limits the bytes that its connection may read.
    async fn response(
        &self,
        request: http::Request<Full<Bytes>>,
        meter: &mut RequestMeter,
    ) -> Result<http::Response<Incoming>, SendFailure> {
        let mut lost = pin!(ConnectionWatch::new(&request, meter.connection().clone()).lost());
        let mut sent = pin!(self.http.request(request));
        let response = std::future::poll_fn(|context| {
            let polled = sent.as_mut().poll(context);
            meter.grant();
            polled
        });
        let response = tokio::select! {
            biased;
            response = response => response,
            () = lost.as_mut() => return Err(SendFailure::NotProcessed("no connection was left for the request")),
        };
        response.map_err(|error| match meter.excess() {
            Some(excess) => NotAnswered::of(NoAnswer::Broken, excess.to_string()).into(),
            None => failure::classify(&error),
        })
    }

    /// Returns whether a URL has the port of this host, so that its name might lead back to it.
    fn may_lead_back(&self, url: &Url) -> bool {
        let port = self.policy.listen.map(|listen| listen.port());
        port.is_some() && port == url.port_or_known_default()
    }

    /// Resolves and vets the name of a URL before the request: a proxy must not reach refused addresses, and a name must not lead
    /// back to this host. A literal address was vetted by [`check_target`].
    async fn vet_target(&self, url: &Url) -> Result<(), NotAnswered> {
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        match vetted(name, &self.policy, &self.resolver).await {
            Ok(addresses) if name_leads_back(url, &addresses, &self.policy) => Err((&AddressError::ThisHost).into()),
            Ok(_) => Ok(()),
            Err(VettingError::Refused(error)) => Err((&error).into()),
            Err(VettingError::Lookup(error)) => Err((&error).into()),
        }
    }
}

fn late(request: &Request) -> NotAnswered {
    NotAnswered::of(NoAnswer::Timeout, format!("no answer within {} ms", request.timeout.as_millis()))
}

/// Reads the beginning of the body. The status counts as an answer, so a body that is slow, incomplete or endless is cut at the size
/// limit or the deadline.
async fn read(response: http::Response<Incoming>, deadline: tokio::time::Instant, bytes_max: usize) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let begun = clock::instant();
    let mut body = BytesMut::new();
    // `timeout_at` does not look at the clock when a frame is ready.
    while body.len() < bytes_max && tokio::time::Instant::now() < deadline {
        match timeout_at(deadline, incoming.frame()).await {
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                body.extend_from_slice(&data[..data.len().min(bytes_max - body.len())]);
            }
            _ => break,
        }
    }
    timing::read(begun);
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.freeze(), notes: Vec::new() }
}

impl Answer {
    /// Value of `Retry-After`.
    pub fn retry_after(&self) -> Option<&str> {
        self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok())
    }
}
