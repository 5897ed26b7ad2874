//! Bytes of a request in JSON: as text if they are UTF-8, and in base64 otherwise.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Returns the bytes as text, or in base64. One of them is present.
pub(super) fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}
