//! Routes of requests that bins received.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use crate::address::check_host;
use crate::api::ApiState;
use crate::api::exchange::Exchange;
use crate::api::extract::{Access, Item, Json as Input, Params, PathParams, ToManage, ToRead};
use crate::api::paging::{PageLimit, limit_of};
use crate::api::problem::Problem;
use crate::headers::{HeaderAuthor, check_header};
use crate::ids::BinId;
use crate::inspector::{BinRequest, RequestHead};
use crate::store::{BIN_BYTES_MAX, BinFilter, LiveUpdate};
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hookloom_egress::{RESPONSE_BYTES_MAX, Request};
use http::{HeaderMap, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Request that a bin received.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct BinRequestBody {
    id: Uuid,
    received_at_ms: i64,
    #[serde(flatten)]
    head: RequestHead,
    /// Body as text, if it is text.
    body: Option<String>,
    /// Body in base64, if it is not text.
    body_base64: Option<String>,
}

impl From<BinRequest> for BinRequestBody {
    fn from(request: BinRequest) -> Self {
        let BinRequest { id, received_at_ms, head, body } = request;
        let text = String::from_utf8(body.to_vec()).ok();
        let body_base64 = text.is_none().then(|| BASE64.encode(&body));
        BinRequestBody { id, received_at_ms, head, body: text, body_base64 }
    }
}

/// Memory for an answer with a whole bin, in bytes: the requests, and their JSON.
pub(in crate::api) const ANSWER_BYTES: u64 = 2 * BIN_BYTES_MAX;

/// Page of requests.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct BinRequestPage {
    /// Requests, newest first.
    requests: Vec<BinRequestBody>,
    /// Value of `cursor` in the request for the next page. Absent on the last one. A search reads 4 MiB at once, so a page can be
    /// empty and have a cursor with which the search continues.
    cursor: Option<Uuid>,
}

/// Maximum length of a text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 256;

/// Checks a search text. An empty one counts as absent.
pub(in crate::api) fn checked_search(text: Option<String>) -> Result<Option<String>, Problem> {
    let text = text.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > SEARCH_BYTES_MAX) {
        let detail = format!("a text to search for has at most {SEARCH_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail));
    }
    Ok(text)
}

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
    let page = state.store.bin_requests(access.tenant, path.parse("id", "bin")?, filter).await?;
    Ok(Json(BinRequestPage { requests: page.requests.into_iter().map(Into::into).collect(), cursor: page.further }))
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
    let filter = BinFilter { limit: usize::MAX >> 1, ..BinFilter::default() };
    let page = state.store.bin_requests(access.tenant, id.clone(), filter).await?;
    let body: Vec<BinRequestBody> = page.requests.into_iter().map(Into::into).collect();
    let name = format!("attachment; filename=\"bin-{id}.json\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], Json(body)))
}

/// Delete all requests of a bin.
#[utoipa::path(delete, path = "/v1/tenants/{t}/bins/{id}/requests", tag = "bins", operation_id = "clear_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(in crate::api) async fn clear(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    let id: BinId = path.parse("id", "bin")?;
    state.store.forget_bin_requests(access.actor(), access.tenant, id.clone(), None).await?;
    state.store.publish_live_update(|| LiveUpdate::Bin(id));
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
    Ok(Json(state.store.bin_request(access.tenant, path.parse("id", "bin")?, request).await?.0.into()))
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
    let id: BinId = path.parse("id", "bin")?;
    state.store.forget_bin_requests(access.actor(), access.tenant, id.clone(), Some(request)).await?;
    state.store.publish_live_update(|| LiveUpdate::Bin(id));
    Ok(StatusCode::NO_CONTENT)
}

/// Destination of a replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ReplayTo {
    /// http or https URL, vetted like a Notify URL.
    pub(in crate::api) url: String,
}

/// Result of a replay.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ReplayBody {
    /// Status of the receiver's answer. Absent: there was no answer.
    pub(in crate::api) status: Option<u16>,
    /// Text of the answer, or the reason why there was none.
    pub(in crate::api) answer: String,
    /// Duration of the request with its answer, in microseconds.
    pub(in crate::api) total_us: u64,
}

const REPLAY_TIMEOUT: Duration = Duration::from_secs(15);

/// Send a request again, with its method, body and headers, to another URL.
#[utoipa::path(post, path = "/v1/tenants/{t}/bins/{id}/requests/{request}/replay", tag = "bins", operation_id = "replay_bin_request", params(("t" = String, Path), ("id" = String, Path), ("request" = Uuid, Path)), request_body = ReplayTo,
    responses((status = 200, body = ReplayBody), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(in crate::api) async fn replay(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
    Input(to): Input<ReplayTo>,
) -> Result<Json<ReplayBody>, Problem> {
    let url = Url::parse(&to.url).map_err(|error| Problem::field("/url", error.to_string()))?;
    check_host(url.host_str().unwrap_or_default()).map_err(|error| Problem::field("/url", error.to_string()))?;
    let id = path.parse("request", "request")?;
    let (request, _) = state.store.bin_request(access.tenant.clone(), path.parse("id", "bin")?, id).await?;
    let egress = state.store.catalog().tenant(&access.tenant).map(|tenant| tenant.egress.clone()).unwrap_or_default();
    let client = state.clients.narrowed(&egress).map_err(|error| {
        tracing::error!(error = %crate::describe(&error), "the HTTP client to replay a request could not be built");
        Problem::conflict("the request could not be sent; the host's log names the cause")
    })?;
    let request = Request {
        method: Method::from_bytes(request.head.method.as_bytes()).unwrap_or(Method::POST),
        headers: headers(&request.head),
        url: url.clone(),
        body: request.body,
        timeout: REPLAY_TIMEOUT,
        response_bytes_max: RESPONSE_BYTES_MAX,
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    state.store.record_bin_replay(access.actor(), access.tenant, id, host).await?;
    let (answer, timings) = client.send(request).await;
    Ok(Json(match answer {
        Ok(answer) => ReplayBody {
            status: Some(answer.status),
            answer: String::from_utf8_lossy(&answer.body).into_owned(),
            total_us: timings.total_us,
        },
        Err(error) => ReplayBody { status: None, answer: error.to_string(), total_us: timings.total_us },
    }))
}

/// Returns the headers for a replay: those of the request, without headers about its connection and host. The signature stays,
/// because body and id are the same.
fn headers(head: &RequestHead) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let ours = ["webhook-id", "webhook-timestamp", "webhook-signature", "hookloom-event-id", "content-type"];
        let parsed = if ours.contains(&name.as_str()) {
            name.parse().ok().zip(value.parse().ok())
        } else if name.eq_ignore_ascii_case("cookie") {
            // Cookies of sessions are not sent anywhere.
            None
        } else {
            check_header(name, value, HeaderAuthor::Untrusted).ok()
        };
        if let Some((name, value)) = parsed {
            headers.append::<http::HeaderName>(name, value);
        }
    }
    headers
}
