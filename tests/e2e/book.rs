//! The documentation as a host serves it: under `/docs`, for everybody, by the rules of HTTP.

use crate::harness::{Host, Visitor};
use reqwest::{Method, Response};

/// Asks for a path without following redirects.
async fn ask(host: &Host, method: Method, path: &str, known: &str) -> Response {
    let http = crate::harness::client_without_redirects();
    let mut request = http.request(method, format!("{}{path}", host.url));
    if !known.is_empty() {
        request = request.header("if-none-match", known);
    }
    request.send().await.unwrap()
}

#[track_caller]
fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_page_comes_once_and_is_then_known() {
    let host = Host::start().await;
    let page = ask(&host, Method::GET, "/docs/", "").await;
    assert_eq!((page.status().as_u16(), header(&page, "content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(header(&page, "cache-control"), "no-cache");
    let policy = header(&page, "content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("script-src"), "{policy}");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    assert!(page.headers().get("set-cookie").is_none());
    let etag = header(&page, "etag").to_owned();
    let length = page.content_length().unwrap();
    let text = page.text().await.unwrap();
    assert!(text.len() as u64 == length && text.contains("<nav id=\"contents\""), "{text}");

    let head = ask(&host, Method::HEAD, "/docs/", "").await;
    assert_eq!((head.status().as_u16(), header(&head, "etag")), (200, etag.as_str()));
    assert_eq!(header(&head, "content-length"), length.to_string());
    assert_eq!(head.text().await.unwrap(), "");

    for known in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let unchanged = ask(&host, Method::GET, "/docs/", &known).await;
        assert_eq!((unchanged.status().as_u16(), header(&unchanged, "etag")), (304, etag.as_str()), "{known}");
        assert_eq!(header(&unchanged, "content-security-policy"), policy);
        assert_eq!(unchanged.text().await.unwrap(), "");
    }
    assert_eq!(ask(&host, Method::GET, "/docs/", "\"another\"").await.status(), 200);
}

#[tokio::test]
async fn other_spellings_lead_to_the_page() {
    let host = Host::start().await;
    let leads = async |path: &str, to: &str| {
        let answer = ask(&host, Method::GET, path, "").await;
        assert_eq!((answer.status().as_u16(), header(&answer, "location")), (307, to), "{path}");
        assert!(matches!(ask(&host, Method::GET, to, "").await.status().as_u16(), 200), "{to}");
    };
    leads("/docs", "/docs/").await;
    leads("/docs/index", "/docs/index.html").await;
    leads("/docs/reference/openapi.json", "/openapi.json").await;
    assert_eq!(ask(&host, Method::POST, "/docs/", "").await.status(), 405);
}

#[tokio::test]
async fn an_unknown_page_is_the_hosts_own_page() {
    let host = Host::start().await;
    for path in ["/docs/nothing", "/docs/nothing/", "/docs/SUMMARY.md", "/docs/..%2fREADME.md", "/docs/book.toml"] {
        let answer = ask(&host, Method::GET, path, "").await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-type")),
            (404, "text/html; charset=utf-8"),
            "{path}"
        );
        let text = answer.text().await.unwrap();
        assert!(
            text.contains("there is no such page in the documentation") && text.contains("/assets/app.css"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn links_to_the_documentation_are_where_people_begin() {
    let host = Host::start().await;
    assert!(Visitor::new(&host).see("/sign-in").await.contains("<a href=\"/docs/\">Documentation</a>"));
    assert!(Visitor::admin(&host).await.see("/t/default").await.contains("<a href=\"/docs/\">"));
}

#[tokio::test]
async fn the_documentation_works_below_a_prefix() {
    let host = Host::with().set("public_url=\"http://127.0.0.1/below\"").start().await;
    for path in ["/docs", "/below/docs"] {
        let answer = ask(&host, Method::GET, path, "").await;
        assert_eq!(header(&answer, "location"), "/below/docs/", "{path}");
    }
    let page = ask(&host, Method::GET, "/below/docs/", "").await;
    assert_eq!(page.status(), 200);
    // A link that begins with a slash would leave the prefix.
    let text = page.text().await.unwrap();
    assert!(!text.contains(" href=\"/") && !text.contains(" src=\"/"), "{text}");
}
