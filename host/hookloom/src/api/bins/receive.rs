//! The door of bins: any method, any path below, any body; answered as the bin's owner says.
//!
//! Whoever knows the URL may come in. What is kept is bounded by the bin's settings; the reply is the owner's, and cannot make
//! a browser do anything: it is sent with a policy that forbids scripts.

use crate::api::ApiState;
use crate::api::body::End;
use crate::api::exchange::{Exchange, Payer};
use crate::api::extract::PathParams;
use crate::api::peer::Peer;
use crate::api::problem::Problem;
use crate::ids::BinId;
use crate::inspector::{Bin, RequestHead, may_answer};
use crate::limits::shortened;
use crate::store::{Notice, StoreError};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;

/// A head that is larger than this is not kept whole: number of headers, and bytes of each part.
const HEADERS_MAX: usize = 200;
const METHOD_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 4 << 10;
const QUERY_BYTES_MAX: usize = 8 << 10;
const HEADER_BYTES_MAX: usize = 8 << 10;

/// Receives at the bin itself.
pub(in crate::api) async fn receive_at_root(
    path: PathParams,
    peer: Peer,
    exchange: Exchange,
    state: State<Arc<ApiState>>,
    request: Request,
) -> Result<Response, Problem> {
    receive(path, peer, exchange, state, request).await
}

/// Receives below the bin.
pub(in crate::api) async fn receive(
    path: PathParams,
    Peer(remote): Peer,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
    request: Request,
) -> Result<Response, Problem> {
    let id: BinId = path.get("id").parse().map_err(|_| no_bin())?;
    let (tenant, bin) = state.store.bin_by_url(id.clone()).await.map_err(|_| no_bin())?;
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
    let kept = state.store.receive_in_bin(&tenant, &bin, head, received.kept).await;
    let (_, nth) = kept.map_err(|error| match error {
        // Strangers are not told how much the tenant keeps of what.
        StoreError::TenantFull(_) => no_room(),
        error => error.into(),
    })?;
    state.store.notify(|| Notice::Bin(id));
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
        // A bin stands under the origin of the pages: a browser that opens it sends the session along, which is nobody's to see.
        if *name == header::COOKIE {
            return (name.to_string(), "…".to_owned());
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), shortened(&value, HEADER_BYTES_MAX))
    }
    all.iter().take(HEADERS_MAX).map(text).collect()
}

/// More of a body is not read.
const BYTES_MAX: usize = 64 << 20;

fn reply(bin: &Bin, nth: u64) -> Response {
    let reply = &bin.settings.reply;
    let status = StatusCode::from_u16(bin.settings.status(nth)).unwrap_or(StatusCode::OK);
    let mut response = (status, reply.body.clone()).into_response();
    for (name, value) in &reply.headers {
        // Checked when they were written; what was written before there was a check is left out.
        if !may_answer(name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    // It stands under the same origin as the pages: whatever it says, no browser runs it.
    let policy = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
