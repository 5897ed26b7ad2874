//! Readable form of requests and responses, as it is stored with an attempt.
//!
//! # Guarantees
//! - Of headers that a subscription or a plugin adds, only the names are stored. Cookies of a receiver are not stored.
//! - The size of the stored form is bounded, whatever the receiver answers.

use hookloom_egress::Request;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::value::RawValue;
use url::Position;

/// Names of headers whose values are shown: those that this host writes, and the content type.
const SHOWN: [&str; 8] = [
    "accept",
    "content-type",
    "hookloom-event-id",
    "traceparent",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Request line without the query, and headers. Values that may hold a secret are left out.
pub(super) fn request_lines(request: &Request) -> Vec<String> {
    let mut lines = vec![format!("{} {}", request.method, &request.target.url()[..Position::AfterPath])];
    lines.extend(request.headers.iter().map(|(name, value)| {
        if SHOWN.contains(&name.as_str()) && !value.is_sensitive() {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        } else {
            format!("{name}: …")
        }
    }));
    lines
}

/// Maximum number of stored response headers, and maximum length of a stored value in characters.
const HEADER_LINES_MAX: usize = 32;
const HEADER_VALUE_MAX: usize = 200;

/// First headers of a response. Cookies are left out, long values are cut.
pub(super) fn response_lines(headers: &HeaderMap) -> Vec<String> {
    headers.iter().take(HEADER_LINES_MAX).map(|(name, value)| response_line(name, value)).collect()
}

fn response_line(name: &HeaderName, value: &HeaderValue) -> String {
    let value = if *name == header::SET_COOKIE { "…".into() } else { String::from_utf8_lossy(value.as_bytes()) };
    format!("{name}: {}", value.chars().take(HEADER_VALUE_MAX).collect::<String>())
}

/// Body as text. For a body that is not UTF-8, only its length: the lossy text could be three times as long as the body.
pub(super) fn as_text(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        // The size limit may have cut the last character.
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned(),
        Err(_) => format!("({} bytes that are not text)", body.len()),
    }
}

/// Returns whether a body is the echo that step 4 of Agile CRM's guide describes: JSON with `eventName` and `eventData`.
pub(super) fn is_echo(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only their presence matters")]
    struct Echo<'a> {
        #[serde(borrow, rename = "eventName")]
        event_name: &'a RawValue,
        #[serde(borrow, rename = "eventData")]
        event_data: &'a RawValue,
    }
    serde_json::from_slice::<Echo<'_>>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_as_text_or_by_its_size() {
        assert_eq!(as_text("für".as_bytes()), "für");
        assert_eq!(as_text(&"für".as_bytes()[..2]), "f");
        assert_eq!(as_text(b"\x1f\x8b\x08"), "(3 bytes that are not text)");
    }

    #[test]
    fn an_echo_has_both_keys() {
        assert!(is_echo(br#"{"eventName":"x","eventData":{}}"#));
        assert!(is_echo(br#"{"eventData":null,"eventName":"x","more":1}"#));
        assert!(!is_echo(br#"{"eventName":"x"}"#));
        assert!(!is_echo(b"ok"));
        assert!(!is_echo(b""));
    }
}
