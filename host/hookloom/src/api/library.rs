//! Routes of the library of plugins.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Json as Input, Params};
use super::paging::{Page, PageParams};
use super::plugins::UploadParams;
use crate::operations::{Access, Activation, LibraryPluginBody, LibraryWrite, Problem, ToManage, ToRead, VersionBody};
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// List the plugins in the host's library, by name, and which of them the tenant added.
#[utoipa::path(get, path = "/v1/tenants/{t}/library", tag = "plugins", operation_id = "list_library", params(("t" = String, Path), PageParams), responses((status = 200, body = [LibraryPluginBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<LibraryPluginBody>, Problem> {
    Ok(page.of(state.operations.list_library(&access), |plugin: &LibraryPluginBody| plugin.name.to_owned()))
}

/// Add a plugin of the host's library, or its update, as a version of a plugin, and make it the active one.
#[utoipa::path(post, path = "/v1/tenants/{t}/plugins", tag = "plugins", operation_id = "add_library_plugin", params(("t" = String, Path), UploadParams), request_body = LibraryWrite,
    responses((status = 200, body = VersionBody), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn add(
    access: Access<ToManage>,
    Params(params): Params<UploadParams>,
    State(state): State<Arc<ApiState>>,
    Input(wanted): Input<LibraryWrite>,
) -> Result<Json<VersionBody>, Problem> {
    let activation = Activation { activate: params.activate.unwrap_or(true), gate: params.gate };
    Ok(Json(state.operations.add_library_plugin(&access, &wanted, activation).await?))
}
