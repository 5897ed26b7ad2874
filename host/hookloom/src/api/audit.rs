//! Routes of the log of changes.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::Params;
use super::paging::{PageLimit, limit_of};
use crate::operations::{Access, Admin, ChangeKind, ChangePage, Problem, ToManage};
use crate::store::ChangeSearch;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use uuid::Uuid;

/// Filter and paging of the log of changes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeParams {
    /// Only changes by keys whose label or first characters contain this text, in upper or lower case.
    who: Option<String>,
    /// Only changes of things of this kind.
    kind: Option<ChangeKind>,
    /// Only changes from this time on, in milliseconds since the epoch.
    from_ms: Option<i64>,
    /// Only changes before this time.
    to_ms: Option<i64>,
    /// The `cursor` of the previous page.
    cursor: Option<Uuid>,
    /// Number of items: 1 to 500, 50 if absent. A page with large states has fewer.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

impl ChangeParams {
    fn search(&self) -> ChangeSearch {
        ChangeSearch {
            who: self.who.clone().unwrap_or_default(),
            kinds: self.kind.map(|kind| kind.as_str().to_owned()).into_iter().collect(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
        }
    }
}

/// List changes of a tenant and the keys that made them, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/changes", tag = "access", operation_id = "list_changes", params(("t" = String, Path), ChangeParams),
    responses((status = 200, body = ChangePage), (status = 400, body = Problem)))]
pub(super) async fn list(
    access: Access<ToManage>,
    Params(params): Params<ChangeParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<ChangePage>, Problem> {
    Ok(Json(state.operations.list_changes(&access, params.search(), params.cursor, limit_of(params.limit)).await?))
}

/// List changes of the host itself (tenants, admin keys and shards), newest first.
#[utoipa::path(get, path = "/v1/changes", tag = "access", operation_id = "list_host_changes", params(ChangeParams),
    responses((status = 200, body = ChangePage), (status = 400, body = Problem)))]
pub(super) async fn list_of_host(
    admin: Admin,
    Params(params): Params<ChangeParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<ChangePage>, Problem> {
    Ok(Json(state.operations.list_host_changes(&admin, params.search(), params.cursor, limit_of(params.limit)).await?))
}
