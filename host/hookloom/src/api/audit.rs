//! Routes of the log of changes. The store adds the entries, in the transactions of the changes.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Access, Admin, Params, ToManage};
use super::paging::{PageLimit, limit_of};
use super::problem::Problem;
use crate::store::Change;
use crate::subscription::TenantId;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Entry of the log of changes.
#[derive(Serialize, ToSchema)]
pub(super) struct ChangeBody {
    id: Uuid,
    at_ms: i64,
    /// Key of the author: its label and first characters.
    who: String,
    /// Kind of change, such as `subscription.update`.
    action: String,
    /// Name or id of the changed thing.
    subject: String,
    /// State before the change, without secrets.
    before: Option<Value>,
    /// State after the change, without secrets.
    after: Option<Value>,
}

/// Page of changes.
#[derive(Serialize, ToSchema)]
pub(super) struct ChangePage {
    /// Changes, newest first.
    changes: Vec<ChangeBody>,
    /// Value of `cursor` in the request for the next page. Absent on the last one.
    cursor: Option<Uuid>,
}

/// Filter and paging of the log of changes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeParams {
    /// The `cursor` of the previous page.
    cursor: Option<Uuid>,
    /// Number of items: 1 to 500, 50 if absent. A page with large states has fewer.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

/// List changes of a tenant and the keys that made them, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/changes", tag = "access", operation_id = "list_changes", params(("t" = String, Path), ChangeParams),
    responses((status = 200, body = ChangePage), (status = 400, body = Problem)))]
pub(super) async fn list(
    access: Access<ToManage>,
    Params(params): Params<ChangeParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<ChangePage>, Problem> {
    page(&state, Some(access.tenant), params).await
}

/// List changes of the host itself (tenants and admin keys), newest first.
#[utoipa::path(get, path = "/v1/changes", tag = "access", operation_id = "list_host_changes", params(ChangeParams),
    responses((status = 200, body = ChangePage), (status = 400, body = Problem)))]
pub(super) async fn list_of_host(
    _: Admin,
    Params(params): Params<ChangeParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<ChangePage>, Problem> {
    page(&state, None, params).await
}

async fn page(state: &ApiState, tenant: Option<TenantId>, params: ChangeParams) -> Result<Json<ChangePage>, Problem> {
    let limit = limit_of(params.limit);
    let (changes, more) = state.store.changes(tenant, params.cursor, limit).await?;
    let cursor = changes.last().filter(|_| more).map(|change| change.id);
    fn body(Change { id, at_ms, who, action, subject, before, after }: Change) -> ChangeBody {
        ChangeBody { id, at_ms, who, action, subject, before, after }
    }
    Ok(Json(ChangePage { changes: changes.into_iter().map(body).collect(), cursor }))
}
