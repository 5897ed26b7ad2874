//! Page of keys, addresses for Agile CRM, and the log of changes.

use super::diff::Diff;
use super::forms::Form;
use super::notes::NoteParams;
use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::access::Scope;
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::operations::{NewKey, NewToken, Problem, ToManage};
use crate::store::Change;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Template)]
#[template(path = "access.html")]
struct AccessPage {
    frame: Frame,
    once: Option<Once>,
    typed: Typed,
    keys: Vec<KeyRow>,
    /// Each scope, and whether its box is checked.
    scopes: Vec<(&'static str, bool)>,
    tokens: Vec<TokenRow>,
    changes: Vec<ChangeRow>,
    next: Option<String>,
}

struct KeyRow {
    id: String,
    name: String,
    scopes: String,
    made: DisplayTime,
    used: Option<DisplayTime>,
}

struct TokenRow {
    id: String,
    name: String,
    made: DisplayTime,
}

struct ChangeRow {
    at: DisplayTime,
    who: String,
    action: String,
    subject: String,
    diff: Diff,
}

#[derive(Default, Deserialize)]
pub(super) struct AccessParams {
    cursor: Option<Uuid>,
}

const CHANGES: usize = 50;

pub(super) async fn page(
    user: TenantUser,
    Params(params): Params<AccessParams>,
    Params(note): Params<NoteParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let once = state.notes.take::<Once>(&user.user, &note);
    page_with(&user, &state, once, Typed::default(), params.cursor).await
}

/// A text that is shown only once.
pub(super) struct Once {
    title: &'static str,
    text: String,
    /// True for an address that accepts events.
    is_address: bool,
}

impl Once {
    /// Returns a text that is no address for events.
    pub(super) fn text(title: &'static str, text: String) -> Self {
        Once { title, text, is_address: false }
    }
}

/// Refused form: the problem, and the submitted values.
#[derive(Default)]
struct Typed {
    problem: String,
    /// True for the form of addresses, false for the form of keys.
    is_token: bool,
    label: String,
    scopes: Vec<String>,
}

async fn page_with(
    user: &TenantUser,
    state: &ApiState,
    once: Option<Once>,
    typed: Typed,
    cursor: Option<Uuid>,
) -> Result<HtmlPage, PageError> {
    // Only users who may change these things can see them.
    user.access::<ToManage>(state)?;
    let catalog = state.operations.store.catalog();
    let keys = catalog.keys(Some(&user.tenant));
    let used = state.operations.store.keys_used_at_ms(&keys).await?;
    fn scopes(scopes: &[Scope]) -> String {
        scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
    }
    let (changes, more) = state.operations.store.changes(Some(user.tenant.clone()), cursor, CHANGES).await?;
    let next = changes.last().filter(|_| more).map(|last| format!("?cursor={}#changes", last.id));
    let page = AccessPage {
        keys: keys
            .iter()
            .map(|key| KeyRow {
                id: key.id.to_string(),
                name: key.shown(),
                scopes: scopes(&key.scopes),
                made: DisplayTime::at_ms(key.created_at_ms),
                used: used.get(&key.id).map(|ms| DisplayTime::at_ms(*ms)),
            })
            .collect(),
        tokens: catalog
            .tokens(&user.tenant)
            .iter()
            .map(|token| TokenRow {
                id: token.id.to_string(),
                name: state.operations.shown_address(token),
                made: DisplayTime::at_ms(token.created_at_ms),
            })
            .collect(),
        scopes: Scope::ALL
            .map(|scope| (scope.as_str(), typed.scopes.iter().any(|ticked| ticked == scope.as_str())))
            .to_vec(),
        changes: changes.into_iter().map(change_row).collect(),
        frame: Frame::new(user, state, "Access"),
        once,
        typed,
        next,
    };
    render(state, Some(&user.tenant), page).await
}

fn change_row(change: Change) -> ChangeRow {
    fn text(value: &Option<Value>) -> String {
        value.as_ref().map(|value| format!("{value:#}")).unwrap_or_default()
    }
    let diff = match (&change.before, &change.after) {
        (None, None) => Diff::words(""),
        (before, after) => Diff::new(text(before), text(after)),
    };
    ChangeRow {
        at: DisplayTime::at_ms(change.at_ms),
        who: change.who,
        action: change.action,
        subject: change.subject,
        diff,
    }
}

/// Creates and revokes keys and addresses.
pub(super) async fn act(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let here = UrlPath::pages_of(&user.tenant).then("access");
    let operations = &state.operations;
    let id = || form.get("id").parse().map_err(|_| Problem::not_found("key"));
    let made = match user.path.get("action") {
        "keys" => {
            let scopes = form.all("scopes");
            if scopes.is_empty() {
                let problem = Problem::field("/scopes", "tick at least one: a key without a scope may do nothing");
                return refused(&user, &state, &form, &problem).await;
            }
            let scopes = scopes.into_iter().map(|name| {
                Scope::parse(name).ok_or_else(|| Problem::field("/scopes", format!("{name:?} is not a scope")))
            });
            let scopes = scopes.collect::<Result<_, _>>()?;
            let wanted = NewKey { scopes, label: form.get("label").to_owned() };
            match operations.create_key(&user.access(&state)?, wanted).await {
                Ok(key) => {
                    let text = key.key.unwrap_or_default();
                    Ok(Once { title: "The new key", text, is_address: false })
                }
                Err(problem) => Err(problem),
            }
        }
        "tokens" => {
            let wanted = NewToken { label: form.get("label").to_owned() };
            match operations.create_intake_token(&user.access(&state)?, wanted).await {
                Ok(token) => {
                    let path = UrlPath::local(token.path.as_deref().unwrap_or_default()).unwrap_or_else(UrlPath::root);
                    let address = state.link_for(&headers, &path);
                    let title = "The new address: enter it as Notify URL in Agile CRM";
                    Ok(Once { title, text: address, is_address: true })
                }
                Err(problem) => Err(problem),
            }
        }
        "revoke-key" => {
            operations.revoke_key(&user.access(&state)?, id()?).await?;
            return Ok(go_to(&here, "The key was revoked."));
        }
        "revoke-token" => {
            operations.revoke_intake_token(&user.access(&state)?, id()?).await?;
            return Ok(go_to(&here, "The address was revoked."));
        }
        _ => return Err(Problem::not_found("action").into()),
    };
    Ok(match made {
        Ok(once) => state.notes.go_to(&user.user, &here, "", once),
        Err(problem) => refused(&user, &state, &form, &problem).await?,
    })
}

/// Shows the page again, with the problem of a form and the submitted values.
async fn refused(
    user: &TenantUser,
    state: &Arc<ApiState>,
    form: &Form,
    problem: &Problem,
) -> Result<Response, PageError> {
    let typed = Typed {
        problem: problem.in_words(),
        is_token: user.path.get("action") == "tokens",
        label: form.get("label").to_owned(),
        scopes: form.all("scopes").into_iter().map(str::to_owned).collect(),
    };
    let page = page_with(user, state, None, typed, None).await?;
    Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
}
