//! Route `/in/{token}`, the Notify URL for Agile CRM.
//!
//! # Guarantees
//! Agile CRM sends once and reads no answer. So a request to a known address is accepted, or its bytes are kept as a rejected
//! request (`rejected.rs`), even if it is incomplete, has an unsupported encoding, or is not an event. A slash or a blank after the
//! token is ignored. A request is refused without keeping its bytes only for lack of memory, disk or share, with 503, 507 or 429.

use super::ApiState;
use super::body::End;
use super::encoding;
use super::exchange::{Exchange, Payer};
use crate::access::credential_hash;
use crate::clock;
use crate::event::EventId;
use crate::operations::{IntakeError, Problem, ReceivedRequest, VendorIntake};
use crate::subscription::TenantId;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Prefix of the paths for Agile CRM.
pub(super) const VENDOR_PATH: &str = "/in/";

/// Receive an event from Agile CRM. A request that is not an event is kept, and can be submitted again.
///
/// The answer is the event itself, as step 4 of the vendor's guide describes; Agile CRM reads no answer. A body may be compressed
/// with gzip.
#[utoipa::path(post, path = "/in/{token}", tag = "events", operation_id = "receive_event", security(()), params(("token" = String, Path)), request_body(content = Object),
    responses((status = 202, description = "durable; the body is the event", body = Object), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 415, body = Problem), (status = 507, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn receive(
    uri: Uri,
    headers: HeaderMap,
    exchange: Exchange,
    State(state): State<Arc<ApiState>>,
) -> Result<Response, Problem> {
    let known = state.operations.store.catalog().token(&credential_hash(&token_in(uri.path())));
    let known = known.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-token", "this intake address does not exist or was revoked")
    })?;
    let tenant = &known.tenant;
    let most = usize::try_from(state.operations.config.event_bytes_max).unwrap_or(usize::MAX - 1);
    exchange.admit(Payer::Intake(tenant.clone())).await?;
    let announced = exchange.announced_bytes();
    // One byte over the maximum is enough to know that the body is too long, and is all that is kept of it.
    let received = exchange.read(most + 1, most + 1).await;
    let begun = clock::system_time();
    let raw = ReceivedRequest { bytes: received.kept.clone(), is_whole: received.end == End::Whole };
    match received.end {
        End::Whole => {}
        End::TooLong => {
            let bytes = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(received.bytes);
            let error =
                IntakeError::TooLarge { place: String::new(), bytes, most: state.operations.config.event_bytes_max };
            return Err(kept(&state, tenant, raw, error.into()).await);
        }
        End::CutOff | End::TooSlow => {
            let problem = received.end.problem().unwrap_or_else(|| Problem::not_found("body"));
            return Err(kept(&state, tenant, raw, with_lengths(problem, received.bytes, announced)).await);
        }
        End::OverBudget => return Err(received.end.problem().unwrap_or_else(|| Problem::not_found("body"))),
    }
    let body = match encoding::decode(&exchange, &state.operations.cpu, tenant, received.kept, &headers, most).await {
        Ok(body) => body,
        Err(error) if error.is_ours() => return Err(error.into()),
        Err(error) => return Err(kept(&state, tenant, raw, error.into()).await),
    };
    match state.operations.accept_from_vendor(tenant, raw, &body).await? {
        VendorIntake::Accepted(accepted) => {
            state.traces.accepted(tenant, accepted.event, begun);
            Ok(accepted_as(accepted.event, body))
        }
        VendorIntake::Kept(id, error) => Err(Problem { rejected_request: Some(id), ..Problem::from(error) }),
    }
}

/// Returns the answer to an accepted event, which is the event.
fn accepted_as(event: EventId, body: Bytes) -> Response {
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    let id = HeaderValue::try_from(event.to_string()).expect("a uuid is visible ASCII");
    response.headers_mut().insert("hookloom-event-id", id);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Keeps a rejected request. Returns the answer to its sender.
async fn kept(state: &ApiState, tenant: &TenantId, received: ReceivedRequest, problem: Problem) -> Problem {
    match state.operations.keep_rejected(tenant, received, problem.detail.clone()).await {
        Ok(id) => Problem { rejected_request: Some(id), ..problem },
        Err(error) => error.into(),
    }
}

fn with_lengths(problem: Problem, came: usize, announced: Option<u64>) -> Problem {
    let of = announced.map(|bytes| format!(" of {bytes}")).unwrap_or_default();
    Problem { detail: format!("{}: {came}{of} bytes came", problem.detail), ..problem }
}

/// Returns the token in a path, without a slash, a blank or a quotation mark that was pasted with it.
fn token_in(path: &str) -> String {
    let after = path.strip_prefix(VENDOR_PATH).unwrap_or_default();
    let decoded = percent_decode_str(after).decode_utf8_lossy().into_owned();
    decoded
        .chars()
        .skip_while(|character| !is_of_token(*character))
        .take_while(|character| is_of_token(*character))
        .collect()
}

fn is_of_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_around_a_token_is_ignored() {
        for path in [
            "/in/hlt_a-B_9",
            "/in/hlt_a-B_9/",
            "/in/hlt_a-B_9//",
            "/in/hlt_a-B_9%20",
            "/in/%20hlt_a-B_9%0d%0a",
            "/in//hlt_a-B_9",
            "/in/hlt_a-B_9%A0",
            "/in/%E2%80%8Bhlt_a-B_9%E2%80%9D",
            "/in/hlt_a-B_9/x",
            "/in/hlt_a-B_9.",
        ] {
            assert_eq!(token_in(path), "hlt_a-B_9", "{path}");
        }
        assert_eq!(token_in("/in/"), "");
        assert_eq!(token_in("/in/%20"), "");
    }
}
