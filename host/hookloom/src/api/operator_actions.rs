//! Routes of operator actions on deliveries: retry, cancel, redrive, replay, test.

use super::ApiState;
use super::deliveries::{DeliveryDetail, detail};
use super::extract::{Access, Body, Item, Json as Input, ToManage};
use super::problem::Problem;
use super::subscriptions::find;
use crate::delivery::{DeliveryId, DeliveryState};
use crate::event::{SAMPLES, VENDOR_EVENT_NAMES, read_envelope};
use crate::store::{NewEvent, Span};
use crate::subscription::{Subscription, SubscriptionState};
use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

/// Attempt a delivery now. If it had ended, its schedule and its age start over.
#[utoipa::path(post, path = "/v1/tenants/{t}/deliveries/{id}/retry", tag = "deliveries", operation_id = "retry_delivery", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn retry(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryDetail>, Problem> {
    let id = DeliveryId(id);
    state.store.retry(access.actor(), access.tenant.clone(), id).await?;
    detail(&state, access.tenant, id).await
}

/// Cancel a pending delivery.
#[utoipa::path(post, path = "/v1/tenants/{t}/deliveries/{id}/cancel", tag = "deliveries", operation_id = "cancel_delivery", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn cancel(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryDetail>, Problem> {
    let id = DeliveryId(id);
    state.store.cancel(access.actor(), access.tenant.clone(), id).await?;
    detail(&state, access.tenant, id).await
}

/// Selection of deliveries to redrive.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedriveWrite {
    /// Final states to match: `dead`, `cancelled`, `dropped` or `delivered`. Only `dead` if absent.
    #[serde(default = "only_dead")]
    states: Vec<DeliveryState>,
    /// Only deliveries made at this time or later, in milliseconds since the epoch. From the beginning if absent.
    #[serde(default)]
    from_ms: i64,
    /// Only deliveries made before this time, in milliseconds since the epoch. Until now if absent.
    to_ms: Option<i64>,
    /// Only counts.
    #[serde(default)]
    preview: bool,
}

impl RedriveWrite {
    /// Selects all dead deliveries.
    pub(super) fn of_dead(preview: bool) -> Self {
        RedriveWrite { states: only_dead(), from_ms: 0, to_ms: None, preview }
    }
}

fn only_dead() -> Vec<DeliveryState> {
    vec![DeliveryState::Dead]
}

/// Selection of events to replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayWrite {
    /// Only events accepted at this time or later, in milliseconds since the epoch.
    pub(super) from_ms: i64,
    /// Only events accepted before this time, in milliseconds since the epoch.
    pub(super) to_ms: i64,
    /// Only counts.
    #[serde(default)]
    pub(super) preview: bool,
}

/// Number of matching or changed deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct Counted {
    pub(super) deliveries: u64,
    /// True if the deliveries were only counted.
    pub(super) preview: bool,
}

fn span(from_ms: i64, to_ms: i64) -> Result<Span, Problem> {
    if from_ms < to_ms {
        Ok(Span { from_ms, to_ms })
    } else {
        Err(Problem::field("/to_ms", "to_ms must be later than from_ms"))
    }
}

fn enabled(subscription: &Subscription) -> Result<(), Problem> {
    match subscription.state {
        SubscriptionState::Disabled => Err(Problem::conflict("the subscription is disabled; resume it first")),
        _ => Ok(()),
    }
}

/// Make deliveries that ended pending again, in one call. `preview` counts them first.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/redrive", tag = "subscriptions", operation_id = "redrive_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = RedriveWrite,
    responses((status = 200, body = Counted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn redrive(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Input(wanted): Input<RedriveWrite>,
) -> Result<Json<Counted>, Problem> {
    let subscription = find(&state, &access.tenant, id)?;
    let RedriveWrite { states, from_ms, to_ms, preview } = wanted;
    let span = span(from_ms, to_ms.unwrap_or(i64::MAX))?;
    let deliveries = if preview {
        state.store.count_ended(&subscription, states, span).await?
    } else {
        enabled(&subscription)?;
        state.store.redrive(access.actor(), &subscription, states, span).await?
    };
    Ok(Json(Counted { deliveries, preview }))
}

/// Deliver the events of a time span again, to this subscription only. `preview` counts them first.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/replay", tag = "subscriptions", operation_id = "replay_to_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = ReplayWrite,
    responses((status = 200, body = Counted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn replay(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Input(wanted): Input<ReplayWrite>,
) -> Result<Json<Counted>, Problem> {
    let subscription = find(&state, &access.tenant, id)?;
    let ReplayWrite { from_ms, to_ms, preview } = wanted;
    let span = span(from_ms, to_ms)?;
    let deliveries = if preview {
        state.store.count_replayable(&subscription, span).await?
    } else {
        enabled(&subscription)?;
        state.store.replay(access.actor(), &subscription, span).await?
    };
    Ok(Json(Counted { deliveries, preview }))
}

/// Interval at which a test checks whether its delivery has ended.
const TEST_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Time that a test allows beyond the POST: for the plugin and for waiting in the lane.
const TEST_SLACK: Duration = Duration::from_secs(15);

/// Send a test event to this subscription only, through its plugin, and return the receiver's answer. Attempted once.
///
/// The body is the event. If it is empty, a sample event is used.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/test", tag = "subscriptions", operation_id = "test_subscription", params(("t" = String, Path), ("id" = Uuid, Path)),
    request_body(content = Object, description = "`{eventName, eventData}`, or nothing"),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn test(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Json<DeliveryDetail>, Problem> {
    let subscription = find(&state, &access.tenant, id)?;
    if subscription.state != SubscriptionState::Active {
        return Err(Problem::conflict("the subscription is not active; resume it first"));
    }
    let event = test_event(&state, &subscription, body)?;
    let delivery = state.store.test(access.actor(), &subscription, event).await?;
    let give_up = tokio::time::Instant::now() + Duration::from_millis(subscription.settings.timeout_ms) + TEST_SLACK;
    loop {
        let found = detail(&state, access.tenant.clone(), delivery).await?;
        if found.0.has_ended() || tokio::time::Instant::now() > give_up {
            return Ok(found);
        }
        tokio::time::sleep(TEST_POLL_INTERVAL).await;
    }
}

fn test_event(state: &ApiState, subscription: &Subscription, body: Bytes) -> Result<NewEvent, Problem> {
    let sample = SAMPLES.iter().find(|(module, _)| subscription.settings.modules.contains(module));
    let payload = match (body.is_empty(), sample) {
        (true, Some((_, sample))) => Bytes::from_static(sample.trim_ascii().as_bytes()),
        _ => body,
    };
    let envelope = read_envelope(&payload)?;
    let module = state.store.catalog().module_of(&subscription.tenant, &envelope.name).ok_or_else(|| {
        let names: Vec<&str> = VENDOR_EVENT_NAMES.iter().map(|(name, _)| *name).collect();
        let detail =
            format!("the event name {:?} is not accepted; the vendor's are {}", envelope.name, names.join(", "));
        Problem::field("/eventName", detail)
    })?;
    Ok(NewEvent { name: envelope.name, module, entity_id: envelope.entity_id, payload: envelope.payload })
}
