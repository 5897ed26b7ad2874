//! Path prefix under which a proxy serves the host: removed from paths of requests, and added to answers.
//!
//! Routes, redirects and pages are written as if the host were at the root. A proxy may remove the prefix (nginx's `proxy_pass`
//! with a path, Caddy's `handle_path`) or keep it; both variants reach the same route. In answers, the prefix is added to the local
//! paths of `Location`, of cookies, and of a page's links and forms.
//!
//! # Guarantees
//! - Only pages of this host are changed. Displayed text has no bare quotes, because templates escape them, so it cannot look like
//!   an attribute. Answers of bins are not changed.
//! - Without a prefix, nothing is read or copied.

use super::cookies;
use crate::url_path::PublicUrl;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, header};

/// Marker of an answer that is a page of this host.
#[derive(Clone, Copy)]
pub(super) struct HostPage;

/// Removes the prefix from the path of a request, if it has one.
pub(super) fn strip<B>(request: &mut http::Request<B>, prefix: &str) {
    let Some(rest) = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix(prefix)) else { return };
    let rest = match rest.bytes().next() {
        _ if prefix.is_empty() => return,
        Some(b'/') => rest.to_owned(),
        None | Some(b'?') => format!("/{rest}"),
        // A longer segment that begins with the prefix.
        Some(_) => return,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(rest).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Adds the prefix of the public URL to an answer.
pub(super) async fn rebase(public_url: Option<&PublicUrl>, mut response: Response) -> Response {
    let Some(prefix) = public_url.map(PublicUrl::prefix).filter(|prefix| !prefix.is_empty()) else {
        return response;
    };
    rebase_headers(response.headers_mut(), prefix);
    if response.extensions().get::<HostPage>().is_none() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The body is in memory, because pages are rendered completely.
    let Ok(page) = to_bytes(body, usize::MAX).await else {
        return http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let page = rebased(&String::from_utf8_lossy(&page), prefix);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(page))
}

fn rebase_headers(headers: &mut HeaderMap, prefix: &str) {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.filter(|path| path.starts_with('/') && !path.starts_with("//"));
    if let Some(value) = location.and_then(|path| HeaderValue::try_from(format!("{prefix}{path}")).ok()) {
        headers.insert(header::LOCATION, value);
    }
    cookies::rebase(headers, prefix);
}

/// Attributes of pages with local paths.
const ATTRIBUTES: [&str; 6] = ["href", "src", "action", "formaction", "data-live", "data-upload"];

/// Characters behind the beginning of a path.
const BEHIND: [char; 4] = ['"', '/', '?', '#'];

/// Puts the links of a page that lead below a path below another one.
pub(super) fn moved_links(page: &str, from: &str, to: &str) -> String {
    let mut moved = page.to_owned();
    for name in ATTRIBUTES {
        for behind in BEHIND {
            let link = format!(" {name}=\"{from}{behind}");
            if moved.contains(&link) {
                moved = moved.replace(&link, &format!(" {name}=\"{to}{behind}"));
            }
        }
    }
    moved
}

/// Puts a path that leads below another one below a third. None: it leads elsewhere.
pub(super) fn moved(path: &str, from: &str, to: &str) -> Option<String> {
    let rest = path.strip_prefix(from)?;
    (rest.is_empty() || rest.starts_with(BEHIND)).then(|| format!("{to}{rest}"))
}

fn rebased(page: &str, prefix: &str) -> String {
    ATTRIBUTES
        .iter()
        .fold(page.to_owned(), |page, name| page.replace(&format!(" {name}=\"/"), &format!(" {name}=\"{prefix}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, prefix: &str, expected: &str) {
        let mut request = http::Request::builder().uri(path).body(()).expect(path);
        strip(&mut request, prefix);
        assert_eq!(request.uri().to_string(), expected, "{path} below {prefix:?}");
    }

    #[test]
    fn a_prefix_is_taken_away_once_and_whole() {
        check("/hookloom/t/default?span=day", "/hookloom", "/t/default?span=day");
        check("/hookloom", "/hookloom", "/");
        check("/hookloom?x=1", "/hookloom", "/?x=1");
        check("/hookloom/", "/hookloom", "/");
        check("/hookloom/hookloom/x", "/hookloom", "/hookloom/x");
        check("/hooklooms/x", "/hookloom", "/hooklooms/x");
        check("/t/default", "/hookloom", "/t/default");
        check("/t/default", "", "/t/default");
    }

    #[test]
    fn links_below_a_path_are_moved() {
        let page =
            r#"<a href="/t/a"> <a href="/t/a/x?y=/t/a"> <a href="/t/ab"> <form action="/t/a?z"> &#34; href=&#34;/t/a"#;
        assert_eq!(
            moved_links(page, "/t/a", "/portal"),
            r#"<a href="/portal"> <a href="/portal/x?y=/t/a"> <a href="/t/ab"> <form action="/portal?z"> &#34; href=&#34;/t/a"#
        );
        assert_eq!(moved("/t/a/x?note=1", "/t/a", "/portal").as_deref(), Some("/portal/x?note=1"));
        assert_eq!(moved("/t/a", "/t/a", "/portal").as_deref(), Some("/portal"));
        assert_eq!(
            (moved("/t/ab", "/t/a", "/portal"), moved("https://e.example/t/a", "/t/a", "/portal")),
            (None, None)
        );
    }

    #[test]
    fn links_and_redirects_get_the_prefix() {
        let page =
            r#"<a href="/t/x"> <a href="?span=day"> <a href="//elsewhere"> &#34; href=&#34;/no <form action="/go">"#;
        assert_eq!(
            rebased(page, "/p"),
            r#"<a href="/p/t/x"> <a href="?span=day"> <a href="/p//elsewhere"> &#34; href=&#34;/no <form action="/p/go">"#
        );
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_static("/t/default"));
        rebase_headers(&mut headers, "/p");
        assert_eq!(headers[header::LOCATION], "/p/t/default");
        headers.insert(header::LOCATION, HeaderValue::from_static("https://example.com/"));
        rebase_headers(&mut headers, "/p");
        assert_eq!(headers[header::LOCATION], "https://example.com/");
    }
}
