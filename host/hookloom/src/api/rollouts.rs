//! Routes of rollouts: canaries, shadows, and the comparison of two versions over real events.

use super::ApiState;
use super::extract::{Access, Item, Json as Input, PathParams, ToManage, ToRead};
use super::gate::{self, ComparisonSize};
use super::problem::Problem;
use super::read_back::{ReadBack, Rewrite};
use crate::ids::{PluginName, VersionId};
use crate::plugin::{Comparison, RolloutFigures};
use crate::store::{RolloutKind, StoredRollout, now_ms};
use crate::subscription::TenantId;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Kind of a rollout.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The version is called for a part of the events. If it fails, the active version is called.
    Canary,
    /// The version is called for all events in addition to the active version, and its results are not sent.
    Shadow,
}

/// Rollout to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutWrite {
    pub(super) kind: Kind,
    /// Version of the rollout.
    pub(super) sha256: String,
    /// Share of the events that a canary judges, in percent: above 0, at most 100. Only for a canary.
    pub(super) percent: Option<f64>,
}

impl ReadBack for RolloutWrite {
    const READ_ONLY: &'static [&'static str] = &["started_at_ms", "ended_reason", "figures"];
}

/// Rollout of a version.
#[derive(Serialize, ToSchema)]
pub(super) struct RolloutBody {
    kind: Kind,
    sha256: String,
    percent: Option<f64>,
    started_at_ms: i64,
    /// Reason for the end of the rollout. Absent while it is under way.
    ended_reason: Option<String>,
    /// Figures so far, or until the end. Absent if an older host did not keep them.
    figures: Option<RolloutFigures>,
}

impl RolloutBody {
    fn new(stored: StoredRollout, figures: Option<RolloutFigures>) -> Self {
        let (kind, percent) = match stored.kind {
            RolloutKind::Canary => (Kind::Canary, Some(stored.percent)),
            RolloutKind::Shadow => (Kind::Shadow, None),
        };
        let StoredRollout { sha256, started_at_ms, ended_reason, .. } = stored;
        RolloutBody { kind, sha256, percent, started_at_ms, ended_reason, figures }
    }
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
    let (kind, percent) = match (wanted.kind, wanted.percent) {
        (Kind::Canary, Some(percent)) if percent > 0.0 && percent <= 100.0 => (RolloutKind::Canary, percent),
        (Kind::Canary, _) => {
            return Err(Problem::field(
                "/percent",
                "a canary judges more than 0 and at most 100 percent of the events",
            ));
        }
        (Kind::Shadow, None) => (RolloutKind::Shadow, 0.0),
        (Kind::Shadow, Some(_)) => {
            return Err(Problem::field("/percent", "a shadow judges every event; leave percent out"));
        }
    };
    let stored = StoredRollout {
        tenant: access.tenant.clone(),
        name: name.to_string(),
        kind,
        sha256: wanted.sha256,
        percent,
        started_at_ms: now_ms(),
        earlier: Vec::new(),
        ended_reason: None,
        counts: String::new(),
    };
    state.plugins.begin_rollout(access.actor(), stored).await?;
    shown(&state, &access.tenant, &name).await
}

/// Get the plugin's last rollout with its figures.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins/{name}/rollout", tag = "plugins", operation_id = "get_rollout", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = RolloutBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<RolloutBody>, Problem> {
    shown(&state, &access.tenant, &name).await
}

async fn shown(state: &ApiState, tenant: &TenantId, name: &str) -> Result<Json<RolloutBody>, Problem> {
    let found = state.plugins.rollout_figures(tenant, name).await?;
    let (stored, figures) = found.ok_or_else(|| Problem::not_found("rollout"))?;
    Ok(Json(RolloutBody::new(stored, figures)))
}

/// End a rollout: the active version is used for all events.
#[utoipa::path(delete, path = "/v1/tenants/{t}/plugins/{name}/rollout", tag = "plugins", operation_id = "end_rollout", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn end(
    access: Access<ToManage>,
    Item(name): Item<PluginName>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    if state.plugins.rollout_figures(&access.tenant, &name).await?.is_none() {
        return Err(Problem::not_found("rollout"));
    }
    let actor = access.actor();
    state.plugins.end_rollout(actor, access.tenant, name.to_string(), "ended manually".into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Number of events to compare on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompareWrite {
    /// 1 to 500. The last events that were accepted for subscriptions of the plugin, then the tenant's others of the same modules.
    #[schema(value_type = u64, minimum = 1, maximum = 500)]
    pub(super) events: ComparisonSize,
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
    Ok(Json(gate::compare(&state, &access.tenant, &name, &sha256, wanted.events).await?))
}
