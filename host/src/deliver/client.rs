//! The HTTP client: the only home of reqwest.
//!
//! # Motivation
//! Notify URLs come from tenants and plugins, answers from strangers. So a request goes to a vetted address only, once,
//! nowhere else than asked, and what comes back is read up to a cap and under a deadline.
//!
//! # Theory of operation
//! The URL is checked by the address guard before each request. A name is resolved by [`Vetting`], which refuses the
//! whole name if one of its addresses is refused; the connection is made to those very addresses, so an answer that
//! changes between check and dial (DNS rebinding) changes nothing. Afterwards the peer's address is checked once more.
//! Redirects, proxies of the environment, decompression, referers and retries are off. Each address policy has a client
//! of its own, because a pooled connection does not ask who uses it.

use crate::address::{AddressError, AddressPolicy, Egress, check_address, check_url};
use crate::delivery::NoAnswer;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use lru::LruCache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error as StdError;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Url;

/// How much of a receiver's answer is read and kept.
pub const RESPONSE_BYTES_MAX: usize = 16 << 10;

/// Idle connections are closed before receivers do it: Node's default is 5 s.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// A name that does not resolve in this time does not resolve.
const DNS_MAX: Duration = Duration::from_secs(5);

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
    /// `Retry-After`, as it was sent.
    pub retry_after: Option<String>,
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

/// A client for one address policy.
pub struct Client {
    http: reqwest::Client,
    policy: Arc<AddressPolicy>,
}

/// A client for each address policy: the host's own, and one for each way in which tenants are narrowed.
pub struct Clients {
    policy: AddressPolicy,
    clients: Mutex<LruCache<AddressPolicy, Arc<Client>>>,
}

/// How many are kept. What is over is made again, with connections of its own.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("more than 0");

impl Clients {
    /// Clients under the host's policy.
    pub fn new(policy: AddressPolicy) -> Result<Self, ClientError> {
        let clients = Clients { policy, clients: Mutex::new(LruCache::new(CLIENTS_MAX)) };
        clients.narrowed(&Egress::default())?;
        Ok(clients)
    }

    /// The client of a tenant.
    pub fn narrowed(&self, by: &Egress) -> Result<Arc<Client>, ClientError> {
        let policy = self.policy.narrowed(by);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&policy) {
            return Ok(client.clone());
        }
        let client = Arc::new(Client::new(policy.clone())?);
        clients.put(policy, client.clone());
        Ok(client)
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be made")]
pub struct ClientError(#[from] reqwest::Error);

impl Client {
    /// Makes a client.
    pub fn new(policy: AddressPolicy) -> Result<Self, ClientError> {
        // Only the first call of a process installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .dns_resolver(Arc::new(Vetting { policy: policy.clone(), lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }))
            .pool_idle_timeout(IDLE_MAX)
            .build()?;
        Ok(Client { http, policy })
    }

    /// The policy it keeps.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Sends one request and reads the answer. Neither follows nor repeats anything.
    pub async fn send(&self, request: Request) -> Result<Answer, NotAnswered> {
        check_url(request.url.as_str(), &self.policy).map_err(|error| refused(&error))?;
        let timeout = request.timeout;
        let deadline = tokio::time::Instant::now() + timeout;
        let sent = self.http.request(request.method, request.url).headers(request.headers).body(request.body).send();
        let response = match tokio::time::timeout_at(deadline, sent).await {
            Err(_) => return Err(timed_out(timeout)),
            Ok(Err(error)) => return Err(explain(&error)),
            Ok(Ok(response)) => response,
        };
        if let Some(peer) = response.remote_addr() {
            check_address(peer.ip(), &self.policy).map_err(|error| refused(&error))?;
        }
        Ok(read(response, deadline, request.response_bytes_max).await)
    }
}

/// Reads the beginning of the body. A receiver that has sent its status has answered: a body that drips, breaks off or
/// never ends is cut, at the cap or at the deadline.
async fn read(mut response: reqwest::Response, deadline: tokio::time::Instant, bytes_max: usize) -> Answer {
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = BytesMut::new();
    while body.len() < bytes_max {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(bytes_max);
    Answer { status, retry_after, body: body.freeze() }
}

fn refused(error: &AddressError) -> NotAnswered {
    NotAnswered { kind: NoAnswer::AddressRefused, detail: error.to_string() }
}

fn timed_out(timeout: Duration) -> NotAnswered {
    NotAnswered { kind: NoAnswer::Timeout, detail: format!("no answer within {} ms", timeout.as_millis()) }
}

/// Sorts a client error by its causes. The URL is left out: people put keys into query strings.
fn explain(error: &reqwest::Error) -> NotAnswered {
    let causes: Vec<&(dyn StdError + 'static)> =
        std::iter::successors(error.source(), |cause| (*cause).source()).collect();
    if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<AddressError>()) {
        return refused(error);
    }
    if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<DnsError>()) {
        return NotAnswered { kind: NoAnswer::Dns, detail: crate::describe(error) };
    }
    let kind = if error.is_connect() { NoAnswer::Connect } else { NoAnswer::Broken };
    let innermost = causes.last().map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    NotAnswered { kind, detail: format!("{what}: {innermost}") }
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
enum DnsError {
    #[error("the name does not resolve")]
    Lookup(#[source] std::io::Error),
    #[error("the name has no addresses")]
    Empty,
    #[error("the name did not resolve within {} s", DNS_MAX.as_secs())]
    Slow,
}

/// How many names may be looked up at once. The system's resolver blocks a thread each, and a silent name server would
/// otherwise take those of everybody.
const LOOKUPS_MAX: usize = 64;

/// The resolver: the system's, with every address vetted.
struct Vetting {
    policy: Arc<AddressPolicy>,
    lookups: Arc<Semaphore>,
}

impl Resolve for Vetting {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, lookups) = (self.policy.clone(), self.lookups.clone());
        Box::pin(async move { vetted(name.as_str(), &policy, lookups).await })
    }
}

async fn vetted(
    name: &str,
    policy: &AddressPolicy,
    lookups: Arc<Semaphore>,
) -> Result<Addrs, Box<dyn StdError + Send + Sync>> {
    let found = tokio::time::timeout(DNS_MAX, lookup(name.to_owned(), lookups)).await.map_err(|_| DnsError::Slow)?;
    let addresses = found.map_err(DnsError::Lookup)?;
    if addresses.is_empty() {
        return Err(DnsError::Empty.into());
    }
    for address in &addresses {
        check_address(address.ip(), policy).map_err(AddressError::of_a_name)?;
    }
    Ok(Box::new(addresses.into_iter()))
}

/// Looks a name up on a blocking thread. The permit stays with the thread, which outlives a caller that gave up.
async fn lookup(name: String, lookups: Arc<Semaphore>) -> std::io::Result<Vec<SocketAddr>> {
    let permit = lookups.acquire_owned().await.map_err(std::io::Error::other)?;
    let work = move || {
        let _permit = permit;
        // The port is the URL's; a resolver answers with 0 in its place.
        (name.as_str(), 0).to_socket_addrs().map(Iterator::collect)
    };
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
