//! One attempt: judge, sign, POST, and say what came of it.
//!
//! Reads the event and the subscription as they are now; writes nothing. The same event, plugin, config and secrets
//! give the same body at every attempt; only the timestamp and the signature are new.

use super::client::{Answer, Client, ClientError, Clients, NotAnswered, RESPONSE_BYTES_MAX, Request};
use super::notify_urls::NotifyUrls;
use super::traces::traceparent;
use crate::address::Egress;
use crate::delivery::{Attempt, NoAnswer, Outcome, Reason};
use crate::event::Event;
use crate::headers::{HeaderAuthor, check_header, fill_secrets};
use crate::plugin::{Judged, Judgement, Outgoing, PluginFault, Plugins};
use crate::retry::retry_after_ms;
use crate::signature::signature_header;
use crate::store::{Due, Store, now_ms};
use crate::subscription::{OnPluginFault, Subscription};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;
use url::{Position, Url};

/// What an attempt needs.
pub(super) struct Attempter {
    pub(super) plugins: Arc<Plugins>,
    pub(super) clients: Arc<Clients>,
    pub(super) store: Arc<Store>,
    pub(super) notify_urls: NotifyUrls,
}

/// What Standard Webhooks calls the usual size of a payload: some receivers refuse more.
const BODY_BYTES_USUAL: usize = 20_000;

/// The headers of every webhook, read once: `http` knows the others.
static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
static EVENT_ID: HeaderName = HeaderName::from_static("hookloom-event-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// For how many headers there is room at first: the host's own and as many of others.
const HEADERS_USUAL: usize = 16;

/// What to send, before it is signed.
pub(super) struct PreparedRequest {
    url: Url,
    /// Whether the Notify URL is another one, and whether another host's: a plugin chose this one.
    elsewhere: bool,
    other_origin: bool,
    content_type: HeaderValue,
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// An attempt before its request, if there is one.
pub(super) struct Prepared {
    pub(super) attempt: Attempt,
    /// The request; or why it cannot be made; or the end of the attempt without one.
    pub(super) request: Result<Result<PreparedRequest, String>, Outcome>,
}

impl Prepared {
    /// Whether there is something to send.
    pub(super) fn is_request(&self) -> bool {
        matches!(self.request, Ok(Ok(_)))
    }
}

impl Attempter {
    /// Lets the plugins judge, and makes the request of it.
    pub(super) async fn prepare(&self, due: &Due, subscription: &Arc<Subscription>) -> Prepared {
        let mut attempt = blank(due, subscription);
        let own = || self.notify_urls.of(subscription);
        let request = if subscription.settings.plugin.0.is_empty() {
            Ok(own().map(|url| as_it_came(&due.event, url)))
        } else {
            let judged = self.plugins.judge(due.event.clone(), subscription.clone()).await;
            let judgement = note(&mut attempt, judged);
            decide(judgement, &due.event, subscription, own, &mut attempt)
        };
        Prepared { attempt, request }
    }

    /// Sends what was prepared, if anything.
    pub(super) async fn complete(
        &self,
        mut attempt: Attempt,
        request: Result<Result<PreparedRequest, String>, Outcome>,
        due: &Due,
        subscription: &Subscription,
    ) -> (Attempt, Outcome) {
        let outcome = match request {
            Err(outcome) => outcome,
            Ok(Err(unreadable)) => Outcome::NoAnswer { kind: NoAnswer::AddressRefused, detail: unreadable },
            Ok(Ok(request)) => self.send(request, due, subscription, &mut attempt).await,
        };
        conclude(&mut attempt, &outcome);
        (attempt, outcome)
    }

    async fn send(
        &self,
        parcel: PreparedRequest,
        due: &Due,
        subscription: &Subscription,
        attempt: &mut Attempt,
    ) -> Outcome {
        let elsewhere = parcel.elsewhere;
        attempt.body_sha256 = Some(hex::encode(Sha256::digest(&parcel.body)));
        if parcel.body.len() > BODY_BYTES_USUAL {
            let bytes = parcel.body.len();
            attempt.log.push(format!("host: the body has {bytes} bytes; Standard Webhooks advises less than 20 kB"));
        }
        let request = Request {
            method: Method::POST,
            headers: headers(&parcel, due, subscription),
            url: parcel.url,
            body: parcel.body,
            timeout: Duration::from_millis(subscription.settings.timeout_ms),
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        attempt.request = Some(request_lines(&request));
        let client = match self.client(subscription) {
            Ok(client) => client,
            Err(ClientError::Transport(detail)) => return Outcome::NoAnswer { kind: NoAnswer::Connect, detail },
            Err(error) => return Outcome::HostFault(Reason::new("no-client", crate::describe(&error))),
        };
        let (answer, timings) = client.send(request).await;
        attempt.post_us = Some(timings.total_us);
        attempt.timings = Some(timings);
        match answer {
            Ok(answer) => answered(&answer, elsewhere, attempt),
            Err(NotAnswered::Receiver { kind, detail }) => Outcome::NoAnswer { kind, detail },
            Err(NotAnswered::Host { detail }) => Outcome::HostFault(Reason::new("host-network", detail)),
        }
    }

    fn client(&self, subscription: &Subscription) -> Result<Arc<Client>, ClientError> {
        match self.store.catalog().tenant(&subscription.tenant) {
            Some(tenant) => self.clients.of(subscription, &tenant.egress),
            None => self.clients.of(subscription, &Egress::default()),
        }
    }
}

fn blank(due: &Due, subscription: &Subscription) -> Attempt {
    Attempt {
        number: due.delivery.attempts_made + 1,
        started_at_ms: now_ms(),
        plugin_us: None,
        post_us: None,
        timings: None,
        plugin_sha256: None,
        config_generation: subscription.generation,
        verdict: None,
        body_sha256: None,
        status: None,
        outcome: String::new(),
        reason: None,
        request: None,
        response_headers: None,
        response: None,
        steps: Vec::new(),
        echoed: false,
        log: Vec::new(),
    }
}

fn note(attempt: &mut Attempt, judged: Judged) -> Judgement {
    attempt.plugin_us = Some(judged.cost().wall_us);
    attempt.plugin_sha256 = judged.sha256();
    attempt.verdict = Some(judged.judgement.word().to_owned());
    attempt.steps = judged.steps;
    attempt.log = judged.log;
    judged.judgement
}

/// The payload to the Notify URL, byte for byte.
fn as_it_came(event: &Event, url: Url) -> PreparedRequest {
    PreparedRequest {
        url,
        elsewhere: false,
        other_origin: false,
        content_type: HeaderValue::from_static("application/json"),
        body: event.payload.clone(),
        headers: Vec::new(),
    }
}

/// From the judgement to what is sent, or to the end of the attempt. `own`: the Notify URL.
fn decide(
    judgement: Judgement,
    event: &Event,
    subscription: &Subscription,
    own: impl FnOnce() -> Result<Url, String>,
    attempt: &mut Attempt,
) -> Result<Result<PreparedRequest, String>, Outcome> {
    match judgement {
        Judgement::Pass => Ok(own().map(|url| as_it_came(event, url))),
        Judgement::Replace(outgoing) => Ok(own().map(|url| replaced(outgoing, url))),
        Judgement::Drop(reason) => Err(Outcome::Dropped(reason)),
        Judgement::Later { delay_ms, reason } => Err(Outcome::Later { delay_ms, reason }),
        Judgement::InvalidEvent(reason) => Err(Outcome::InvalidEvent(reason)),
        Judgement::Transient(reason) => Err(Outcome::Transient(reason)),
        Judgement::BadConfig(reason) => Err(Outcome::BadConfig(reason)),
        Judgement::Fault(fault) => {
            let reason = fault_reason(&fault);
            if fault.is_ours() {
                return Err(Outcome::HostFault(reason));
            }
            if subscription.settings.on_plugin_fault == OnPluginFault::Pass {
                attempt.log.push(format!("host: sent as it came, because on_plugin_fault is pass ({reason})"));
                return Ok(own().map(|url| as_it_came(event, url)));
            }
            Err(Outcome::PluginFault { recurs: fault.recurs(), reason })
        }
    }
}

fn fault_reason(fault: &PluginFault) -> Reason {
    Reason::new(fault.code(), fault.to_string())
}

fn replaced(outgoing: Outgoing, own: Url) -> PreparedRequest {
    let Outgoing { body, content_type, headers, url, is_text: _ } = outgoing;
    let (elsewhere, other_origin) = match &url {
        Some(url) => (*url != own, url.origin() != own.origin()),
        None => (false, false),
    };
    PreparedRequest { url: url.unwrap_or(own), elsewhere, other_origin, content_type, body, headers }
}

/// Header values of the host that owners and plugins may replace.
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("hookloom/", env!("CARGO_PKG_VERSION")));

/// The headers of a request. The owner's come first; the plugin's replace those of the same name, and a name that the plugin
/// repeats is sent repeatedly. `Accept`, `User-Agent` and `traceparent` are the host's only if neither of them set one; all
/// others of the host cannot be set by anybody else ([`check_header`]).
fn headers(parcel: &PreparedRequest, due: &Due, subscription: &Subscription) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
    // The owner's headers may hold credentials, which only the Notify URL's origin may see.
    if !parcel.other_origin {
        let own = subscription.settings.headers.iter();
        // Checked when they were written; a secret that was deleted since leaves its header out.
        let filled = |(name, value): (&String, &String)| {
            check_header(name, &fill_secrets(value, &subscription.secrets)?, HeaderAuthor::Owner)
        };
        for (name, value) in own.filter_map(|header| filled(header).ok()) {
            headers.insert(name, not_shown(value));
        }
    }
    for (name, _) in &parcel.headers {
        headers.remove(name);
    }
    for (name, value) in &parcel.headers {
        headers.append(name, not_shown(value.clone()));
    }
    let text = |value: String| HeaderValue::try_from(value).expect("ids, numbers and base64 are visible ASCII");
    let (id, now_ms) = (due.delivery.id.to_string(), now_ms());
    let signature = signature_header(&subscription.signing, &id, now_ms, &parcel.body);
    headers.insert(header::CONTENT_TYPE, parcel.content_type.clone());
    headers.entry(header::ACCEPT).or_insert(ACCEPT);
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    headers.insert(&WEBHOOK_ID, text(id));
    headers.insert(&WEBHOOK_TIMESTAMP, text((now_ms / 1_000).to_string()));
    headers.insert(&WEBHOOK_SIGNATURE, text(signature));
    headers.insert(&EVENT_ID, text(due.event.id.to_string()));
    if subscription.settings.traceparent {
        let attempt = due.delivery.attempts_made + 1;
        let own = || text(traceparent(due.event.id, due.delivery.id, attempt));
        headers.entry(&TRACEPARENT).or_insert_with(own);
    }
    headers
}

/// Marks a value that is not the host's: it may hold a secret, so no page shows it.
fn not_shown(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn answered(answer: &Answer, elsewhere: bool, attempt: &mut Attempt) -> Outcome {
    attempt.status = Some(answer.status);
    attempt.response_headers = Some(response_lines(&answer.headers));
    attempt.echoed = is_echo(&answer.body);
    attempt.log.extend(answer.notes.iter().map(|note| format!("host: {note}")));
    attempt.response = (!answer.body.is_empty()).then(|| as_text(&answer.body));
    let retry_after_ms = answer.retry_after().and_then(|value| retry_after_ms(value, now_ms()));
    Outcome::Answered { status: answer.status, retry_after_ms, elsewhere }
}

/// Whose values people may see: those that the host itself writes, and the type.
const SHOWN: [&str; 8] = [
    "accept",
    "content-type",
    "hookloom-event-id",
    "traceparent",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

fn request_lines(request: &Request) -> Vec<String> {
    let mut lines = vec![format!("{} {}", request.method, &request.url[..Position::AfterPath])];
    lines.extend(request.headers.iter().map(|(name, value)| {
        if SHOWN.contains(&name.as_str()) && !value.is_sensitive() {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        } else {
            format!("{name}: …")
        }
    }));
    lines
}

/// How much of an answer's headers is kept.
const HEADER_LINES_MAX: usize = 32;
const HEADER_VALUE_MAX: usize = 200;

fn response_lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = if *name == header::SET_COOKIE { "…".into() } else { String::from_utf8_lossy(value.as_bytes()) };
        format!("{name}: {}", value.chars().take(HEADER_VALUE_MAX).collect::<String>())
    };
    headers.iter().take(HEADER_LINES_MAX).map(line).collect()
}

/// A body as text; of one that is none, how long it is: whoever answers must not choose how much is kept.
fn as_text(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        // The cap may have cut the last character.
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned(),
        Err(_) => format!("({} bytes that are not text)", body.len()),
    }
}

/// Whether an answer is what step 4 of the vendor's guide describes: JSON with the two keys.
fn is_echo(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only their presence matters")]
    struct Echo<'a> {
        #[serde(borrow, rename = "eventName")]
        event_name: &'a RawValue,
        #[serde(borrow, rename = "eventData")]
        event_data: &'a RawValue,
    }
    serde_json::from_slice::<Echo<'_>>(body).is_ok()
}

fn conclude(attempt: &mut Attempt, outcome: &Outcome) {
    let (word, reason) = match outcome {
        Outcome::Answered { status: 200..=299, .. } => ("delivered", None),
        Outcome::Answered { status, .. } => {
            ("failed", Some(Reason::new("status", format!("the receiver answered {status}"))))
        }
        Outcome::NoAnswer { kind, detail } => ("failed", Some(Reason::new(kind.as_str(), detail.clone()))),
        Outcome::Dropped(reason) => ("dropped", Some(reason.clone())),
        Outcome::Later { reason, .. } => ("later", Some(reason.clone())),
        Outcome::InvalidEvent(reason) | Outcome::Transient(reason) | Outcome::BadConfig(reason) => {
            ("plugin-failure", Some(reason.clone()))
        }
        Outcome::PluginFault { reason, .. } => ("plugin-fault", Some(reason.clone())),
        Outcome::HostFault(reason) => ("host-fault", Some(reason.clone())),
    };
    attempt.outcome = word.to_owned();
    attempt.reason = reason;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_as_text_or_by_its_size() {
        assert_eq!(as_text("für".as_bytes()), "für");
        assert_eq!(as_text(&"für".as_bytes()[..2]), "f");
        assert_eq!(as_text(b"\x1f\x8b\x08"), "(3 bytes that are not text)");
    }

    #[test]
    fn an_echo_has_both_keys() {
        assert!(is_echo(br#"{"eventName":"x","eventData":{}}"#));
        assert!(is_echo(br#"{"eventData":null,"eventName":"x","more":1}"#));
        assert!(!is_echo(br#"{"eventName":"x"}"#));
        assert!(!is_echo(b"ok"));
        assert!(!is_echo(b""));
    }
}
