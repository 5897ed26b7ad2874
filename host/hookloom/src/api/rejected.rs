//! Routes of rejected requests to `/in`, which can be listed, downloaded, edited and submitted, and deleted.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::encoding;
use super::events::AcceptedBody;
use super::exchange::Exchange;
use super::extract::{Access, Body, Item, Params, PathParams, ToManage, ToRead};
use super::paging::{Page, PageLimit};
use super::problem::Problem;
use crate::intake;
use crate::store::{RejectedEntry, RejectedRequest};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Rejected request.
#[derive(Serialize, ToSchema)]
pub(super) struct RejectedBody {
    id: Uuid,
    received_at_ms: i64,
    /// Reason for the rejection.
    reason: String,
    /// Size of the kept part, in bytes.
    bytes: usize,
    /// True if the body was longer than the kept part, or incomplete.
    truncated: bool,
    /// Kept part as text, if it is text. Only in the answer for one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Kept part in base64, if it is not text. Only in the answer for one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl From<RejectedEntry> for RejectedBody {
    fn from(entry: RejectedEntry) -> Self {
        let RejectedEntry { id, received_at_ms, reason, truncated, bytes } = entry;
        RejectedBody { id, received_at_ms, reason, bytes, truncated, body: None, body_base64: None }
    }
}

impl From<RejectedRequest> for RejectedBody {
    fn from(rejected: RejectedRequest) -> Self {
        let RejectedRequest { id, received_at_ms, reason, truncated, body } = rejected;
        let text = std::str::from_utf8(&body).ok().map(str::to_owned);
        let body_base64 = text.is_none().then(|| BASE64.encode(&body));
        RejectedBody { id, received_at_ms, reason, bytes: body.len(), truncated, body: text, body_base64 }
    }
}

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
) -> Result<Response, Problem> {
    let limit = params.limit.map_or(LIMIT, PageLimit::get);
    let entries = state.store.rejected_requests(access.tenant, params.cursor, limit + 1).await?;
    let page = Page::cut(entries, limit, |entry| entry.id.to_string());
    Ok(page.shown(RejectedBody::from).into_response())
}

/// Get a rejected request with its kept part.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests/{id}", tag = "events", operation_id = "get_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = RejectedBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<RejectedBody>, Problem> {
    Ok(Json(state.store.rejected_request(access.tenant, id).await?.into()))
}

/// Get the kept bytes of a rejected request.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests/{id}/body", tag = "events", operation_id = "download_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn download(
    access: Access<ToRead>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<Response, Problem> {
    let rejected = state.store.rejected_request(access.tenant, path.parse("id", "rejected request")?).await?;
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
    let rejected = state.store.rejected_request(access.tenant.clone(), id).await?;
    let body = body_of(&state, &exchange, &access, rejected, edited).await?;
    let limits = state.intake_limits();
    let actor = access.actor();
    let accepted = intake::accept_again(&state.store, &state.cpu, actor, &access.tenant, id, &body, limits).await?;
    Ok((StatusCode::ACCEPTED, Json(vec![accepted].into())))
}

/// Returns the event to submit: the body of the request, or the kept bytes, decoded.
async fn body_of(
    state: &ApiState,
    exchange: &Exchange,
    access: &Access<ToManage>,
    rejected: RejectedRequest,
    edited: Bytes,
) -> Result<Bytes, Problem> {
    if !edited.is_empty() {
        return Ok(edited);
    }
    if rejected.truncated {
        let detail = "only the beginning of this request was kept, so it cannot be submitted unchanged";
        return Err(Problem::new(StatusCode::CONFLICT, "truncated", detail)
            .remedy("send the whole event as the body of this request"));
    }
    let most = usize::try_from(state.config.event_bytes_max).unwrap_or(usize::MAX);
    Ok(encoding::decode(exchange, &state.cpu, &access.tenant, rejected.body, &HeaderMap::new(), most).await?)
}

/// Delete a rejected request.
#[utoipa::path(delete, path = "/v1/tenants/{t}/rejected-requests/{id}", tag = "events", operation_id = "delete_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.forget_rejected_request(access.actor(), access.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
