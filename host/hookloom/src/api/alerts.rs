//! Routes of alerts and incidents.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::Params;
use super::paging::{Page, PageParams};
use super::read_back::{ReadBack, Rewrite};
use crate::operations::{Access, AlertTestBody, AlertsBody, IncidentBody, Problem, ToManage, ToRead};
use axum::Json;
use axum::extract::State;
use hookloom_model::alerts::AlertSettings;
use std::sync::Arc;

impl ReadBack for AlertSettings {
    const READ_ONLY: &'static [&'static str] = &["email"];
}

/// Get the settings of the tenant's alerts.
#[utoipa::path(get, path = "/v1/tenants/{t}/alerts", tag = "alerts", operation_id = "get_alerts", params(("t" = String, Path)), responses((status = 200, body = AlertsBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<AlertsBody>, Problem> {
    Ok(Json(state.operations.get_alerts(&access)?))
}

/// Replace the settings of the tenant's alerts. An absent setting has its default.
#[utoipa::path(put, path = "/v1/tenants/{t}/alerts", tag = "alerts", operation_id = "put_alerts", params(("t" = String, Path)), request_body = AlertSettings,
    responses((status = 200, body = AlertsBody), (status = 422, body = Problem)))]
pub(super) async fn put(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Rewrite { new, .. }: Rewrite<AlertSettings>,
) -> Result<Json<AlertsBody>, Problem> {
    Ok(Json(state.operations.put_alerts(&access, new).await?))
}

/// List the tenant's incidents, newest first: those that are open, and the last 500.
#[utoipa::path(get, path = "/v1/tenants/{t}/incidents", tag = "alerts", operation_id = "list_incidents", params(("t" = String, Path), PageParams), responses((status = 200, body = [IncidentBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<IncidentBody>, Problem> {
    Ok(page.newest_first(state.operations.list_incidents(&access).await?, |one| one.incident.id.to_string()))
}

/// Write a test e-mail to each recipient of the tenant's alerts, and a test event to each webhook of the module `Incident`.
#[utoipa::path(post, path = "/v1/tenants/{t}/alerts/test", tag = "alerts", operation_id = "test_alerts", params(("t" = String, Path)), responses((status = 200, body = AlertTestBody), (status = 409, body = Problem)))]
pub(super) async fn test(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<AlertTestBody>, Problem> {
    Ok(Json(state.operations.test_alerts(&access).await?))
}
