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

/// Style sheet: the layers of `assets/css`, in one file.
static STYLE: &str = concat!(
    include_str!("../../../assets/css/tokens.css"),
    include_str!("../../../assets/css/base.css"),
    include_str!("../../../assets/css/layout.css"),
    include_str!("../../../assets/css/forms.css"),
    include_str!("../../../assets/css/components.css"),
    include_str!("../../../assets/css/tables.css"),
    include_str!("../../../assets/css/pages.css"),
);

const CACHE: (header::HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Returns an asset.
pub(super) async fn asset(path: PathParams, headers: HeaderMap) -> Response {
    let (kind, text) = match path.get("name") {
        "app.css" => ("text/css; charset=utf-8", STYLE),
        "app.js" => (JAVASCRIPT, include_str!("../../../assets/app.js")),
        "api.js" => (JAVASCRIPT, include_str!("../../../assets/api.js")),
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
    use std::collections::HashMap;

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

    /// Returns the colours of a scheme, by name: those of the light one, and what the dark one has in their place.
    fn colours(is_dark: bool) -> HashMap<&'static str, [f64; 3]> {
        let (light, rest) = STYLE.split_once("prefers-color-scheme: dark").expect("a dark scheme");
        let (dark, _) = rest.split_once("--font").expect("the end of the colours");
        let parts = if is_dark { vec![light, dark] } else { vec![light] };
        let lines = parts.into_iter().flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("--"));
        let values = lines.filter_map(|line| line.trim_end_matches(';').split_once(": #"));
        values
            .map(|(name, hex)| {
                let part = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
                (name, [part(0), part(2), part(4)].map(|part| f64::from(part) / 255.0))
            })
            .collect()
    }

    /// Returns the contrast of two colours (WCAG 2.2, relative luminance).
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        fn luminance(colour: [f64; 3]) -> f64 {
            let [red, green, blue] =
                colour.map(|part| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) });
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        }
        let [one, other] = [one, other].map(luminance);
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_pair_of_colours_can_be_read() {
        const GROUNDS: [&str; 3] = ["surface", "raised", "sunken"];
        for is_dark in [false, true] {
            let colours = colours(is_dark);
            let check = |front: &str, ground: &str, least: f64| {
                let found = contrast(colours[front], colours[ground]);
                assert!(found >= least, "--{front} on --{ground}, dark {is_dark}: {found:.2} instead of {least}");
            };
            for ground in GROUNDS {
                for text in
                    ["text", "muted", "accent", "success", "warning", "danger", "info", "keyword", "literal", "name"]
                {
                    check(text, ground, 4.5);
                }
                // Borders of fields and marks of charts are not text (WCAG 2.2, 1.4.11).
                for mark in ["line-strong", "chart-good", "chart-bad", "chart-rest", "chart-1", "chart-2"] {
                    check(mark, ground, 3.0);
                }
            }
            for role in ["accent", "success", "warning", "danger", "info"] {
                check(role, &format!("{role}-bg"), 4.5);
                check("text", &format!("{role}-bg"), 4.5);
                check("muted", &format!("{role}-bg"), 4.5);
            }
            check("on-solid", "accent-solid", 4.5);
            check("on-solid", "danger-solid", 4.5);
        }
    }

    #[test]
    fn the_documentation_has_the_colours_of_the_console() {
        let book = include_str!("../../../../book/theme/book.css");
        let declared: Vec<&str> = STYLE.lines().map(|line| line.trim().trim_end_matches(';')).collect();
        let colours = book.split(['{', ';', '}']).map(str::trim);
        let colours: Vec<&str> = colours.filter(|part| part.starts_with("--") && part.contains(": #")).collect();
        assert!(colours.len() >= 12, "{colours:?}");
        let other: Vec<_> = colours.into_iter().filter(|colour| !declared.contains(colour)).collect();
        assert_eq!(other, Vec::<&str>::new());
    }

    #[test]
    fn the_editor_is_the_one_that_was_built() {
        let mut text = Vec::new();
        GzDecoder::new(EDITOR).read_to_end(&mut text).expect("gzip");
        assert_eq!(hex::encode(Sha256::digest(&text)), include_str!("../../../assets/editor.js.sha256").trim_ascii());
    }
}
