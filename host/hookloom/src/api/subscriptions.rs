//! Routes of subscriptions.

use super::ApiState;
use super::extract::{Body, Item, Json as Input, Params};
use super::paging::{Page, PageParams};
use crate::operations::{
    Access, Pause, Problem, Rotation, SubscriptionBody, SubscriptionPatch, SubscriptionWrite, ToManage, ToRead,
};
use crate::subscription::Subscription;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;
use uuid::Uuid;

/// List the tenant's subscriptions, oldest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/subscriptions", tag = "subscriptions", operation_id = "list_subscriptions", params(("t" = String, Path), PageParams), responses((status = 200, body = [SubscriptionBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Page<SubscriptionBody> {
    let subscriptions = state.operations.list_subscriptions(&access);
    // Ids begin with their time.
    page.of(subscriptions, |one| one.id.to_string()).shown(|one| SubscriptionBody::new(&one, None))
}

/// Create a subscription. The answer has the signing secret, which is not shown again.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions", tag = "subscriptions", operation_id = "create_subscription", params(("t" = String, Path)), request_body = SubscriptionWrite,
    responses((status = 201, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn create(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<(StatusCode, Json<SubscriptionBody>), Problem> {
    let created = state.operations.create_subscription(&access, SubscriptionWrite::read(&body)?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Get a subscription.
#[utoipa::path(get, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "get_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<SubscriptionBody>, Problem> {
    Ok(Json(state.operations.get_subscription(&access, id)?))
}

/// Replace a subscription, from the next attempt on, also of pending deliveries.
///
/// Absent settings get their default values; absent secrets are kept. The answer of `GET` can be sent back.
#[utoipa::path(put, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "replace_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = SubscriptionWrite,
    responses((status = 200, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn update(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Json<SubscriptionBody>, Problem> {
    Ok(Json(state.operations.edit_subscription(&access, id, |_| SubscriptionWrite::read_back(&body)).await?))
}

/// Change settings of a subscription by a JSON merge patch (RFC 7396), from the next attempt on, also of pending deliveries.
///
/// Absent members stay, null restores the default, and objects are merged member by member.
#[utoipa::path(patch, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "update_subscription", params(("t" = String, Path), ("id" = Uuid, Path)),
    request_body(content = SubscriptionPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn patch(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Json<SubscriptionBody>, Problem> {
    let patched = |old: &Subscription| SubscriptionWrite::patched(&body, &old.settings);
    Ok(Json(state.operations.edit_subscription(&access, id, patched).await?))
}

/// Delete a subscription. Its pending deliveries are cancelled.
#[utoipa::path(delete, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "delete_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_subscription(&access, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a subscription. Events still match, and their deliveries wait.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/pause", tag = "subscriptions", operation_id = "pause_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = Pause, responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn pause(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Input(pause): Input<Pause>,
) -> Result<Json<SubscriptionBody>, Problem> {
    Ok(Json(state.operations.pause_subscription(&access, id, pause).await?))
}

/// Resume a paused or disabled subscription.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/resume", tag = "subscriptions", operation_id = "resume_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn resume(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<SubscriptionBody>, Problem> {
    Ok(Json(state.operations.resume_subscription(&access, id).await?))
}

/// Rotate the signing secret. The answer has the new secret, which is not shown again.
///
/// Webhooks are signed with the new key and, for a while, with the previous keys.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/rotate-secret", tag = "subscriptions", operation_id = "rotate_signing_secret", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = Rotation,
    responses((status = 200, body = SubscriptionBody), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn rotate(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Input(rotation): Input<Rotation>,
) -> Result<Json<SubscriptionBody>, Problem> {
    Ok(Json(state.operations.rotate_signing_secret(&access, id, rotation).await?))
}
