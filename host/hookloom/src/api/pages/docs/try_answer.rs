//! Request that the page of the API makes for a signed-in user, within the host, and its answer.
//!
//! # Guarantees
//! - Only routes of the document can be called: the request goes to a router that has no others, and opens no connection.
//! - It has the rights of the user's session, as if the user's browser had sent it to the route: the same checks, shares and log.

use super::try_request::TryRequest;
use crate::api::extract::CSRF_HEADER;
use crate::api::pages::size;
use crate::api::pages::user::SignedIn;
use crate::api::peer::Connection;
use crate::api::{ApiState, documented};
use crate::clock;
use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use std::sync::Arc;
use tower::Service as _;

/// Maximum size of a body on the page, in bytes.
const SHOWN_BYTES_MAX: usize = 128 << 10;

/// Headers of the page's request that the request takes over: those by which a session and a client are known, and the host's name.
const TAKEN_OVER: [&str; 3] = ["cookie", "x-forwarded-for", "host"];

/// Answer of an operation.
pub(super) struct TryAnswer {
    /// Request line, such as `GET /v1/tenants`.
    pub(super) request: String,
    /// Status with its reason.
    pub(super) status: String,
    pub(super) is_success: bool,
    pub(super) took: String,
    pub(super) headers: Vec<(String, String)>,
    /// Body as text, formatted. Empty: there is none, or it is no text.
    pub(super) body: String,
    /// Remark about the body.
    pub(super) note: String,
}

/// Sends a request to a route of this host.
pub(super) async fn send(state: Arc<ApiState>, head: &Parts, user: &SignedIn, wanted: TryRequest) -> TryAnswer {
    let TryRequest { method, target, headers, body } = wanted;
    let line = format!("{method} {target}");
    let begun = clock::instant();
    let mut request = Request::new(Body::from(body.unwrap_or_default()));
    *request.method_mut() = method;
    *request.uri_mut() = target;
    request.headers_mut().extend(headers);
    for name in TAKEN_OVER {
        for value in head.headers.get_all(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    if let Ok(token) = HeaderValue::try_from(&user.session.csrf) {
        request.headers_mut().insert(CSRF_HEADER, token);
    }
    if let Some(connection) = head.extensions.get::<Connection>() {
        request.extensions_mut().insert(*connection);
    }
    let answer = match documented(state).call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let took = u64::try_from(clock::since(begun).as_micros()).unwrap_or(u64::MAX);
    shown(line, answer, crate::api::pages::duration(took)).await
}

async fn shown(request: String, answer: Response, took: String) -> TryAnswer {
    let (parts, body) = answer.into_parts();
    let (bytes, is_whole) = beginning(body).await;
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (body, note) = text(bytes, is_whole, kind);
    TryAnswer {
        request,
        status: status(parts.status),
        is_success: parts.status.is_success(),
        took,
        headers: header_lines(&parts.headers),
        body,
        note,
    }
}

/// Reads the beginning of a body, and returns whether it is the whole one.
async fn beginning(body: Body) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else { return (bytes, false) };
        bytes.extend_from_slice(&chunk[..chunk.len().min(SHOWN_BYTES_MAX - bytes.len())]);
        if bytes.len() == SHOWN_BYTES_MAX {
            return (bytes, false);
        }
    }
    (bytes, true)
}

/// Returns a body as text with a remark.
fn text(bytes: Vec<u8>, is_whole: bool, kind: &str) -> (String, String) {
    if bytes.is_empty() {
        return (String::new(), "The answer has no body.".to_owned());
    }
    let length = bytes.len();
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // The end may be within a character.
        Err(error) if !is_whole && error.utf8_error().error_len().is_none() => {
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
        Err(_) => {
            let whole = if is_whole { "" } else { "more than " };
            return (
                String::new(),
                format!("The body is {whole}{} of {kind}, which is not shown.", size(length as u64)),
            );
        }
    };
    if is_whole {
        return (crate::diff::pretty(&text), String::new());
    }
    (text, format!("The first {} of the body. The command of curl has all of it.", size(length as u64)))
}

fn status(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()).trim().to_owned()
}

fn header_lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.iter();
    lines.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_shown_up_to_its_maximum() {
        let (bytes, is_whole) = beginning(Body::from(vec![b'x'; SHOWN_BYTES_MAX + 5])).await;
        assert_eq!((bytes.len(), is_whole), (SHOWN_BYTES_MAX, false));
        assert!(beginning(Body::from("{}")).await.1);
    }

    #[test]
    fn a_body_is_formatted_or_described() {
        #[track_caller]
        fn check(bytes: &[u8], is_whole: bool, body: &str, note: &str) {
            assert_eq!(text(bytes.to_vec(), is_whole, "application/wasm"), (body.to_owned(), note.to_owned()));
        }
        check(b"", true, "", "The answer has no body.");
        check(b"{\"a\":1}", true, "{\n  \"a\": 1\n}", "");
        check(b"{\"a\"", false, "{\"a\"", "The first 4 B of the body. The command of curl has all of it.");
        check(b"a\xc3", false, "a\u{fffd}", "The first 2 B of the body. The command of curl has all of it.");
        check(b"\0asm\xff", true, "", "The body is 5 B of application/wasm, which is not shown.");
    }
}
