//! Routes of tenants.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Access, Admin, Json as Input, Params, PathParams, ToManage, ToRead};
use super::paging::{Page, PageParams};
use super::problem::Problem;
use super::read_back::{ReadBack, Rewrite};
use crate::address::Egress;
use crate::event::Module;
use crate::limits::Limits;
use crate::store::{Ledger, StoreError, TenantChange, TenantContents, Usage};
use crate::subscription::{Tenant, TenantId};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Tenant of the host.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantBody {
    /// Id of the tenant in paths.
    id: String,
    /// Accepted event names besides the vendor's four, with the module of each.
    extra_event_names: BTreeMap<String, Module>,
    /// Limits of plugin calls, lower than the host's maxima.
    limits_max: BTreeMap<String, u64>,
    /// Address ranges that the tenant may call, within those of the host.
    egress: Egress,
    /// Time of the tenant's creation, in milliseconds since the epoch.
    created_at_ms: i64,
}

impl From<&Tenant> for TenantBody {
    fn from(tenant: &Tenant) -> Self {
        TenantBody {
            id: tenant.id.to_string(),
            extra_event_names: tenant.extra_event_names.clone(),
            limits_max: tenant.limits_max.clone(),
            egress: tenant.egress.clone(),
            created_at_ms: tenant.created_at_ms,
        }
    }
}

/// Tenant to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenant {
    /// 1 to 64 of `a-z`, `0-9` and `-`.
    id: String,
    /// Accepted event names besides the vendor's four, with the module of each.
    #[serde(default)]
    extra_event_names: BTreeMap<String, Module>,
    /// Limits of plugin calls, lower than the host's maxima, such as `{"cpu_ms": 20}`.
    #[serde(default)]
    limits_max: BTreeMap<String, u64>,
    /// Address ranges that the tenant may call, within those of the host.
    #[serde(default)]
    egress: Egress,
}

impl NewTenant {
    /// Returns a tenant of which everything but its id has its default.
    pub(super) fn named(id: &TenantId) -> Self {
        NewTenant {
            id: id.to_string(),
            extra_event_names: BTreeMap::new(),
            limits_max: BTreeMap::new(),
            egress: Egress::default(),
        }
    }
}

/// Changes of a tenant. Absent fields stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantWrite {
    /// Accepted event names besides the vendor's four, with the module of each.
    extra_event_names: Option<BTreeMap<String, Module>>,
    /// Limits of plugin calls, lower than the host's maxima. They apply at once, also to subscriptions with higher limits.
    limits_max: Option<BTreeMap<String, u64>>,
    /// Address ranges that the tenant may call, within those of the host. They apply from the next attempt on.
    egress: Option<Egress>,
}

impl ReadBack for TenantWrite {
    const READ_ONLY: &'static [&'static str] = &["id", "created_at_ms"];
}

/// List all tenants, by name.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", operation_id = "list_tenants", params(PageParams), responses((status = 200, body = [TenantBody])))]
pub(super) async fn list(
    _: Admin,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Page<TenantBody> {
    page.of(state.store.catalog().tenants(), |tenant| tenant.id.to_string()).shown(|tenant| TenantBody::from(&*tenant))
}

/// Create a tenant.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", operation_id = "create_tenant", request_body = NewTenant, responses((status = 201, body = TenantBody), (status = 409, body = Problem)))]
pub(super) async fn create(
    admin: Admin,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewTenant>,
) -> Result<(StatusCode, Json<TenantBody>), Problem> {
    let id = TenantId::parse(&new.id).map_err(|detail| Problem::field("/id", detail))?;
    let change = TenantChange {
        extra_event_names: Some(checked_names(new.extra_event_names)?),
        limits_max: Some(checked_limits(new.limits_max)?),
        egress: Some(checked_egress(new.egress)?),
    };
    let tenant = state.store.create_tenant(admin.actor(), id, change).await?;
    Ok((StatusCode::CREATED, Json((&tenant).into())))
}

/// Get a tenant.
#[utoipa::path(get, path = "/v1/tenants/{t}", tag = "tenants", operation_id = "get_tenant", params(("t" = String, Path)), responses((status = 200, body = TenantBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<TenantBody>, Problem> {
    let tenant = state.store.catalog().tenant(&access.tenant).ok_or_else(|| Problem::not_found("tenant"))?;
    Ok(Json((&*tenant).into()))
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
    let change = TenantChange {
        extra_event_names: change.extra_event_names.map(checked_names).transpose()?,
        limits_max: change.limits_max.map(checked_limits).transpose()?,
        egress: change.egress.map(checked_egress).transpose()?,
    };
    let tenant = state.store.update_tenant(admin.actor(), access.tenant, change).await?;
    Ok(Json((&*tenant).into()))
}

fn checked_names(names: BTreeMap<String, Module>) -> Result<BTreeMap<String, Module>, Problem> {
    fn fits(name: &str) -> bool {
        (1..=200).contains(&name.len()) && !name.chars().any(char::is_control)
    }
    if names.values().any(|module| *module == Module::Subscription) {
        let detail = "events of the module Subscription are made by the host only".to_owned();
        return Err(Problem::field("/extra_event_names", detail));
    }
    if names.len() <= 100 && names.keys().all(|name| fits(name)) {
        Ok(names)
    } else {
        Err(Problem::field("/extra_event_names", "at most 100 names of 1 to 200 bytes, without control characters"))
    }
}

/// Maximum number of ranges in each list of a tenant's egress, which are all compared with each dialled address.
const RANGES_MAX: usize = 1_000;

fn checked_egress(egress: Egress) -> Result<Egress, Problem> {
    if egress.deny.len() <= RANGES_MAX && egress.only.len() <= RANGES_MAX {
        return Ok(egress);
    }
    let detail = format!("at most {RANGES_MAX} ranges in each list");
    Err(Problem::field("/egress", detail))
}

fn checked_limits(limits: BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>, Problem> {
    match Limits::HOST_MAX.lowered(&limits) {
        Ok(_) => Ok(limits),
        Err(detail) => Err(Problem::field("/limits_max", detail)),
    }
}

/// Get the tenant's stored data by kind, and its share.
#[utoipa::path(get, path = "/v1/tenants/{t}/usage", tag = "tenants", operation_id = "get_usage", params(("t" = String, Path)), responses((status = 200, body = Usage)))]
pub(super) async fn usage(access: Access<ToRead>, State(state): State<Arc<ApiState>>) -> Result<Json<Usage>, Problem> {
    Ok(Json(state.store.usage(access.tenant).await?))
}

/// Returns the tenant in a path for an admin. It may be being deleted.
fn named(path: &PathParams) -> Result<TenantId, Problem> {
    TenantId::parse(path.get("t")).map_err(|_| Problem::from(StoreError::NotFound("tenant")))
}

/// Count what the deletion of a tenant would delete, or what is left of a tenant that is being deleted.
#[utoipa::path(get, path = "/v1/tenants/{t}/deletion", tag = "tenants", operation_id = "get_tenant_deletion", params(("t" = String, Path)),
    responses((status = 200, body = TenantContents), (status = 404, body = Problem)))]
pub(super) async fn deletion(
    _: Admin,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<TenantContents>, Problem> {
    Ok(Json(state.store.tenant_contents(named(&path)?).await?))
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
    let tenant = named(&path)?;
    let contents = state.store.tenant_contents(tenant.clone()).await?;
    if confirmation.confirm.as_deref() != Some(&*tenant.0) {
        let detail = format!("type the tenant's name to delete it with {} events: confirm={tenant}", contents.events);
        return Err(Problem::field("/confirm", detail));
    }
    state.store.delete_tenant(admin.actor(), tenant.clone(), contents.clone()).await?;
    state.plugins.forget_tenant(&tenant);
    Ok((StatusCode::ACCEPTED, Json(state.store.tenant_contents(tenant).await.unwrap_or(contents))))
}

/// Get the number of promised deliveries, and of deliveries in each state.
#[utoipa::path(get, path = "/v1/tenants/{t}/ledger", tag = "tenants", operation_id = "get_ledger", params(("t" = String, Path)), responses((status = 200, body = Ledger)))]
pub(super) async fn ledger(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Ledger>, Problem> {
    Ok(Json(state.store.ledger(access.tenant).await?))
}
