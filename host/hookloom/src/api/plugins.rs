//! Routes of plugins, and of dry runs.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::exchange::Exchange;
use super::extract::{Body, Item, Json as Input, Params, PathParams};
use super::paging::{Page, PageParams};
use crate::ids::{PluginName, VersionId};
use crate::operations::{
    Access, ActivatedBody, Activation, ComparisonSize, DryRun, PluginBody, Problem, ToManage, ToRead, VersionBody,
    stored_script,
};
use crate::plugin::{Shown, script};
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Options of a version's activation.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadParams {
    /// `false` adds the version without activating it, to be tried or activated later. True if absent.
    pub(super) activate: Option<bool>,
    /// Number of the last real events (1 to 500) that the new and the active version judge first: those of the plugin's subscriptions,
    /// then the tenant's others of the same modules, then samples. The version is not activated if it fails on an event on which the
    /// active version does not fail, or if nothing could be judged.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    pub(super) gate: Option<ComparisonSize>,
}

/// Checks that a version must pass before it is activated.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    /// Number of the last real events (1 to 500) that the new and the active version judge first: those of the plugin's subscriptions,
    /// then the tenant's others of the same modules, then samples. The version is not activated if it fails on an event on which the
    /// active version does not fail, or if nothing could be judged.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    pub(super) gate: Option<ComparisonSize>,
}

/// Upload a component and make it the plugin's active version.
#[utoipa::path(put, path = "/v1/tenants/{t}/plugins/{name}", tag = "plugins", operation_id = "upload_plugin", params(("t" = String, Path), ("name" = String, Path), UploadParams),
    request_body(content((Vec<u8> = "application/wasm"), (String = "text/javascript")), description = "the component, or the source of a script"),
    responses((status = 200, body = VersionBody), (status = 413, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put(
    access: Access<ToManage>,
    Item(name): Item<String>,
    Params(params): Params<UploadParams>,
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    Body(uploaded): Body,
) -> Result<Json<VersionBody>, Problem> {
    let name = PluginName::parse(&name).map_err(|detail| Problem::field("/name", detail))?;
    let component = if is_script(&headers) { stored_script(&uploaded)? } else { uploaded };
    let activation = Activation { activate: params.activate.unwrap_or(true), gate: params.gate };
    Ok(Json(state.operations.upload_plugin(&access, &name, activation, component).await?))
}

/// Returns whether the body is JavaScript (RFC 9239).
fn is_script(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(JAVASCRIPT) || media_type.eq_ignore_ascii_case("application/javascript")
}

/// Media type of scripts.
const JAVASCRIPT: &str = "text/javascript";

/// List the tenant's plugins, by name.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins", tag = "plugins", operation_id = "list_plugins", params(("t" = String, Path), PageParams), responses((status = 200, body = [PluginBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<PluginBody>, Problem> {
    Ok(page.of(state.operations.list_plugins(&access).await?, |plugin: &PluginBody| plugin.name.clone()))
}

/// List the versions of a plugin, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins/{name}/versions", tag = "plugins", operation_id = "list_plugin_versions", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = [VersionBody]), (status = 404, body = Problem)))]
pub(super) async fn versions(
    access: Access<ToRead>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<VersionBody>>, Problem> {
    Ok(Json(state.operations.list_plugin_versions(&access, &name).await?))
}

fn named_version(path: &PathParams) -> Result<(PluginName, VersionId), Problem> {
    Ok((path.parse("name", "plugin")?, path.parse("sha256", "version")?))
}

/// Get the component or the script of a version, as it was uploaded.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins/{name}/versions/{sha256}/component", tag = "plugins", operation_id = "get_component",
    params(("t" = String, Path), ("name" = String, Path), ("sha256" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/wasm"), (status = 404, body = Problem)))]
pub(super) async fn component(
    access: Access<ToManage>,
    path: PathParams,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<impl IntoResponse, Problem> {
    let (name, sha256) = named_version(&path)?;
    exchange.reserve_answer(state.operations.config.component_bytes_max).await?;
    let component = state.operations.get_component(&access, &name, &sha256).await?;
    Ok(match script::source(&component) {
        Some(source) => ([(header::CONTENT_TYPE, JAVASCRIPT)], Bytes::copy_from_slice(source.as_bytes())),
        None => ([(header::CONTENT_TYPE, "application/wasm")], component),
    })
}

/// Activate an earlier version of a plugin. A quarantined version requires an admin key, and is released.
#[utoipa::path(post, path = "/v1/tenants/{t}/plugins/{name}/versions/{sha256}/activate", tag = "plugins", operation_id = "activate_plugin_version",
    params(("t" = String, Path), ("name" = String, Path), ("sha256" = String, Path), Gate),
    responses((status = 200, body = ActivatedBody), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn activate(
    access: Access<ToManage>,
    path: PathParams,
    Params(gated): Params<Gate>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<ActivatedBody>, Problem> {
    let (name, sha256) = named_version(&path)?;
    Ok(Json(state.operations.activate_plugin_version(&access, &name, &sha256, gated.gate).await?))
}

/// Delete a plugin with all its versions. Refused while a subscription uses it.
#[utoipa::path(delete, path = "/v1/tenants/{t}/plugins/{name}", tag = "plugins", operation_id = "delete_plugin", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.delete_plugin(&access, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a version of a plugin. Refused while it is active, a subscription is pinned to it, or it is a canary or a shadow.
#[utoipa::path(delete, path = "/v1/tenants/{t}/plugins/{name}/versions/{sha256}", tag = "plugins", operation_id = "delete_plugin_version",
    params(("t" = String, Path), ("name" = String, Path), ("sha256" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete_version(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    let (name, sha256) = named_version(&path)?;
    state.operations.delete_plugin_version(&access, &name, &sha256).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Judge an event with a plugin's active version. Nothing is stored and nothing is sent.
#[utoipa::path(post, path = "/v1/tenants/{t}/plugins/{name}/dry-run", tag = "plugins", operation_id = "dry_run_plugin", params(("t" = String, Path), ("name" = String, Path)), request_body = DryRun,
    responses((status = 200, body = Shown), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn dry_run(
    access: Access<ToManage>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
    Input(dry_run): Input<DryRun>,
) -> Result<Json<Shown>, Problem> {
    Ok(Json(state.operations.dry_run_plugin(&access, name, dry_run).await?))
}
