//! Routes of tenants.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Json as Input, Params, PathParams};
use super::paging::{Page, PageParams};
use super::read_back::{ReadBack, Rewrite};
use crate::operations::{Access, Admin, NewTenant, Problem, TenantBody, TenantWrite, ToManage, ToRead};
use crate::store::{Ledger, TenantContents, Usage};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

impl ReadBack for TenantWrite {
    const READ_ONLY: &'static [&'static str] = &["id", "created_at_ms"];
}

/// List all tenants, by name.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", operation_id = "list_tenants", params(PageParams), responses((status = 200, body = [TenantBody])))]
pub(super) async fn list(
    admin: Admin,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Page<TenantBody> {
    page.of(state.operations.list_tenants(&admin), |tenant| tenant.id.to_string())
        .shown(|tenant| TenantBody::from(&*tenant))
}

/// Create a tenant.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", operation_id = "create_tenant", request_body = NewTenant, responses((status = 201, body = TenantBody), (status = 409, body = Problem)))]
pub(super) async fn create(
    admin: Admin,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewTenant>,
) -> Result<(StatusCode, Json<TenantBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_tenant(&admin, new).await?)))
}

/// Get a tenant.
#[utoipa::path(get, path = "/v1/tenants/{t}", tag = "tenants", operation_id = "get_tenant", params(("t" = String, Path)), responses((status = 200, body = TenantBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<TenantBody>, Problem> {
    Ok(Json(state.operations.get_tenant(&access)?))
}

/// Change the accepted event names of a tenant, the limits of its plugins, and its address ranges.
#[utoipa::path(patch, path = "/v1/tenants/{t}", tag = "tenants", operation_id = "update_tenant", params(("t" = String, Path)), request_body = TenantWrite, responses((status = 200, body = TenantBody)))]
pub(super) async fn update(
    access: Access<ToManage>,
    admin: Admin,
    State(state): State<Arc<ApiState>>,
    Rewrite { new: change, read_only }: Rewrite<TenantWrite>,
) -> Result<Json<TenantBody>, Problem> {
    read_only.check_id(&access.tenant)?;
    Ok(Json(state.operations.update_tenant(&admin, access.tenant, change).await?))
}

/// Get the tenant's stored data by kind, and its share.
#[utoipa::path(get, path = "/v1/tenants/{t}/usage", tag = "tenants", operation_id = "get_usage", params(("t" = String, Path)), responses((status = 200, body = Usage)))]
pub(super) async fn usage(access: Access<ToRead>, State(state): State<Arc<ApiState>>) -> Result<Json<Usage>, Problem> {
    Ok(Json(state.operations.get_usage(&access).await?))
}

/// Get the number of promised deliveries, and of deliveries in each state.
#[utoipa::path(get, path = "/v1/tenants/{t}/ledger", tag = "tenants", operation_id = "get_ledger", params(("t" = String, Path)), responses((status = 200, body = Ledger)))]
pub(super) async fn ledger(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Ledger>, Problem> {
    Ok(Json(state.operations.get_ledger(&access).await?))
}

/// Count what the deletion of a tenant would delete, or what is left of a tenant that is being deleted.
#[utoipa::path(get, path = "/v1/tenants/{t}/deletion", tag = "tenants", operation_id = "get_tenant_deletion", params(("t" = String, Path)),
    responses((status = 200, body = TenantContents), (status = 404, body = Problem)))]
pub(super) async fn deletion(
    admin: Admin,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<TenantContents>, Problem> {
    Ok(Json(state.operations.get_tenant_deletion(&admin, path.get("t")).await?))
}

/// Confirmation of a deletion.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    /// Id of the tenant again. `GET /v1/tenants/{t}/deletion` counts what is deleted with it.
    pub(super) confirm: Option<String>,
}

/// Delete a tenant with everything that belongs to it.
///
/// Its keys and intake addresses stop working at once. Everything else is deleted in the background.
#[utoipa::path(delete, path = "/v1/tenants/{t}", tag = "tenants", operation_id = "delete_tenant", params(("t" = String, Path), Confirmation),
    responses((status = 202, body = TenantContents), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn delete(
    admin: Admin,
    path: PathParams,
    Params(confirmation): Params<Confirmation>,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<TenantContents>), Problem> {
    let contents = state.operations.delete_tenant(&admin, path.get("t"), confirmation.confirm.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, Json(contents)))
}
