//! Portal of a tenant for a platform's customers: links, sessions, frames and brand.

use crate::harness::{ADMIN_KEY, Host, Page, Visitor, program, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// Creates a link to the portal of a tenant.
pub(crate) async fn link(host: &Host, tenant: &str, terms: Value) -> Value {
    host.post(&format!("/v1/tenants/{tenant}/portal-links"), &terms).await
}

/// Returns the token of a link.
pub(crate) fn token(link: &Value) -> &str {
    text(link, "path").split_once("token=").expect("a token").1
}

/// Returns a visitor with a session of the portal.
pub(crate) async fn visit<'h>(host: &'h Host, tenant: &str, terms: Value) -> Visitor<'h> {
    let made = link(host, tenant, terms).await;
    let mut visitor = Visitor::new(host);
    let page = visitor.post("/portal/sign-in", &[("token", token(&made))]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/portal/start"), "{}", page.text);
    visitor.see("/portal/webhooks").await;
    visitor
}

fn cookies(page: &Page) -> Vec<String> {
    page.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
}

fn policy(page: &Page) -> &str {
    page.headers["content-security-policy"].to_str().unwrap()
}

#[tokio::test]
async fn a_link_opens_the_portal_once() {
    let host = Host::with().set("portal_name=\"Acme\"").start().await;
    let made = link(&host, "default", json!({})).await;
    assert_eq!((&made["session_s"], &made["read_only"], made.get("url")), (&json!(3_600), &json!(false), None));
    let mut visitor = Visitor::new(&host);
    // Opening it, as chats and mail programs do, does not use it.
    for _ in 0..2 {
        let page = visitor.see(text(&made, "path")).await;
        assert!(page.contains("data-submit-at-once") && page.contains("Continue") && page.contains("Acme"), "{page}");
    }
    assert_eq!(visitor.get("/portal/webhooks").await.status, 401);
    let page = visitor.post("/portal/sign-in", &[("token", token(&made))]).await;
    let session = cookies(&page).into_iter().find(|line| line.starts_with("hookloom_portal=hlps_")).expect("a cookie");
    let (_, attributes) = session.split_once("; ").unwrap();
    assert_eq!(attributes, "HttpOnly; SameSite=Lax; Path=/portal; Max-Age=3600");
    assert_eq!(visitor.get("/portal/start").await.location, "/portal/webhooks");
    assert_eq!(visitor.get("/portal").await.location, "/portal/webhooks");
    let page = visitor.see("/portal/webhooks").await;
    assert!(page.contains("Acme") && !page.contains("Hookloom") && !page.contains("/t/default"), "{page}");

    let again = Visitor::new(&host).post("/portal/sign-in", &[("token", token(&made))]).await;
    assert!(again.status == 401 && again.text.contains("Open this page from Acme again"), "{}", again.text);
    let token = std::mem::replace(visitor.csrf(), "wrong".to_owned());
    assert_eq!(visitor.post("/portal/sign-out", &[]).await.status, 403, "another site signs nobody out");
    *visitor.csrf() = token;
    assert!(visitor.post("/portal/sign-out", &[]).await.text.contains("You are signed out"));
    let ended = visitor.get("/portal/webhooks").await;
    assert!(ended.status == 401 && ended.text.contains("Your session has ended"), "{}", ended.text);
    let lost = Visitor::new(&host).get("/portal/start").await;
    assert!(lost.status == 401 && lost.text.contains("Your browser kept no session"), "{}", lost.text);
    let log = host.get("./changes").await["changes"].clone();
    let actions: Vec<&str> = log.as_array().unwrap().iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions, ["portal-session.open", "portal-link.create"]);
}

#[tokio::test]
async fn another_sites_form_signs_nobody_in() {
    let host = Host::start().await;
    let made = link(&host, "default", json!({})).await;
    let body = format!("token={}", token(&made));
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("origin", "null")] {
        let request = crate::harness::client_without_redirects().post(format!("{}/portal/sign-in", host.url));
        let answer = request.header(name, value).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{name}: {value}");
    }
    let own = Visitor::new(&host).post("/portal/sign-in", &[("token", token(&made))]).await;
    assert_eq!(own.status, 303, "the link was not used");
}

#[tokio::test]
async fn links_and_sessions_end_by_their_age() {
    let host = Host::with().turnable().start().await;
    let late = link(&host, "default", json!({"expires_in_s": 60})).await;
    let in_time = link(&host, "default", json!({"expires_in_s": 120, "session_s": 300})).await;
    host.pass(Duration::from_secs(90)).await;
    let refused = Visitor::new(&host).post("/portal/sign-in", &[("token", token(&late))]).await;
    assert_eq!(refused.status, 401, "{}", refused.text);
    let mut visitor = Visitor::new(&host);
    assert_eq!(visitor.post("/portal/sign-in", &[("token", token(&in_time))]).await.status, 303);
    host.pass(Duration::from_secs(280)).await;
    visitor.see("/portal/webhooks").await;
    host.pass(Duration::from_secs(30)).await;
    assert_eq!(visitor.get("/portal/webhooks").await.status, 401);
}

#[tokio::test]
async fn the_terms_of_a_link_are_checked() {
    let host = Host::with().set("portal_origins=[\"https://app.example.com\"]").start().await;
    for (terms, pointer) in [
        (json!({"expires_in_s": 9}), "/expires_in_s"),
        (json!({"expires_in_s": 86_401}), "/expires_in_s"),
        (json!({"session_s": 59}), "/session_s"),
        (json!({"session_s": 86_401}), "/session_s"),
        (json!({"return_url": "https://evil.example/"}), "/return_url"),
        (json!({"return_url": "javascript:alert(1)"}), "/return_url"),
        (json!({"return_url": "https://app.example.com.evil.example/"}), "/return_url"),
    ] {
        let refused = host.ask(Method::POST, "./portal-links", terms.to_string()).await;
        assert_eq!((refused.status, text(&refused.json["errors"][0], "pointer")), (422, pointer), "{terms}");
    }
    let unknown = host.ask(Method::POST, "./portal-links", r#"{"tenant":"x"}"#).await;
    assert_eq!(unknown.status, 422, "{}", unknown.text);
    let made = link(&host, "default", json!({"return_url": "https://app.example.com/a?b=\"c\"&d"})).await;
    assert_eq!(made["return_url"], "https://app.example.com/a?b=%22c%22&d");
    let key = host.post("./keys", &json!({"scopes": ["manage"], "label": "own"})).await;
    let refused = host.ask_as(text(&key, "key"), Method::POST, "./portal-links", "{}").await;
    assert_eq!(refused.status, 403, "a tenant makes no links to its portal");
}

#[tokio::test]
async fn the_portal_ends_at_once() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let mut own = visit(&host, "default", json!({})).await;
    let mut other = visit(&host, "other", json!({})).await;
    let unused = link(&host, "default", json!({})).await;
    let mut stream = own.open_stream("/portal/live?topic=attempts").await;
    assert_eq!(stream.status(), 200);
    let ended = host.ask(Method::DELETE, "./portal-links", "").await.ok();
    assert_eq!(ended, json!({"links": 1, "sessions": 1}));
    assert_eq!(own.get("/portal/webhooks").await.status, 401);
    assert_eq!(Visitor::new(&host).post("/portal/sign-in", &[("token", token(&unused))]).await.status, 401);
    let end = async { while stream.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(crate::harness::PATIENCE, end).await.expect("the stream ends with its session");
    other.see("/portal/webhooks").await;
    host.ask(Method::DELETE, "/v1/tenants/other?confirm=other", "").await.ok();
    assert_eq!(other.get("/portal/webhooks").await.status, 401, "the tenant is gone");
}

#[tokio::test]
async fn a_tenant_with_all_its_keys_and_no_room_has_a_portal() {
    let host = Host::with().set("tenant_bytes_max=1").start().await;
    let refused = host.ask(Method::POST, "./keys", json!({"scopes": ["read"], "label": ""}).to_string()).await;
    assert_eq!(refused.status, 507, "{}", refused.text);
    let mut visitor = visit(&host, "default", json!({})).await;
    visitor.see("/portal/webhooks").await;
    let keys = host.get("./keys").await;
    assert_eq!(keys, json!([]), "a link is none of the tenant's keys");
}

#[tokio::test]
async fn only_the_portal_is_shown_in_frames_of_named_origins() {
    let named = Host::with().set("portal_origins=[\"https://app.example.com\", \"http://localhost:3000\"]");
    let host = named.set("public_url=\"https://hooks.example.com/p\"").start().await;
    let made = link(&host, "default", json!({"return_url": "https://app.example.com/settings"})).await;
    assert!(text(&made, "url").starts_with("https://hooks.example.com/p/portal/sign-in?token=hlp_"), "{made}");
    let mut visitor = Visitor::new(&host);
    let page = visitor.post("/portal/sign-in", &[("token", token(&made))]).await;
    assert_eq!(page.location, "/p/portal/start");
    let attributes = "HttpOnly; SameSite=None; Partitioned; Secure; Path=/p/portal; Max-Age=";
    assert!(cookies(&page).iter().all(|line| line.contains(attributes)) && !cookies(&page).is_empty(), "{page:?}");
    let framed = "frame-ancestors https://app.example.com http://localhost:3000;";
    for path in ["/portal/webhooks", "/portal/webhooks/new", "/portal/nothing", "/portal/sign-in?token=x"] {
        let page = visitor.get(path).await;
        assert!(policy(&page).contains(framed) && policy(&page).starts_with("default-src 'none'"), "{path}");
        assert!(
            cookies(&page).iter().all(|line| line.starts_with("hookloom_portal_flash=") && line.contains(attributes))
        );
        assert!(!page.text.contains("\"/portal") && page.text.contains("\"/p/portal"), "{path}: {}", page.text);
    }
    let page = visitor.see("/portal/webhooks").await;
    assert!(page.contains("href=\"https://app.example.com/settings\" target=\"_top\""), "{page}");
    assert!(policy(&Visitor::new(&host).get("/portal/webhooks").await).contains(framed));
    let mut admin = Visitor::admin(&host).await;
    for path in
        ["/sign-in", "/t/default", "/t/default/webhooks", "/portal/logo", "/portal/brand.css", "/docs/", "/nothing"]
    {
        let page = admin.get(path).await;
        assert!(policy(&page).contains("frame-ancestors 'none'"), "{path}: {}", policy(&page));
    }
    let session = cookies(&Visitor::new(&host).post("/sign-in", &[("key", ADMIN_KEY)]).await).join(" ");
    assert!(session.contains("SameSite=Lax") && !session.contains("Partitioned"), "{session}");

    let closed = Host::with().set("public_url=\"https://hooks.example.com\"").start().await;
    let mut visitor = visit(&closed, "default", json!({})).await;
    let page = visitor.get("/portal/webhooks").await;
    assert!(policy(&page).contains("frame-ancestors 'none'"));
    assert!(cookies(&page).iter().all(|line| line.contains("SameSite=Lax; Secure; Path=/portal")), "{page:?}");
}

const SVG: &str =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"24\" height=\"24\"><script>alert(1)</script></svg>";

#[tokio::test]
async fn the_portal_has_the_platforms_name_logo_and_colour() {
    let folder = TempDir::new().unwrap();
    let logo = folder.path().join("logo.svg");
    std::fs::write(&logo, SVG).unwrap();
    let host = Host::with().set("portal_name=\"Acme & Söhne\"").set("portal_colour=\"#ffd500\"");
    let host = host.set(&format!("portal_logo_file={:?}", logo.display().to_string())).start().await;
    let mut visitor = visit(&host, "default", json!({})).await;
    let page = visitor.see("/portal/webhooks").await;
    assert!(
        page.contains("<title>Webhooks · Acme &#38; Söhne</title>") && page.contains("<img src=\"/portal/logo\""),
        "{page}"
    );
    let style = Visitor::new(&host).get("/portal/brand.css").await;
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    assert!(
        style.text.contains("--accent: #856f00;") && style.text.contains("prefers-color-scheme: dark"),
        "{}",
        style.text
    );
    let logo = Visitor::new(&host).get("/portal/logo").await;
    assert_eq!((logo.status, logo.text.as_str()), (200, SVG));
    assert_eq!(logo.headers["content-type"], "image/svg+xml");
    assert_eq!(logo.headers["x-content-type-options"], "nosniff");
    assert!(policy(&logo).contains("default-src 'none'") && policy(&logo).contains("sandbox"), "{}", policy(&logo));
    let plain = Host::start().await;
    assert_eq!(Visitor::new(&plain).get("/portal/logo").await.status, 404);
    assert!(visit(&plain, "default", json!({})).await.see("/portal/webhooks").await.contains("Hookloom"));
}

#[tokio::test]
async fn a_brand_that_cannot_be_shown_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("large.svg"), format!("<svg>{}</svg>", " ".repeat(70_000))).unwrap();
    std::fs::write(folder.path().join("page.svg"), "<html></html>").unwrap();
    for (setting, expected) in [
        ("portal_colour=\"teal\"", "\"teal\" is not a colour such as #0b6470"),
        ("portal_logo_file=\"none.png\"", "portal_logo_file none.png cannot be read"),
        ("portal_logo_file=\"large.svg\"", "a logo has at most 65536"),
        ("portal_logo_file=\"page.svg\"", "neither a PNG file nor an SVG file"),
        ("portal_origins=[\"http://app.example.com\"]", "it begins with https://"),
        ("portal_origins=[\"https://*.example.com\"]", "is not the origin of pages"),
        ("portal_name=\"a\\nb\"", "portal_name has at most 60 characters"),
        ("public_url=\"https://example.com/portal\"", "/portal is a path of the host itself"),
    ] {
        let mut host = Command::new(program());
        host.args(["serve", "--listen", "127.0.0.1:0", "--set", setting]).current_dir(folder.path());
        let output = host.env("HOOKLOOM_ADMIN_KEY", ADMIN_KEY).kill_on_drop(true).output();
        let output = tokio::time::timeout(crate::harness::PATIENCE, output).await.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{setting}: {said}");
    }
}

#[tokio::test]
async fn the_command_line_makes_links_and_ends_them() {
    let host = Host::start().await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("portal-link").args(arguments).env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY);
        let output = command.output().await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (_, url) = run(&["default"]).await;
    let path = url.trim().strip_prefix(&host.url).expect("a link to this host");
    assert!(Visitor::new(&host).see(path).await.contains("Continue"));
    let (_, said) = run(&["default", "--read-only", "--session", "60", "--expires-in", "30", "--json"]).await;
    let made: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&made["read_only"], &made["session_s"]), (&json!(true), &json!(60)));
    assert!(text(&made, "url").starts_with(&host.url));
    let (_, said) = run(&["default", "--end-all"]).await;
    assert_eq!(said.trim(), "ended 0 sessions and 2 unused links");
    let (ok, said) = run(&["nowhere"]).await;
    assert!(!ok && said.contains("there is no tenant nowhere"), "{said}");
}

#[tokio::test]
async fn an_operator_makes_a_link_on_the_page() {
    let host = Host::start().await;
    let mut admin = Visitor::admin(&host).await;
    admin.see("/t/default/access").await;
    let page = admin.follow("/t/default/portal/create", &[("read_only", "yes")]).await;
    let url = page.split("id=\"once\">").nth(1).unwrap().split('<').next().unwrap();
    let path = url.strip_prefix(&host.url).expect("a link to this host");
    let mut reader = Visitor::new(&host);
    let token = path.split_once("token=").unwrap().1;
    assert_eq!(reader.post("/portal/sign-in", &[("token", token)]).await.status, 303);
    assert!(reader.see("/portal/webhooks").await.contains("read only"));
    let page = admin.follow("/t/default/portal/end", &[]).await;
    assert!(page.contains("1 session and 0 unused links were ended"), "{page}");
    assert_eq!(reader.get("/portal/webhooks").await.status, 401);
    let key = host.post("./keys", &json!({"scopes": ["manage"], "label": "own"})).await;
    let mut own = Visitor::with_key(&host, text(&key, "key")).await;
    assert!(!own.see("/t/default/access").await.contains("/portal/create"));
    assert_eq!(own.post("/t/default/portal/create", &[]).await.status, 403);
}
