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
//! It follows no redirects, reads no environment, decompresses nothing, and repeats no request. Each address policy, and each
//! transport of a subscription's own, has a client of its own, because a pooled connection does not ask who uses it.
//!
//! Behind a forward proxy it is the proxy that dials. Its own address is vetted like any other; the target's name is
//! looked up and vetted here too, but what the proxy finds under that name a moment later is the proxy's affair: its
//! operator must guard it as this host is guarded.
//!
//! What a receiver can make this host read is bounded for each request ([`meter`]), whatever it sends, so that a connection
//! that is never idle ends too, and soon.

mod connect;
mod meter;
mod resolver;
mod timing;
mod vetting;

pub use connect::TlsError;
pub use resolver::ResolverError;

use crate::address::{
    AddressError, AddressPolicy, Egress, check_address, check_parsed_url, is_own_bin, name_leads_back,
};
use crate::delivery::{NoAnswer, Timings};
use crate::ids::SubscriptionId;
use crate::subscription::Subscription;
use crate::transport::{self, ReadyTransport};
use bytes::{Bytes, BytesMut};
use connect::Connector;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::client::legacy::{Client as HyperClient, Error as SendError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lru::LruCache;
use meter::{HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, Watch};
use resolver::{LookupError, Resolver};
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use timing::Timed;
use tokio::time::timeout_at;
use url::{Host, Url};
use vetting::{Unfit, Vetting, vetted};

/// How much of a receiver's answer is read and kept.
pub const RESPONSE_BYTES_MAX: usize = 16 << 10;

/// Idle connections are closed before receivers do it: Node's default is 5 s.
const IDLE_MAX: Duration = Duration::from_secs(4);

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
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The first bytes of the body.
    pub body: Bytes,
}

/// Why there was no answer.
#[derive(Debug)]
pub struct NotAnswered {
    /// Which kind.
    pub kind: NoAnswer,
    /// In words, without the URL's query.
    pub detail: String,
}

/// A client for one address policy and one transport.
pub struct Client {
    http: HyperClient<Timed<Connector>, Full<Bytes>>,
    policy: Arc<AddressPolicy>,
    resolver: Resolver,
    /// Whether somebody else dials for us.
    behind_proxy: bool,
    /// What the proxy gets with a request that it forwards.
    proxy_authorization: Option<HeaderValue>,
}

/// Every client: the host's own, one for each way in which tenants are narrowed, one for each transport.
pub struct Clients {
    /// The host's own: what most subscriptions use.
    own: Arc<Client>,
    others: Mutex<LruCache<ClientKey, Arc<Client>>>,
}

/// What makes a client another one. A transport is known by who wrote it, and when: it holds secrets.
#[derive(PartialEq, Eq, Hash)]
struct ClientKey {
    policy: AddressPolicy,
    transport: Option<(SubscriptionId, u64)>,
}

/// How many are kept. What is over is made again, with connections of its own.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("more than 0");

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

impl Clients {
    /// Clients under the host's policy.
    pub fn new(policy: AddressPolicy, name_servers: &[SocketAddr]) -> Result<Self, ClientError> {
        let own = Client::with(policy, Resolver::new(name_servers)?, &ReadyTransport::default())?;
        Ok(Clients { own: Arc::new(own), others: Mutex::new(LruCache::new(CLIENTS_MAX)) })
    }

    /// How this host reaches itself, for its own bins.
    pub fn own_address(&self) -> String {
        match self.own.policy.own {
            Some(own) if own.ip().is_unspecified() => format!("127.0.0.1:{}", own.port()),
            Some(own) => own.to_string(),
            None => "127.0.0.1".to_owned(),
        }
    }

    /// The client of the open road for a tenant that is narrowed so.
    pub fn narrowed(&self, by: &Egress) -> Result<Arc<Client>, ClientError> {
        self.find(
            ClientKey { policy: self.own.policy.narrowed(by), transport: None },
            |_| Ok(ReadyTransport::default()),
        )
    }

    /// The client of a subscription, whose tenant is narrowed so.
    pub fn of(&self, subscription: &Subscription, narrowed: &Egress) -> Result<Arc<Client>, ClientError> {
        let transport = &subscription.settings.transport;
        let open_road = transport.is_default();
        if open_road && *narrowed == Egress::default() {
            return Ok(self.own.clone());
        }
        let policy = self.own.policy.narrowed(narrowed);
        let own = (!open_road).then_some((subscription.id, subscription.generation));
        let ready = |policy: &AddressPolicy| {
            transport::ready(transport, &subscription.secrets, policy).map_err(|faults| {
                let faults: Vec<String> = faults.iter().map(|(field, detail)| format!("{field}: {detail}")).collect();
                ClientError::Transport(faults.join("; "))
            })
        };
        self.find(ClientKey { policy, transport: own }, ready)
    }

    fn find(
        &self,
        key: ClientKey,
        ready: impl FnOnce(&AddressPolicy) -> Result<ReadyTransport, ClientError>,
    ) -> Result<Arc<Client>, ClientError> {
        if let Some(client) = self.others.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(client.clone());
        }
        let client = Arc::new(Client::with(key.policy.clone(), self.own.resolver.clone(), &ready(&key.policy)?)?);
        self.others.lock().unwrap_or_else(PoisonError::into_inner).put(key, client.clone());
        Ok(client)
    }
}

impl Client {
    /// A client of the open road.
    pub fn new(policy: AddressPolicy) -> Result<Self, ClientError> {
        Client::with(policy, Resolver::new(&[])?, &ReadyTransport::default())
    }

    fn with(policy: AddressPolicy, resolver: Resolver, transport: &ReadyTransport) -> Result<Self, ClientError> {
        let policy = Arc::new(policy);
        let vetting = Vetting { policy: policy.clone(), resolver: resolver.clone() };
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX as usize)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .build(Timed::new(connect::connector(vetting, transport)?));
        let (behind_proxy, proxy_authorization) = match &transport.proxy {
            None => (false, None),
            Some((_, authorization)) => (true, authorization.clone()),
        };
        Ok(Client { http, policy, resolver, behind_proxy, proxy_authorization })
    }

    /// Sends one request and reads the answer. Neither follows nor repeats anything.
    pub async fn send(&self, request: Request) -> (Result<Answer, NotAnswered>, Timings) {
        timing::timed(self.exchange(request)).await
    }

    async fn exchange(&self, request: Request) -> Result<Answer, NotAnswered> {
        check_parsed_url(&request.url, &self.policy).map_err(|error| refused(&error))?;
        let timeout = request.timeout;
        let own = is_own_bin(&request.url, &self.policy);
        let (begun, deadline) = (Instant::now(), tokio::time::Instant::now() + timeout);
        let late =
            |_| NotAnswered { kind: NoAnswer::Timeout, detail: format!("no answer within {} ms", timeout.as_millis()) };
        if self.behind_proxy || self.may_lead_back(&request.url) {
            timeout_at(deadline, self.vet_target(&request.url)).await.map_err(late)??;
        }
        let bytes_max = request.response_bytes_max;
        let mut request = self.message(request)?;
        let mut watch = Watch::new(&mut request, bytes_max);
        let response = timeout_at(deadline, self.response(request, &mut watch)).await.map_err(late)??;
        timing::answered(begun);
        if let Some(peer) = response.extensions().get::<HttpInfo>().filter(|_| !own) {
            check_address(peer.remote_addr().ip(), &self.policy).map_err(|error| refused(&error))?;
        }
        let answer = read(response, deadline, bytes_max).await;
        drop(watch);
        Ok(answer)
    }

    /// The request in HTTP's own form.
    fn message(&self, request: Request) -> Result<http::Request<Full<Bytes>>, NotAnswered> {
        let uri = request.url.as_str().parse().map_err(|_| refused(&AddressError::NotHttp))?;
        let mut message = http::Request::new(Full::new(request.body));
        *message.method_mut() = request.method;
        *message.uri_mut() = uri;
        *message.headers_mut() = request.headers;
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
    ) -> Result<http::Response<Incoming>, NotAnswered> {
        let mut sent = pin!(self.http.request(request));
        let response = std::future::poll_fn(|context| {
            let polled = sent.as_mut().poll(context);
            watch.grant();
            polled
        });
        response.await.map_err(|error| match watch.excess() {
            Some(excess) => NotAnswered { kind: NoAnswer::Broken, detail: excess.to_string() },
            None => explain(&error),
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
            Ok(addresses) if name_leads_back(url, &addresses, &self.policy) => Err(refused(&AddressError::Own)),
            Ok(_) => Ok(()),
            Err(Unfit::Refused(error)) => Err(refused(&error)),
            Err(Unfit::Unknown(error)) => Err(unknown(&error)),
        }
    }
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
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.freeze() }
}

impl Answer {
    /// `Retry-After`, as it was sent.
    pub fn retry_after(&self) -> Option<&str> {
        self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok())
    }
}

fn refused(error: &AddressError) -> NotAnswered {
    NotAnswered { kind: NoAnswer::AddressRefused, detail: error.to_string() }
}

fn unknown(error: &LookupError) -> NotAnswered {
    // Its cause names the name servers, which are the operator's affair.
    tracing::debug!(error = %crate::describe(error), "a name did not resolve");
    NotAnswered { kind: NoAnswer::Dns, detail: error.to_string() }
}

/// Sorts a client error by its causes. The URL is left out: people put keys into query strings.
fn explain(error: &SendError) -> NotAnswered {
    let causes: Vec<&(dyn StdError + 'static)> =
        std::iter::successors(error.source(), |cause| (*cause).source()).collect();
    if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<AddressError>()) {
        return refused(error);
    }
    if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<LookupError>()) {
        return unknown(error);
    }
    let kind = if error.is_connect() { NoAnswer::Connect } else { NoAnswer::Broken };
    let innermost = causes.last().map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    NotAnswered { kind, detail: format!("{what}: {innermost}") }
}
