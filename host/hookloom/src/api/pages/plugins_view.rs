//! Page of a plugin: its versions, a rollout, figures, and a dry run beside what a version is.

use super::canary_form::CanaryForm;
use super::chart::{self, DAY_S};
use super::comparison_view::ComparisonView;
use super::dry_result::DryResult;
use super::plugin_library::OriginView;
use super::prose::{Prose, ProsePart};
use super::rollout_view::RolloutView;
use super::series::{bars, series, times};
use super::user::TenantUser;
use super::version_rows::VersionRow;
use super::{DisplayTime, Frame, PageError, filters};
use crate::api::ApiState;
use crate::clock::now_ms;
use crate::event::SAMPLES;
use crate::ids::{PluginName, VersionId};
use crate::manifest::{ConfigKey, Manifest};
use crate::operations::{Problem, ToManage};
use crate::plugin::{Report, script};
use crate::store::PluginVersion;
use crate::subscription::Subscription;
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
    /// Rollout under way, in a few words. Empty: none.
    pub(super) rollout: String,
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
    pub(super) rollout: Option<RolloutView>,
    pub(super) canary: Option<CanaryForm>,
    versions: Vec<VersionRow>,
    pub(super) compared: Option<ComparisonView>,
    calls_chart: String,
    time_chart: String,
    /// Value, label, and whether it is selected.
    picks: Vec<(String, String, bool)>,
    event_text: String,
    config: String,
    /// Source of the script that a dry run uses. Empty: it is a component, or the user may not read it.
    source: String,
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

/// Width of a bar, in seconds.
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
        let active_sha256 = versions.iter().find(|version| version.active).map(|version| version.sha256.clone());
        let rollout = state.operations.plugins.rollout_figures(&user.tenant, &name).await.map_err(Problem::from)?;
        let rollout = rollout.map(|(stored, figures)| {
            RolloutView::new(&stored, figures.as_ref(), active_sha256.as_deref().unwrap_or_default())
        });
        Ok(PluginPage {
            origin: OriginView::of(state, user, &name),
            manifest: versions.iter().find(|version| version.active).and_then(ManifestView::of),
            versions: versions.into_iter().map(|one| VersionRow::new(one, user, state, rollout.as_ref())).collect(),
            rollout,
            canary: None,
            compared: None,
            calls_chart: chart::bars("Calls of webhooks that use it", &bars(&series), span),
            time_chart: chart::lines("Duration of plugin calls", &times(&series, |figures| &figures.plugin), span),
            picks: recent.iter().map(|(event, _)| pick(event)).chain(SAMPLES.iter().map(sample)).collect(),
            event_text: String::new(),
            config,
            source: String::new(),
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
        self.pick_version(&pick.version);
        self.event_text.clone_from(&pick.event_text);
        self.config.clone_from(&pick.config);
    }

    /// Chooses a version for the dry run.
    pub(super) fn pick_version(&mut self, sha256: &str) {
        self.versions.iter_mut().for_each(|one| one.picked = one.sha256 == sha256);
    }

    /// Returns the version that a dry run uses: the chosen one, or the active one.
    fn tried(&self) -> Option<&VersionRow> {
        let picked = self.versions.iter().find(|one| one.picked);
        picked.or_else(|| self.versions.iter().find(|one| one.active))
    }

    /// Reads the source of the script that a dry run uses, if the user may read it.
    pub(super) async fn with_source(mut self, user: &TenantUser, state: &ApiState) -> Result<Self, PageError> {
        let Some(tried) = self.tried().filter(|tried| tried.is_script) else { return Ok(self) };
        let Ok(access) = user.access::<ToManage>(state) else { return Ok(self) };
        let name: PluginName = user.path.parse("name", "plugin")?;
        let sha256: VersionId = tried.sha256.parse().map_err(|_| Problem::not_found("version"))?;
        let stored = state.operations.get_component(&access, &name, &sha256).await?;
        self.source = script::source(&stored).unwrap_or_default().to_owned();
        Ok(self)
    }

    /// Opens the form of a canary of a version.
    pub(super) fn open_canary(&mut self, sha256: &str) -> Result<&mut CanaryForm, Problem> {
        let can_be = self.versions.iter().any(|one| one.sha256 == sha256 && one.can_be_rolled_out());
        if !can_be {
            let detail = "a canary is another version than the active one, and not a quarantined one";
            return Err(Problem::conflict(detail));
        }
        Ok(self.canary.insert(CanaryForm::new(sha256, self.rollout.as_ref())))
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
