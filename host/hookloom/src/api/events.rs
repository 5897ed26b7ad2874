//! Routes of events.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::encoding;
use super::exchange::Exchange;
use super::extract::{Body, Item, Params};
use super::paging::{PageLimit, limit_of};
use crate::clock;
use crate::event::{EventId, Module};
use crate::operations::{AcceptedBody, AcceptedEvents, Access, EventBody, EventPage, Problem, ToRead, ToSend};
use crate::store::{EventFilter, Span};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Event as a sender writes it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the schema's shape; an event is checked as bytes, which are kept as they came")]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EventWrite {
    /// One of the four names of Agile CRM (`Contact is Created`, …) or a name that the tenant accepts in addition.
    event_name: String,
    /// Any object.
    #[schema(value_type = Object)]
    event_data: Box<RawValue>,
}

/// One event, or an array of events.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the schema's shape")]
#[serde(untagged)]
pub(super) enum EventsWrite {
    /// One event.
    One(EventWrite),
    /// Several events.
    Several(Vec<EventWrite>),
}

/// Send events: one, a JSON array of them, or one a line. `202` means that all of them are durable.
///
/// With an `Idempotency-Key` a request that is repeated within 7 days is accepted once and answered the same, with the header
/// `Idempotent-Replayed: true`.
#[utoipa::path(post, path = "/v1/tenants/{t}/events", tag = "events",
    operation_id = "send_events",
    params(("t" = String, Path), ("idempotency-key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body(content((EventsWrite = "application/json"), (String = "application/x-ndjson")), description = "One event, an array of events, or one event a line; as it is, or compressed with gzip"),
    responses((status = 202, body = AcceptedBody), (status = 400, body = Problem), (status = 409, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem), (status = 507, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn post(
    access: Access<ToSend>,
    State(state): State<Arc<ApiState>>,
    IdempotencyKey(key): IdempotencyKey,
    headers: HeaderMap,
    exchange: Exchange,
    Body(body): Body,
) -> Result<(StatusCode, Option<RepetitionHeader>, Json<AcceptedBody>), Problem> {
    let begun = clock::system_time();
    let operations = &state.operations;
    let most = usize::try_from(operations.config.batch_bytes_max).unwrap_or(usize::MAX);
    let body = encoding::decode(&exchange, &operations.cpu, &access.tenant, body, &headers, most).await?;
    let AcceptedEvents { events, is_repetition } = operations.send_events(&access, &body, key).await?;
    if !is_repetition {
        events.iter().for_each(|one| state.traces.accepted(&access.tenant, one.accepted.event, begun));
    }
    Ok((StatusCode::ACCEPTED, is_repetition.then_some([IDEMPOTENT_REPLAYED]), Json(events.into())))
}

/// Header of some answers.
type RepetitionHeader = [(HeaderName, &'static str); 1];

/// Header that marks an answer as the repetition of an earlier one with the same `Idempotency-Key`.
const IDEMPOTENT_REPLAYED: (HeaderName, &str) = (HeaderName::from_static("idempotent-replayed"), "true");

/// Maximum length of an `Idempotency-Key`, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The `Idempotency-Key` of a request, if there is one.
pub(super) struct IdempotencyKey(Option<String>);

impl FromRequestParts<Arc<ApiState>> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiState>) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(IdempotencyKey(None)) };
        let key = value.to_str().ok().map(str::trim).filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
        let key = key.ok_or_else(|| {
            let detail = format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible ASCII characters");
            Problem::new(StatusCode::BAD_REQUEST, "invalid-idempotency-key", detail)
        })?;
        Ok(IdempotencyKey(Some(key.to_owned())))
    }
}

/// Filter and paging of a list of events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParams {
    /// Only events of this module.
    module: Option<Module>,
    /// Only events with this name.
    name: Option<String>,
    /// Only events of the contact or deal with this id, as text.
    entity_id: Option<String>,
    /// Only events accepted at this time or later, in milliseconds since the epoch.
    from_ms: Option<i64>,
    /// Only events accepted before this time, in milliseconds since the epoch.
    to_ms: Option<i64>,
    /// The `cursor` of the previous page.
    cursor: Option<Uuid>,
    /// Number of items: 1 to 500, 50 if absent.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

/// List events, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/events", tag = "events", operation_id = "list_events", params(("t" = String, Path), EventParams),
    responses((status = 200, body = EventPage), (status = 400, body = Problem)))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(params): Params<EventParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<EventPage>, Problem> {
    let EventParams { module, name, entity_id, from_ms, to_ms, cursor, limit } = params;
    let span = (from_ms.is_some() || to_ms.is_some())
        .then(|| Span { from_ms: from_ms.unwrap_or(0), to_ms: to_ms.unwrap_or(i64::MAX) });
    let limit = limit_of(limit);
    let before = cursor.map(EventId);
    let filter = EventFilter { module, name, entity_id, span, before, limit, ..EventFilter::default() };
    Ok(Json(state.operations.list_events(&access, filter).await?))
}

/// Get an event with its deliveries.
#[utoipa::path(get, path = "/v1/tenants/{t}/events/{id}", tag = "events", operation_id = "get_event", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = EventBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<EventBody>, Problem> {
    Ok(Json(state.operations.get_event(&access, EventId(id)).await?))
}
