//! Routes of events.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::deliveries::DeliveryBody;
use super::encoding;
use super::exchange::Exchange;
use super::explain::{Explanation, Known, explain};
use super::extract::{Access, Body, Item, Params, ToRead, ToSend};
use super::paging::{PageLimit, limit_of};
use super::problem::Problem;
use crate::delivery::DeliveryKind;
use crate::event::{EventId, Module};
use crate::intake::{self, AcceptedEntry, AcceptedEvents};
use crate::store::{EventFilter, EventSummary, EventView, Span, now_ms};
use crate::subscription::{Subscription, TenantId};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Answer to accepted events.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedBody {
    /// Accepted events, in the order of the request.
    events: Vec<AcceptedEvent>,
}

/// Accepted event.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedEvent {
    id: Uuid,
    /// Number of matching subscriptions. An event without any is stored as well.
    deliveries: usize,
    /// Note on an event that is treated unusually: `eventData.id` is longer than 255 bytes, so it keeps no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl AcceptedBody {
    /// Returns the id of the first event. There is always one.
    pub(super) fn first_id(&self) -> Uuid {
        self.events.first().map(|event| event.id).unwrap_or_default()
    }
}

impl From<Vec<AcceptedEntry>> for AcceptedBody {
    fn from(accepted: Vec<AcceptedEntry>) -> Self {
        fn one(AcceptedEntry { accepted, note }: AcceptedEntry) -> AcceptedEvent {
            AcceptedEvent { id: accepted.event.0, deliveries: accepted.deliveries, note }
        }
        AcceptedBody { events: accepted.into_iter().map(one).collect() }
    }
}

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

/// Event with its deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct EventBody {
    id: Uuid,
    name: String,
    module: Module,
    /// `eventData.id` as text. Absent: there is none of at most 255 bytes.
    entity_id: Option<String>,
    /// Reason why the event has no entity although `eventData.id` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    received_at_ms: i64,
    /// Previous event of the same contact or deal.
    previous: Option<Uuid>,
    /// Number of deliveries that were made when the event was accepted.
    fan_out: usize,
    /// The event as it was sent.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    deliveries: Vec<DeliveryBody>,
    /// Explanation for each subscription of the tenant: why the event was delivered, or why not.
    subscriptions: Vec<Explanation>,
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
    let begun = SystemTime::now();
    let most = usize::try_from(state.config.batch_bytes_max).unwrap_or(usize::MAX);
    let body = encoding::decode(&exchange, &state.cpu, &access.tenant, body, &headers, most).await?;
    let accepted = intake::accept(&state.store, &state.cpu, &access.tenant, &body, key, state.intake_limits()).await?;
    let AcceptedEvents { events, is_repetition } = accepted;
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

/// Event in a list.
#[derive(Serialize, ToSchema)]
pub(super) struct EventListItem {
    id: Uuid,
    name: String,
    module: Module,
    /// `eventData.id` as text. Absent: there is none of at most 255 bytes.
    entity_id: Option<String>,
    received_at_ms: i64,
    /// Number of deliveries at acceptance.
    fan_out: usize,
    /// Size of the event as it was sent, in bytes.
    bytes: u64,
}

impl From<EventSummary> for EventListItem {
    fn from(summary: EventSummary) -> Self {
        let EventSummary { id, name, module, entity_id, received_at_ms, fan_out, bytes } = summary;
        EventListItem { id: id.0, name, module, entity_id, received_at_ms, fan_out, bytes }
    }
}

/// Page of events.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPage {
    /// Events without payloads, newest first.
    events: Vec<EventListItem>,
    /// The `cursor` of the next page. Absent on the last one.
    cursor: Option<Uuid>,
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
    let limit = limit_of(limit);
    let span = (from_ms.is_some() || to_ms.is_some())
        .then(|| Span { from_ms: from_ms.unwrap_or(0), to_ms: to_ms.unwrap_or(i64::MAX) });
    let filter = EventFilter { module, name, entity_id, span, before: cursor.map(EventId), limit };
    let events = state.store.events(access.tenant, filter).await?;
    let cursor = (events.len() == limit).then(|| events.last().map(|event| event.id.0)).flatten();
    Ok(Json(EventPage { events: events.into_iter().map(Into::into).collect(), cursor }))
}

/// Get an event with its deliveries.
#[utoipa::path(get, path = "/v1/tenants/{t}/events/{id}", tag = "events", operation_id = "get_event", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = EventBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<EventBody>, Problem> {
    let view = state.store.event(access.tenant.clone(), EventId(id)).await?;
    let subscriptions = explained(&state, &access.tenant, &view).await?;
    let payload = RawValue::from_string(view.event.text().to_owned()).map_err(crate::store::StoreError::from)?;
    Ok(Json(EventBody {
        id: view.event.id.0,
        name: view.event.name.clone(),
        module: view.event.module,
        entity_id: view.event.entity_id.clone(),
        note: view.event.entity_note(),
        received_at_ms: view.event.received_at_ms,
        previous: view.previous.map(|id| id.0),
        fan_out: view.fan_out,
        payload,
        deliveries: view.deliveries.into_iter().map(DeliveryBody::from).collect(),
        subscriptions,
    }))
}

/// Explains the state of an event for each subscription of its tenant.
pub(super) async fn explained(
    state: &ApiState,
    tenant: &TenantId,
    view: &EventView,
) -> Result<Vec<Explanation>, Problem> {
    let attempts = state.store.attempts_of_event(tenant.clone(), view.event.id).await?;
    let earlier = state.store.earlier_ones(tenant.clone(), view.event.id).await?;
    // The newest of several deliveries counts, and comes first: a replay says more than the delivery before it.
    let deliveries: HashMap<_, _> = view.deliveries.iter().rev().map(|one| (one.subscription, one)).collect();
    let note = view.event.entity_note();
    let is_test = view.deliveries.iter().any(|one| one.kind == DeliveryKind::Test);
    let one = |subscription: &Arc<Subscription>| {
        let delivery = deliveries.get(&subscription.id).copied();
        let known = Known {
            delivery,
            attempts: delivery.and_then(|delivery| attempts.get(&delivery.id)).map_or(&[], Vec::as_slice),
            behind: delivery.and_then(|delivery| earlier.get(&delivery.id)).copied(),
            lane: state.lanes.status(subscription.id),
            note: note.as_deref(),
            is_test,
        };
        explain(&view.event, subscription, &known, now_ms())
    };
    Ok(state.store.catalog().subscriptions(tenant).iter().map(one).collect())
}
