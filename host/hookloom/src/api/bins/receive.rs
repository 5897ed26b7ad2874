//! Receiving side of bins: any method, any path below the bin, any body. The bin's owner chooses the answer.
//!
//! Anybody who knows the URL may send. Kept requests are bounded by the bin's settings. A policy in the answer forbids scripts, so
//! that the answer cannot make a browser do anything.

use crate::api::ApiState;
use crate::api::body::End;
use crate::api::exchange::{Exchange, Payer};
use crate::api::extract::PathParams;
use crate::api::peer::Peer;
use crate::ids::BinId;
use crate::inspector::{Bin, RequestHead, may_answer};
use crate::limits::shortened;
use crate::operations::Problem;
use crate::store::{LiveUpdate, StoreError};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of a kept head: number of headers, and bytes of each part.
const HEADERS_MAX: usize = 200;
const METHOD_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 4 << 10;
const QUERY_BYTES_MAX: usize = 8 << 10;
const HEADER_BYTES_MAX: usize = 8 << 10;

/// Receives a request to the bin itself.
pub(in crate::api) async fn receive_at_root(
    path: PathParams,
    peer: Peer,
    exchange: Exchange,
    state: State<Arc<ApiState>>,
    request: Request,
) -> Result<Response, Problem> {
    receive(path, peer, exchange, state, request).await
}

/// Receives a request to a path below the bin.
pub(in crate::api) async fn receive(
    path: PathParams,
    Peer(remote): Peer,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
    request: Request,
) -> Result<Response, Problem> {
    let id: BinId = path.get("id").parse().map_err(|_| no_bin())?;
    let (tenant, bin) = state.operations.store.bin_by_url(id.clone()).await.map_err(|_| no_bin())?;
    exchange.admit(Payer::Bins(tenant.clone())).await?;
    let delay = Duration::from_millis(bin.settings.reply.delay_ms);
    let _delayed = if delay.is_zero() { None } else { Some(exchange.delay_reply()?) };
    let (parts, _) = request.into_parts();
    let below = parts.uri.path().splitn(4, '/').nth(3).map_or_else(String::new, |rest| format!("/{rest}"));
    let mut head = RequestHead {
        method: shortened(parts.method.as_str(), METHOD_BYTES_MAX),
        path: if below.is_empty() { "/".to_owned() } else { shortened(&below, PATH_BYTES_MAX) },
        query: shortened(parts.uri.query().unwrap_or_default(), QUERY_BYTES_MAX),
        headers: headers(&parts.headers),
        remote: remote.to_string(),
        ..RequestHead::default()
    };
    let received = exchange.read(bin.settings.body_bytes_max, BYTES_MAX).await;
    if let (End::OverBudget, Some(problem)) = (received.end, received.end.problem()) {
        return Err(problem);
    }
    head.bytes = received.bytes;
    head.truncated = received.end != End::Whole || received.bytes > received.kept.len();
    head.answered = (received.end == End::TooLong).then_some(StatusCode::PAYLOAD_TOO_LARGE.as_u16());
    let kept = state.operations.store.receive_in_bin(&tenant, &bin, head, received.kept).await;
    let (_, nth) = kept.map_err(|error| match error {
        // Senders do not see how much data the tenant stores.
        StoreError::TenantFull(_) => no_room(),
        error => error.into(),
    })?;
    state.operations.store.publish_live_update(|| LiveUpdate::Bin(id));
    if received.end == End::TooLong {
        let detail = format!("a bin reads at most {BYTES_MAX} bytes of a body; the beginning is kept");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
    }
    tokio::time::sleep(delay).await;
    Ok(reply(&bin, nth))
}

fn no_bin() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-bin", "this bin does not exist or was deleted")
}

fn no_room() -> Problem {
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "bin-full", "the share of the bin's tenant is used up")
        .remedy("let the tenant delete something it no longer needs")
}

fn headers(all: &HeaderMap) -> Vec<(String, String)> {
    fn text((name, value): (&HeaderName, &HeaderValue)) -> (String, String) {
        // A bin has the same origin as the pages. A browser that opens it sends the session's cookie, which nobody may see.
        if *name == header::COOKIE {
            return (name.to_string(), "…".to_owned());
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), shortened(&value, HEADER_BYTES_MAX))
    }
    all.iter().take(HEADERS_MAX).map(text).collect()
}

/// Maximum number of bytes of a body that are read.
const BYTES_MAX: usize = 64 << 20;

fn reply(bin: &Bin, nth: u64) -> Response {
    let reply = &bin.settings.reply;
    let status = StatusCode::from_u16(bin.settings.status(nth)).unwrap_or(StatusCode::OK);
    let mut response = (status, reply.body.clone()).into_response();
    for (name, value) in &reply.headers {
        // Headers are checked when they are written. Headers from before the check are left out.
        if !may_answer(name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    // A bin has the same origin as the pages. No browser may run its answer.
    let policy = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
