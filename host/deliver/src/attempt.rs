//! One attempt: calls the plugins, signs the request, sends it, and describes the outcome.
//!
//! # Guarantees
//! - The same event, plugin versions, config and secrets give the same body at every attempt. Only the timestamp and the signature
//!   differ.
//! - The signature covers exactly the bytes that are sent.
//!
//! # Limits
//! Writes nothing to the store. What follows from an outcome is decided in [`outcome`](super::outcome).

use super::services::{Judge, Sender, Sent};
use super::traces::traceparent;
use super::transcript::{as_text, is_echo, request_lines, response_lines};
use bytes::Bytes;
use hookloom_egress::{Answer, NotAnswered, RESPONSE_BYTES_MAX, Request};
use hookloom_model::address::Egress;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Attempt, AttemptOutcome, Outcome, Reason};
use hookloom_model::event::Event;
use hookloom_model::retry::retry_after_ms;
use hookloom_model::signature::signature_header;
use hookloom_model::subscription::{OnPluginFault, Subscription};
use hookloom_model::target::Target;
use hookloom_plugin::{Judged, Judgement, Outgoing, PluginFault};
use hookloom_store::{Due, Store};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Services that attempts use.
pub(super) struct AttemptRunner {
    pub(super) judge: Arc<dyn Judge>,
    pub(super) sender: Arc<dyn Sender>,
    pub(super) store: Arc<Store>,
}

/// Size of a payload from which a note is logged, in bytes: Standard Webhooks recommends less, because some receivers refuse more.
const BODY_BYTES_USUAL: usize = 20_000;

/// Names of webhook headers that `http` has no constants for.
static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
static EVENT_ID: HeaderName = HeaderName::from_static("hookloom-event-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Initial capacity of the header map: the headers of this host, and as many of the subscription and its plugins.
const HEADERS_USUAL: usize = 16;

/// A request before it is signed.
pub(super) struct PreparedRequest {
    target: Target,
    /// Set when a plugin chose another URL than the Notify URL.
    elsewhere: bool,
    /// Set when that URL has another origin.
    other_origin: bool,
    content_type: HeaderValue,
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// An attempt whose plugins have judged, before its request is sent.
pub(super) struct Prepared {
    pub(super) attempt: Attempt,
    /// The request, or the outcome of an attempt that sends nothing.
    pub(super) request: Result<PreparedRequest, Outcome>,
}

impl Prepared {
    /// Returns whether a request is to be sent.
    pub(super) fn is_request(&self) -> bool {
        self.request.is_ok()
    }
}

impl AttemptRunner {
    /// Calls the plugins, and builds the request that they decided on.
    pub(super) async fn prepare(&self, due: &Due, subscription: &Arc<Subscription>) -> Prepared {
        let mut attempt = new_attempt(due, subscription);
        let request = if subscription.settings.plugin.0.is_empty() {
            Ok(unchanged_request(&due.event, subscription))
        } else {
            let judged =
                self.judge.clone().judge(due.event.clone(), due.delivery().settled, subscription.clone()).await;
            let judgement = note_judgement(&mut attempt, judged);
            decide(judgement, &due.event, subscription, &mut attempt)
        };
        Prepared { attempt, request }
    }

    /// Sends the prepared request, if there is one, and completes the attempt's record.
    pub(super) async fn complete(
        &self,
        mut attempt: Attempt,
        request: Result<PreparedRequest, Outcome>,
        due: &Due,
        subscription: &Subscription,
    ) -> (Attempt, Outcome) {
        let outcome = match request {
            Err(outcome) => outcome,
            Ok(request) => self.send(request, due, subscription, &mut attempt).await,
        };
        attempt.outcome = outcome.recorded();
        attempt.reason = outcome.reason();
        (attempt, outcome)
    }

    async fn send(
        &self,
        prepared: PreparedRequest,
        due: &Due,
        subscription: &Subscription,
        attempt: &mut Attempt,
    ) -> Outcome {
        let elsewhere = prepared.elsewhere;
        attempt.body_sha256 = Some(hex::encode(Sha256::digest(&prepared.body)));
        if prepared.body.len() > BODY_BYTES_USUAL {
            let bytes = prepared.body.len();
            attempt.log.push(format!("host: the body has {bytes} bytes; Standard Webhooks advises less than 20 kB"));
        }
        let request = Request {
            method: Method::POST,
            headers: headers(&prepared, due, subscription),
            target: prepared.target,
            body: prepared.body,
            timeout: Duration::from_millis(subscription.settings.timeout_ms),
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        attempt.request = Some(request_lines(&request));
        let tenant = self.store.catalog().tenant(&subscription.tenant);
        let everywhere = Egress::default();
        let narrowed = tenant.as_ref().map_or(&everywhere, |tenant| &tenant.egress);
        let Sent { answer, timings } = self.sender.send(subscription, narrowed, request).await;
        attempt.post_us = timings.map(|timings| timings.total_us);
        attempt.timings = timings;
        match answer {
            Ok(answer) => answered(&answer, elsewhere, attempt),
            Err(NotAnswered::Receiver { kind, detail }) => Outcome::NoAnswer { kind, detail },
            Err(NotAnswered::Host { detail }) => Outcome::HostFault(Reason::new("host-network", detail)),
        }
    }
}

/// Creates the record of an attempt. Until it is completed it is a host fault, which costs the delivery nothing.
fn new_attempt(due: &Due, subscription: &Subscription) -> Attempt {
    Attempt {
        number: due.delivery().attempts_made + 1,
        started_at_ms: now_ms(),
        plugin_us: None,
        post_us: None,
        timings: None,
        plugin_sha256: None,
        config_generation: subscription.generation,
        verdict: None,
        body_sha256: None,
        status: None,
        outcome: AttemptOutcome::HostFault,
        reason: None,
        request: None,
        response_headers: None,
        response: None,
        steps: Vec::new(),
        echoed: false,
        log: Vec::new(),
    }
}

fn note_judgement(attempt: &mut Attempt, judged: Judged) -> Judgement {
    attempt.plugin_us = Some(judged.cost().wall_us);
    attempt.plugin_sha256 = judged.sha256();
    attempt.verdict = Some(judged.judgement.verdict());
    attempt.steps = judged.steps;
    attempt.log = judged.log;
    judged.judgement
}

/// Builds a request with the unchanged payload to the Notify URL.
fn unchanged_request(event: &Event, subscription: &Subscription) -> PreparedRequest {
    PreparedRequest {
        target: subscription.settings.target().clone(),
        elsewhere: false,
        other_origin: false,
        content_type: HeaderValue::from_static("application/json"),
        body: event.payload.clone(),
        headers: Vec::new(),
    }
}

/// Turns a judgement into a request, or into the outcome of an attempt that sends nothing.
fn decide(
    judgement: Judgement,
    event: &Event,
    subscription: &Subscription,
    attempt: &mut Attempt,
) -> Result<PreparedRequest, Outcome> {
    match judgement {
        Judgement::Pass => Ok(unchanged_request(event, subscription)),
        Judgement::Replace(outgoing) => Ok(replaced_request(outgoing, subscription.settings.target())),
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
                attempt
                    .log
                    .push(format!("host: the original event was sent, because on_plugin_fault is pass ({reason})"));
                return Ok(unchanged_request(event, subscription));
            }
            Err(Outcome::PluginFault { recurs: fault.recurs(), reason })
        }
    }
}

fn fault_reason(fault: &PluginFault) -> Reason {
    Reason::new(fault.code(), fault.to_string())
}

/// Builds the request that a plugin returned.
fn replaced_request(outgoing: Outgoing, notify: &Target) -> PreparedRequest {
    let Outgoing { body, content_type, headers, url, is_text: _ } = outgoing;
    let (elsewhere, other_origin) = match &url {
        Some(url) => (url != notify.url(), url.origin() != notify.url().origin()),
        None => (false, false),
    };
    let target = url.map_or_else(|| notify.clone(), Target::from);
    PreparedRequest { target, elsewhere, other_origin, content_type, body, headers }
}

/// Default header values, which the subscription and its plugins may replace.
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("hookloom/", env!("CARGO_PKG_VERSION")));

/// Headers of a request. Headers of a plugin replace those of the subscription with the same name; a name that the plugin repeats is
/// sent repeatedly. `Accept`, `User-Agent` and `traceparent` are defaults. The remaining headers of this host cannot be set by
/// subscriptions or plugins ([`check_header`](hookloom_model::headers::check_header)).
fn headers(prepared: &PreparedRequest, due: &Due, subscription: &Subscription) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
    // Headers of the subscription may hold credentials, which are sent to the origin of the Notify URL only.
    if !prepared.other_origin {
        for (name, value) in subscription.settings.headers() {
            headers.insert(name, value.clone());
        }
    }
    for (name, _) in &prepared.headers {
        headers.remove(name);
    }
    for (name, value) in &prepared.headers {
        headers.append(name, hidden(value.clone()));
    }
    let id = due.delivery().id.to_string();
    let now_ms = now_ms();
    let signature = signature_header(&subscription.signing, &id, now_ms, &prepared.body);
    headers.insert(header::CONTENT_TYPE, prepared.content_type.clone());
    headers.entry(header::ACCEPT).or_insert(ACCEPT);
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    headers.insert(&WEBHOOK_ID, text(id));
    headers.insert(&WEBHOOK_TIMESTAMP, text((now_ms / 1_000).to_string()));
    headers.insert(&WEBHOOK_SIGNATURE, text(signature));
    headers.insert(&EVENT_ID, text(due.event.id.to_string()));
    if subscription.settings.traceparent {
        let attempt = due.delivery().attempts_made + 1;
        let default = || text(traceparent(due.event.id, due.delivery().id, attempt));
        headers.entry(&TRACEPARENT).or_insert_with(default);
    }
    headers
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("ids, numbers and base64 are visible ASCII")
}

/// Marks a value of a subscription or plugin as hidden, because it may hold a secret.
fn hidden(mut value: HeaderValue) -> HeaderValue {
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
