//! Routes of rollouts: canaries, shadows, and the comparison of two versions over real events.

use super::ApiState;
use super::extract::{Item, Json as Input, PathParams};
use super::read_back::{ReadBack, Rewrite};
use crate::ids::{PluginName, VersionId};
use crate::operations::{Access, CompareWrite, Problem, RolloutBody, RolloutWrite, ToManage, ToRead};
use crate::plugin::Comparison;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

impl ReadBack for RolloutWrite {
    const READ_ONLY: &'static [&'static str] = &["started_at_ms", "ended_reason", "figures"];
}

/// Begin a rollout: a canary on a part of the events, or a shadow of the active version. The previous rollout ends.
#[utoipa::path(put, path = "/v1/tenants/{t}/plugins/{name}/rollout", tag = "plugins", operation_id = "begin_rollout", params(("t" = String, Path), ("name" = String, Path)), request_body = RolloutWrite,
    responses((status = 200, body = RolloutBody), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn begin(
    access: Access<ToManage>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
    Rewrite { new: wanted, .. }: Rewrite<RolloutWrite>,
) -> Result<Json<RolloutBody>, Problem> {
    Ok(Json(state.operations.begin_rollout(&access, &name, wanted).await?))
}

/// Get the plugin's last rollout with its figures.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins/{name}/rollout", tag = "plugins", operation_id = "get_rollout", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = RolloutBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<RolloutBody>, Problem> {
    Ok(Json(state.operations.get_rollout(&access, &name).await?))
}

/// End a rollout: the active version is used for all events.
#[utoipa::path(delete, path = "/v1/tenants/{t}/plugins/{name}/rollout", tag = "plugins", operation_id = "end_rollout", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn end(
    access: Access<ToManage>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.end_rollout(&access, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Compare a version with the active one on the last real events, or on samples if there are none. Nothing is sent.
#[utoipa::path(post, path = "/v1/tenants/{t}/plugins/{name}/versions/{sha256}/compare", tag = "plugins", operation_id = "compare_plugin_versions",
    params(("t" = String, Path), ("name" = String, Path), ("sha256" = String, Path)), request_body = CompareWrite,
    responses((status = 200, body = Comparison), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn compare(
    access: Access<ToManage>,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
    Input(wanted): Input<CompareWrite>,
) -> Result<Json<Comparison>, Problem> {
    let name: PluginName = path.parse("name", "plugin")?;
    let sha256: VersionId = path.parse("sha256", "version")?;
    Ok(Json(state.operations.compare_plugin_versions(&access, &name, &sha256, wanted.events).await?))
}
