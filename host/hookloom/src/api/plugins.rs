//! Routes of plugins.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::exchange::Exchange;
use super::extract::{Access, Body, Item, Params, PathParams, ToManage, ToRead};
use super::gate::ComparisonSize;
use super::paging::{Page, PageParams};
use super::problem::Problem;
use super::{ApiState, gate};
use crate::ids::{PluginName, VersionId};
use crate::plugin::{Comparison, Report};
use crate::store::{PluginVersion, Quarantine};
use crate::subscription::TenantId;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Version of a plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionBody {
    /// The sha256 of the component.
    sha256: String,
    /// Size of the component, in bytes.
    size: u64,
    /// True for the version that judges events.
    active: bool,
    created_at_ms: i64,
    /// Author of the upload: a key's label and first characters, or `plugins folder`.
    created_by: String,
    report: Report,
    /// Quarantine of the version, if the host crashed in a call of it. An admin can activate it again.
    quarantined: Option<QuarantineBody>,
    /// Comparison with the version that was active, if the request asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

impl VersionBody {
    fn new(version: PluginVersion, report: Report) -> Self {
        let PluginVersion { sha256, size, created_at_ms, created_by, active, .. } = version;
        VersionBody { sha256, size, active, created_at_ms, created_by, report, quarantined: None, comparison: None }
    }
}

/// Quarantine of a version: its deliveries wait for another version, or for an admin to activate it again.
#[derive(Serialize, ToSchema)]
pub(super) struct QuarantineBody {
    reason: String,
    since_ms: i64,
}

impl QuarantineBody {
    fn of(state: &ApiState, tenant: &TenantId, sha256: &str) -> Option<Self> {
        let Quarantine { reason, since_ms, .. } = state.plugins.quarantine(tenant, sha256)?;
        Some(QuarantineBody { reason, since_ms })
    }
}

/// Plugin of a tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginBody {
    name: String,
    /// The sha256 of the active version. Absent if no component of the plugin could be used so far.
    active_sha256: Option<String>,
    /// Time of activation, in milliseconds since the epoch.
    activated_at_ms: Option<i64>,
    /// Author of the activation.
    activated_by: Option<String>,
    /// Time since which a new version is being compiled, in milliseconds since the epoch. Absent: none is.
    compiling_since_ms: Option<i64>,
    /// Quarantine of the active version, if the host crashed in a call of it.
    quarantined: Option<QuarantineBody>,
    /// Problem with the plugin's file in the plugins folder, if there is one.
    file_problem: Option<String>,
}

/// Options of a version's activation.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Activation {
    /// `false` adds the version without activating it, to be tried or activated later. True if absent.
    pub(super) activate: Option<bool>,
    /// Number of the last real events (1 to 500) that the new and the active version judge first: those of the plugin's subscriptions,
    /// then the tenant's others of the same modules, then samples. The version is not activated if it fails on an event on which the
    /// active version does not fail, or if nothing could be judged.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    pub(super) gate: Option<ComparisonSize>,
}

/// Upload a component and make it the plugin's active version.
#[utoipa::path(put, path = "/v1/tenants/{t}/plugins/{name}", tag = "plugins", operation_id = "upload_plugin", params(("t" = String, Path), ("name" = String, Path), Activation),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "the component"),
    responses((status = 200, body = VersionBody), (status = 413, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put(
    access: Access<ToManage>,
    Item(name): Item<String>,
    Params(activation): Params<Activation>,
    State(state): State<Arc<ApiState>>,
    Body(component): Body,
) -> Result<Json<VersionBody>, Problem> {
    let name = PluginName::parse(&name).map_err(|detail| Problem::field("/name", detail))?;
    let actor = access.actor();
    let tenant = access.tenant;
    let gated_events = activation.gate;
    let is_first = !state.plugins.exists(&tenant, &name);
    if activation.activate.unwrap_or(true) && (is_first || gated_events.is_none()) {
        let candidate = state.plugins.candidate(actor, &tenant, &name, component).await?;
        let comparison = match gated_events {
            Some(events) => Some(gate::first_gate(&state, &tenant, &name, &candidate, events).await?),
            None => None,
        };
        let (version, report) = state.plugins.install_candidate(tenant.clone(), name.to_string(), candidate).await?;
        return Ok(Json(VersionBody { comparison, ..VersionBody::new(version, report) }));
    }
    let (mut version, report) = state.plugins.add(actor.clone(), tenant.clone(), name.to_string(), component).await?;
    let comparison = match gated_events {
        Some(events) => {
            let added = VersionId::parse(&version.sha256).map_err(|detail| Problem::field("/sha256", detail))?;
            Some(gate::gate(&state, &tenant, &name, &added, events).await?)
        }
        None => None,
    };
    if activation.activate.unwrap_or(true) {
        state.plugins.activate(actor, tenant.clone(), name.to_string(), version.sha256.clone()).await?;
        version.active = true;
    }
    Ok(Json(VersionBody { comparison, ..VersionBody::new(version, report) }))
}

/// List the tenant's plugins, by name.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins", tag = "plugins", operation_id = "list_plugins", params(("t" = String, Path), PageParams), responses((status = 200, body = [PluginBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<PluginBody>, Problem> {
    let plugins = state.store.plugins().await?.into_iter().filter(|plugin| plugin.tenant == access.tenant);
    let body = plugins.map(|plugin| PluginBody {
        quarantined: QuarantineBody::of(&state, &plugin.tenant, &plugin.active_sha256),
        file_problem: state.plugins.file_problem(&plugin.tenant, &plugin.name),
        compiling_since_ms: state.plugins.compiling_since_ms(&plugin.tenant, &plugin.name),
        activated_by: Some(plugin.activated_by),
        name: plugin.name,
        active_sha256: Some(plugin.active_sha256),
        activated_at_ms: Some(plugin.activated_at_ms),
    });
    let mut body: Vec<PluginBody> = body.collect();
    let broken = state.plugins.broken_files(&access.tenant);
    for (name, problem) in broken {
        if body.iter().all(|plugin| plugin.name != name) {
            body.push(PluginBody {
                name,
                active_sha256: None,
                activated_at_ms: None,
                activated_by: None,
                compiling_since_ms: None,
                quarantined: None,
                file_problem: Some(problem),
            });
        }
    }
    Ok(page.of(body, |plugin: &PluginBody| plugin.name.clone()))
}

/// List the versions of a plugin, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins/{name}/versions", tag = "plugins", operation_id = "list_plugin_versions", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = [VersionBody]), (status = 404, body = Problem)))]
pub(super) async fn versions(
    access: Access<ToRead>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<VersionBody>>, Problem> {
    let versions = state.store.plugin_versions(access.tenant.clone(), name.to_string()).await?;
    if versions.is_empty() {
        return Err(Problem::not_found("plugin"));
    }
    let one = |version: PluginVersion| {
        let report = serde_json::from_str(&version.report).map_err(crate::store::StoreError::from)?;
        let quarantined = QuarantineBody::of(&state, &access.tenant, &version.sha256);
        Ok(VersionBody { quarantined, ..VersionBody::new(version, report) })
    };
    Ok(Json(versions.into_iter().map(one).collect::<Result<_, Problem>>()?))
}

fn named_version(path: &PathParams) -> Result<(PluginName, VersionId), Problem> {
    Ok((path.parse("name", "plugin")?, path.parse("sha256", "version")?))
}

/// Get the component of a version, as it was uploaded.
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
    if !state.store.has_version(access.tenant, name.to_string(), sha256.to_string()).await? {
        return Err(Problem::not_found("version"));
    }
    exchange.reserve_answer(state.config.component_bytes_max).await?;
    Ok(([(header::CONTENT_TYPE, "application/wasm")], state.store.component(sha256.to_string()).await?))
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
    if access.key.is_admin() {
        state.plugins.release(&access.tenant, &sha256).await?;
    }
    let comparison = match gated.gate {
        Some(events) => Some(gate::gate(&state, &access.tenant, &name, &sha256, events).await?),
        None => None,
    };
    let sha256 = sha256.to_string();
    state.plugins.activate(access.actor(), access.tenant, name.to_string(), sha256.clone()).await?;
    Ok(Json(ActivatedBody { sha256, comparison }))
}

/// Delete a plugin with all its versions. Refused while a subscription uses it.
#[utoipa::path(delete, path = "/v1/tenants/{t}/plugins/{name}", tag = "plugins", operation_id = "delete_plugin", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.plugins.delete(access.actor(), access.tenant, name.to_string()).await?;
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
    let (name, version) = named_version(&path)?;
    let actor = access.actor();
    state.plugins.delete_version(actor, access.tenant, name.to_string(), version.to_string()).await?;
    Ok(StatusCode::NO_CONTENT)
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

/// Active version.
#[derive(Serialize, ToSchema)]
pub(super) struct ActivatedBody {
    sha256: String,
    /// Comparison with the previous version, if the request asked for one.
    comparison: Option<Comparison>,
}
