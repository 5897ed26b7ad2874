//! Portal: the pages that a platform's customer needs of one tenant, under the platform's name.
//!
//! # Theory of operation
//! The pages are those of the console: the same handlers, of which this router has only some, with another frame. Handlers and
//! templates write paths below `/t/{t}`; in an answer they become paths below `/portal`, as the prefix of the public URL is added
//! to every answer ([`public_path`]). The tenant is that of the session, so that no path names one.
//!
//! # Guarantees
//! - The portal has a cookie and sessions of its own. No other route knows them, and the portal knows no other session.
//! - A route that is not listed here does not exist in the portal.
//! - Only pages of the portal can be shown in a frame, and only by pages of the origins in the settings.

use super::portal_sign_in::{self, PortalMessage, START};
use super::portal_visitor::PortalVisitor;
use super::user::SignedIn;
use super::{Frame, HtmlPage, PageError, ProblemPage, deliveries, event_types, live, samples, webhooks};
use crate::api::public_path::{self, HostPage};
use crate::api::{ApiState, cookies};
use crate::operations::Problem;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// Path below which the pages are.
const HOME: &str = "/portal";

/// Returns the routes of the portal.
pub(in crate::api) fn routes(state: &Arc<ApiState>) -> Router<Arc<ApiState>> {
    let open = Router::new()
        .route("/portal/sign-in", get(portal_sign_in::form).post(portal_sign_in::sign_in))
        .route_layer(from_fn_with_state(state.clone(), without_session));
    let brand = Router::new().route("/portal/brand.css", get(style)).route("/portal/logo", get(logo));
    Router::new()
        .route("/portal", get(home))
        .route("/portal/", get(home))
        .route(START, get(home))
        .route("/portal/sign-out", post(portal_sign_in::sign_out))
        .route("/portal/live", get(live::watch))
        .route("/portal/webhooks", get(webhooks::list::page).post(webhooks::create))
        .route("/portal/webhooks/new", get(webhooks::new::page))
        .route("/portal/webhooks/{id}", get(webhooks::one).post(webhooks::update))
        .route("/portal/webhooks/{id}/{action}", post(webhooks::act))
        .route("/portal/deliveries", get(deliveries::list::page).post(deliveries::list::act))
        .route("/portal/deliveries/{id}", get(deliveries::one))
        .route("/portal/deliveries/{id}/{action}", post(deliveries::act))
        .route("/portal/events/{id}", get(deliveries::event))
        .route("/portal/samples", post(samples::send))
        .route("/portal/event-types", get(event_types::list))
        .route("/portal/{*path}", any(nothing))
        .route_layer(from_fn_with_state(state.clone(), with_session))
        .merge(open)
        .merge(brand)
}

async fn home() -> Redirect {
    Redirect::to("/portal/webhooks")
}

async fn style(State(state): State<Arc<ApiState>>) -> Response {
    state.portal.style_answer()
}

async fn logo(State(state): State<Arc<ApiState>>) -> Response {
    state.portal.logo_answer()
}

async fn nothing() -> PageError {
    let detail = "the portal has no such page";
    Problem::new(StatusCode::NOT_FOUND, "no-route", detail).into()
}

/// Middleware of the pages for a signed-in visitor.
async fn with_session(State(state): State<Arc<ApiState>>, mut request: Request, next: Next) -> Response {
    let visitor = match PortalVisitor::of(&state, request.headers()).await {
        Ok(Some(visitor)) => visitor,
        Ok(None) => {
            let message =
                if request.uri().path() == START { PortalMessage::CookieLost } else { PortalMessage::SessionEnded };
            return finished(&state, message.page(&state));
        }
        Err(error) => {
            let problem = Problem::from(error);
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return finished(&state, portal_sign_in::problem_page(&state, problem, status));
        }
    };
    request.extensions_mut().insert(visitor.clone());
    let response = next.run(request).await;
    let response = match response.extensions().get::<Arc<Problem>>() {
        Some(problem) => problem_page(&state, visitor.clone(), Problem::clone(problem), &response),
        None => response,
    };
    finished(&state, remounted(&visitor.portal.tenant, response).await)
}

/// Middleware of the pages for signing in.
async fn without_session(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let response = match response.extensions().get::<Arc<Problem>>() {
        Some(problem) => portal_sign_in::problem_page(&state, Problem::clone(problem), response.status()),
        None => response,
    };
    finished(&state, response)
}

/// Returns the page of a problem, in the frame of the portal, instead of an answer.
fn problem_page(state: &ApiState, visitor: PortalVisitor, problem: Problem, answer: &Response) -> Response {
    let frame = Frame::of(&SignedIn::visiting(visitor, None), state, "");
    let back = UrlPath::pages_of(&frame.tenant).to_string();
    let Problem { title, detail, remedy, .. } = problem;
    match HtmlPage::of(&ProblemPage { frame, title, detail, remedy, back }) {
        Ok(page) => {
            let mut response = page.with(answer.status()).into_response();
            if let Some(after) = answer.headers().get(header::RETRY_AFTER) {
                response.headers_mut().insert(header::RETRY_AFTER, after.clone());
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Puts the paths of a tenant's pages below the portal.
async fn remounted(tenant: &TenantId, mut response: Response) -> Response {
    let from = UrlPath::pages_of(tenant).to_string();
    let location = response.headers().get(header::LOCATION).and_then(|path| path.to_str().ok());
    let location = location.and_then(|path| public_path::moved(path, &from, HOME));
    if let Some(location) = location.and_then(|path| HeaderValue::try_from(path).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if response.extensions().get::<HostPage>().is_none() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The body is in memory, because pages are rendered completely.
    let Ok(page) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let page = public_path::moved_links(&String::from_utf8_lossy(&page), &from, HOME);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(page))
}

/// Gives an answer the cookies of the portal, and lets the platform's pages show it in a frame.
fn finished(state: &ApiState, mut response: Response) -> Response {
    let is_page = response.extensions().get::<HostPage>().is_some();
    let headers = response.headers_mut();
    let ancestors = state.portal.ancestors();
    cookies::put_in_portal(headers, ancestors.is_some(), state.portal.is_behind_tls());
    if let Some(ancestors) = ancestors.filter(|_| is_page) {
        allow_frames(headers, ancestors);
    }
    response
}

/// Lets pages of these sources show an answer in a frame.
fn allow_frames(headers: &mut HeaderMap, ancestors: &str) {
    const NOBODY: &str = "frame-ancestors 'none'";
    let policy = headers.get(header::CONTENT_SECURITY_POLICY).and_then(|policy| policy.to_str().ok());
    let policy = policy.map(|policy| policy.replace(NOBODY, &format!("frame-ancestors {ancestors}")));
    if let Some(policy) = policy.and_then(|policy| HeaderValue::try_from(policy).ok()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}
