//! Request ids: every answer of the router has an `X-Request-Id`, including errors and pages.
//!
//! A client or a proxy may choose the id. An id that is absent, too long or has other characters is replaced. Log lines about a
//! request that could not be served have the same id ([`current`]).
//!
//! # Limits
//! Bytes that are not an HTTP request are answered by the HTTP library, without an id.

use crate::ids;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

/// Header of requests and answers.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id from a client, in bytes.
const BYTES_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// Returns the id of a request: that of the client if it is fitting, or a new one.
pub(crate) fn of(headers: &HeaderMap) -> HeaderValue {
    headers.get(&X_REQUEST_ID).filter(|id| is_fitting(id)).cloned().unwrap_or_else(generate)
}

/// Handles a request with its id, and adds the id to the answer.
pub(crate) async fn mark<B>(id: HeaderValue, handled: impl Future<Output = Response<B>>) -> Response<B> {
    let mut response = CURRENT.scope(id.clone(), handled).await;
    // A bin may answer with its own id.
    response.headers_mut().entry(X_REQUEST_ID).or_insert(id);
    response
}

/// Returns the id of the request that this task handles, for the log. Empty outside of a request.
pub(crate) fn current() -> String {
    CURRENT.try_with(|id| id.to_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Returns true if an id can be used in a log and in a shell without escaping.
fn is_fitting(id: &HeaderValue) -> bool {
    (1..=BYTES_MAX).contains(&id.len())
        && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:~+/=@".contains(byte))
}

fn generate() -> HeaderValue {
    HeaderValue::try_from(ids::new_uuid().to_string()).expect("a uuid is visible ASCII")
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
