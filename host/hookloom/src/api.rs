//! REST API: routes, and the OpenAPI document, which is generated from the same list.
//!
//! A handler reads a request, calls one of the [`Operations`], and shows what it returns. It takes a proof of access as an argument
//! ([`crate::operations::Access`]). A route without one is public: health, the
//! document, and `/in`, whose token is the proof. Every error is a problem document. Statuses of answers are chosen only here and
//! in [`problem`].

mod access;
mod alerts;
mod audit;
mod bins;
mod body;
mod connections;
mod cookies;
mod deliveries;
mod document;
mod encoding;
mod event_types;
mod events;
mod examples;
mod exchange;
mod extract;
mod filters;
mod fleet;
mod in_force;
mod library;
pub mod listen;
mod operator_actions;
mod pages;
mod paging;
mod peer;
mod plugins;
mod portal;
mod problem;
mod public_path;
mod rate_limit;
mod read_back;
mod readiness;
mod refusals;
mod refused_body;
mod rejected;
mod rollouts;
mod scripts;
mod socket;
mod streams;
mod subscriptions;
mod tenants;
mod throttle;
mod vendor;

pub use document::of_any_host as openapi;
pub use exchange::Shares;
pub use pages::{Notes, PortalBrand, PortalBrandError};
pub use throttle::SignInThrottle;

use crate::clock::now_ms;
use crate::deliver::traces::Traces;
use crate::operations::{Admin, ChangeKind, Operations, Problem};
use crate::request_id;
use crate::store::StoreError;
use crate::telemetry::Telemetry;
use crate::url_path::UrlPath;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use body::BodyCap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Shared state of all handlers.
pub struct ApiState {
    /// Operations that the handlers call.
    pub operations: Arc<Operations>,
    /// Destination of trace spans.
    pub traces: Traces,
    /// Shares of requests: their number, memory for their bodies.
    pub shares: Arc<Shares>,
    /// Failed attempts to sign in.
    pub sign_ins: SignInThrottle,
    /// Metrics of the host.
    pub telemetry: Telemetry,
    /// Notes that pages show once after a form.
    pub notes: Notes,
    /// Name, logo and colours of the portal.
    pub portal: PortalBrand,
    /// Last proof that the store can accept an event.
    pub proven: Mutex<Option<readiness::Proof>>,
}

impl ApiState {
    /// Returns the URL of a path at the address by which the sender of these headers reaches the host.
    fn link_for(&self, headers: &HeaderMap, path: &UrlPath) -> String {
        self.operations.public_link(path).unwrap_or_else(|| {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            let scheme = if self.operations.config.is_behind_tls() { "https" } else { "http" };
            format!("{scheme}://{host}{path}")
        })
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Hookloom", description = "A webhook dispatcher for Agile CRM that runs a sandboxed WebAssembly plugin on every delivery."),
    security(("key" = [])),
    components(schemas(Problem, ChangeKind))
)]
struct Document;

/// Maximum size of a form that a page submits, in bytes. A form can hold an event, percent-encoded.
const FORM_BYTES_MAX: u64 = 2 << 20;

/// Maximum size of a script with its event, as JSON, in bytes.
const TRIAL_BYTES_MAX: u64 = 4 << 20;

/// Returns the layer that sets the maximum size of bodies.
fn cap(bytes: u64) -> Extension<BodyCap> {
    Extension(BodyCap(usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// Returns the routes of the document, with the maximum sizes of bodies.
fn surface(batch_bytes_max: u64, component_bytes_max: u64) -> OpenApiRouter<Arc<ApiState>> {
    let events = OpenApiRouter::new().routes(routes!(events::post, events::list)).routes(routes!(rejected::resubmit));
    let events = events.layer(cap(batch_bytes_max));
    let uploads = OpenApiRouter::new().routes(routes!(plugins::put, plugins::delete)).layer(cap(component_bytes_max));
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health))
        .routes(routes!(readiness::ready))
        .routes(routes!(metrics))
        .routes(routes!(fleet::get))
        .routes(routes!(fleet::move_shard))
        .merge(tenant_surface())
        .routes(routes!(access::list_admin_keys, access::create_admin_key))
        .routes(routes!(access::revoke_admin_key))
        .routes(routes!(access::list_keys, access::create_key))
        .routes(routes!(access::revoke_key))
        .routes(routes!(access::list_tokens, access::create_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(access::rotate_token))
        .routes(routes!(events::get))
        .routes(routes!(subscriptions::list, subscriptions::create))
        .routes(routes!(subscriptions::get, subscriptions::update, subscriptions::patch, subscriptions::delete))
        .routes(routes!(subscriptions::pause))
        .routes(routes!(subscriptions::resume))
        .routes(routes!(filters::try_filter))
        .routes(routes!(plugins::list, library::add))
        .routes(routes!(plugins::versions))
        .routes(routes!(plugins::activate))
        .routes(routes!(plugins::component))
        .routes(routes!(plugins::delete_version))
        .routes(routes!(plugins::dry_run))
        .routes(routes!(rollouts::begin, rollouts::get, rollouts::end))
        .routes(routes!(rollouts::compare))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(subscriptions::rotate))
        .routes(routes!(operator_actions::retry))
        .routes(routes!(operator_actions::cancel))
        .routes(routes!(operator_actions::redrive))
        .routes(routes!(operator_actions::replay))
        .routes(routes!(operator_actions::test))
        .routes(routes!(rejected::list))
        .routes(routes!(rejected::get, rejected::delete))
        .routes(routes!(rejected::download))
        .routes(routes!(audit::list))
        .routes(routes!(audit::list_of_host))
        .routes(routes!(access::create_link))
        .routes(routes!(bins::list, bins::create))
        .routes(routes!(bins::get, bins::update, bins::delete))
        .routes(routes!(bins::requests::list_requests, bins::requests::clear))
        .routes(routes!(bins::requests::get_request, bins::requests::delete_request))
        .routes(routes!(bins::requests::replay))
        .routes(routes!(bins::requests::export))
        .merge(events)
        .merge(uploads)
        .routes(routes!(vendor::receive))
}

/// Returns the routes of tenants, of what they accept, and of scripts.
fn tenant_surface() -> OpenApiRouter<Arc<ApiState>> {
    let trials = OpenApiRouter::new().routes(routes!(scripts::try_script)).layer(cap(TRIAL_BYTES_MAX));
    OpenApiRouter::new()
        .merge(trials)
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::get, tenants::update, tenants::delete))
        .routes(routes!(tenants::ledger))
        .routes(routes!(tenants::usage))
        .routes(routes!(tenants::deletion))
        .routes(routes!(portal::create, portal::end))
        .routes(routes!(library::list))
        .routes(routes!(alerts::get, alerts::put))
        .routes(routes!(alerts::test))
        .routes(routes!(alerts::list))
        .routes(routes!(event_types::list))
        .routes(routes!(event_types::get, event_types::put, event_types::delete))
}

/// Returns the router of all routes.
pub fn router(state: Arc<ApiState>) -> Router {
    let (router, _) =
        surface(state.operations.config.batch_bytes_max, state.operations.config.component_bytes_max).split_for_parts();
    let component_bytes_max = state.operations.config.component_bytes_max;
    // Made once, because anybody may ask for it.
    let server = state.operations.config.public_url.as_ref().map_or("/".to_owned(), ToString::to_string);
    let document = Bytes::from(document::text(&server));
    let openapi = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], document));
    router
        .merge(pages::upload().layer(cap(component_bytes_max)))
        .merge(pages::routes().layer(cap(FORM_BYTES_MAX)))
        .merge(pages::portal_routes(&state).layer(cap(FORM_BYTES_MAX)))
        // The address as people paste it, with a slash after the token.
        .route("/in/{token}/", axum::routing::post(vendor::receive))
        .route("/in/{token}/{*rest}", axum::routing::post(vendor::receive))
        .route("/in//{token}", axum::routing::post(vendor::receive))
        .route("/bins/{id}", axum::routing::any(bins::receive_at_root))
        .route("/bins/{id}/", axum::routing::any(bins::receive_at_root))
        .route("/bins/{id}/{*path}", axum::routing::any(bins::receive))
        .route("/openapi.json", axum::routing::get(openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), around))
        .with_state(state)
}

/// Returns the routes of the document alone, for a request that the page of the API makes within the host.
fn documented(state: Arc<ApiState>) -> Router {
    let config = &state.operations.config;
    let (router, _) = surface(config.batch_bytes_max, config.component_bytes_max).split_for_parts();
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), around))
        .with_state(state)
}

/// Middleware of every route: request id, shares of the host, prefix of the public URL, protective headers. One function, because
/// each layer of a router clones the routes below it and boxes a future, for every request.
async fn around(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    // The headers of a bin's answer are chosen by its owner.
    let is_of_bin = request.uri().path().starts_with("/bins/");
    let may_change = in_force::may_change(request.method(), request.uri().path());
    let id = request_id::of(request.headers());
    let handled = async {
        let (exchange, request) = exchange::begin(&state, request).await;
        let mut response = next.run(request).await;
        if may_change {
            in_force::wait(&state, &mut response).await;
        }
        let mut response = public_path::rebase(state.operations.config.public_url.as_ref(), response).await;
        if !is_of_bin {
            exchange.add_keep_alive(response.headers_mut());
        }
        let mut response = exchange.answer(response);
        protect(response.headers_mut());
        response
    };
    request_id::mark(id, handled).await
}

/// Adds protective headers to an answer, unless it has its own: it is not stored (answers show keys, tokens and secrets), browsers
/// do not guess its type, and none runs it as a page.
fn protect(headers: &mut HeaderMap) {
    let protective = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    ];
    for (name, value) in protective {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-route", format!("there is nothing at {}", uri.path()))
        .remedy("GET /openapi.json lists every route")
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", format!("{} does not support {method}", uri.path()))
        .remedy("GET /openapi.json lists every route")
}

/// Health of the host's process.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    status: &'static str,
    /// Version of the host.
    version: &'static str,
    /// Version of the plugin contract.
    contract: &'static str,
    /// Checks that the operator has disabled.
    switched_off: Vec<String>,
}

/// Report that the process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "get_health", security(()), responses((status = 200, body = Health)))]
async fn health(State(state): State<Arc<ApiState>>) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        contract: crate::plugin::check::CONTRACT,
        switched_off: [
            state.operations.config.allow_loopback.then(|| "address guard for loopback".to_owned()),
            (!state.operations.config.egress_allow.is_empty())
                .then(|| format!("address guard for {} ranges", state.operations.config.egress_allow.len())),
        ]
        .into_iter()
        .flatten()
        .collect(),
    })
}

/// Longest time in which the gauges are read from the database. A scrape of Prometheus ends after 10 s, unless its job says otherwise.
const GAUGES_MAX: Duration = Duration::from_secs(3);

/// Return all metrics in the text format of Prometheus. Requires an admin key, because labels name tenants and plugins.
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "get_metrics", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(_: Admin, State(state): State<Arc<ApiState>>) -> impl IntoResponse {
    // While the database is away, the other metrics matter the most. A log line would repeat what the store logs once for an outage.
    let read = tokio::time::timeout(GAUGES_MAX, set_gauges_of_database(&state)).await;
    crate::telemetry::database_reachable(matches!(read, Ok(Ok(()))));
    let damage = state.operations.store.damage(None);
    crate::telemetry::damaged(damage.rows.len(), damage.objects.len());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.telemetry.text())
}

/// Sets the gauges that are read from the database, up to the first read that fails.
async fn set_gauges_of_database(state: &ApiState) -> Result<(), StoreError> {
    for tenant in state.operations.store.catalog().tenants() {
        let pending = state.operations.store.pending(&tenant.id).values().sum();
        let oldest_ms = state.operations.store.oldest_pending_for_host(tenant.id.clone()).await?;
        let oldest_ms = oldest_ms.map_or(0, |oldest_ms| now_ms() - oldest_ms);
        crate::telemetry::pending(&tenant.id, pending, oldest_ms.max(0) as f64 / 1e3);
    }
    crate::telemetry::fleet(state.operations.store.fleet_gauges().await?);
    Ok(())
}
