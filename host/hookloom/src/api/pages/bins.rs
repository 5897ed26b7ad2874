//! Pages of bins and their requests.

use super::bin_rows::{self, BinRequestRow};
use super::bin_urls;
use super::bins_view::{self, RequestView};
use super::notes::NoteParams;
use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::api::ApiState;
use crate::api::exchange::Exchange;
use crate::api::extract::Params;
use crate::event::Module;
use crate::ids::BinId;
use crate::inspector::{Bin, BinSettings};
use crate::operations::{ANSWER_BYTES, Problem, ReplayBody, ReplayTo, SubscriptionWrite, checked_search};
use crate::store::BinFilter;
use crate::subscription::Settings;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Template)]
#[template(path = "bins.html")]
struct Bins {
    frame: Frame,
    rows: Vec<BinListRow>,
    problem: String,
    /// Submitted name.
    typed: String,
}

struct BinListRow {
    id: BinId,
    name: String,
    colour: u8,
    url: String,
    received: u64,
    made: DisplayTime,
}

pub(super) async fn list(
    user: TenantUser,
    headers: HeaderMap,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    list_with(&user, &state, &headers, String::new(), "").await
}

async fn list_with(
    user: &TenantUser,
    state: &ApiState,
    headers: &HeaderMap,
    problem: String,
    typed: &str,
) -> Result<HtmlPage, PageError> {
    let row = |bin: Bin| BinListRow {
        name: bins_view::name(&bin),
        colour: bin.settings.colour,
        url: bin_urls::url(&bin.id, headers, state),
        received: bin.received,
        made: DisplayTime::at_ms(bin.created_at_ms),
        id: bin.id,
    };
    let rows = state.operations.store.bins(user.tenant.clone()).await?.into_iter().map(row).collect();
    let page = Bins { rows, problem, typed: typed.to_owned(), frame: Frame::new(user, state, "Inspector") };
    render(state, Some(&user.tenant), page).await
}

pub(super) async fn create(
    headers: HeaderMap,
    State(state): State<Arc<ApiState>>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let made = async {
        let wanted = BinSettings { name: form.get("name").to_owned(), ..BinSettings::default() };
        state.operations.create_bin(&user.access(&state)?, wanted).await
    };
    match made.await {
        Ok(made) => Ok(go_to(&page_of(&user, &made.id), "The bin is ready.")),
        Err(problem) => {
            let page = list_with(&user, &state, &headers, problem.in_words(), form.get("name")).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct BinPageParams {
    search: String,
    before: Option<Uuid>,
}

#[derive(Template)]
#[template(path = "bin.html")]
struct BinView {
    frame: Frame,
    id: BinId,
    name: String,
    plain_name: String,
    colour: u8,
    url: String,
    search: String,
    rows: Vec<BinRequestRow>,
    /// Cursor with which the search continues. Empty: everything was searched.
    further: String,
    problem: String,
    colours: Vec<(u8, &'static str, bool)>,
    ttl_h: u64,
    requests_max: usize,
    statuses: String,
    reply_headers: String,
    reply_body: String,
    delay_ms: u64,
}

pub(super) async fn one(
    user: TenantUser,
    Params(params): Params<BinPageParams>,
    headers: HeaderMap,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    exchange.reserve_answer(ANSWER_BYTES).await?;
    let bin = state.operations.store.bin(user.tenant.clone(), user.path.parse("id", "bin")?).await?;
    one_with(&user, &state, &headers, bin, params, String::new()).await
}

async fn one_with(
    user: &TenantUser,
    state: &ApiState,
    headers: &HeaderMap,
    bin: Bin,
    params: BinPageParams,
    problem: String,
) -> Result<HtmlPage, PageError> {
    let BinPageParams { search, before } = params;
    let filter = BinFilter { search: checked_search(Some(search.clone()))?, limit: 100, before };
    let found = state.operations.store.bin_requests(user.tenant.clone(), bin.id.clone(), filter).await?;
    let frame = Frame::new(user, state, "Inspector");
    let reply = &bin.settings.reply;
    let lines = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let page = BinView {
        name: bins_view::name(&bin),
        plain_name: bin.settings.name.clone(),
        colour: bin.settings.colour,
        url: bin_urls::url(&bin.id, headers, state),
        rows: bin_rows::rows(state, &user.tenant, &bin.id, found.requests).await?,
        further: found.further.map(|id| id.to_string()).unwrap_or_default(),
        colours: bins_view::colours(bin.settings.colour),
        ttl_h: bin.settings.ttl_s.div_ceil(3_600),
        requests_max: bin.settings.requests_max,
        statuses: reply.statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
        reply_headers: lines,
        reply_body: reply.body.clone(),
        delay_ms: reply.delay_ms,
        frame: if problem.is_empty() { frame.watching(&bin.id) } else { frame.answering() },
        id: bin.id,
        search,
        problem,
    };
    render(state, Some(&user.tenant), page).await
}

/// Replaces the settings of a bin.
pub(super) async fn update(
    headers: HeaderMap,
    State(state): State<Arc<ApiState>>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let id: BinId = user.path.parse("id", "bin")?;
    let bin = state.operations.store.bin(user.tenant.clone(), id.clone()).await?;
    let edited = async {
        let wanted = bins_view::settings(&form, &bin.settings)?;
        state.operations.replace_bin(&user.access(&state)?, id.clone(), wanted).await
    };
    match edited.await {
        Ok(_) => Ok(go_to(&page_of(&user, &id), "The bin was changed.")),
        Err(problem) => {
            let page = one_with(&user, &state, &headers, bin, BinPageParams::default(), problem.in_words()).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

/// Handles the buttons of a bin.
pub(super) async fn act(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, .. } = posted;
    let id: BinId = user.path.parse("id", "bin")?;
    let operations = &state.operations;
    match user.path.get("action") {
        "clear" => {
            operations.delete_bin_requests(&user.access(&state)?, id.clone(), None).await?;
            Ok(go_to(&page_of(&user, &id), "The bin is empty."))
        }
        "delete" => {
            operations.delete_bin(&user.access(&state)?, id).await?;
            Ok(go_to(&UrlPath::pages_of(&user.tenant).then("bins"), "The bin was deleted."))
        }
        "subscribe" => {
            let bin = state.operations.store.bin(user.tenant.clone(), id).await?;
            let url = bin_urls::internal_url(&bin.id, &state);
            let description = format!("to the bin {}", bins_view::name(&bin));
            let settings = Settings { description, ..Settings::new(url, vec![Module::Contact, Module::Deal]) };
            let write = SubscriptionWrite::of(settings);
            let made = operations.create_subscription(&user.access(&state)?, write).await?;
            let path = UrlPath::pages_of(&user.tenant).then("webhooks").then(&made.id);
            Ok(go_to(&path, "Contacts and deals are sent to the bin from now on."))
        }
        _ => Err(Problem::not_found("action").into()),
    }
}

fn page_of(user: &TenantUser, bin: &BinId) -> UrlPath {
    UrlPath::pages_of(&user.tenant).then("bins").then(bin)
}

/// Shows a request of a bin.
pub(super) async fn request(
    user: TenantUser,
    Params(note): Params<NoteParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let id: Uuid = user.path.parse("action", "request")?;
    let replayed = state.notes.take::<Replayed>(&user.user, &note).map(|Replayed(recorded)| recorded);
    let bin = state.operations.store.bin(user.tenant.clone(), user.path.parse("id", "bin")?).await?;
    let (request, previous) = state.operations.store.bin_request(user.tenant.clone(), bin.id.clone(), id).await?;
    let frame = Frame::new(&user, &state, "Inspector");
    let view = RequestView::new(frame, &state, &user.tenant, &bin, request, previous, replayed).await?;
    render(&state, Some(&user.tenant), view).await
}

/// Result of a replay.
struct Replayed(String);

/// Handles the buttons of a request.
pub(super) async fn act_on_request(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let bin: BinId = user.path.parse("id", "bin")?;
    let id: Uuid = user.path.parse("request", "request")?;
    let access = user.access(&state)?;
    match user.path.get("action") {
        "delete" => {
            state.operations.delete_bin_requests(&access, bin.clone(), Some(id)).await?;
            Ok(go_to(&page_of(&user, &bin), "The request was deleted."))
        }
        "replay" => {
            let to = ReplayTo { url: form.get("url").to_owned() };
            let recorded = match state.operations.replay_bin_request(&access, bin.clone(), id, &to).await {
                Ok(body) => replayed(&body),
                Err(problem) => problem.in_words(),
            };
            Ok(state.notes.go_to(&user.user, &page_of(&user, &bin).then(&id), "", Replayed(recorded)))
        }
        _ => Err(Problem::not_found("action").into()),
    }
}

fn replayed(body: &ReplayBody) -> String {
    let time = super::duration(body.total_us);
    match body.status {
        Some(status) => format!("It answered {status} after {time}: {}", body.answer),
        None => format!("No answer: {}", body.answer),
    }
}
