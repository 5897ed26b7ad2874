//! Rows of a plugin's versions: what each can do next, and the report of the one that a dry run uses.

use super::rollout_view::RolloutView;
use super::user::TenantUser;
use super::{DisplayTime, duration, short, size};
use crate::api::ApiState;
use crate::plugin::Report;
use crate::store::PluginVersion;
use crate::subscription::TenantId;

/// Version of a plugin.
pub(super) struct VersionRow {
    pub(super) sha256: String,
    pub(super) short: String,
    pub(super) active: bool,
    pub(super) at: DisplayTime,
    pub(super) by: String,
    pub(super) size: String,
    pub(super) compiled: String,
    pub(super) call: String,
    pub(super) picked: bool,
    /// Reason for the quarantine. Empty: the version is not quarantined.
    pub(super) quarantined: String,
    pub(super) is_script: bool,
    /// Kind of the rollout of this version that is under way.
    pub(super) rollout: Option<&'static str>,
    pub(super) report: Vec<(&'static str, String)>,
}

impl VersionRow {
    pub(super) fn new(
        version: PluginVersion,
        user: &TenantUser,
        state: &ApiState,
        rollout: Option<&RolloutView>,
    ) -> Self {
        let report: Option<Report> = serde_json::from_str(&version.report).ok();
        let probe = report.as_ref().and_then(|report| report.probe.as_ref());
        let under_way = rollout.filter(|one| one.state.is_under_way() && one.sha256 == version.sha256);
        VersionRow {
            short: short(&version.sha256),
            active: version.active,
            at: DisplayTime::at_ms(version.created_at_ms),
            by: version.created_by,
            size: size(version.size),
            compiled: report.as_ref().map(|report| format!("{} ms", report.compile_ms)).unwrap_or_default(),
            call: probe.map(|probe| duration(probe.steady_call_us)).unwrap_or_default(),
            picked: false,
            quarantined: quarantined(state, &user.tenant, &version.sha256),
            is_script: report.as_ref().is_some_and(|report| report.script_engine.is_some()),
            rollout: under_way.map(|one| one.kind),
            report: report.map(facts).unwrap_or_default(),
            sha256: version.sha256,
        }
    }

    /// Returns whether "Activate" is the action of the row. The active version has it if it is quarantined, to be released.
    pub(super) fn can_be_activated(&self) -> bool {
        !self.active || !self.quarantined.is_empty()
    }

    /// Returns whether a rollout of the version can begin.
    pub(super) fn can_be_rolled_out(&self) -> bool {
        !self.active && self.quarantined.is_empty()
    }

    /// Returns the name of the version's file when it is downloaded.
    pub(super) fn file(&self, plugin: &str) -> String {
        format!("{plugin}-{}.{}", self.short, if self.is_script { "js" } else { "wasm" })
    }
}

/// Returns the text about a version's quarantine; empty for a version that is not quarantined.
pub(super) fn quarantined(state: &ApiState, tenant: &TenantId, sha256: &str) -> String {
    let quarantine = state.operations.plugins.quarantine(tenant, sha256);
    quarantine.map(|one| format!("Quarantined: {}. An admin can activate it again.", one.reason)).unwrap_or_default()
}

fn facts(report: Report) -> Vec<(&'static str, String)> {
    fn list(items: &[String]) -> String {
        if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
    }
    let mut facts = vec![
        ("Contract", report.contract),
        ("May use", list(&report.may_use)),
        ("Imports", list(&report.imports)),
        ("Compiled code", size(report.compiled_bytes)),
    ];
    facts.extend(report.memory_bytes.map(|bytes| ("Memory at the start", size(bytes))));
    if let Some(probe) = report.probe {
        let reason = probe.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        facts.extend([
            ("On a sample", format!("{}{reason}", probe.verdict)),
            ("First call", duration(probe.first_call_us)),
            ("Further calls", duration(probe.steady_call_us)),
            ("Memory", size(probe.memory_bytes)),
        ]);
        facts.extend(probe.depends_on.map(|on| ("Depends, besides the event, on", list(&on))));
    }
    facts
}
