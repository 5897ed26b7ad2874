//! Routes of bins, the built-in request inspectors.

mod receive;
pub(super) mod requests;

pub(super) use receive::{receive, receive_at_root};

use super::ApiState;
use super::extract::{Item, Json as Input};
use super::read_back::{ReadBack, Rewrite};
use crate::ids::BinId;
use crate::inspector::BinSettings;
use crate::operations::{Access, BinBody, Problem, ToManage, ToRead};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

impl ReadBack for BinSettings {
    const READ_ONLY: &'static [&'static str] = &["id", "path", "url", "created_at_ms", "received"];
}

/// List the tenant's bins, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins", tag = "bins", operation_id = "list_bins", params(("t" = String, Path)), responses((status = 200, body = [BinBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<BinBody>>, Problem> {
    Ok(Json(state.operations.list_bins(&access).await?))
}

/// Create a bin. Anybody who knows its URL can send to it. Reading it requires a key of the tenant.
#[utoipa::path(post, path = "/v1/tenants/{t}/bins", tag = "bins", operation_id = "create_bin", params(("t" = String, Path)), request_body = BinSettings,
    responses((status = 201, body = BinBody), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn create(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(settings): Input<BinSettings>,
) -> Result<(StatusCode, Json<BinBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_bin(&access, settings).await?)))
}

/// Get a bin.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins/{id}", tag = "bins", operation_id = "get_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = BinBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<BinId>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<BinBody>, Problem> {
    Ok(Json(state.operations.get_bin(&access, id).await?))
}

/// Replace the settings of a bin. Requests above its new limits are deleted.
#[utoipa::path(put, path = "/v1/tenants/{t}/bins/{id}", tag = "bins", operation_id = "replace_bin", params(("t" = String, Path), ("id" = String, Path)), request_body = BinSettings,
    responses((status = 200, body = BinBody), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn update(
    access: Access<ToManage>,
    Item(id): Item<BinId>,
    State(state): State<Arc<ApiState>>,
    Rewrite { new: settings, read_only }: Rewrite<BinSettings>,
) -> Result<Json<BinBody>, Problem> {
    read_only.check_id(&id)?;
    Ok(Json(state.operations.replace_bin(&access, id, settings).await?))
}

/// Delete a bin with its requests.
#[utoipa::path(delete, path = "/v1/tenants/{t}/bins/{id}", tag = "bins", operation_id = "delete_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<BinId>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_bin(&access, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
