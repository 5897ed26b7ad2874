//! Routes of requests that bins received.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use crate::api::ApiState;
use crate::api::exchange::Exchange;
use crate::api::extract::{Item, Json as Input, Params, PathParams};
use crate::api::paging::{PageLimit, limit_of};
use crate::ids::BinId;
use crate::operations::{
    ANSWER_BYTES, Access, BinRequestBody, BinRequestPage, Problem, ReplayBody, ReplayTo, ToManage, ToRead,
    checked_search,
};
use crate::store::BinFilter;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use uuid::Uuid;

/// Filter and paging of a bin's requests.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct BinParams {
    /// Only requests with this text in the headers or the first 64 KiB of the body, at most 256 bytes. ASCII letters match in
    /// either case.
    search: Option<String>,
    /// The `cursor` of the previous page.
    cursor: Option<Uuid>,
    /// Number of items: 1 to 500, 50 if absent.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

/// List requests that a bin received, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins/{id}/requests", tag = "bins", operation_id = "list_bin_requests", params(("t" = String, Path), ("id" = String, Path), BinParams),
    responses((status = 200, body = BinRequestPage), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(in crate::api) async fn list_requests(
    access: Access<ToRead>,
    path: PathParams,
    Params(params): Params<BinParams>,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<BinRequestPage>, Problem> {
    exchange.reserve_answer(ANSWER_BYTES).await?;
    let limit = limit_of(params.limit);
    let filter = BinFilter { before: params.cursor, search: checked_search(params.search)?, limit };
    Ok(Json(state.operations.list_bin_requests(&access, path.parse("id", "bin")?, filter).await?))
}

/// Download all requests of a bin as a JSON file.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins/{id}/export", tag = "bins", operation_id = "export_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = [BinRequestBody]), (status = 404, body = Problem)))]
pub(in crate::api) async fn export(
    access: Access<ToRead>,
    path: PathParams,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<impl IntoResponse, Problem> {
    exchange.reserve_answer(ANSWER_BYTES).await?;
    let id: BinId = path.parse("id", "bin")?;
    let name = format!("attachment; filename=\"bin-{id}.json\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], Json(state.operations.export_bin(&access, id).await?)))
}

/// Delete all requests of a bin.
#[utoipa::path(delete, path = "/v1/tenants/{t}/bins/{id}/requests", tag = "bins", operation_id = "clear_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(in crate::api) async fn clear(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_bin_requests(&access, path.parse("id", "bin")?, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get a request of a bin.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins/{id}/requests/{request}", tag = "bins", operation_id = "get_bin_request", params(("t" = String, Path), ("id" = String, Path), ("request" = Uuid, Path)),
    responses((status = 200, body = BinRequestBody), (status = 404, body = Problem)))]
pub(in crate::api) async fn get_request(
    access: Access<ToRead>,
    Item(request): Item<Uuid>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<BinRequestBody>, Problem> {
    Ok(Json(state.operations.get_bin_request(&access, path.parse("id", "bin")?, request).await?))
}

/// Delete a request of a bin.
#[utoipa::path(delete, path = "/v1/tenants/{t}/bins/{id}/requests/{request}", tag = "bins", operation_id = "delete_bin_request", params(("t" = String, Path), ("id" = String, Path), ("request" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(in crate::api) async fn delete_request(
    access: Access<ToManage>,
    Item(request): Item<Uuid>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_bin_requests(&access, path.parse("id", "bin")?, Some(request)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a request again, with its method, body and headers, to another URL.
#[utoipa::path(post, path = "/v1/tenants/{t}/bins/{id}/requests/{request}/replay", tag = "bins", operation_id = "replay_bin_request", params(("t" = String, Path), ("id" = String, Path), ("request" = Uuid, Path)), request_body = ReplayTo,
    responses((status = 200, body = ReplayBody), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(in crate::api) async fn replay(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
    Input(to): Input<ReplayTo>,
) -> Result<Json<ReplayBody>, Problem> {
    let request = path.parse("request", "request")?;
    Ok(Json(state.operations.replay_bin_request(&access, path.parse("id", "bin")?, request, &to).await?))
}
