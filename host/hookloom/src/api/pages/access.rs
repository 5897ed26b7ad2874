//! Page of keys, addresses for Agile CRM, and admin keys.

use super::forms::Form;
use super::notes::NoteParams;
use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::access::{ApiKey, Scope};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::operations::{Admin, ChangeKind, NewAdminKey, NewKey, NewToken, Problem, ToManage};
use crate::store::{Change, ChangeSearch};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Template)]
#[template(path = "access.html")]
struct AccessPage {
    frame: Frame,
    once: Option<Once>,
    typed: Typed,
    keys: Vec<KeyRow>,
    scopes: Vec<ScopeChoice>,
    tokens: Vec<TokenRow>,
    /// Empty for users who are no admins.
    admin_keys: Vec<KeyRow>,
}

struct KeyRow {
    id: String,
    /// Label, or the name of the environment variable.
    name: String,
    hint: String,
    /// Label and hint.
    shown: String,
    scopes: String,
    made: DisplayTime,
    /// Key that made this one. Empty: the log does not have it any more, or the host made it.
    made_by: String,
    used: Option<DisplayTime>,
    /// True for the admin key of the environment, which no page revokes.
    is_given: bool,
    /// True for the key of this session.
    is_own: bool,
}

struct ScopeChoice {
    name: &'static str,
    meaning: &'static str,
    is_chosen: bool,
}

struct TokenRow {
    id: String,
    name: String,
    made: DisplayTime,
}

/// Number of entries of the log in which the makers of keys are looked up.
const CREATIONS_MAX: usize = 500;

pub(super) async fn page(
    user: TenantUser,
    Params(note): Params<NoteParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let once = state.notes.take::<Once>(&user.user, &note);
    page_with(&user, &state, once, Typed::default()).await
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
    /// Action of the form.
    form: String,
    label: String,
    scopes: Vec<String>,
}

impl Typed {
    /// Returns true if this form was refused.
    fn is_of(&self, form: &str) -> bool {
        !self.problem.is_empty() && self.form == form
    }
}

async fn page_with(
    user: &TenantUser,
    state: &ApiState,
    once: Option<Once>,
    typed: Typed,
) -> Result<HtmlPage, PageError> {
    // Only users who may change these things can see them.
    user.access::<ToManage>(state)?;
    let catalog = state.operations.store.catalog();
    let is_admin = user.user.key.is_admin();
    let page = AccessPage {
        keys: key_rows(user, state, Some(user.tenant.clone())).await?,
        admin_keys: if is_admin { key_rows(user, state, None).await? } else { Vec::new() },
        tokens: catalog
            .tokens(&user.tenant)
            .iter()
            .map(|token| TokenRow {
                id: token.id.to_string(),
                name: state.operations.shown_address(token),
                made: DisplayTime::at_ms(token.created_at_ms),
            })
            .collect(),
        scopes: Scope::ALL.map(|scope| choice(scope, &typed)).into(),
        frame: Frame::new(user, state, "Access"),
        once,
        typed,
    };
    render(state, Some(&user.tenant), page).await
}

fn choice(scope: Scope, typed: &Typed) -> ScopeChoice {
    let meaning = match scope {
        Scope::Send => "post events",
        Scope::Read => "see everything but secrets",
        Scope::Manage => "change everything, and sign in",
    };
    let is_chosen = typed.scopes.iter().any(|ticked| ticked == scope.as_str());
    ScopeChoice { name: scope.as_str(), meaning, is_chosen }
}

/// Returns the keys of a tenant, or the admin keys, with their makers and last uses.
async fn key_rows(user: &TenantUser, state: &ApiState, of: Option<TenantId>) -> Result<Vec<KeyRow>, PageError> {
    let store = &state.operations.store;
    let keys = store.catalog().keys(of.as_ref());
    let used = store.keys_used_at_ms(&keys).await?;
    let makers = makers(state, of).await?;
    let row = |key: &Arc<ApiKey>| KeyRow {
        id: key.id.to_string(),
        name: if key.is_given() || key.label.is_empty() { key.shown() } else { key.label.clone() },
        hint: key.hint.clone(),
        shown: key.shown(),
        scopes: key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", "),
        made: DisplayTime::at_ms(key.created_at_ms),
        made_by: makers.get(&key.id).cloned().unwrap_or_default(),
        used: used.get(&key.id).map(|ms| DisplayTime::at_ms(*ms)),
        is_given: key.is_given(),
        is_own: key.id == user.user.key.id,
    };
    Ok(keys.iter().map(row).collect())
}

/// Returns the makers of the newest keys, by the ids of the keys.
async fn makers(state: &ApiState, of: Option<TenantId>) -> Result<HashMap<Uuid, String>, PageError> {
    let kind = if of.is_some() { ChangeKind::Key } else { ChangeKind::AdminKey };
    let search = ChangeSearch { kinds: vec![kind.as_str().to_owned()], ..ChangeSearch::default() };
    let (changes, _) = state.operations.store.search_changes(of, search, None, CREATIONS_MAX).await?;
    fn made(change: Change) -> Option<(Uuid, String)> {
        Some((change.after?.get("id")?.as_str()?.parse().ok()?, change.who))
    }
    Ok(changes.into_iter().filter_map(made).collect())
}

/// Creates and revokes keys and addresses.
pub(super) async fn act(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let here = UrlPath::pages_of(&user.tenant).then("access");
    let action = user.path.get("action");
    if let Some(flash) = revoke(&state, &user, &form, action).await? {
        return Ok(go_to(&here, flash));
    }
    let made = match action {
        "keys" => new_key(&state, &user, &form).await,
        "admin-keys" => new_admin_key(&state, &user, &form).await,
        "tokens" => new_address(&state, &user, &form, &headers).await,
        _ => return Err(Problem::not_found("action").into()),
    };
    Ok(match made {
        Ok(once) => state.notes.go_to(&user.user, &here, "", once),
        Err(problem) if problem.status == StatusCode::FORBIDDEN.as_u16() => return Err(problem.into()),
        Err(problem) => refused(&user, &state, &form, &problem).await?,
    })
}

/// Revokes a key or an address. Returns the message about it. None: the action is another one.
async fn revoke(
    state: &ApiState,
    user: &TenantUser,
    form: &Form,
    action: &str,
) -> Result<Option<&'static str>, Problem> {
    let operations = &state.operations;
    let id = || form.get("id").parse().map_err(|_| Problem::not_found("key"));
    match action {
        "revoke-key" => {
            operations.revoke_key(&user.access(state)?, id()?).await?;
            Ok(Some("The key was revoked."))
        }
        "revoke-admin-key" => {
            operations.revoke_admin_key(&Admin::of(&user.user.key)?, id()?).await?;
            Ok(Some("The admin key was revoked."))
        }
        "revoke-token" => {
            operations.revoke_intake_token(&user.access(state)?, id()?).await?;
            Ok(Some("The address was revoked."))
        }
        _ => Ok(None),
    }
}

async fn new_key(state: &ApiState, user: &TenantUser, form: &Form) -> Result<Once, Problem> {
    let names = form.all("scopes");
    if names.is_empty() {
        return Err(Problem::field("/scopes", "tick at least one: a key without a scope may do nothing"));
    }
    let scopes = names
        .into_iter()
        .map(|name| Scope::parse(name).ok_or_else(|| Problem::field("/scopes", format!("{name:?} is not a scope"))));
    let wanted = NewKey { scopes: scopes.collect::<Result<_, _>>()?, label: form.get("label").to_owned() };
    let key = state.operations.create_key(&user.access(state)?, wanted).await?;
    Ok(Once { title: "The new key", text: key.key.unwrap_or_default(), is_address: false })
}

async fn new_admin_key(state: &ApiState, user: &TenantUser, form: &Form) -> Result<Once, Problem> {
    let wanted = NewAdminKey { label: form.get("label").to_owned() };
    let key = state.operations.create_admin_key(&Admin::of(&user.user.key)?, wanted).await?;
    Ok(Once { title: "The new admin key", text: key.key.unwrap_or_default(), is_address: false })
}

async fn new_address(state: &ApiState, user: &TenantUser, form: &Form, headers: &HeaderMap) -> Result<Once, Problem> {
    let wanted = NewToken { label: form.get("label").to_owned() };
    let token = state.operations.create_intake_token(&user.access(state)?, wanted).await?;
    let path = UrlPath::local(token.path.as_deref().unwrap_or_default()).unwrap_or_else(UrlPath::root);
    let title = "The new address: enter it as Notify URL in Agile CRM";
    Ok(Once { title, text: state.link_for(headers, &path), is_address: true })
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
        form: user.path.get("action").to_owned(),
        label: form.get("label").to_owned(),
        scopes: form.all("scopes").into_iter().map(str::to_owned).collect(),
    };
    let page = page_with(user, state, None, typed).await?;
    Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
}
