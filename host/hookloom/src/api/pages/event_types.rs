//! Page of event types: which event names the tenant accepts, how often each came, and a form for those of its own.

use super::forms::Form;
use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::event::Module;
use crate::event_type::EventType;
use crate::operations::{EVENTS_COUNTED, EventOrigin, EventTypeBody, Problem, ToRead};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "event_types.html")]
struct EventTypesPage {
    frame: Frame,
    rows: Vec<EventTypeRow>,
    /// Number of events among which those of each type are counted.
    counted: usize,
    typed: TypedEventType,
    /// Modules, and whether each is chosen.
    modules: [(&'static str, bool); 2],
}

struct EventTypeRow {
    name: String,
    module: &'static str,
    description: String,
    schema: Option<String>,
    origin: &'static str,
    is_custom: bool,
    events: u64,
    last: Option<DisplayTime>,
}

impl From<EventTypeBody> for EventTypeRow {
    fn from(one: EventTypeBody) -> Self {
        EventTypeRow {
            name: one.name,
            module: one.module.as_str(),
            description: one.description,
            schema: one.schema.map(|schema| pretty(&schema)),
            origin: one.origin.shown(),
            is_custom: one.origin == EventOrigin::Custom,
            events: one.recent_events,
            last: one.last_received_at_ms.map(DisplayTime::at_ms),
        }
    }
}

/// Values of the form: of a refused submission, of the event type that is edited, or none.
#[derive(Default)]
struct TypedEventType {
    problem: String,
    /// Field that the problem is about. Empty: another one.
    field: String,
    is_edit: bool,
    name: String,
    module: String,
    description: String,
    schema: String,
}

/// Event type whose values the form has.
#[derive(Default, Deserialize)]
pub(super) struct EventTypesParams {
    edit: Option<String>,
}

/// Lists the event types.
pub(super) async fn list(
    user: TenantUser,
    Params(params): Params<EventTypesParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let edited = match &params.edit {
        Some(name) => Some(state.operations.get_event_type(&user.access::<ToRead>(&state)?, name).await?),
        None => None,
    };
    let typed = edited.filter(|one| one.origin == EventOrigin::Custom).map(|one| TypedEventType {
        is_edit: true,
        name: one.name,
        module: one.module.as_str().to_owned(),
        description: one.description,
        schema: one.schema.map(|schema| pretty(&schema)).unwrap_or_default(),
        ..TypedEventType::default()
    });
    list_with(&user, &state, typed.unwrap_or_default()).await
}

async fn list_with(user: &TenantUser, state: &ApiState, typed: TypedEventType) -> Result<HtmlPage, PageError> {
    let mut types = state.operations.list_event_types(&user.access::<ToRead>(state)?).await?;
    if user.user.is_customer() {
        types.retain(|one| !one.module.is_hosts());
    }
    let modules = [Module::Contact, Module::Deal].map(|module| (module.as_str(), module.as_str() == typed.module));
    let page = EventTypesPage {
        frame: Frame::new(user, state, "Event types"),
        rows: types.into_iter().map(EventTypeRow::from).collect(),
        counted: EVENTS_COUNTED,
        typed,
        modules,
    };
    render(state, Some(&user.tenant), page).await
}

/// Adds an event type, or describes one anew.
pub(super) async fn put(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let access = user.access(&state)?;
    let name = form.get("name");
    let saved = async { state.operations.put_event_type(&access, name, event_type(&form)?).await };
    match saved.await {
        Ok(_) => Ok(go_to(&here(&user), &format!("Events named {name:?} are accepted."))),
        Err(problem) => {
            let typed = TypedEventType {
                problem: problem.in_words(),
                field: problem.errors.first().map(|fault| field_of(&fault.pointer)).unwrap_or_default(),
                is_edit: form.has("edit"),
                name: name.to_owned(),
                module: form.get("module").to_owned(),
                description: form.get("description").to_owned(),
                schema: form.get("schema").to_owned(),
            };
            let page = list_with(&user, &state, typed).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

/// Removes an event type.
pub(super) async fn remove(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let name = form.get("name");
    state.operations.delete_event_type(&user.access(&state)?, name).await?;
    Ok(go_to(&here(&user), &format!("Events named {name:?} are refused from now on.")))
}

fn here(user: &TenantUser) -> UrlPath {
    UrlPath::pages_of(&user.tenant).then("event-types")
}

/// Returns the field of the form at which a pointer into the body leads. The name is not in the body.
fn field_of(pointer: &str) -> String {
    match pointer.trim_start_matches('/') {
        "" => "name".to_owned(),
        field => field.to_owned(),
    }
}

fn event_type(form: &Form) -> Result<EventType, Problem> {
    let module = Module::parse(form.get("module")).ok_or_else(|| Problem::field("/module", "choose a module"))?;
    let schema = match form.get("schema") {
        "" => None,
        text => {
            let parsed = serde_json::from_str(text);
            Some(parsed.map_err(|error| Problem::field("/schema", format!("is not a JSON object: {error}")))?)
        }
    };
    Ok(EventType { module, description: form.get("description").to_owned(), schema })
}

fn pretty(schema: &serde_json::Map<String, serde_json::Value>) -> String {
    serde_json::to_string_pretty(schema).unwrap_or_default()
}
