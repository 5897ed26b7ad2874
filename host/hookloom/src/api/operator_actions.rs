//! Routes of the actions of operators.

use super::ApiState;
use super::extract::{Body, Item, Json as Input};
use crate::delivery::DeliveryId;
use crate::operations::{Access, Counted, DeliveryDetail, Problem, RedriveWrite, ReplayWrite, ToManage};
use axum::Json;
use axum::extract::State;
use std::sync::Arc;
use uuid::Uuid;

/// Attempt a delivery now. If it had ended, its schedule and its age start over.
#[utoipa::path(post, path = "/v1/tenants/{t}/deliveries/{id}/retry", tag = "deliveries", operation_id = "retry_delivery", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn retry(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryDetail>, Problem> {
    Ok(Json(state.operations.retry_delivery(&access, DeliveryId(id)).await?))
}

/// Cancel a pending delivery.
#[utoipa::path(post, path = "/v1/tenants/{t}/deliveries/{id}/cancel", tag = "deliveries", operation_id = "cancel_delivery", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn cancel(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryDetail>, Problem> {
    Ok(Json(state.operations.cancel_delivery(&access, DeliveryId(id)).await?))
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
    Ok(Json(state.operations.redrive_subscription(&access, id, wanted).await?))
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
    Ok(Json(state.operations.replay_to_subscription(&access, id, wanted).await?))
}

/// Send a test event to this subscription only, through its plugin, and return the receiver's answer. Attempted once.
///
/// The body is the event. If it is empty, an event such as the subscription gets is used: a sample of the vendor's or of the host's, or the
/// newest one of an event type of the tenant's own.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/test", tag = "subscriptions", operation_id = "test_subscription", params(("t" = String, Path), ("id" = Uuid, Path)),
    request_body(content = Object, description = "`{eventName, eventData}`, or nothing"),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn test(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(event): Body,
) -> Result<Json<DeliveryDetail>, Problem> {
    Ok(Json(state.operations.test_subscription(&access, id, event).await?))
}
