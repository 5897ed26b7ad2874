//! `/in/{token}`, the address that is entered as Notify URL in Agile CRM, and the requests it could not accept.

use super::ApiState;
use super::body::End;
use super::events::AcceptedBody;
use super::exchange::{Exchange, Payer};
use super::extract::{Access, Item, ToManage, ToRead};
use super::problem::Problem;
use crate::access::credential_hash;
use crate::intake::{self, VendorIntake};
use crate::store::RejectedRequest;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// Receive an event from Agile CRM. The answer is the event itself, as step 4 of the vendor's guide describes; Agile
/// CRM reads no answer. What is no event is kept and can be submitted again.
#[utoipa::path(post, path = "/in/{token}", tag = "events", operation_id = "receive_event", security(()), params(("token" = String, Path)), request_body(content = Object),
    responses((status = 202, description = "durable; the body is the event", body = Object), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn receive(
    Item(token): Item<String>,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<Response, Problem> {
    let known = state.store.catalog().token(&credential_hash(&token));
    let known = known.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-token", "this intake address does not exist or was revoked")
    })?;
    let most = usize::try_from(state.config.event_bytes_max).unwrap_or(usize::MAX);
    exchange.admit(Payer::Intake(known.tenant.clone())).await?;
    // A byte over the cap is enough to know, and all that is kept.
    let received = exchange.read(most + 1, most + 1).await;
    if let Some(problem) = received.end.problem().filter(|_| received.end != End::TooLong) {
        return Err(problem);
    }
    let body = received.kept;
    let begun = SystemTime::now();
    match intake::accept_from_vendor(&state.store, &state.cpu, &known.tenant, body.clone(), state.intake_limits())
        .await?
    {
        VendorIntake::Accepted(accepted) => {
            state.traces.accepted(&known.tenant, accepted.event, begun);
            let mut response = (StatusCode::ACCEPTED, body).into_response();
            let id = HeaderValue::try_from(accepted.event.to_string()).expect("a uuid is visible ASCII");
            response.headers_mut().insert("hookloom-event-id", id);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
        VendorIntake::Kept(id, error) => Err(Problem { rejected_request: Some(id), ..Problem::from(error) }),
    }
}

/// A request that could not be accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct RejectedBody {
    id: Uuid,
    received_at_ms: i64,
    /// Why it was no event.
    reason: String,
    /// How many bytes were kept.
    bytes: usize,
    /// Whether it was longer than that.
    truncated: bool,
    /// What was kept, as text: only when one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl RejectedBody {
    fn new(rejected: RejectedRequest, with_body: bool) -> Self {
        let RejectedRequest { id, received_at_ms, reason, truncated, body } = rejected;
        let text = with_body.then(|| String::from_utf8_lossy(&body).into_owned());
        RejectedBody { id, received_at_ms, reason, bytes: body.len(), truncated, body: text }
    }
}

/// Requests to `/in` that could not be accepted: the newest 200 of the last 7 days.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests", tag = "events", operation_id = "list_rejected_requests", params(("t" = String, Path)), responses((status = 200, body = [RejectedBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<RejectedBody>>, Problem> {
    let rejected = state.store.rejected_requests(access.tenant).await?;
    Ok(Json(rejected.into_iter().map(|one| RejectedBody::new(one, false)).collect()))
}

/// One rejected request, with what was kept of it.
#[utoipa::path(get, path = "/v1/tenants/{t}/rejected-requests/{id}", tag = "events", operation_id = "get_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = RejectedBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<RejectedBody>, Problem> {
    let rejected = state.store.rejected_request(access.tenant, id).await?;
    Ok(Json(RejectedBody::new(rejected, true)))
}

/// Submit a rejected request again, once its cause is gone (an event name that is allowed now, as a rule).
#[utoipa::path(post, path = "/v1/tenants/{t}/rejected-requests/{id}/resubmit", tag = "events", operation_id = "resubmit_rejected_request", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 202, body = AcceptedBody), (status = 400, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn resubmit(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<AcceptedBody>), Problem> {
    let rejected = state.store.rejected_request(access.tenant.clone(), id).await?;
    if rejected.truncated {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "truncated",
            "only the beginning of this request was kept, so it cannot be submitted",
        ));
    }
    state.changed(&access.key, Some(&access.tenant), "rejected-request.resubmit", id, [None, None]).await;
    let accepted =
        intake::accept_again(&state.store, &state.cpu, &access.tenant, rejected, state.intake_limits()).await?;
    Ok((StatusCode::ACCEPTED, Json(vec![accepted].into())))
}
