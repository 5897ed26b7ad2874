//! Page of the API: search, each operation with a command that works, and the form that tries it within the host.

use crate::browser::sign_in;
use crate::harness::{ADMIN_KEY, Browser, Host, Visitor, event, text};
use fantoccini::key::Key;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

/// Returns the ids of the operations that a list shows.
fn listed(page: &str) -> Vec<String> {
    let rows = page.split("<li data-words=\"").skip(1);
    let links = rows.filter(|row| !row.split_once('>').unwrap().0.ends_with(" hidden"));
    links.map(|rest| rest.split_once("href=\"/api/").unwrap().1.split('"').next().unwrap().to_owned()).collect()
}

/// Returns the text of an element whose start tag contains this, unescaped.
#[track_caller]
fn shown(page: &str, tag: &str) -> String {
    let (_, rest) = page.split_once(tag).unwrap_or_else(|| panic!("no {tag} in {page}"));
    let text = rest.split_once('>').unwrap().1.split("</").next().unwrap();
    let named = [
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&amp;", "&"),
        ("&#38;", "&"),
    ];
    named.iter().fold(text.to_owned(), |text, (name, letter)| text.replace(name, letter))
}

#[tokio::test]
async fn operations_are_found_by_words() {
    let host = Host::start().await;
    let mut nobody = Visitor::new(&host);
    let all = listed(&nobody.see("/api").await);
    assert!(all.len() > 60 && all.contains(&"send_events".to_owned()), "{all:?}");
    let found = nobody.see("/api?q=Rotate+SECRET").await;
    assert_eq!(listed(&found), ["rotate_signing_secret"]);
    assert!(nobody.see("/api?q=nothing-like-it").await.contains("No operation matches"));
    let page = nobody.see("/api/create_subscription").await;
    assert!(
        page.contains("Sign in to try it") && page.contains("/sign-in?next=%2Fapi%2Fcreate_subscription"),
        "{page}"
    );
    assert!(page.contains("notify_url") && page.contains("<a href=\"/api/shapes#shape-SubscriptionBody\">"), "{page}");
    assert_eq!(nobody.get("/api/nothing").await.status, 404);
    assert!(nobody.see("/api/shapes").await.contains("id=\"shape-Problem\""));
    assert_eq!(nobody.post("/api/get_health", &[]).await.status, 303, "nobody is signed in");
}

/// Returns the operations of the document with their methods and paths.
async fn operations(host: &Host) -> Vec<(String, String, String)> {
    let document = host.get("/openapi.json").await;
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push((text(operation, "operationId").to_owned(), method.to_uppercase(), path.clone()));
        }
    }
    all
}

#[tokio::test]
async fn a_list_has_what_the_user_may_call() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "acme"})).await;
    let key = host.post("/v1/tenants/acme/keys", &json!({"scopes": ["manage"], "label": ""})).await;
    let key = text(&key, "key");
    let offered = listed(&Visitor::with_key(&host, key).await.see("/api").await);
    let mut visitor = Visitor::with_key(&host, key).await;
    for (id, method, path) in operations(&host).await {
        // A body that fits nothing, so that nothing is changed; the guard answers before it is read.
        let path = path.replace("{t}", "acme").replace(['{', '}'], "");
        let answer = host.ask_as(key, Method::try_from(method.as_str()).unwrap(), &path, "}").await;
        assert_eq!(offered.contains(&id), answer.status != 403, "{method} {path}: {} {}", answer.status, answer.text);
    }
    let page = visitor.see("/api/create_tenant").await;
    assert!(page.contains("It needs an admin key") && !page.contains("data-try"), "{page}");
    let refused = visitor.post("/api/create_tenant", &[("body", "{\"id\": \"x\"}"), ("confirm-request", "yes")]).await;
    assert_eq!(refused.status, 403);
    // The tenant of the path is the user's own, whatever the form says.
    visitor.see("/api/get_tenant").await;
    let page = visitor.post("/api/get_tenant", &[("p-t", "default")]).await;
    assert!(
        page.status == 200 && shown(&page.text, "id=\"answer-body\"").contains("\"id\": \"acme\""),
        "{}",
        page.text
    );
    assert_eq!(listed(&Visitor::admin(&host).await.see("/api").await).len(), operations(&host).await.len());
}

#[tokio::test]
async fn a_request_is_tried_within_the_host() {
    let host = Host::start().await;
    let sent = host.send(event("Contact is Created", 7)).await;
    let mut visitor = Visitor::admin(&host).await;
    let form = visitor.see("/api/list_events").await;
    assert!(!form.contains("confirm-request"), "a read asks nothing");
    let page = visitor.post("/api/list_events", &[("p-t", "default"), ("p-limit", "1")]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let body: Value = serde_json::from_str(&shown(&page.text, "id=\"answer-body\"")).unwrap();
    assert_eq!(body["events"][0]["id"], json!(sent));
    assert!(
        page.text.contains(">200 OK</span>") && page.text.contains("GET /v1/tenants/default/events?limit=1"),
        "{}",
        page.text
    );
    let headers = shown(&page.text, "id=\"answer-headers\"");
    assert!(headers.contains("x-request-id: ") && headers.contains("content-type: application/json"), "{headers}");

    // A problem is an answer too, and a blank part of the path is a fault of its field.
    let page = visitor.post("/api/list_events", &[("p-t", "default"), ("p-limit", "9999")]).await;
    assert!(page.text.contains("<span class=\"state failed\">400 Bad Request</span>"), "{}", page.text);
    let page = visitor.post("/api/get_event", &[("p-t", "default"), ("p-id", "")]).await;
    assert!(page.status == 422 && page.text.contains("id=\"p-id-error\""), "{}", page.text);
    for elsewhere in ["//127.0.0.1:1/", "..", "../../../t/default", "http://127.0.0.1:1/"] {
        let page = visitor.post("/api/get_tenant", &[("p-t", elsewhere)]).await;
        assert!(page.status == 422 || page.text.contains(">403 Forbidden</span>"), "{elsewhere}: {}", page.text);
    }
    assert!(visitor.post("/api/get_metrics", &[]).await.text.contains("hookloom_"));
}

#[tokio::test]
async fn a_change_needs_its_box_and_the_sessions_token() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see("/api/create_bin").await;
    assert!(page.contains("changes data of this host for real") && page.contains("first try"), "{page}");
    let fields = [("p-t", "default"), ("body", "{\"name\": \"tried\"}"), ("confirm-request", "yes")];
    let refused = visitor.post("/api/create_bin", &fields[..2]).await;
    assert!(refused.status == 422 && refused.text.contains("id=\"confirm-error\""), "{}", refused.text);
    let token = std::mem::replace(visitor.csrf(), "wrong".to_owned());
    assert_eq!(visitor.post("/api/create_bin", &fields).await.status, 403);
    assert_eq!(host.get("./bins").await, json!([]), "nothing was made");
    *visitor.csrf() = token;
    let page = visitor.post("/api/create_bin", &fields).await;
    assert!(page.text.contains(">201 Created</span>"), "{}", page.text);
    assert_eq!(host.get("./bins").await[0]["name"], "tried");
    let log = visitor.see("/t/default/changes?kind=bins").await;
    assert!(log.contains("created the bin"), "{log}");
    // A trial of a filter is a POST that changes nothing.
    visitor.see("/api/try_filter").await;
    let tried =
        [("p-t", "default"), ("body", "{\"modules\": [\"Deal\"], \"filter\": {\"fields\": {\"id\": {\"$gte\": 0}}}}")];
    assert!(visitor.post("/api/try_filter", &tried).await.text.contains(">200 OK</span>"));
}

#[tokio::test]
async fn a_command_of_the_page_works_in_a_shell() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    for (id, expected) in
        [("list_tenants", "\"id\":\"default\""), ("send_events", "\"deliveries\":0"), ("get_health", "\"ok\"")]
    {
        let command = shown(&visitor.see(&format!("/api/{id}")).await, "id=\"curl-command\"");
        assert!(command.contains(&host.url) && !command.contains("hlk_"), "{command}");
        let mut shell = Command::new("bash");
        let output = shell.args(["-c", &command]).env("HOOKLOOM_KEY", ADMIN_KEY).output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(expected), "{command}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_for_everybody_on_every_screen() {
    let host = Host::start().await;
    host.send(event("Contact is Created", 7)).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        browser.open("/api/list_events").await;
        browser.look("api-public").await;
        sign_in(&browser, &host).await;
        browser.open("/api").await;
        browser.look("api-list").await;
        let visible =
            "return [...document.querySelectorAll('.operations li')].filter((one) => one.checkVisibility()).length";
        browser.fill("#q", "rotate secret").await;
        assert_eq!(browser.script(visible).await, json!(1), "without a request");
        browser.wait_for_text("#found", "1 operation").await;
        browser.fill("#q", "nothing-like-it").await;
        browser.wait_for_text("#none", "No operation matches").await;
        browser.open("/api/list_events").await;
        browser.fill("#p-limit", "1").await;
        browser.press(Key::Enter).await;
        browser.wait_for_text("#answer", "200 OK").await;
        assert_eq!(browser.script("return document.activeElement.id").await, json!("answer"));
        browser.look("api-answer").await;
        browser.open("/api/create_bin").await;
        browser.look("api-operation").await;
        browser.click("#try button").await;
        browser.script("document.querySelector('[name=confirm-request]').click()").await;
        browser.click("#try button").await;
        browser.wait_for_text("#answer", "201 Created").await;
        browser.open("/api/shapes").await;
        browser.look("api-shapes").await;
        browser.close().await;
    }
    assert_eq!(host.get("./bins").await.as_array().unwrap().len(), 2);
}
