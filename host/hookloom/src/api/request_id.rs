//! Request ids: every answer of the router names its request in `X-Request-Id`, errors and pages too.
//!
//! A client or a proxy may choose the id; one that is absent, too long or made of other characters is replaced by a new one. What
//! the host logs about a request that it could not serve holds the same id ([`current`]).
//!
//! # Limits
//! Bytes that are no HTTP request are answered by the HTTP library, without an id.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

/// The header of requests and answers.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id that a client chooses, in bytes.
const BYTES_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// Gives the request an id while it is handled, and the answer too.
pub(super) async fn mark(request: Request, next: Next) -> Response {
    let id = request.headers().get(&X_REQUEST_ID).filter(|id| is_fitting(id)).cloned().unwrap_or_else(generate);
    let mut response = CURRENT.scope(id.clone(), next.run(request)).await;
    // A bin may answer with one of its own.
    response.headers_mut().entry(X_REQUEST_ID).or_insert(id);
    response
}

/// The id of the request that this task handles, for the log; empty outside of one.
pub(super) fn current() -> String {
    CURRENT.try_with(|id| id.to_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Returns whether an id can stand in a log and in a shell as it is.
fn is_fitting(id: &HeaderValue) -> bool {
    (1..=BYTES_MAX).contains(&id.len())
        && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:~+/=@".contains(byte))
}

fn generate() -> HeaderValue {
    HeaderValue::try_from(Uuid::now_v7().to_string()).expect("a uuid is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_cannot_stand_in_a_log_are_replaced() {
        fn fits(text: &[u8]) -> bool {
            is_fitting(&HeaderValue::from_bytes(text).expect("a value"))
        }
        assert!(fits(b"7f3c-1") && fits(b"Root=1-67891233-abcdef012345678912345678") && fits(&[b'a'; 128]));
        assert!(!fits(b"") && !fits(b"a b") && !fits(b"a\"b") && !fits(b"\xff") && !fits(&[b'a'; 129]));
        assert!(is_fitting(&generate()));
        assert_eq!(current(), "");
    }
}
