//! Routes of event types.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Params, PathParams};
use super::paging::{Page, PageParams};
use super::read_back::{ReadBack, Rewrite};
use crate::event_type::EventType;
use crate::operations::{Access, EventTypeBody, Problem, ToManage, ToRead};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

impl ReadBack for EventType {
    const READ_ONLY: &'static [&'static str] = &["name", "origin", "recent_events", "last_received_at_ms"];
}

/// List the event types that the tenant accepts, with counts: those of Agile CRM and of the host, and its own by name.
#[utoipa::path(get, path = "/v1/tenants/{t}/event-types", tag = "events", operation_id = "list_event_types", params(("t" = String, Path), PageParams), responses((status = 200, body = [EventTypeBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<EventTypeBody>, Problem> {
    Ok(page.of(state.operations.list_event_types(&access).await?, |one| one.name.clone()))
}

/// Get an event type.
#[utoipa::path(get, path = "/v1/tenants/{t}/event-types/{name}", tag = "events", operation_id = "get_event_type", params(("t" = String, Path), ("name" = String, Path)), responses((status = 200, body = EventTypeBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<EventTypeBody>, Problem> {
    Ok(Json(state.operations.get_event_type(&access, path.get("name")).await?))
}

/// Add an event type of the tenant's own, or describe one anew. Events with its name are accepted from then on.
#[utoipa::path(put, path = "/v1/tenants/{t}/event-types/{name}", tag = "events", operation_id = "put_event_type", params(("t" = String, Path), ("name" = String, Path)), request_body = EventType,
    responses((status = 200, body = EventTypeBody), (status = 422, body = Problem)))]
pub(super) async fn put(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
    Rewrite { new, read_only }: Rewrite<EventType>,
) -> Result<Json<EventTypeBody>, Problem> {
    let name = path.get("name");
    read_only.check_unchanged("name", &name, "it is not the name in the path")?;
    Ok(Json(state.operations.put_event_type(&access, name, new).await?))
}

/// Remove an event type of the tenant's own. Events with its name are refused from then on; those that were accepted stay.
#[utoipa::path(delete, path = "/v1/tenants/{t}/event-types/{name}", tag = "events", operation_id = "delete_event_type", params(("t" = String, Path), ("name" = String, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_event_type(&access, path.get("name")).await?;
    Ok(StatusCode::NO_CONTENT)
}
