//! Views of plugins: versions with their reports, a rollout, figures, and a dry run.

use super::chart;
use super::dry_result::DryResult;
use super::plugin_library::OriginView;
use super::prose::{Prose, ProsePart};
use super::series::{bars, series, times};
use super::user::TenantUser;
use super::{DisplayTime, Frame, PageError, duration, filters, short, size};
use crate::api::ApiState;
use crate::clock::now_ms;
use crate::event::SAMPLES;
use crate::manifest::{ConfigKey, Manifest};
use crate::operations::Problem;
use crate::plugin::{ArmFigures, Comparison, Difference, Report, RolloutFigures};
use crate::plural::counted;
use crate::store::{PluginVersion, RolloutKind, StoredRollout};
use crate::subscription::{Subscription, TenantId};
use askama::Template;
use std::sync::Arc;

/// Plugin in the list.
pub(super) struct PluginRow {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) since: Option<DisplayTime>,
    pub(super) by: String,
    pub(super) users: usize,
    /// True if the library has another version than the active one, which was added from there.
    pub(super) has_update: bool,
    pub(super) problem: String,
}

/// Page of a plugin.
#[derive(Template)]
#[template(path = "plugin.html")]
pub(super) struct PluginPage {
    frame: Frame,
    name: String,
    /// Manifest of the active version.
    manifest: Option<ManifestView>,
    /// Origin of the active version in the library.
    origin: Option<OriginView>,
    rollout: Option<RolloutView>,
    versions: Vec<VersionRow>,
    pub(super) compared: Option<Compared>,
    calls_chart: String,
    time_chart: String,
    /// Value, label, and whether it is selected.
    picks: Vec<(String, String, bool)>,
    event_text: String,
    config: String,
    pub(super) result: Option<DryResult>,
    /// Id and name of each webhook that uses the plugin.
    users: Vec<(String, String)>,
    /// Id and name of webhooks that do not use it.
    others: Vec<(String, String)>,
}

/// Choices of the dry-run form.
pub(super) struct Picked {
    pub(super) event: String,
    pub(super) event_text: String,
    pub(super) version: String,
    pub(super) config: String,
}

/// Period that the charts cover, and width of a bar, in seconds.
const DAY_S: i64 = 86_400;
const BAR_S: i64 = 1_800;

/// Maximum number of stored events in the dry-run form.
const PICKS: usize = 20;

/// Maximum number of webhooks to which the page offers to add the plugin.
const OTHERS: usize = 10;

impl PluginPage {
    pub(super) async fn new(user: &TenantUser, state: &ApiState) -> Result<Self, PageError> {
        let name = user.path.get("name").to_owned();
        let versions = state.operations.store.plugin_versions(user.tenant.clone(), name.clone()).await?;
        if versions.is_empty() {
            return Err(Problem::not_found("plugin").into());
        }
        let subscriptions = state.operations.store.catalog().subscriptions(&user.tenant);
        let (users, others): (Vec<_>, Vec<_>) = subscriptions.iter().partition(|one| one.settings.plugin.names(&name));
        fn named(one: &&Arc<Subscription>) -> (String, String) {
            (one.id.to_string(), super::webhook_words::name(one))
        }
        let ids = users.iter().map(|one| one.id).collect();
        let recent = state.operations.store.last_events_of(user.tenant.clone(), ids, PICKS).await?;
        let pick = |event: &crate::event::Event| {
            (event.id.to_string(), format!("{} {}", DisplayTime::at_ms(event.received_at_ms).text, event.name), false)
        };
        fn sample((module, _): &(crate::event::Module, &str)) -> (String, String, bool) {
            (format!("sample:{}", module.as_str()), format!("Sample: {}", module.as_str()), false)
        }
        let now_s = now_ms() / 1_000;
        let mut figures = state.operations.store.figures(user.tenant.clone(), now_s - DAY_S).await?;
        figures.retain(|one| one.plugin.split('+').any(|plugin| plugin == name));
        let span = chart::Span { now_s, lasts_s: DAY_S, point_s: BAR_S };
        let series = series(&figures, span);
        let config = users.first().map(|one| super::forms::as_lines(&one.settings.config)).unwrap_or_default();
        let rollout = state.operations.plugins.rollout_figures(&user.tenant, &name).await.map_err(Problem::from)?;
        Ok(PluginPage {
            origin: OriginView::of(state, user, &name),
            manifest: versions.iter().find(|version| version.active).and_then(ManifestView::of),
            rollout: rollout.map(|(stored, figures)| RolloutView::new(stored, figures)),
            versions: versions.into_iter().map(|version| VersionRow::new(version, user, state)).collect(),
            compared: None,
            calls_chart: chart::bars("Calls of webhooks that use it", &bars(&series), span),
            time_chart: chart::lines("Duration of plugin calls", &times(&series, |figures| &figures.plugin), span),
            picks: recent.iter().map(|(event, _)| pick(event)).chain(SAMPLES.iter().map(sample)).collect(),
            event_text: String::new(),
            config,
            result: None,
            users: users.iter().map(named).collect(),
            others: others.iter().take(OTHERS).map(named).collect(),
            frame: Frame::new(user, state, "Plugins").watching("attempts"),
            name,
        })
    }

    /// Restores the submitted choices.
    pub(super) fn picked(&mut self, pick: &Picked) {
        self.picks.iter_mut().for_each(|one| one.2 = one.0 == pick.event);
        self.versions.iter_mut().for_each(|one| one.picked = one.sha256 == pick.version);
        self.event_text.clone_from(&pick.event_text);
        self.config.clone_from(&pick.config);
    }

    /// Marks the page as the answer to a form.
    pub(super) fn answering(self) -> Self {
        PluginPage { frame: self.frame.answering(), ..self }
    }
}

/// Manifest, with a row for each key of the configuration.
struct ManifestView {
    title: String,
    description: Prose,
    keys: Vec<ConfigKeyRow>,
}

/// Key of a configuration: texts of the columns.
struct ConfigKeyRow {
    name: String,
    title: Option<String>,
    kind: String,
    description: Prose,
    default: String,
    examples: String,
}

impl ManifestView {
    fn of(version: &PluginVersion) -> Option<Self> {
        let manifest = serde_json::from_str::<Report>(&version.report).ok()?.manifest?;
        let keys = manifest.schema().map(|schema| schema.keys).unwrap_or_default();
        let Manifest { title, description, .. } = manifest;
        let description = Prose::parse(&description);
        Some(ManifestView { title, description, keys: keys.into_iter().map(ConfigKeyRow::new).collect() })
    }
}

impl ConfigKeyRow {
    fn new(key: ConfigKey) -> Self {
        let choices: Vec<&str> = key.choices.iter().map(|choice| choice.value.as_str()).collect();
        let kind = if choices.is_empty() { key.kind.name().to_owned() } else { choices.join(", ") };
        ConfigKeyRow {
            kind: if key.required { format!("{kind}; required") } else { kind },
            name: key.name,
            title: key.title,
            description: Prose::parse(&key.description),
            default: key.default.unwrap_or_default(),
            examples: key.examples.join("; "),
        }
    }
}

struct VersionRow {
    sha256: String,
    short: String,
    active: bool,
    at: DisplayTime,
    by: String,
    size: String,
    compiled: String,
    call: String,
    picked: bool,
    /// Reason for the quarantine. Empty: the version is not quarantined.
    quarantined: String,
    is_script: bool,
    report: Vec<(&'static str, String)>,
}

impl VersionRow {
    fn new(version: PluginVersion, user: &TenantUser, state: &ApiState) -> Self {
        let report: Option<Report> = serde_json::from_str(&version.report).ok();
        let probe = report.as_ref().and_then(|report| report.probe.as_ref());
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
            report: report.map(facts).unwrap_or_default(),
            sha256: version.sha256,
        }
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

struct RolloutView {
    kind: &'static str,
    version: String,
    summary: String,
    under_way: bool,
    /// State of the test that ends a canary; empty for a shadow.
    test: String,
    arms: Vec<(&'static str, u64, u64, String)>,
    differences: Vec<(String, String, String, String)>,
}

impl RolloutView {
    fn new(stored: StoredRollout, figures: Option<RolloutFigures>) -> Self {
        let is_canary = matches!(stored.kind, RolloutKind::Canary);
        let begun = DisplayTime::at_ms(stored.started_at_ms).text;
        let summary = match (&stored.ended_reason, &figures) {
            (Some(reason), _) => format!("Started {begun}; ended: {reason}."),
            (None, Some(_)) if is_canary => format!("Started {begun}; it judges {} % of the events.", stored.percent),
            (None, Some(figures)) => format!(
                "Started {begun}; {} judged the same, {} differently, {} skipped.",
                counted(figures.same, "event", "events"),
                figures.different,
                figures.skipped
            ),
            (None, None) => format!("Started {begun}."),
        };
        fn arm(name: &'static str, arm: &ArmFigures) -> (&'static str, u64, u64, String) {
            (name, arm.calls, arm.faults, duration(arm.cpu_us_p95))
        }
        RolloutView {
            kind: if is_canary { "Canary" } else { "Shadow" },
            version: short(&stored.sha256),
            under_way: stored.ended_reason.is_none(),
            test: figures.as_ref().and_then(|figures| figures.test).map(|test| test.to_string()).unwrap_or_default(),
            arms: match (&figures, is_canary) {
                (Some(figures), true) => vec![arm("canary", &figures.canary), arm("active", &figures.active)],
                (Some(figures), false) => vec![arm("active", &figures.active)],
                (None, _) => Vec::new(),
            },
            differences: figures
                .map(|figures| figures.differences.iter().map(difference).collect())
                .unwrap_or_default(),
            summary,
        }
    }
}

fn difference(one: &Difference) -> (String, String, String, String) {
    fn verdict_text(sample: &crate::plugin::Sample) -> String {
        match &sample.reason {
            Some(reason) => format!("{} ({reason})", sample.verdict),
            None => sample.verdict.to_string(),
        }
    }
    (one.event.to_string(), verdict_text(&one.active), verdict_text(&one.other), one.diff.join("\n"))
}

/// Comparison of two versions on real events.
pub(super) struct Compared(pub(super) String, pub(super) Vec<(String, String)>);

impl Compared {
    pub(super) fn new(comparison: &Comparison) -> Self {
        let Comparison { same, changed, failed, skipped, active_us_p95, new_us_p95, judged_on, .. } = comparison;
        let summary = format!(
            "Of {judged_on}: {same} the same, {changed} changed, {failed} failed, {skipped} skipped; p95 {} before, {} now",
            duration(*active_us_p95),
            duration(*new_us_p95)
        );
        fn line(one: &Difference) -> (String, String) {
            let (event, before, now, diff) = difference(one);
            (format!("Event {event}: {before} before, {now} now"), diff)
        }
        Compared(summary, comparison.differences.iter().map(line).collect())
    }
}
