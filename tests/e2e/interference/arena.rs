//! Tenants and clients around the host under attack: their creation and their actions.
//!
//! Each tenant and each group of clients connects from a separate address in 127.0.0.0/8, as from separate machines. Attackers do
//! not check their results: a defence may refuse everything.

use super::probe::{PATHS, Target};
use crate::harness::{ADMIN_KEY, Host, Reply, SECRET, exchange, guest, text};
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// Attack under way, which never ends by itself.
pub(super) type Attack = BoxFuture<'static, ()>;

/// Repeats an action. `act` gets the number of earlier repetitions.
pub(super) fn again<F: Future<Output = ()> + Send + 'static>(
    mut act: impl FnMut(usize) -> F + Send + 'static,
) -> Attack {
    Box::pin(async move {
        for round in 0.. {
            act(round).await;
            tokio::task::yield_now().await;
        }
    })
}

/// Runs this number of attacks concurrently.
pub(super) fn concurrent(count: usize, attack: impl Fn(usize) -> Attack) -> Vec<Attack> {
    (0..count).map(attack).collect()
}

/// Size of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// For the table: an optimised build, ten seconds.
    Full,
    /// For `cargo xtask test`: a debug build on a busy machine, some seconds.
    Short,
}

/// Id of the honest tenant, B.
pub(super) const HONEST: &str = "honest";

/// Host under attack, from outside.
#[derive(Clone)]
pub(super) struct Arena {
    pub(super) url: String,
    pub(super) address: SocketAddr,
    scale: Scale,
    notes: Arc<Mutex<Vec<String>>>,
    peers: Arc<AtomicU8>,
}

impl Arena {
    pub(super) fn new(host: &Host, scale: Scale) -> Self {
        let address = host.url.strip_prefix("http://").unwrap().parse().unwrap();
        Arena { url: host.url.clone(), address, scale, notes: Arc::default(), peers: Arc::default() }
    }

    /// Returns a number by the scale of the scenario.
    pub(super) fn pick(&self, full: usize, short: usize) -> usize {
        if self.scale == Scale::Full { full } else { short }
    }

    /// Adds a figure of this scenario only.
    pub(super) fn note(&self, text: String) {
        self.notes.lock().unwrap().push(text);
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }

    /// Returns the operator, with the admin key.
    pub(super) fn operator(&self) -> Tenant {
        self.client("", ADMIN_KEY.to_owned())
    }

    fn client(&self, id: &str, key: String) -> Tenant {
        let peer = IpAddr::V4(Ipv4Addr::new(127, 1, 0, 1 + self.peers.fetch_add(1, Ordering::SeqCst)));
        let http =
            reqwest::Client::builder().no_proxy().local_address(peer).redirect(reqwest::redirect::Policy::none());
        Tenant { id: id.to_owned(), url: self.url.clone(), key, http: http.build().unwrap() }
    }

    /// Creates a tenant with a key that has all scopes.
    pub(super) async fn tenant(&self, id: &str) -> Tenant {
        let operator = self.operator();
        operator.ask(Method::POST, "/v1/tenants", json!({"id": id}).to_string()).await;
        let wanted = json!({"scopes": ["send", "read", "manage"], "label": id}).to_string();
        let made = operator.ask(Method::POST, &format!("/v1/tenants/{id}/keys"), wanted).await;
        self.client(id, text(&made, "key").to_owned())
    }

    /// Creates the honest tenant with its two subscriptions.
    pub(super) async fn honest(&self, receiver_url: &str, pace: Duration) -> Target {
        let tenant = self.tenant(HONEST).await;
        tenant.plugin("passes", guest("passes")).await;
        for (path, plugin) in PATHS.into_iter().zip([json!([]), json!("passes")]) {
            tenant.subscription(&format!("{receiver_url}/{path}"), json!({"plugin": plugin})).await;
        }
        Target { url: self.url.clone(), tenant: tenant.id, key: tenant.key, pace }
    }

    /// Connects from an address. The receive buffer is small, so that a client that does not read blocks the sender soon.
    pub(super) async fn connect_from(&self, peer: [u8; 4]) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        socket.bind((IpAddr::from(peer), 0).into())?;
        socket.connect(self.address).await
    }
}

/// Tenant that attacks, or that prepares an attack.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) key: String,
    url: String,
    http: reqwest::Client,
}

/// Time after which an attacker gives up a request and repeats it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause after a failed or refused request, so that attackers do not spend their time on refusals.
const PAUSE: Duration = Duration::from_millis(20);

impl Tenant {
    /// Sends a request. A path that begins with `./` is under the tenant. None: no answer.
    pub(super) async fn try_ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Option<Reply> {
        let request = self.request(method, path).body(body).timeout(PATIENCE);
        let reply = exchange(request).await.ok();
        if reply.as_ref().is_none_or(|reply| reply.status >= 400) {
            tokio::time::sleep(PAUSE).await;
        }
        reply
    }

    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let path = path.strip_prefix('.').map_or_else(|| path.to_owned(), |rest| self.path(rest));
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// Returns a path under the tenant.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v1/tenants/{}{rest}", self.id)
    }

    /// Sends a request of the preparation, which must succeed.
    pub(super) async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Value {
        exchange(self.request(method, path).body(body)).await.unwrap().ok()
    }

    /// Uploads a plugin and returns its sha256.
    pub(super) async fn plugin(&self, name: &str, component: Vec<u8>) -> String {
        text(&self.ask(Method::PUT, &format!("./plugins/{name}"), component).await, "sha256").to_owned()
    }

    /// Creates a subscription to everything and returns its id.
    pub(super) async fn subscription(&self, notify_url: &str, also: Value) -> String {
        text(&self.ask(Method::POST, "./subscriptions", subscription(notify_url, &also)).await, "id").to_owned()
    }

    /// Sends events, one a line. Returns the status, or 0 without an answer.
    pub(super) async fn send(&self, events: impl Into<reqwest::Body>) -> u16 {
        self.try_ask(Method::POST, "./events", events).await.map_or(0, |reply| reply.status)
    }

    /// Signs in to the pages and returns the cookie.
    pub(super) async fn sign_in(&self) -> String {
        let request = self.http.post(format!("{}/sign-in", self.url)).body(format!("key={}", self.key));
        let reply = exchange(request.header("content-type", "application/x-www-form-urlencoded")).await.unwrap();
        assert_eq!(reply.status, 303, "{}", reply.text);
        reply.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
    }
}

/// Returns the body of a request that creates a subscription.
pub(super) fn subscription(notify_url: &str, also: &Value) -> String {
    let mut body = json!({"notify_url": notify_url, "modules": ["Contact", "Deal"], "signing_secret": SECRET});
    body.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap_or_default());
    body.to_string()
}

/// Returns this number of events, one a line, whose numbers begin with `from`.
pub(super) fn batch(from: usize, count: usize) -> String {
    let events: Vec<String> =
        (from..from + count).map(|number| crate::harness::event("Contact is Created", number)).collect();
    events.join("\n")
}

/// Returns an event of about this size, most of it in a note.
pub(super) fn large_event(number: usize, bytes: usize) -> String {
    let note = "x".repeat(bytes);
    format!(r#"{{"eventName":"Contact is Created","eventData":{{"id":{number},"properties":[],"note":"{note}"}}}}"#)
}
