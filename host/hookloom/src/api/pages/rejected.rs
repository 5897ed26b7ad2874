//! Pages of rejected requests: the bytes, the reason, and a form to edit and submit them.

use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render, size};
use crate::api::ApiState;
use crate::api::encoding;
use crate::api::exchange::Exchange;
use crate::api::extract::Params;
use crate::api::rejected;
use crate::operations::Problem;
use crate::store::{RejectedEntry, RejectedRequest};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Template)]
#[template(path = "rejected_list.html")]
struct RejectedList {
    frame: Frame,
    rows: Vec<RejectedRow>,
    next: Option<String>,
}

struct RejectedRow {
    id: String,
    at: DisplayTime,
    reason: String,
    size: String,
    is_truncated: bool,
}

/// Maximum number of rows of a page.
const ROWS: usize = 100;

#[derive(Default, Deserialize)]
pub(super) struct RejectedPageParams {
    cursor: Option<Uuid>,
}

pub(super) async fn list(
    user: TenantUser,
    Params(params): Params<RejectedPageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let mut entries = state.operations.store.rejected_requests(user.tenant.clone(), params.cursor, ROWS + 1).await?;
    let has_more = entries.len() > ROWS;
    entries.truncate(ROWS);
    let next = entries.last().filter(|_| has_more).map(|last| format!("?cursor={}", last.id));
    fn row(entry: RejectedEntry) -> RejectedRow {
        RejectedRow {
            id: entry.id.to_string(),
            at: DisplayTime::at_ms(entry.received_at_ms),
            reason: entry.reason,
            size: size(entry.bytes as u64),
            is_truncated: entry.truncated,
        }
    }
    let page =
        RejectedList { rows: entries.into_iter().map(row).collect(), next, frame: Frame::new(&user, &state, "Access") };
    render(&state, Some(&user.tenant), page).await
}

#[derive(Template)]
#[template(path = "rejected.html")]
struct RejectedPage {
    frame: Frame,
    id: String,
    at: DisplayTime,
    reason: String,
    size: String,
    is_truncated: bool,
    /// Text for editing, and how it was decoded if the bytes are not text. None: the text is too large to edit on a page.
    text: Option<String>,
    shown_as: &'static str,
    problem: String,
}

/// Maximum size of a text that is edited on a page, in bytes.
const EDITED_BYTES_MAX: usize = 512 << 10;

pub(super) async fn one(
    user: TenantUser,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let rejected = state
        .operations
        .store
        .rejected_request(user.tenant.clone(), user.path.parse("id", "rejected request")?)
        .await?;
    let (text, shown_as) = shown(&user, &state, &exchange, rejected.body.clone()).await;
    page_of(&user, &state, rejected, text, shown_as, String::new()).await
}

async fn page_of(
    user: &TenantUser,
    state: &ApiState,
    rejected: RejectedRequest,
    text: String,
    shown_as: &'static str,
    problem: String,
) -> Result<HtmlPage, PageError> {
    let page = RejectedPage {
        id: rejected.id.to_string(),
        at: DisplayTime::at_ms(rejected.received_at_ms),
        reason: rejected.reason,
        size: size(rejected.body.len() as u64),
        is_truncated: rejected.truncated,
        text: Some(text).filter(|text| text.len() <= EDITED_BYTES_MAX),
        shown_as,
        problem,
        frame: Frame::new(user, state, "Access"),
    };
    render(state, Some(&user.tenant), page).await
}

/// Returns the bytes as a text for people, and how they were converted: decompressed, or read as ISO 8859-1, in which every byte is
/// a character.
async fn shown(user: &TenantUser, state: &ApiState, exchange: &Exchange, body: Bytes) -> (String, &'static str) {
    let most = usize::try_from(state.operations.config.event_bytes_max).unwrap_or(usize::MAX);
    let decoded =
        encoding::decode(exchange, &state.operations.cpu, &user.tenant, body.clone(), &HeaderMap::new(), most).await;
    let (bytes, decompressed) = match decoded {
        Ok(decoded) if decoded != body => (decoded, true),
        _ => (body, false),
    };
    match (std::str::from_utf8(&bytes), decompressed) {
        (Ok(text), false) => (text.trim_start_matches('\u{feff}').to_owned(), ""),
        (Ok(text), true) => (text.to_owned(), "It came compressed, and is shown decompressed."),
        (Err(_), _) => {
            let text = bytes.iter().map(|byte| char::from(*byte)).collect();
            (text, "It is not UTF-8, and is shown as ISO 8859-1 (Latin-1). What you submit is sent as UTF-8.")
        }
    }
}

/// Handles the buttons of a rejected request.
pub(super) async fn act(
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let id: Uuid = user.path.parse("id", "rejected request")?;
    let here = UrlPath::pages_of(&user.tenant).then("rejected");
    let access = user.access(&state)?;
    match user.path.get("action") {
        "delete" => {
            state.operations.delete_rejected_request(&access, id).await?;
            Ok(go_to(&here, "The request was forgotten."))
        }
        "resubmit" => {
            let edited = form.get("body").to_owned();
            let body = Bytes::from(edited.clone());
            match rejected::submit(&state.operations, &access, &exchange, id, body).await {
                Ok(accepted) => {
                    let event = UrlPath::pages_of(&user.tenant).then("events").then(&accepted.first_id());
                    Ok(go_to(&event, "The event was accepted."))
                }
                Err(problem) => {
                    let rejected = state.operations.store.rejected_request(user.tenant.clone(), id).await?;
                    let page = page_of(&user, &state, rejected, edited, "", problem.in_words()).await?;
                    Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
                }
            }
        }
        _ => Err(Problem::not_found("action").into()),
    }
}
