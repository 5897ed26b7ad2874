//! Built-in assets of the pages: style sheet, scripts, icon.
//!
//! # Guarantees
//! - The editor is stored compressed, and decompressed only for a client that does not take gzip. A browser that has it does not get it again.

use super::book::is_known;
use crate::api::extract::PathParams;
use crate::operations::Problem;
use axum::response::{IntoResponse as _, Response};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::io::Read as _;

/// Editor for scripts, compressed. `cargo xtask editor` builds it.
static EDITOR: &[u8] = include_bytes!("../../../assets/editor.js.gz");

/// Entity tag of the editor: the sha256 of its content.
const EDITOR_TAG: &str = concat!("\"", include_str!("../../../assets/editor.js.sha256"), "\"");

const CACHE: (header::HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Returns an asset.
pub(super) async fn asset(path: PathParams, headers: HeaderMap) -> Response {
    let (kind, text) = match path.get("name") {
        "app.css" => ("text/css; charset=utf-8", include_str!("../../../assets/app.css")),
        "app.js" => (JAVASCRIPT, include_str!("../../../assets/app.js")),
        "filter.js" => (JAVASCRIPT, include_str!("../../../assets/filter.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../../../assets/icon.svg")),
        "editor.js" => return editor(&headers),
        _ => return Problem::not_found("asset").into_response(),
    };
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), CACHE], text).into_response()
}

fn editor(asked: &HeaderMap) -> Response {
    let tag: String = EDITOR_TAG.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    let is_unchanged = is_known(asked, &tag);
    let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
    let head = [(header::ETAG, tag), (header::VARY, HeaderValue::from_static("accept-encoding")), CACHE];
    if is_unchanged {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(JAVASCRIPT))];
    if takes_gzip(asked) {
        return (head, kind, [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))], EDITOR).into_response();
    }
    let mut text = Vec::new();
    match GzDecoder::new(EDITOR).read_to_end(&mut text) {
        Ok(_) => (head, kind, text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the editor of this program is damaged");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no-asset", "the editor could not be read").into_response()
        }
    }
}

/// Returns true if the client takes gzip (RFC 9110 §12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        matches!(name.trim(), "gzip" | "x-gzip" | "*") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn gzip_is_for_those_who_take_it() {
        #[track_caller]
        fn check(accepted: &'static str, expected: bool) {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(takes_gzip(&headers), expected, "{accepted:?}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
        check("gzip, deflate, br", true);
        check("br;q=1.0, gzip;q=0.8", true);
        check("*", true);
        check("br", false);
        check("gzip;q=0, br", false);
    }

    #[test]
    fn the_editor_is_the_one_that_was_built() {
        let mut text = Vec::new();
        GzDecoder::new(EDITOR).read_to_end(&mut text).expect("gzip");
        assert_eq!(hex::encode(Sha256::digest(&text)), include_str!("../../../assets/editor.js.sha256").trim_ascii());
    }
}
