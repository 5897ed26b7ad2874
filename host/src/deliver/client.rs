//! The HTTP client: the only home of hyper's client.
//!
//! # Motivation
//! Notify URLs come from tenants and plugins, answers from strangers. So a request goes to a vetted address only, once,
//! nowhere else than asked, and what comes back is read up to a cap and under a deadline.
//!
//! # Theory of operation
//! The URL is checked by the address guard before each request. A name is resolved by [`Vetting`], which refuses the
//! whole name if one of its addresses is refused; the connection is made to those very addresses, so an answer that
//! changes between check and dial (DNS rebinding) changes nothing. Afterwards the peer's address is checked once more.
//! It follows no redirects, reads no environment and decompresses nothing. Each address policy, and each transport of a
//! subscription's own, has a client of its own, because a pooled connection does not ask who uses it.
//!
//! A request is sent again within its deadline only if the receiver has not processed it ([`failure`]): such a request is no
//! attempt. What is this host's own fault is told apart ([`NotAnswered::Host`]) and logged once in a while ([`fault_log`]).
//!
//! Behind a forward proxy it is the proxy that dials. Its own address is vetted like any other; the target's name is
//! looked up and vetted here too, but what the proxy finds under that name a moment later is the proxy's affair: its
//! operator must guard it as this host is guarded.
//!
//! What a receiver can make this host read is bounded for each request ([`meter`]), whatever it sends, so that a connection
//! that is never idle ends too, and soon.

mod connect;
mod dial;
mod failure;
mod fault_log;
mod meter;
mod observed;
mod pool;
mod resolver;
mod salvage;
mod timing;
mod tls_failure;
mod vetting;

pub use connect::TlsError;
pub use failure::NotAnswered;
pub use pool::Clients;
pub use resolver::ResolverError;

use crate::address::{AddressError, AddressPolicy, check_address, check_parsed_url, is_own_bin, name_leads_back};
use crate::delivery::{NoAnswer, Timings};
use crate::transport::ReadyTransport;
use bytes::{Bytes, BytesMut};
use connect::Connector;
use failure::Failure;
use fault_log::FaultLog;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use meter::{HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, Watch};
use resolver::Resolver;
use salvage::Salvaged;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timing::Timed;
use tokio::time::timeout_at;
use url::{Host, Url};
use vetting::{Unfit, Vetting, vetted};

/// How much of a receiver's answer is read and kept.
pub const RESPONSE_BYTES_MAX: usize = 16 << 10;

/// Idle connections are closed before receivers do it: Node's default is 5 s.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Maximum number of headers that are read of an answer of HTTP/1; more make its head unreadable, but not its status.
const HEADERS_MAX: usize = 256;

/// Repeats of an unprocessed request that follow at once, and all that are made.
const REPEATS_AT_ONCE: u32 = 8;
const REPEATS_MAX: u32 = 40;

/// Pause before a request is repeated that the receiver has not processed. A receiver that closes its connection after a few
/// requests may refuse one of many that are under way several times in a row. None: it was repeated often enough.
fn repeat_pause(repeats: u32) -> Option<Duration> {
    match repeats {
        ..REPEATS_AT_ONCE => Some(Duration::ZERO),
        REPEATS_AT_ONCE..REPEATS_MAX => Some(Duration::from_millis(u64::from(repeats) * 5)),
        _ => None,
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// POST for every webhook; the command line asks a host in other ways too.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Every header but those that HTTP itself needs.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The deadline of the whole, with the answer's body.
    pub timeout: Duration,
    /// How much of the answer's body is read.
    pub response_bytes_max: usize,
}

/// What a receiver answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The first bytes of the body.
    pub body: Bytes,
    /// What was unusual about the exchange, a sentence each.
    pub notes: Vec<String>,
}

/// A client for one address policy and one transport.
pub struct Client {
    http: HyperClient<Timed<Connector>, Full<Bytes>>,
    policy: Arc<AddressPolicy>,
    resolver: Resolver,
    fault_log: Arc<FaultLog>,
    /// Whether somebody else dials for us.
    behind_proxy: bool,
    /// What the proxy gets with a request that it forwards.
    proxy_authorization: Option<HeaderValue>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be set up, for example because the system's certificates cannot be read.
    #[error("the HTTP client could not be made")]
    Tls(#[from] TlsError),
    /// No names can be looked up.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The subscription's transport does not fit (any more).
    #[error("the subscription's transport does not fit: {0}")]
    Transport(String),
}

impl Client {
    /// A client of the open road.
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

    /// Sends one request and reads the answer. Follows nothing, and repeats only what the receiver has not processed.
    pub async fn send(&self, request: Request) -> (Result<Answer, NotAnswered>, Timings) {
        let (answer, timings) = timing::timed(self.exchange(request)).await;
        if let Err(NotAnswered::Host { detail }) = &answer {
            self.fault_log.note(detail);
        }
        (answer, timings)
    }

    async fn exchange(&self, request: Request) -> Result<Answer, NotAnswered> {
        check_parsed_url(&request.url, &self.policy).map_err(|error| NotAnswered::from(&error))?;
        let (begun, deadline) = (Instant::now(), tokio::time::Instant::now() + request.timeout);
        let late = |_| late(&request);
        if self.behind_proxy || self.may_lead_back(&request.url) {
            timeout_at(deadline, self.vet_target(&request.url)).await.map_err(late)??;
        }
        let mut repeats = 0;
        loop {
            match self.try_once(&request, begun, deadline).await {
                Ok(mut answer) => {
                    if repeats > 0 {
                        answer.notes.push(format!("sent {repeats} times more, because the receiver had not taken it"));
                    }
                    return Ok(answer);
                }
                Err(Failure::NotAnswered(error)) => return Err(error),
                Err(Failure::Salvaged(Salvaged { status, headers })) => {
                    timing::answered(begun);
                    let notes =
                        vec!["the head of the answer is not valid HTTP; its status counts all the same".to_owned()];
                    return Ok(Answer { status, headers, notes, ..Answer::default() });
                }
                Err(Failure::NotProcessed(why)) => {
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
    ) -> Result<Answer, Failure> {
        let mut message = self.message(request)?;
        let mut watch = Watch::new(&mut message, request.response_bytes_max);
        let response = timeout_at(deadline, self.response(message, &mut watch)).await.map_err(|_| late(request))??;
        timing::answered(begun);
        let own = is_own_bin(&request.url, &self.policy);
        if let Some(peer) = response.extensions().get::<HttpInfo>().filter(|_| !own) {
            check_address(peer.remote_addr().ip(), &self.policy).map_err(|error| NotAnswered::from(&error))?;
        }
        let answer = read(response, deadline, request.response_bytes_max).await;
        drop(watch);
        Ok(answer)
    }

    /// The request in HTTP's own form.
    fn message(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, NotAnswered> {
        let uri = request.url.as_str().parse().map_err(|_| NotAnswered::from(&AddressError::NotHttp))?;
        let mut message = http::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = uri;
        *message.headers_mut() = request.headers.clone();
        if let Some(authorization) = self.proxy_authorization.clone().filter(|_| request.url.scheme() == "http") {
            message.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        Ok(message)
    }

    /// Sends a request, and lets its connection read no more than its answer may need.
    async fn response(
        &self,
        request: http::Request<Full<Bytes>>,
        watch: &mut Watch,
    ) -> Result<http::Response<Incoming>, Failure> {
        let mut sent = pin!(self.http.request(request));
        let response = std::future::poll_fn(|context| {
            let polled = sent.as_mut().poll(context);
            watch.grant();
            polled
        });
        response.await.map_err(|error| match watch.excess() {
            Some(excess) => NotAnswered::of(NoAnswer::Broken, excess.to_string()).into(),
            None => failure::classify(&error),
        })
    }

    /// Whether a name could be one of this host's own: it has the port.
    fn may_lead_back(&self, url: &Url) -> bool {
        let port = self.policy.own.map(|own| own.port());
        port.is_some() && port == url.port_or_known_default()
    }

    /// Looks a name up before it is asked for: what a proxy is asked to reach is vetted here too, and a name must not lead
    /// back to this host. A literal address was vetted by [`check_parsed_url`].
    async fn vet_target(&self, url: &Url) -> Result<(), NotAnswered> {
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        match vetted(name, &self.policy, &self.resolver).await {
            Ok(addresses) if name_leads_back(url, &addresses, &self.policy) => Err((&AddressError::Own).into()),
            Ok(_) => Ok(()),
            Err(Unfit::Refused(error)) => Err((&error).into()),
            Err(Unfit::Unknown(error)) => Err((&error).into()),
        }
    }
}

fn late(request: &Request) -> NotAnswered {
    NotAnswered::of(NoAnswer::Timeout, format!("no answer within {} ms", request.timeout.as_millis()))
}

/// Reads the beginning of the body. A receiver that has sent its status has answered: a body that drips, breaks off or
/// never ends is cut, at the cap or at the deadline.
async fn read(response: http::Response<Incoming>, deadline: tokio::time::Instant, bytes_max: usize) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let (begun, mut body) = (Instant::now(), BytesMut::new());
    // A frame that is there already does not ask the clock.
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
    /// `Retry-After`, as it was sent.
    pub fn retry_after(&self) -> Option<&str> {
        self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok())
    }
}
