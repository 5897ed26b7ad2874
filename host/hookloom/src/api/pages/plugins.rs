//! Pages of plugins: upload, versions, rollouts, and the dry run.

use super::canary_form;
use super::comparison_view::ComparisonView;
use super::dry_result::DryResult;
use super::forms::{Form, pairs};
use super::notes::NoteParams;
use super::plugin_library::{self, LibraryRow};
use super::plugins_view::{Picked, PluginPage, PluginRow};
use super::rollout_view;
use super::user::{Posted, TenantUser};
use super::version_rows::quarantined;
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render, short};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::event::{EventId, SAMPLES};
use crate::ids::{PluginName, VersionId};
use crate::operations::{Activation, ComparisonSize, DryRun, Kind, Problem, RolloutWrite};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "plugins.html")]
struct PluginsPage {
    frame: Frame,
    rows: Vec<PluginRow>,
    library: Vec<LibraryRow>,
    /// Fault of the form of a plugin of the library. Empty: none.
    library_problem: String,
    /// Fault of an upload. Empty: none.
    problem: String,
    /// Submitted name.
    name: String,
    is_bad_name: bool,
}

/// Note that a plugin's page shows once.
enum PluginNote {
    Compared(ComparisonView),
    Judged(Box<(Picked, DryResult)>),
}

pub(super) async fn list(user: TenantUser, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    list_with(&user, &state, None).await
}

/// Shows the plugins, and the fault of a submitted form.
async fn list_with(
    user: &TenantUser,
    state: &ApiState,
    fault: Option<(&Form, &Problem)>,
) -> Result<HtmlPage, PageError> {
    let subscriptions = state.operations.store.catalog().subscriptions(&user.tenant);
    let users = |name: &str| subscriptions.iter().filter(|one| one.settings.plugin.names(name)).count();
    let library = state.operations.list_library(&user.access(state)?);
    let has_update = |name: &str| library.iter().any(|plugin| plugin.updates(name));
    let mut rows = Vec::new();
    for plugin in state.operations.store.plugins().await?.into_iter().filter(|plugin| plugin.tenant == user.tenant) {
        let quarantined = quarantined(state, &user.tenant, &plugin.active_sha256);
        let file_problem = state.operations.plugins.file_problem(&user.tenant, &plugin.name);
        let under_way = state.operations.plugins.rollout_under_way(&user.tenant, &plugin.name);
        rows.push(PluginRow {
            version: short(&plugin.active_sha256),
            since: Some(DisplayTime::at_ms(plugin.activated_at_ms)),
            by: plugin.activated_by,
            users: users(&plugin.name),
            has_update: has_update(&plugin.name),
            rollout: under_way.map(|stored| rollout_view::mark(&stored)).unwrap_or_default(),
            problem: if quarantined.is_empty() { file_problem.unwrap_or_default() } else { quarantined },
            name: plugin.name,
        });
    }
    for (name, problem) in state.operations.plugins.broken_files(&user.tenant) {
        if rows.iter().all(|row| row.name != name) {
            let users = users(&name);
            rows.push(PluginRow {
                version: String::new(),
                since: None,
                by: String::new(),
                has_update: false,
                rollout: String::new(),
                name,
                users,
                problem,
            });
        }
    }
    let of_library = fault.filter(|(form, _)| form.has("library"));
    let of_upload = fault.filter(|(form, _)| !form.has("library"));
    fn in_words(fault: Option<(&Form, &Problem)>) -> String {
        fault.map(|(_, problem)| problem.in_words_with_remedy()).unwrap_or_default()
    }
    let page = PluginsPage {
        rows,
        library: library.into_iter().map(|plugin| LibraryRow::new(plugin, user, state, of_library)).collect(),
        library_problem: in_words(of_library),
        problem: in_words(of_upload),
        is_bad_name: of_upload.is_some_and(|(_, problem)| !problem.of_fields(&["name"]).is_empty()),
        name: of_upload.map(|(form, _)| form.get("name").to_owned()).unwrap_or_default(),
        frame: Frame::new(user, state, "Plugins"),
    };
    render(state, Some(&user.tenant), page).await
}

/// Uploads a component without scripts, or adds a plugin of the library.
pub(super) async fn upload(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let uploaded = async {
        if form.has("library") {
            return plugin_library::add(&user, &state, &form).await;
        }
        let name = PluginName::parse(form.get("name")).map_err(|detail| Problem::field("/name", detail))?;
        let activation = Activation { activate: form.get("how") != "add", gate: None };
        let access = user.access(&state)?;
        state.operations.upload_plugin(&access, &name, activation, form.file.clone()).await.map(|_| name)
    };
    match uploaded.await {
        Ok(name) => {
            let path = UrlPath::pages_of(&user.tenant).then("plugins").then(&name);
            Ok(go_to(&path, "The plugin was checked and compiled."))
        }
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
            let page = list_with(&user, &state, Some((&form, &problem))).await?;
            Ok(page.with(status).into_response())
        }
    }
}

/// Query of a plugin's page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PluginParams {
    /// Version that a dry run uses, if not the active one.
    version: Option<String>,
    /// Version of which a canary is to begin: its form is shown.
    canary: Option<String>,
    #[serde(flatten)]
    note: NoteParams,
}

pub(super) async fn one(
    user: TenantUser,
    Params(params): Params<PluginParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let mut page = PluginPage::new(&user, &state).await?;
    if let Some(version) = &params.version {
        page.pick_version(version);
    }
    if let Some(sha256) = &params.canary {
        page.open_canary(sha256)?;
    }
    match state.notes.take(&user.user, &params.note) {
        Some(PluginNote::Compared(compared)) => page.compared = Some(compared),
        Some(PluginNote::Judged(judged)) => {
            let (picked, result) = *judged;
            page.picked(&picked);
            page.result = Some(result);
        }
        None => {}
    }
    let page = page.with_source(&user, &state).await?;
    render(&state, Some(&user.tenant), page).await
}

/// Handles the buttons of a plugin's page.
pub(super) async fn act(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let name: PluginName = user.path.parse("name", "plugin")?;
    let here = UrlPath::pages_of(&user.tenant).then("plugins").then(&name);
    let operations = &state.operations;
    match user.path.get("action") {
        "try" => roll_out(&user, &state, &form, &name).await,
        "end-rollout" => {
            operations.end_rollout(&user.access(&state)?, &name).await?;
            Ok(go_to(&here, "The active version is used for all events."))
        }
        "update" => {
            let updated = plugin_library::update(&user, &state, &form, &name).await?;
            Ok(go_to(&here, updated))
        }
        "delete" => {
            operations.delete_plugin(&user.access(&state)?, &name).await?;
            Ok(go_to(&UrlPath::pages_of(&user.tenant).then("plugins"), &format!("The plugin {name} was deleted.")))
        }
        "delete-version" => {
            let sha256 = version_of(form.get("sha256"))?;
            operations.delete_plugin_version(&user.access(&state)?, &name, &sha256).await?;
            Ok(go_to(&here, "The version was deleted."))
        }
        "dry-run" => dry(&user, &state, &form, name).await,
        _ => Err(Problem::not_found("action").into()),
    }
}

fn version_of(sha256: &str) -> Result<VersionId, Problem> {
    sha256.parse().map_err(|_| Problem::not_found("version"))
}

/// Activates a version, begins a rollout of it, or compares it with the active one.
async fn roll_out(
    user: &TenantUser,
    state: &Arc<ApiState>,
    form: &Form,
    name: &PluginName,
) -> Result<Response, PageError> {
    let here = UrlPath::pages_of(&user.tenant).then("plugins").then(name);
    let operations = &state.operations;
    let access = user.access(state)?;
    let sha256 = version_of(form.get("sha256"))?;
    match form.get("how") {
        "activate" => {
            operations.activate_plugin_version(&access, name, &sha256, None).await?;
            Ok(go_to(&here, "It is used from the next attempt on."))
        }
        "shadow" => {
            let wanted = RolloutWrite { kind: Kind::Shadow, sha256: sha256.to_string(), percent: None };
            operations.begin_rollout(&access, name, wanted).await?;
            Ok(go_to(&here, "It is called in addition to the active version; its results are not sent."))
        }
        "canary" => begin_canary(user, state, form, name, &sha256).await,
        "compare" => {
            let events = ComparisonSize::LARGEST;
            let comparison = operations.compare_plugin_versions(&access, name, &sha256, events).await?;
            let compared = ComparisonView::new(form.get("sha256"), &comparison, &user.tenant);
            Ok(state.notes.go_to(&user.user, &here, "", PluginNote::Compared(compared)))
        }
        _ => Err(Problem::not_found("action").into()),
    }
}

/// Begins a canary, or changes its share of the events. A share that is refused is shown again with its fault.
async fn begin_canary(
    user: &TenantUser,
    state: &Arc<ApiState>,
    form: &Form,
    name: &PluginName,
    sha256: &VersionId,
) -> Result<Response, PageError> {
    let begun = async {
        let percent = canary_form::percent(form.get("percent"))?;
        let wanted = RolloutWrite { kind: Kind::Canary, sha256: sha256.to_string(), percent: Some(percent) };
        state.operations.begin_rollout(&user.access(state)?, name, wanted).await.map(|_| percent)
    };
    match begun.await {
        Ok(percent) => {
            let here = UrlPath::pages_of(&user.tenant).then("plugins").then(name);
            Ok(go_to(&here, &format!("The canary judges {percent} % of the events from now on.")))
        }
        Err(problem) if problem.of_fields(&["percent"]).is_empty() => Err(problem.into()),
        Err(problem) => {
            let mut page = PluginPage::new(user, state).await?.answering();
            let refused = page.open_canary(form.get("sha256"))?;
            refused.refuse(form.get("percent"), &problem);
            let page = render(state, Some(&user.tenant), page.with_source(user, state).await?).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

async fn dry(user: &TenantUser, state: &Arc<ApiState>, form: &Form, name: PluginName) -> Result<Response, PageError> {
    let here = UrlPath::pages_of(&user.tenant).then("plugins").then(&name);
    let picked = Picked {
        event: form.get("pick").to_owned(),
        event_text: form.get("event_text").to_owned(),
        version: form.get("version").to_owned(),
        config: form.get("config").to_owned(),
    };
    let judged = async {
        let event = picked_event(user, state, form).await?.text;
        let parsed = RawValue::from_string(event.clone());
        let parsed = parsed.map_err(|error| Problem::field("/event", error.to_string()))?;
        let config = pairs(form.get("config")).map_err(|detail| Problem::field("/config", detail))?;
        let version = Some(form.get("version").to_owned()).filter(|version| !version.is_empty());
        let wanted = DryRun::of(parsed, config, version);
        let shown = state.operations.dry_run_plugin(&user.access(state)?, name, wanted).await?;
        Ok::<_, Problem>((event, shown))
    };
    match judged.await {
        Ok((event, shown)) => {
            let note = PluginNote::Judged(Box::new((picked, DryResult::new(&event, shown))));
            Ok(state.notes.go_to(&user.user, &here, "", note))
        }
        Err(problem) => {
            let mut page = PluginPage::new(user, state).await?.answering();
            page.picked(&picked);
            page.result = Some(DryResult::refused(problem.in_words()));
            let page = render(state, Some(&user.tenant), page.with_source(user, state).await?).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

/// Event of a form.
pub(super) struct PickedEvent {
    /// Payload of the event.
    pub(super) text: String,
    /// Payload of the event before it of the same entity.
    pub(super) previous: Option<String>,
}

/// Returns the event of the form: a submitted one, a sample, or a stored one.
pub(super) async fn picked_event(user: &TenantUser, state: &ApiState, form: &Form) -> Result<PickedEvent, Problem> {
    fn alone(text: &str) -> PickedEvent {
        PickedEvent { text: text.to_owned(), previous: None }
    }
    if form.has("event_text") {
        return Ok(alone(form.get("event_text")));
    }
    let pick = form.get("pick");
    if let Some((_, sample)) = SAMPLES.iter().find(|(module, _)| pick == format!("sample:{}", module.as_str())) {
        return Ok(alone(sample));
    }
    let id = pick.parse().map(EventId).map_err(|_| Problem::not_found("event"))?;
    let event = state.operations.store.event(user.tenant.clone(), id).await?.event;
    let previous = state.operations.store.previous(user.tenant.clone(), &event).await?;
    Ok(PickedEvent { text: event.text().to_owned(), previous: previous.map(|previous| previous.text().to_owned()) })
}
