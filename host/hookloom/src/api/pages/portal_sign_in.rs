//! Pages of the portal without a session: signing in by a link, and what is shown when there is no session.
//!
//! # Guarantees
//! - Opening a link does not use it, because mail programs and chats open links. The page submits its form at once, and has a button
//!   for browsers that run no scripts.
//! - A form that another site submits signs nobody in.

use super::forms::Form;
use super::sign_in::is_from_elsewhere;
use super::user::SignedIn;
use super::{HtmlPage, PageError, filters};
use crate::api::ApiState;
use crate::api::cookies;
use crate::api::extract::{Body, Params};
use crate::api::peer::Peer;
use crate::api::throttle::{FailedAttempt, WINDOW};
use crate::clock;
use crate::operations::Problem;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Path of the first page after a sign-in.
pub(super) const START: &str = "/portal/start";

/// Page in the middle of the window, with the platform's name.
#[derive(Template)]
#[template(path = "portal_sign_in.html")]
struct PortalSignInPage {
    name: String,
    has_logo: bool,
    title: String,
    text: String,
    /// Token of a link, for the form.
    token: Option<String>,
    return_url: Option<String>,
}

impl PortalSignInPage {
    fn new(state: &ApiState, title: impl Into<String>, text: String) -> Self {
        let title = title.into();
        let name = state.portal.name().to_owned();
        PortalSignInPage { name, has_logo: state.portal.has_logo(), title, text, token: None, return_url: None }
    }

    /// Returns the answer with this page.
    fn answer(&self, status: StatusCode) -> Response {
        match HtmlPage::of(self) {
            Ok(page) => page.with(status).into_response(),
            Err(problem) => problem.into_response(),
        }
    }
}

/// Reason why there is no session.
#[derive(Clone, Copy)]
pub(super) enum PortalMessage {
    /// There is none, or it has ended.
    SessionEnded,
    /// The browser has not kept the cookie of a session that has just begun.
    CookieLost,
    /// The link does not work.
    LinkUsed,
    /// The link does not work, and there were too many such attempts.
    OverLimit,
    /// The form came from another site.
    Foreign,
}

impl PortalMessage {
    /// Returns the page that says so.
    pub(super) fn page(self, state: &ApiState) -> Response {
        let name = state.portal.name();
        let (title, text, status) = match self {
            PortalMessage::SessionEnded => {
                ("Your session has ended", format!("Open this page from {name} again."), StatusCode::UNAUTHORIZED)
            }
            PortalMessage::CookieLost => (
                "Your browser kept no session",
                format!(
                    "It refuses the cookie that this page needs within another site. Open the page from {name} in a window of its own, or allow cookies for this site."
                ),
                StatusCode::UNAUTHORIZED,
            ),
            PortalMessage::LinkUsed => (
                "This link does not work any more",
                format!("It was used already, or is too old. Open this page from {name} again."),
                StatusCode::UNAUTHORIZED,
            ),
            PortalMessage::OverLimit => (
                "This link does not work",
                "There were too many failed attempts. Wait five minutes.".to_owned(),
                StatusCode::TOO_MANY_REQUESTS,
            ),
            PortalMessage::Foreign => (
                "This form came from another site",
                format!("Open this page from {name} again. In a sandbox, it needs allow-same-origin."),
                StatusCode::FORBIDDEN,
            ),
        };
        PortalSignInPage::new(state, title, text).answer(status)
    }
}

/// Returns the page of a problem, for somebody without a session.
pub(super) fn problem_page(state: &ApiState, problem: Problem, status: StatusCode) -> Response {
    let remedy = problem.remedy.map(|remedy| format!(" {remedy}")).unwrap_or_default();
    let text = format!("{}.{remedy}", problem.detail);
    PortalSignInPage::new(state, problem.title, text).answer(status)
}

#[derive(Deserialize)]
pub(super) struct PortalParams {
    #[serde(default)]
    token: String,
}

/// Shows the form that uses a link.
pub(super) async fn form(
    Params(params): Params<PortalParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let text = format!("Opening the page of your webhooks at {} …", state.portal.name());
    let page = PortalSignInPage::new(&state, "Sign in", text);
    Ok(HtmlPage::of(&PortalSignInPage { token: Some(params.token), ..page })?)
}

/// Uses a link.
pub(super) async fn sign_in(
    Peer(address): Peer,
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, PageError> {
    let form = Form::urlencoded(&body);
    if is_from_elsewhere(&headers, state.operations.config.public_url.as_ref()) {
        return Ok(PortalMessage::Foreign.page(&state));
    }
    // The token is looked up first, so that a right one signs in regardless of failed attempts.
    let token = form.get("token");
    let Some((session, cookie)) = state.operations.store.open_portal_session(token, address).await? else {
        let counted = state.sign_ins.note_failure(address, token, clock::instant());
        let message = match counted.failure {
            FailedAttempt::OverLimit => PortalMessage::OverLimit,
            FailedAttempt::WithinLimit => PortalMessage::LinkUsed,
        };
        let mut response = message.page(&state);
        counted.limit.write(response.headers_mut());
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, WINDOW.as_secs().into());
        }
        return Ok(response);
    };
    let lasts_ms = u64::try_from(session.expires_at_ms.saturating_sub(session.began_at_ms)).unwrap_or(0);
    let mut response = Redirect::to(START).into_response();
    cookies::set_portal_session(response.headers_mut(), &cookie, Duration::from_millis(lasts_ms));
    Ok(response)
}

/// Ends the session, and says where the visitor can go on.
pub(super) async fn sign_out(
    user: SignedIn,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<HtmlPage, PageError> {
    user.check_token(&Form::urlencoded(&body))?;
    state.operations.store.end_portal_session(&user.cookie).await?;
    let text = format!("You can open the page of your webhooks from {} again.", state.portal.name());
    let page = PortalSignInPage::new(&state, "You are signed out", text);
    let return_url = user.portal.and_then(|portal| portal.return_url.clone());
    Ok(HtmlPage::of(&PortalSignInPage { return_url, ..page })?)
}
