//! The documentation under `/docs`: the book that is part of the program.
//!
//! # Guarantees
//! - Everybody may read it: it is the same on every host and says nothing about this one.
//! - A browser that has a page asks whether it changed, and gets it again only then (RFC 9110 §13.1.2).
//! - The policy of its pages allows their style sheet and images of this origin, and no script at all.

use super::PageError;
use crate::api::extract::PathParams;
use crate::operations::Problem;
use axum::response::{IntoResponse as _, Redirect, Response};
use hookloom_book::Found;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Path of the OpenAPI document within the book's source: the host has the same document, with its own address.
const OPENAPI: &str = "reference/openapi.json";

/// Returns the page or image at a path of the book, or leads to it.
pub(super) async fn page(path: PathParams, headers: HeaderMap) -> Result<Response, PageError> {
    let path = path.get("path");
    if path == OPENAPI {
        return Ok(Redirect::temporary("/openapi.json").into_response());
    }
    match hookloom_book::find(path) {
        Some(Found::File(file)) => Ok(answer(file, &headers)),
        Some(Found::Elsewhere(path)) => Ok(Redirect::temporary(&format!("/docs/{path}")).into_response()),
        None => {
            let detail = "there is no such page in the documentation";
            let problem = Problem::new(StatusCode::NOT_FOUND, "not-found", detail);
            Err(problem.remedy("the contents of the documentation are at /docs/").into())
        }
    }
}

/// Leads to the first page, whose links are relative to the folder.
pub(super) async fn folder() -> Redirect {
    Redirect::temporary("/docs/")
}

fn answer(file: &'static hookloom_book::File, asked: &HeaderMap) -> Response {
    let mut response = if is_known(asked, file.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.kind)], file.body).into_response()
    };
    for (name, value) in [
        (header::ETAG, file.etag),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, hookloom_book::POLICY),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns true if `If-None-Match` names this entity tag. Weak tags compare equal to strong ones.
pub(super) fn is_known(asked: &HeaderMap, etag: &str) -> bool {
    let lines = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_entity_tag_is_found_in_every_form() {
        fn check(lines: &[&'static str], expected: bool) {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(line));
            }
            assert_eq!(is_known(&headers, "\"a+b=\""), expected, "{lines:?}");
        }
        check(&[], false);
        check(&["\"a+b=\""], true);
        check(&["W/\"a+b=\""], true);
        check(&["\"x\", \"a+b=\""], true);
        check(&["\"x\"", "\"a+b=\""], true);
        check(&["*"], true);
        check(&["a+b="], false);
        check(&["\"a+b\""], false);
    }
}
