//! Traces by OTLP: intake, plugin calls and requests of an event as spans. The only module that uses OpenTelemetry.
//!
//! # Theory of operation
//! Spans are made from the records of attempts, so no context is carried through the host. The trace id is the event's id, which
//! leads from an event to its trace. Span ids follow from the event, the delivery and the attempt's number, so the `traceparent` of a
//! request (W3C Trace Context) names the span of that attempt. Spans wait in a bounded queue and are sent in batches. When the
//! collector is slow or unreachable, spans are dropped: no delivery waits for a span.

use bytes::Bytes;
use hookloom_egress::{Client, ClientError, Request};
use hookloom_model::address::AddressPolicy;
use hookloom_model::clock;
use hookloom_model::delivery::{Attempt, AttemptOutcome, DeliveryId, DueDelivery};
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Reason why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The HTTP client could not be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The exporter rejects the endpoint.
    #[error("no traces can be sent to otlp_endpoint")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Queue of spans to the collector. Without an endpoint, spans are dropped.
#[derive(Clone, Default)]
pub struct Traces(Option<mpsc::Sender<SpanData>>);

/// Maximum number of waiting spans, maximum number of spans in a batch, and delay of a batch.
const WAITING_MAX: usize = 8_192;
const BATCH: usize = 512;
const PAUSE: Duration = Duration::from_secs(1);

impl Traces {
    /// Starts sending to a collector's OTLP/HTTP endpoint, such as `http://127.0.0.1:4318`. An empty endpoint disables traces.
    pub fn start(endpoint: &str) -> Result<Self, TracesError> {
        if endpoint.is_empty() {
            return Ok(Traces(None));
        }
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Collector(Client::new(AddressPolicy::everywhere())?))
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&Resource::builder_empty().with_service_name("hookloom").with_attribute(version).build());
        let (sender, mut spans) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while spans.recv_many(&mut batch, BATCH).await > 0 {
                tokio::time::sleep(PAUSE).await;
                while batch.len() < BATCH
                    && let Ok(span) = spans.try_recv()
                {
                    batch.push(span);
                }
                if let Err(error) = exporter.export(std::mem::take(&mut batch)).await {
                    tracing::warn!(%error, "spans could not be sent");
                }
            }
        });
        Ok(Traces(Some(sender)))
    }

    /// Adds the span of an event's intake, once the event is durable.
    pub fn accepted(&self, tenant: &TenantId, event: EventId, begun: SystemTime) {
        let Some(sender) = &self.0 else { return };
        let attributes = vec![KeyValue::new("hookloom.tenant", tenant.to_string())];
        let span = SpanSpec { event, id: span_of(event), parent: SpanId::INVALID, kind: SpanKind::Server };
        let _ = sender.try_send(span.data("intake", begun, clock::system_time(), attributes, Status::Unset));
    }

    /// Adds the spans of an attempt that has ended: its plugin calls, one after the other, and its POST.
    pub(super) fn attempted(&self, delivery: &DueDelivery, attempt: &Attempt) {
        let Some(sender) = &self.0 else { return };
        spans_of(delivery, attempt).into_iter().for_each(|span| {
            let _ = sender.try_send(span);
        });
    }
}

/// `traceparent` header of an attempt's request: the span of the attempt, marked as sampled.
pub(super) fn traceparent(event: EventId, delivery: DeliveryId, attempt: u32) -> String {
    format!("00-{}-{}-01", trace_of(event), span_of_attempt(delivery, attempt))
}

fn trace_of(event: EventId) -> TraceId {
    TraceId::from_bytes(event.0.into_bytes())
}

/// Random half of an id.
fn low(id: uuid::Uuid) -> u64 {
    id.as_u64_pair().1
}

fn span_of(event: EventId) -> SpanId {
    SpanId::from_bytes(low(event.0).to_be_bytes())
}

fn span_of_attempt(delivery: DeliveryId, attempt: u32) -> SpanId {
    SpanId::from_bytes(low(delivery.0).wrapping_add(u64::from(attempt) << 8).to_be_bytes())
}

struct SpanSpec {
    event: EventId,
    id: SpanId,
    parent: SpanId,
    kind: SpanKind,
}

impl SpanSpec {
    fn data(
        self,
        name: impl Into<std::borrow::Cow<'static, str>>,
        start_time: SystemTime,
        end_time: SystemTime,
        attributes: Vec<KeyValue>,
        status: Status,
    ) -> SpanData {
        let trace = trace_of(self.event);
        SpanData {
            span_context: SpanContext::new(trace, self.id, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: self.parent,
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: name.into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("hookloom").build(),
        }
    }
}

fn spans_of(delivery: &DueDelivery, attempt: &Attempt) -> Vec<SpanData> {
    let event = delivery.event;
    let parent = span_of_attempt(delivery.id, attempt.number);
    let begun = UNIX_EPOCH + Duration::from_millis(u64::try_from(attempt.started_at_ms).unwrap_or(0));
    // Ids of the parts of an attempt follow the attempt's id.
    let part = |nth: u64, kind| {
        let id = u64::from_be_bytes(parent.to_bytes()).wrapping_add(nth);
        SpanSpec { event, id: SpanId::from_bytes(id.to_be_bytes()), parent, kind }
    };
    let mut spans = Vec::new();
    let mut at = begun;
    for (step, nth) in attempt.steps.iter().zip(1..) {
        let end = at + Duration::from_micros(step.cost.wall_us);
        let attributes = vec![
            KeyValue::new("hookloom.plugin.sha256", step.sha256.clone().unwrap_or_default()),
            KeyValue::new("hookloom.verdict", step.verdict.as_str()),
        ];
        spans.push(part(nth, SpanKind::Internal).data(
            format!("plugin {}", step.plugin),
            at,
            end,
            attributes,
            Status::Unset,
        ));
        at = end;
    }
    if let Some(post_us) = attempt.post_us {
        let end = at + Duration::from_micros(post_us);
        let status = attempt.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
        let attributes = [KeyValue::new("http.request.method", "POST")].into_iter().chain(status).collect();
        spans.push(part(0xff, SpanKind::Client).data("POST", at, end, attributes, Status::Unset));
        at = end;
    }
    let status = match (attempt.outcome, &attempt.reason) {
        (AttemptOutcome::Delivered | AttemptOutcome::Dropped | AttemptOutcome::Later, _) => Status::Unset,
        (_, Some(reason)) => Status::error(reason.code.clone()),
        (outcome, None) => Status::error(outcome.as_str()),
    };
    let attributes = vec![
        KeyValue::new("hookloom.tenant", delivery.tenant.to_string()),
        KeyValue::new("hookloom.subscription", delivery.subscription.to_string()),
        KeyValue::new("hookloom.delivery", delivery.id.to_string()),
        KeyValue::new("hookloom.attempt", i64::from(attempt.number)),
        KeyValue::new("hookloom.outcome", attempt.outcome.as_str()),
    ];
    let whole = SpanSpec { event, id: parent, parent: span_of(event), kind: SpanKind::Internal };
    spans.push(whole.data("attempt", begun, at, attributes, status));
    spans
}

/// HTTP client that sends batches to the collector.
struct Collector(Client);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = Request {
            method: parts.method,
            target: parts.uri.to_string().parse::<url::Url>()?.into(),
            headers: parts.headers,
            body,
            timeout: TIMEOUT,
            response_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = self.0.send(request).await.0.map_err(|error| error.to_string())?;
        Ok(http::Response::builder().status(answer.status).body(answer.body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_the_form_of_the_specification() {
        let event = EventId::new();
        let delivery = DeliveryId::new();
        let text = traceparent(event, delivery, 1);
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{text}");
        assert_eq!(parts[1], event.0.simple().to_string(), "the trace is the event");
        assert_ne!(traceparent(event, delivery, 2), text, "each attempt is a span of its own");
    }
}
