//! Routes of rejected requests to `/in`, which can be listed, downloaded, edited and submitted, and deleted.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::encoding;
use super::exchange::Exchange;
use super::extract::{Body, Item, Params, PathParams};
use super::paging::{Page, PageLimit};
use crate::operations::{AcceptedBody, Access, Operations, Problem, RejectedBody, ToManage, ToRead, whole};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use uuid::Uuid;

/// Default number of requests on a page.
const LIMIT: usize = 200;

/// Paging of rejected requests.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectedParams {
    /// The `cursor` in the `Link` header of the previous page.
    cursor: Option<Uuid>,
    /// Number of items: 1 to 500, 200 if absent.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

/// List rejected requests to `/in`, newest first. They are kept for 7 days, and at most 1,000 of them.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests", tag = "events", operation_id = "list_rejected_requests", params(("t" = String, Path), RejectedParams), responses((status = 200, body = [RejectedBody]), (status = 400, body = Problem)))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(params): Params<RejectedParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<RejectedBody>, Problem> {
    let limit = params.limit.map_or(LIMIT, PageLimit::get);
    let entries = state.operations.list_rejected_requests(&access, params.cursor, limit + 1).await?;
    Ok(Page::cut(entries, limit, |entry| entry.id.to_string()).shown(RejectedBody::from))
}

/// Get a rejected request with its kept part.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests/{id}", tag = "events", operation_id = "get_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = RejectedBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<RejectedBody>, Problem> {
    Ok(Json(state.operations.get_rejected_request(&access, id).await?.into()))
}

/// Get the kept bytes of a rejected request.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests/{id}/body", tag = "events", operation_id = "download_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn download(
    access: Access<ToRead>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<Response, Problem> {
    let rejected = state.operations.get_rejected_request(&access, path.parse("id", "rejected request")?).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"rejected-{}.bin\"", rejected.id)),
    ];
    Ok((headers, rejected.body).into_response())
}

/// Submit a rejected request again.
///
/// Without a body, the kept request is submitted, usually after its cause is gone (an event name that is allowed now). A body
/// replaces the kept request. The rejected request is deleted when the event is accepted.
#[utoipa::path(post, path = "/v1/tenants/{t}/rejected-requests/{id}/resubmit", tag = "events", operation_id = "resubmit_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)),
    request_body(content = Option<serde_json::Value>, description = "The event to accept instead of what was kept"),
    responses((status = 202, body = AcceptedBody), (status = 400, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem), (status = 507, body = Problem)))]
pub(super) async fn resubmit(
    access: Access<ToManage>,
    path: PathParams,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
    Body(edited): Body,
) -> Result<(StatusCode, Json<AcceptedBody>), Problem> {
    let id: Uuid = path.parse("id", "rejected request")?;
    Ok((StatusCode::ACCEPTED, Json(submit(&state.operations, &access, &exchange, id, edited).await?)))
}

/// Submits the kept request, decoded, or an edited event instead of it.
pub(super) async fn submit(
    operations: &Operations,
    access: &Access<ToManage>,
    exchange: &Exchange,
    id: Uuid,
    edited: Bytes,
) -> Result<AcceptedBody, Problem> {
    let kept = operations.kept_request(access, id).await?;
    let event = if edited.is_empty() {
        let most = usize::try_from(operations.config.event_bytes_max).unwrap_or(usize::MAX);
        encoding::decode(exchange, &operations.cpu, &access.tenant, whole(kept)?, &HeaderMap::new(), most).await?
    } else {
        edited
    };
    operations.resubmit_rejected_request(access, id, &event).await
}

/// Delete a rejected request.
#[utoipa::path(delete, path = "/v1/tenants/{t}/rejected-requests/{id}", tag = "events", operation_id = "delete_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_rejected_request(&access, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
