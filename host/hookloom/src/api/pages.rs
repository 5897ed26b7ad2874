//! Pages for browsers.
//!
//! # Theory of operation
//! - Pages are rendered completely on the host, and work without scripts. A form is a POST that ends in a redirect, even if the
//!   next page shows something once ([`notes`]), or in the page with the faults. Only the latter is reached by a POST, and it has
//!   no live updates.
//! - Changes go through the handlers of the REST routes, with the same rules, problems and log of changes.
//! - A signed-in user has a session: a cookie that stands for a key ([`SignedIn`](user::SignedIn)). Every form has the session's token
//!   ([`user::Posted`]).
//! - Templates escape every displayed text. Nothing is loaded from other sites, and the policy of each page makes the browser
//!   refuse it: scripts and styles have a nonce of that page, so that not even the answer of a bin, under the same origin, is run.

mod access;
mod alerts;
mod assets;
mod bin_rows;
mod bin_urls;
mod bins;
mod bins_view;
mod book;
mod canary_form;
mod change_log;
mod chart;
mod comparison_view;
mod curl;
mod deliveries;
mod design;
mod diff;
mod docs;
mod dry_result;
mod event_types;
mod filters;
mod first_steps;
mod fleet;
mod forms;
mod frame;
mod icons;
mod live;
mod notes;
mod overview;
mod plugin_library;
mod plugins;
mod plugins_view;
mod portal;
mod portal_brand;
mod portal_links;
mod portal_sign_in;
mod portal_visitor;
mod prose;
mod rejected;
mod rollout_view;
mod samples;
mod script_editor;
mod series;
mod sign_in;
mod snippets;
mod tenants;
mod usage;
mod user;
mod version_rows;
mod webhook_words;
mod webhooks;

use super::problem::add_retry_after;
use super::public_path::HostPage;
use super::{ApiState, cookies};
use crate::operations::Problem;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::Router;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use std::any::Any;
use std::sync::Arc;

use frame::Frame;
pub use notes::Notes;
pub(super) use portal::routes as portal_routes;
pub use portal_brand::{PortalBrand, PortalBrandError};

/// Returns the routes of the pages and their assets.
pub(super) fn routes() -> Router<Arc<ApiState>> {
    Router::new()
        .route("/", get(sign_in::home))
        .route("/go", get(sign_in::go))
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/fleet", get(fleet::list))
        .route("/fleet/move", post(fleet::move_shard))
        .route("/tenants", get(tenants::list).post(tenants::create))
        .route("/tenants/{t}", get(tenants::one).post(tenants::save))
        .route("/tenants/{t}/delete", get(tenants::deletion).post(tenants::delete))
        .route("/api", get(docs::page))
        .route("/api/shapes", get(docs::shapes))
        .route("/api/{operation}", get(docs::operation).post(docs::try_operation))
        .route("/design", get(design::page))
        .route("/docs", get(book::folder))
        .route("/docs/", get(book::page))
        .route("/docs/{*path}", get(book::page))
        .route("/t/{t}", get(overview::page))
        .route("/t/{t}/first-steps", get(first_steps::page))
        .route("/t/{t}/live", get(live::watch))
        .route("/t/{t}/webhooks", get(webhooks::list::page).post(webhooks::create))
        .route("/t/{t}/webhooks/new", get(webhooks::new::page))
        .route("/t/{t}/webhooks/{id}", get(webhooks::one).post(webhooks::update))
        .route("/t/{t}/webhooks/{id}/{action}", post(webhooks::act))
        .route("/t/{t}/deliveries", get(deliveries::list::page).post(deliveries::list::act))
        .route("/t/{t}/deliveries/{id}", get(deliveries::one))
        .route("/t/{t}/deliveries/{id}/{action}", post(deliveries::act))
        .route("/t/{t}/events/{id}", get(deliveries::event))
        .route("/t/{t}/samples", post(samples::send))
        .route("/t/{t}/event-types", get(event_types::list).post(event_types::put))
        .route("/t/{t}/event-types/remove", post(event_types::remove))
        .route("/t/{t}/plugins", get(plugins::list))
        .route("/t/{t}/scripts", get(script_editor::new).post(script_editor::submit))
        .route("/t/{t}/scripts/{name}", get(script_editor::edit))
        .route("/t/{t}/plugins/{name}", get(plugins::one))
        .route("/t/{t}/plugins/{name}/{action}", post(plugins::act))
        .route("/t/{t}/bins", get(bins::list).post(bins::create))
        .route("/t/{t}/bins/{id}", get(bins::one).post(bins::update))
        .route("/t/{t}/bins/{id}/{action}", get(bins::request).post(bins::act))
        .route("/t/{t}/bins/{id}/{request}/{action}", post(bins::act_on_request))
        .route("/t/{t}/rejected", get(rejected::list))
        .route("/t/{t}/rejected/{id}", get(rejected::one))
        .route("/t/{t}/rejected/{id}/{action}", post(rejected::act))
        .route("/t/{t}/alerts", get(alerts::page).post(alerts::save))
        .route("/t/{t}/alerts/test", post(alerts::test))
        .route("/t/{t}/changes", get(change_log::page))
        .route("/t/{t}/access", get(access::page))
        .route("/t/{t}/access/{action}", post(access::act))
        .route("/t/{t}/portal/{action}", post(portal_links::act))
        .route("/assets/{name}", get(assets::asset))
}

/// Returns the route of the upload form, which accepts bodies as large as components.
pub(super) fn upload() -> Router<Arc<ApiState>> {
    Router::new().route("/t/{t}/plugins", post(plugins::upload))
}

/// Returns the policy of a page for browsers: only scripts and styles with the page's nonce run.
///
/// `'self'` would allow too much: a bin has the same origin, and its owner may let it answer with a script or a style.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
}

/// Page: status, text, and the nonce of its scripts and styles.
struct HtmlPage(StatusCode, String, String);

impl HtmlPage {
    fn of(template: &impl Template) -> Result<HtmlPage, Problem> {
        let nonce = BASE64.encode(rand::random::<[u8; 16]>());
        let text = template.render_with_values(&("nonce", &nonce as &dyn Any)).map_err(|error| {
            tracing::error!(%error, "a page could not be rendered");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no-page", "this page could not be rendered")
        })?;
        Ok(HtmlPage(StatusCode::OK, text, nonce))
    }

    fn with(self, status: StatusCode) -> HtmlPage {
        HtmlPage(status, self.1, self.2)
    }
}

impl IntoResponse for HtmlPage {
    fn into_response(self) -> Response {
        let mut response = (self.0, Html(self.1)).into_response();
        response.extensions_mut().insert(HostPage);
        let headers = response.headers_mut();
        let policy = HeaderValue::try_from(policy(&self.2)).expect("base64 is visible ASCII");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        // The flash message has been shown.
        cookies::remove_flash(headers);
        response
    }
}

/// Renders a page on the CPU pool, when the tenant's turn comes. Rows, bodies and comparisons take milliseconds.
async fn render(
    state: &ApiState,
    tenant: Option<&TenantId>,
    template: impl Template + Send + 'static,
) -> Result<HtmlPage, PageError> {
    let rendered = state.operations.cpu.run(tenant, move || HtmlPage::of(&template)).await;
    Ok(rendered.map_err(Problem::from)??)
}

/// Redirects to another page, which shows this message.
fn go_to(path: &UrlPath, flash: &str) -> Response {
    let mut response = axum::response::Redirect::to(path.as_str()).into_response();
    cookies::set_flash(response.headers_mut(), flash);
    response
}

/// Time for programs and for people.
#[derive(Clone)]
struct DisplayTime {
    iso: String,
    text: String,
    ms: i64,
}

impl DisplayTime {
    fn at_ms(ms: i64) -> DisplayTime {
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN);
        DisplayTime { iso: at.to_string(), text: at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(), ms }
    }
}

/// Returns a duration in a unit for people.
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// Returns a size in a unit for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Returns the beginning of a sha256, by which versions are told apart.
fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

/// Page of a problem.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: String,
    detail: String,
    remedy: Option<String>,
    back: String,
}

/// Reason why a page is not shown.
enum PageError {
    /// There is no session. The browser goes to the sign-in page, which leads back to this path.
    SignIn(String),
    /// Another problem, with a page.
    Problem(Box<Problem>, Option<Box<Frame>>),
}

impl From<Problem> for PageError {
    fn from(problem: Problem) -> Self {
        PageError::Problem(Box::new(problem), None)
    }
}

impl From<crate::store::StoreError> for PageError {
    fn from(error: crate::store::StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            PageError::SignIn(back) => {
                let path = UrlPath::root().then("sign-in").query("next", back);
                axum::response::Redirect::to(path.as_str()).into_response()
            }
            PageError::Problem(problem, frame) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let frame = frame.map_or_else(Frame::nobodys, |frame| *frame);
                let back = UrlPath::pages_of(&frame.tenant).to_string();
                let shown = Arc::new(Problem::clone(&problem));
                let Problem { title, detail, remedy, .. } = *problem;
                match HtmlPage::of(&ProblemPage { frame, title, detail, remedy, back }) {
                    Ok(page) => {
                        let mut response = page.with(status).into_response();
                        add_retry_after(status, response.headers_mut());
                        // The portal shows it in its own frame.
                        response.extensions_mut().insert(shown);
                        response
                    }
                    Err(problem) => problem.into_response(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units_for_people() {
        assert_eq!(
            [0, 999, 1_500, 2_000_000, 12_000_000].map(duration),
            ["0 µs", "999 µs", "1.5 ms", "2000.0 ms", "12.0 s"]
        );
        assert_eq!([5, 2_048, 3 << 20, 20 << 30].map(size), ["5 B", "2.0 KiB", "3.0 MiB", "20.0 GiB"]);
        assert_eq!(DisplayTime::at_ms(1_709_287_745_000).text, "2024-03-01 10:09:05 UTC");
    }
}
