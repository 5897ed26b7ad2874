//! Rollouts: canaries, shadows, and the comparison of two versions over real events.

use super::{Access, ComparisonSize, Operations, Problem, ToManage, ToRead, gate};
use crate::clock::now_ms;
use crate::ids::{PluginName, VersionId};
use crate::plugin::{Comparison, RolloutFigures};
use crate::store::{RolloutKind, StoredRollout};
use crate::subscription::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Kind of a rollout.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The version is called for a part of the events. If it fails, the active version is called.
    Canary,
    /// The version is called for all events in addition to the active version, and its results are not sent.
    Shadow,
}

/// Rollout to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RolloutWrite {
    pub(crate) kind: Kind,
    /// Version of the rollout.
    pub(crate) sha256: String,
    /// Share of the events that a canary judges, in percent: above 0, at most 100. Only for a canary.
    pub(crate) percent: Option<f64>,
}

/// Rollout of a version.
#[derive(Serialize, ToSchema)]
pub(crate) struct RolloutBody {
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

/// Number of events to compare on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompareWrite {
    /// 1 to 500. The last events that were accepted for subscriptions of the plugin, then the tenant's others of the same modules.
    #[schema(value_type = u64, minimum = 1, maximum = 500)]
    pub(crate) events: ComparisonSize,
}

impl Operations {
    /// Begins a rollout: a canary on a part of the events, or a shadow of the active version. The previous rollout ends.
    pub(crate) async fn begin_rollout(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        wanted: RolloutWrite,
    ) -> Result<RolloutBody, Problem> {
        let (kind, percent) = match (wanted.kind, wanted.percent) {
            (Kind::Canary, Some(percent)) if percent > 0.0 && percent <= 100.0 => (RolloutKind::Canary, percent),
            (Kind::Canary, _) => {
                let detail = "a canary judges more than 0 and at most 100 percent of the events";
                return Err(Problem::field("/percent", detail));
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
            counts_elsewhere: Vec::new(),
        };
        self.plugins.begin_rollout(access.actor(), stored).await?;
        self.rollout(&access.tenant, name).await
    }

    /// Returns the plugin's last rollout with its figures.
    pub(crate) async fn get_rollout(&self, access: &Access<ToRead>, name: &PluginName) -> Result<RolloutBody, Problem> {
        self.rollout(&access.tenant, name).await
    }

    async fn rollout(&self, tenant: &TenantId, name: &str) -> Result<RolloutBody, Problem> {
        let found = self.plugins.rollout_figures(tenant, name).await?;
        let (stored, figures) = found.ok_or_else(|| Problem::not_found("rollout"))?;
        Ok(RolloutBody::new(stored, figures))
    }

    /// Ends a rollout: the active version is used for all events.
    pub(crate) async fn end_rollout(&self, access: &Access<ToManage>, name: &PluginName) -> Result<(), Problem> {
        if self.plugins.rollout_figures(&access.tenant, name).await?.is_none() {
            return Err(Problem::not_found("rollout"));
        }
        let tenant = access.tenant.clone();
        Ok(self.plugins.end_rollout(access.actor(), tenant, name.to_string(), "ended manually".into()).await?)
    }

    /// Compares a version with the active one on the last real events, or on samples if there are none. Nothing is sent.
    pub(crate) async fn compare_plugin_versions(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        sha256: &VersionId,
        events: ComparisonSize,
    ) -> Result<Comparison, Problem> {
        gate::compare(self, &access.tenant, name, sha256, events).await
    }
}
