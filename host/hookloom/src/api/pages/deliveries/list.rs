//! List of deliveries with its search, and actions on several of them.
//!
//! # Guarantees
//! - An action on several is the same action on each, one after the other, with an entry of each in the log of changes. One that is
//!   refused does not stop the others, and is named with its reason.

use super::rows::{DeliveryRow, rows};
use super::search::DeliveryListParams;
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::api::pages::notes::NoteParams;
use crate::api::pages::user::{Posted, TenantUser};
use crate::api::pages::webhook_words::name;
use crate::api::pages::{Frame, HtmlPage, PageError, filters, render};
use crate::delivery::{DeliveryId, DeliveryState};
use crate::operations::Problem;
use crate::plural::counted;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;
use uuid::Uuid;

/// Number of deliveries on a page, and of those that one form acts on.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "deliveries.html")]
struct Deliveries {
    frame: Frame,
    states: Vec<(&'static str, bool)>,
    subscriptions: Vec<(String, String, bool)>,
    params: DeliveryListParams,
    /// Field and message of a fault of the search.
    fault: Option<(&'static str, String)>,
    /// Bound that the search met.
    note: Option<String>,
    refused: Option<RefusedDeliveries>,
    /// Query of this page, to which an action returns.
    here: String,
    rows: Vec<DeliveryRow>,
    next: Option<String>,
}

impl Deliveries {
    /// Returns the fault of a field, if it has one.
    fn error(&self, field: &str) -> Option<&str> {
        self.fault.as_ref().filter(|(name, _)| *name == field).map(|(_, detail)| detail.as_str())
    }

    /// Returns true if the parts of the search that few people use have a value.
    fn is_narrow(&self) -> bool {
        let DeliveryListParams { event, from, to, .. } = &self.params;
        self.fault.is_some() || [event, from, to].iter().any(|value| !value.is_empty())
    }
}

/// Deliveries that an action on several was refused for.
struct RefusedDeliveries {
    /// Sentence that says how many.
    summary: String,
    /// Id and reason of each.
    deliveries: Vec<(String, String)>,
}

pub(in crate::api::pages) async fn page(
    user: TenantUser,
    Params(note): Params<NoteParams>,
    Params(params): Params<DeliveryListParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let mut fault = None;
    let mut bound = None;
    let mut views = Vec::new();
    match params.search() {
        Ok(search) => {
            let selection = params.selection(&state, &user.tenant, search, PAGE).await?;
            bound = selection.note;
            views = state.operations.store.deliveries(user.tenant.clone(), selection.filter).await?;
        }
        Err(found) => fault = Some((found.field, found.detail)),
    }
    let last = (views.len() == PAGE).then(|| views.last()).flatten().map(|last| last.id.to_string());
    let all = state.operations.store.catalog().subscriptions(&user.tenant);
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = Deliveries {
        states: DeliveryState::ALL.into_iter().map(|state| (state.as_str(), state.as_str() == params.state)).collect(),
        subscriptions: all
            .iter()
            .map(|one| (one.id.to_string(), name(one), one.id.to_string() == params.subscription))
            .collect(),
        fault,
        note: bound,
        refused: state.notes.take(&user.user, &note),
        here: params.query(Some(params.cursor.as_str()).filter(|cursor| !cursor.is_empty())),
        rows: rows(&state, &user.tenant, views).await?,
        next: last.map(|last| format!("?{}", params.query(Some(&last)))),
        params,
        frame: Frame::new(&user, &state, "Deliveries").watching("attempts"),
    };
    Ok(render(&state, Some(&user.tenant), page).await?.with(status))
}

/// Action on several deliveries.
#[derive(Clone, Copy)]
enum SeveralAction {
    Retry,
    Cancel,
}

impl SeveralAction {
    /// Returns the verbs for one delivery and for several.
    fn done(self) -> [&'static str; 2] {
        match self {
            SeveralAction::Retry => ["is attempted again", "are attempted again"],
            SeveralAction::Cancel => ["was cancelled", "were cancelled"],
        }
    }

    /// Returns the words for what was not done.
    fn refused(self) -> &'static str {
        match self {
            SeveralAction::Retry => "not attempted again",
            SeveralAction::Cancel => "not cancelled",
        }
    }
}

/// Handles the buttons below the list.
pub(in crate::api::pages) async fn act(
    State(state): State<Arc<ApiState>>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let action = match form.get("action") {
        "retry" => SeveralAction::Retry,
        "cancel" => SeveralAction::Cancel,
        _ => return Err(Problem::not_found("action").into()),
    };
    let mut ids: Vec<Uuid> = Vec::new();
    for text in form.all("id") {
        let id = text.parse().map_err(|_| Problem::not_found("delivery"))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.len() > PAGE {
        let detail = format!("at most {PAGE} deliveries at once; a webhook's page has a redrive for all of them");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many", detail).into());
    }
    let back = path_back(&user, form.get("here"));
    let access = user.access(&state)?;
    let mut refused = Vec::new();
    for id in &ids {
        let result = match action {
            SeveralAction::Retry => state.operations.retry_delivery(&access, DeliveryId(*id)).await,
            SeveralAction::Cancel => state.operations.cancel_delivery(&access, DeliveryId(*id)).await,
        };
        if let Err(problem) = result {
            refused.push((id.to_string(), problem.in_words()));
        }
    }
    let done = ids.len() - refused.len();
    let flash = done_text(action, done, ids.len());
    if refused.is_empty() {
        return Ok(crate::api::pages::go_to(&back, &flash));
    }
    let summary = format!("{} {}:", counted(refused.len() as u64, "delivery was", "deliveries were"), action.refused());
    let flash = if done > 0 { flash.as_str() } else { "" };
    Ok(state.notes.go_to(&user.user, &back, flash, RefusedDeliveries { summary, deliveries: refused }))
}

/// Returns the list with the search that a form was sent from.
fn path_back(user: &TenantUser, here: &str) -> UrlPath {
    let mut path = UrlPath::pages_of(&user.tenant).then("deliveries");
    let names = DeliveryListParams::default().pairs().map(|(name, _)| name);
    for (name, value) in url::form_urlencoded::parse(here.as_bytes()) {
        if let Some(name) = names.into_iter().chain(["cursor"]).find(|kept| *kept == name) {
            path = path.query(name, value);
        }
    }
    path
}

/// Says how many deliveries an action was done for.
fn done_text(action: SeveralAction, done: usize, chosen: usize) -> String {
    if chosen == 0 {
        return "No delivery is chosen. Check the boxes of some first.".to_owned();
    }
    let [one, several] = action.done();
    let deliveries = counted(done as u64, "delivery", "deliveries");
    format!("{deliveries} {}.", if done == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_says_how_many_it_was_done_for() {
        #[track_caller]
        fn check(action: SeveralAction, done: usize, chosen: usize, expected: &str) {
            assert_eq!(done_text(action, done, chosen), expected);
        }
        check(SeveralAction::Retry, 3, 3, "3 deliveries are attempted again.");
        check(SeveralAction::Cancel, 1, 2, "1 delivery was cancelled.");
        check(SeveralAction::Cancel, 0, 2, "0 deliveries were cancelled.");
        check(SeveralAction::Retry, 0, 0, "No delivery is chosen. Check the boxes of some first.");
    }
}
