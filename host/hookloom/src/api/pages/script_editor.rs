//! Editor of scripts: events, the script, and the result of a trial, side by side.
//!
//! # Theory of operation
//! Without scripts, the page is a form with the buttons "Try" and "Save as version". `editor.js` puts an editor in place of the text area,
//! and submits the form with `part=result` after each pause in typing. The answer is the right pane alone, in the form in which the page
//! shows it.
//!
//! # Guarantees
//! - A submitted script is never lost: every answer to the form, also one with a problem, has it again.
//! - A new version of a plugin that webhooks may use is not activated, unless its author chooses so.

use super::dry_result::DryResult;
use super::forms::{Form, as_lines, pairs};
use super::notes::NoteParams;
use super::plugins::picked_event;
use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render, short};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::event::{Event, Module, SAMPLES};
use crate::ids::{PluginName, VersionId};
use crate::operations::{Activation, ComparisonSize, Problem, ScriptTrial, ToManage, stored_script};
use crate::plugin::script;
use crate::subscription::SubscriptionId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use uuid::Uuid;

/// Script with which an author begins.
const START: &str = include_str!("../../../../../plugins/script-engine/start.js");

/// Maximum number of stored events in the list.
const EVENTS_LISTED: usize = 30;

/// Number of events that a version must pass before it is activated by "activate it if it passes the gate".
const GATE_EVENTS: usize = 100;

/// Query of an existing script's page.
#[derive(Default, Deserialize)]
pub(super) struct ScriptParams {
    /// Version to edit, if not the active one.
    version: Option<String>,
    #[serde(flatten)]
    note: NoteParams,
}

/// Submitted form, or the beginning of one.
#[derive(Clone)]
struct Draft {
    /// Plugin of which the script is a version. None: it is to be the first version of a new one.
    plugin: Option<PluginName>,
    /// Name of the plugin. Empty: not chosen yet.
    name: String,
    source: String,
    /// Value of the chosen event.
    pick: String,
    event_text: String,
    config: String,
    how: String,
    /// Webhook for which the script is written, and to which its author returns.
    webhook: Option<SubscriptionId>,
}

impl Draft {
    fn new(plugin: Option<PluginName>, source: &str) -> Self {
        let name = plugin.as_ref().map(ToString::to_string).unwrap_or_default();
        let [pick, event_text, config] = [const { String::new() }; 3];
        Draft {
            plugin,
            name,
            source: source.to_owned(),
            pick,
            event_text,
            config,
            how: "add".to_owned(),
            webhook: None,
        }
    }

    fn of(form: &Form) -> Self {
        let field = |name: &str| form.get(name).to_owned();
        // Neither trimmed, because lines are counted from the first, nor with the line ends that forms are sent with.
        let source = form.all("source").first().copied().unwrap_or_default().replace("\r\n", "\n");
        let plugin = PluginName::parse(form.get("plugin")).ok();
        Draft {
            name: plugin.as_ref().map_or_else(|| field("name"), ToString::to_string),
            plugin,
            source,
            pick: field("pick"),
            event_text: field("event_text"),
            config: field("config"),
            how: field("how"),
            webhook: form.get("webhook").parse().ok().map(SubscriptionId),
        }
    }

    /// Returns the path of the page that shows the draft.
    fn path(&self, user: &TenantUser) -> UrlPath {
        let scripts = UrlPath::pages_of(&user.tenant).then("scripts");
        match &self.plugin {
            Some(plugin) => scripts.then(plugin),
            None => scripts,
        }
    }
}

/// Note that the page shows once.
struct TriedNote {
    draft: Draft,
    result: DryResult,
}

/// Event in the list.
struct EventRow {
    value: String,
    name: String,
    /// Entity of a stored event. Empty: it has none, or the event is a sample.
    about: String,
    at: Option<DisplayTime>,
    is_picked: bool,
}

#[derive(Template)]
#[template(path = "script.html")]
struct ScriptPage {
    frame: Frame,
    draft: Draft,
    /// Beginning of the edited version's sha256. Empty: a new script.
    version: String,
    events: Vec<EventRow>,
    samples: Vec<EventRow>,
    gate_events: usize,
    result: Option<DryResult>,
    /// Problem of a submitted version. Empty: none.
    problem: String,
    is_bad_name: bool,
}

/// Content of the right pane alone.
#[derive(Template)]
#[template(path = "script_result.html")]
struct ResultPane {
    result: Option<DryResult>,
}

impl ScriptPage {
    async fn new(user: &TenantUser, state: &ApiState, draft: Draft, version: String) -> Result<Self, PageError> {
        let (events, config) = listed_events(user, state, &draft.name).await?;
        let mut events: Vec<EventRow> = events.iter().map(|event| EventRow::stored(event)).collect();
        let mut samples: Vec<EventRow> = SAMPLES.iter().map(|(module, _)| EventRow::sample(*module)).collect();
        let mut all = events.iter_mut().chain(&mut samples);
        if draft.pick.is_empty() {
            all.next().into_iter().for_each(|first| first.is_picked = true);
        } else {
            all.for_each(|row| row.is_picked = row.value == draft.pick);
        }
        let config = if draft.config.is_empty() { config } else { draft.config.clone() };
        Ok(ScriptPage {
            frame: Frame::new(user, state, "Plugins").answering(),
            draft: Draft { config, ..draft },
            version,
            events,
            samples,
            gate_events: GATE_EVENTS,
            result: None,
            problem: String::new(),
            is_bad_name: false,
        })
    }
}

/// Returns the newest events for a plugin, those of its webhooks first, and the config of one of its webhooks.
async fn listed_events(
    user: &TenantUser,
    state: &ApiState,
    plugin: &str,
) -> Result<(Vec<Arc<Event>>, String), PageError> {
    let store = &state.operations.store;
    let subscriptions = store.catalog().subscriptions(&user.tenant);
    let users: Vec<_> = subscriptions.iter().filter(|one| one.settings.plugin.names(plugin)).collect();
    let config = users.first().map(|one| as_lines(&one.settings.config)).unwrap_or_default();
    let ids = users.iter().map(|one| one.id).collect();
    let own = store.last_events_of(user.tenant.clone(), ids, EVENTS_LISTED).await?;
    let others = store.recent_events(user.tenant.clone(), Module::ALL.to_vec(), EVENTS_LISTED).await?;
    let mut events: Vec<Arc<Event>> = Vec::new();
    for event in own.into_iter().map(|(event, _)| event).chain(others) {
        if events.len() < EVENTS_LISTED && events.iter().all(|known| known.id != event.id) {
            events.push(event);
        }
    }
    Ok((events, config))
}

impl EventRow {
    fn stored(event: &Event) -> Self {
        EventRow {
            value: event.id.to_string(),
            name: event.name.clone(),
            about: event.entity_id.clone().unwrap_or_default(),
            at: Some(DisplayTime::at_ms(event.received_at_ms)),
            is_picked: false,
        }
    }

    fn sample(module: Module) -> Self {
        let name = format!("Sample: {}", module.as_str());
        let value = format!("sample:{}", module.as_str());
        EventRow { value, name, about: String::new(), at: None, is_picked: false }
    }
}

/// Query of a new script's page.
#[derive(Default, Deserialize)]
pub(super) struct NewScriptParams {
    /// Webhook for which the script is written.
    webhook: Option<Uuid>,
    #[serde(flatten)]
    note: NoteParams,
}

/// Shows the editor with the script to begin with.
pub(super) async fn new(
    user: TenantUser,
    Params(params): Params<NewScriptParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    user.access::<ToManage>(&state)?;
    let name = free_name(&state, &user);
    let draft = Draft { name, webhook: params.webhook.map(SubscriptionId), ..Draft::new(None, START) };
    show(&user, &state, &params.note, draft, String::new()).await
}

/// Returns a name for a script that no plugin of the tenant has.
fn free_name(state: &ApiState, user: &TenantUser) -> String {
    let others = (2..).map(|number: u32| format!("script-{number}"));
    std::iter::once("script".to_owned())
        .chain(others)
        .find(|name| !state.operations.plugins.exists(&user.tenant, name))
        .unwrap_or_default()
}

/// Shows the editor with a version of a plugin.
pub(super) async fn edit(
    user: TenantUser,
    Params(params): Params<ScriptParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let access = user.access::<ToManage>(&state)?;
    let name: PluginName = user.path.parse("name", "plugin")?;
    let versions = state.operations.store.plugin_versions(user.tenant.clone(), name.to_string()).await?;
    let is_wanted = |sha256: &str, active: bool| params.version.as_ref().map_or(active, |wanted| wanted == sha256);
    let version = versions.iter().find(|one| is_wanted(&one.sha256, one.active));
    let version = version.ok_or_else(|| Problem::not_found("version of the plugin"))?;
    let sha256 = VersionId::parse(&version.sha256).map_err(|detail| Problem::field("/version", detail))?;
    let stored = state.operations.get_component(&access, &name, &sha256).await?;
    let Some(source) = script::source(&stored) else {
        let detail = format!("the version {} of {name} is a component, not a script", short(&version.sha256));
        let problem = Problem::new(StatusCode::NOT_FOUND, "not-a-script", detail);
        return Err(problem.remedy("change its source where it was written, and upload what is built of it").into());
    };
    show(&user, &state, &params.note, Draft::new(Some(name), source), short(&version.sha256)).await
}

async fn show(
    user: &TenantUser,
    state: &ApiState,
    note: &NoteParams,
    draft: Draft,
    version: String,
) -> Result<HtmlPage, PageError> {
    let page = match state.notes.take::<TriedNote>(&user.user, note) {
        Some(TriedNote { draft, result }) => {
            let page = ScriptPage::new(user, state, draft, version).await?;
            ScriptPage { result: Some(result), ..page }
        }
        None => ScriptPage::new(user, state, draft, version).await?,
    };
    render(state, Some(&user.tenant), page).await
}

/// Tries the submitted script, or saves it as a version.
pub(super) async fn submit(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let draft = Draft::of(&form);
    match form.get("do") {
        "save" => save(&user, &state, draft).await,
        _ if form.get("part") == "result" => {
            let result = Some(tried(&user, &state, &form, &draft).await.unwrap_or_else(|problem| refused(&problem)));
            Ok(render(&state, Some(&user.tenant), ResultPane { result }).await?.into_response())
        }
        _ => match tried(&user, &state, &form, &draft).await {
            Ok(result) => {
                let path = draft.path(&user);
                Ok(state.notes.go_to(&user.user, &path, "", TriedNote { draft, result }))
            }
            Err(problem) => {
                let page = ScriptPage::new(&user, &state, draft, String::new()).await?;
                let page = ScriptPage { result: Some(refused(&problem)), ..page };
                Ok(render(&state, Some(&user.tenant), page).await?.with(status_of(&problem)).into_response())
            }
        },
    }
}

fn refused(problem: &Problem) -> DryResult {
    DryResult::refused(problem.in_words_with_remedy())
}

fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
}

async fn tried(user: &TenantUser, state: &ApiState, form: &Form, draft: &Draft) -> Result<DryResult, Problem> {
    let picked = picked_event(user, state, form).await?;
    fn raw(text: String) -> Result<Box<RawValue>, Problem> {
        RawValue::from_string(text).map_err(|error| Problem::field("/event", format!("this is not JSON: {error}")))
    }
    let config = pairs(&draft.config).map_err(|detail| Problem::field("/config", detail))?;
    let previous = picked.previous.map(raw).transpose()?;
    let trial = ScriptTrial::of(draft.source.clone(), raw(picked.text.clone())?, previous, config);
    let shown = state.operations.try_script(&user.access(state)?, trial).await?;
    Ok(DryResult::new(&picked.text, shown))
}

async fn save(user: &TenantUser, state: &Arc<ApiState>, draft: Draft) -> Result<Response, PageError> {
    let webhook = draft.webhook;
    let saved = async {
        let name = PluginName::parse(&draft.name).map_err(|detail| Problem::field("/name", detail))?;
        // The first version of a plugin is active: no webhook uses it before it is there.
        let is_first = !state.operations.plugins.exists(&user.tenant, &name);
        let gate = (draft.how == "gate").then(ComparisonSize::fixed::<GATE_EVENTS>);
        let is_wanted = matches!(draft.how.as_str(), "gate" | "activate");
        let activation = Activation { activate: is_first || is_wanted, gate };
        let stored = stored_script(draft.source.as_bytes())?;
        let access = user.access(state)?;
        state.operations.upload_plugin(&access, &name, activation, stored).await.map(|_| (name, activation.activate))
    };
    match saved.await {
        Ok((name, is_active)) => {
            let pages = UrlPath::pages_of(&user.tenant);
            if let Some(webhook) = webhook {
                let path = pages.then("webhooks").then(&webhook).query("plugin", name.to_string());
                return Ok(go_to(&path, "The script is saved."));
            }
            let path = pages.then("plugins").then(&name);
            let flash = if is_active {
                "The script is the active version."
            } else {
                "The script is a new version. Compare it, begin a shadow or a canary, or activate it."
            };
            Ok(go_to(&path, flash))
        }
        Err(problem) => {
            let page = ScriptPage::new(user, state, draft, String::new()).await?;
            let is_bad_name = !problem.of_fields(&["name"]).is_empty();
            let page = ScriptPage { problem: problem.in_words_with_remedy(), is_bad_name, ..page };
            Ok(render(state, Some(&user.tenant), page).await?.with(status_of(&problem)).into_response())
        }
    }
}
