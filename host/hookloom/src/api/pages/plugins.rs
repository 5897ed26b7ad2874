//! Pages of plugins: upload, versions, rollouts, and the dry run.

use super::forms::pairs;
use super::notes::NoteParams;
use super::plugins_view::{Compared, DryResult, Picked, PluginPage, PluginRow, quarantined};
use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, go_to, render, short};
use crate::api::dry_run::DryRun;
use crate::api::extract::{Body, Item, Json as Input, Params, PathParams};
use crate::api::gate::ComparisonSize;
use crate::api::plugins::{Activation, Gate};
use crate::api::problem::Problem;
use crate::api::rollouts::{CompareWrite, Kind, RolloutWrite};
use crate::api::{ApiState, dry_run, plugins as routes, rollouts};
use crate::event::{EventId, SAMPLES};
use crate::ids::PluginName;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "plugins.html")]
struct PluginsPage {
    frame: Frame,
    rows: Vec<PluginRow>,
    /// Fault of an upload. Empty: none.
    problem: String,
    /// Submitted name.
    name: String,
    is_bad_name: bool,
}

/// Note that a plugin's page shows once.
enum PluginNote {
    Compared(Compared),
    Judged(Box<(Picked, DryResult)>),
}

pub(super) async fn list(user: TenantUser, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    list_with(&user, &state, None, "").await
}

async fn list_with(
    user: &TenantUser,
    state: &ApiState,
    problem: Option<&Problem>,
    name: &str,
) -> Result<HtmlPage, PageError> {
    let subscriptions = state.store.catalog().subscriptions(&user.tenant);
    let users = |name: &str| subscriptions.iter().filter(|one| one.settings.plugin.names(name)).count();
    let mut rows = Vec::new();
    for plugin in state.store.plugins().await?.into_iter().filter(|plugin| plugin.tenant == user.tenant) {
        let quarantined = quarantined(state, &user.tenant, &plugin.active_sha256);
        let file_problem = state.plugins.file_problem(&user.tenant, &plugin.name);
        rows.push(PluginRow {
            version: short(&plugin.active_sha256),
            since: Some(DisplayTime::at_ms(plugin.activated_at_ms)),
            by: plugin.activated_by,
            users: users(&plugin.name),
            problem: if quarantined.is_empty() { file_problem.unwrap_or_default() } else { quarantined },
            name: plugin.name,
        });
    }
    for (name, problem) in state.plugins.broken_files(&user.tenant) {
        if rows.iter().all(|row| row.name != name) {
            let users = users(&name);
            rows.push(PluginRow { name, version: String::new(), since: None, by: String::new(), users, problem });
        }
    }
    let page = PluginsPage {
        rows,
        problem: problem.map(Problem::in_words_with_remedy).unwrap_or_default(),
        is_bad_name: problem.is_some_and(|problem| !problem.of_fields(&["name"]).is_empty()),
        name: name.to_owned(),
        frame: Frame::new(user, state, "Plugins"),
    };
    render(state, Some(&user.tenant), page).await
}

/// Uploads a component without scripts.
pub(super) async fn upload(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let uploaded = async {
        let name = PluginName::parse(form.get("name")).map_err(|detail| Problem::field("/name", detail))?;
        let activation = Params(Activation { activate: Some(form.get("how") != "add"), gate: None });
        let component = Body(form.file.clone());
        let access = user.access(&state)?;
        routes::put(access, Item(name.to_string()), activation, State(state.clone()), component).await.map(|_| name)
    };
    match uploaded.await {
        Ok(name) => {
            let path = UrlPath::pages_of(&user.tenant).then("plugins").then(&name);
            Ok(go_to(&path, "The plugin was checked and compiled."))
        }
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
            let page = list_with(&user, &state, Some(&problem), form.get("name")).await?;
            Ok(page.with(status).into_response())
        }
    }
}

pub(super) async fn one(
    user: TenantUser,
    Params(note): Params<NoteParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let mut page = PluginPage::new(&user, &state).await?;
    match state.notes.take(&user.user, &note) {
        Some(PluginNote::Compared(compared)) => page.compared = Some(compared),
        Some(PluginNote::Judged(judged)) => {
            let (picked, result) = *judged;
            page.picked(&picked);
            page.result = Some(result);
        }
        None => {}
    }
    render(&state, Some(&user.tenant), page).await
}

/// Handles the buttons of a plugin's page.
pub(super) async fn act(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let name: PluginName = user.path.parse("name", "plugin")?;
    let here = UrlPath::pages_of(&user.tenant).then("plugins").then(&name);
    match user.path.get("action") {
        "try" => {
            let wanted =
                RolloutForm { sha256: form.get("sha256").to_owned(), percent: form.get("percent").parse().ok() };
            wanted.begin(form.get("how"), &name, &here, &user, &state).await
        }
        "end-rollout" => {
            rollouts::end(user.access(&state)?, Item(name), State(state.clone())).await?;
            Ok(go_to(&here, "The active version is used for all events."))
        }
        "delete" => {
            routes::delete(user.access(&state)?, Item(name.clone()), State(state.clone())).await?;
            Ok(go_to(&UrlPath::pages_of(&user.tenant).then("plugins"), &format!("The plugin {name} was deleted.")))
        }
        "delete-version" => {
            let sha256 = form.get("sha256").to_owned();
            let path = PathParams(vec![("name".into(), name.to_string()), ("sha256".into(), sha256)]);
            routes::delete_version(user.access(&state)?, path, State(state.clone())).await?;
            Ok(go_to(&here, "The version was deleted."))
        }
        "dry-run" => dry(&user, &state, &form, name).await,
        _ => Err(Problem::not_found("action").into()),
    }
}

/// Version and share of the events in the rollout form.
struct RolloutForm {
    sha256: String,
    percent: Option<f64>,
}

impl RolloutForm {
    async fn begin(
        self,
        how: &str,
        name: &PluginName,
        here: &UrlPath,
        user: &TenantUser,
        state: &Arc<ApiState>,
    ) -> Result<Response, PageError> {
        let with_state = || State(state.clone());
        let path = || PathParams(vec![("name".into(), name.to_string()), ("sha256".into(), self.sha256.clone())]);
        let begin = async |kind: Kind, percent: Option<f64>| {
            let wanted = Input(RolloutWrite { kind, sha256: self.sha256.clone(), percent });
            rollouts::begin(user.access(state)?, Item(name.clone()), with_state(), wanted.into()).await
        };
        match how {
            "activate" => {
                let gate = Params(Gate { gate: None });
                let _ = routes::activate(user.access(state)?, path(), gate, with_state()).await?;
                Ok(go_to(here, "It is used from the next attempt on."))
            }
            "shadow" => {
                let _ = begin(Kind::Shadow, None).await?;
                Ok(go_to(here, "It is called in addition to the active version; its results are not sent."))
            }
            "canary" => {
                let _ = begin(Kind::Canary, self.percent).await?;
                Ok(go_to(here, "It is called for a part of the events."))
            }
            "compare" => {
                let events = Input(CompareWrite { events: ComparisonSize::LARGEST });
                let comparison = rollouts::compare(user.access(state)?, path(), with_state(), events).await?;
                let compared = PluginNote::Compared(Compared::new(&comparison.0));
                Ok(state.notes.go_to(&user.user, here, "", compared))
            }
            _ => Err(Problem::not_found("action").into()),
        }
    }
}

async fn dry(
    user: &TenantUser,
    state: &Arc<ApiState>,
    form: &super::forms::Form,
    name: PluginName,
) -> Result<Response, PageError> {
    let here = UrlPath::pages_of(&user.tenant).then("plugins").then(&name);
    let picked = Picked {
        event: form.get("pick").to_owned(),
        event_text: form.get("event_text").to_owned(),
        version: form.get("version").to_owned(),
        config: form.get("config").to_owned(),
    };
    let judged = async {
        let event = picked_event(user, state, form).await?;
        let parsed = RawValue::from_string(event.clone());
        let parsed = parsed.map_err(|error| Problem::field("/event", error.to_string()))?;
        let config = pairs(form.get("config")).map_err(|detail| Problem::field("/config", detail))?;
        let version = Some(form.get("version").to_owned()).filter(|version| !version.is_empty());
        let wanted = Input(DryRun::of(parsed, config, version));
        let shown = dry_run::dry_run(user.access(state)?, Item(name), State(state.clone()), wanted).await?;
        Ok::<_, Problem>((event, shown.0))
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
            let page = render(state, Some(&user.tenant), page).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

/// Returns the event of the form: a submitted one, a sample, or a stored one.
async fn picked_event(user: &TenantUser, state: &ApiState, form: &super::forms::Form) -> Result<String, Problem> {
    if form.has("event_text") {
        return Ok(form.get("event_text").to_owned());
    }
    let pick = form.get("pick");
    if let Some((_, sample)) = SAMPLES.iter().find(|(module, _)| pick == format!("sample:{}", module.as_str())) {
        return Ok((*sample).to_owned());
    }
    let id = pick.parse().map(EventId).map_err(|_| Problem::not_found("event"))?;
    Ok(state.store.event(user.tenant.clone(), id).await?.event.text().to_owned())
}
