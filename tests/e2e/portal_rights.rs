//! Rights of a portal session: its tenant, its routes, and what a session that only reads may do.

use crate::harness::{Host, Page, Receiver, Visitor, event, root, text};
use crate::portal::{link, token, visit};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

/// Things of a tenant, by their ids.
struct Things {
    webhook: String,
    event: String,
    delivery: String,
}

/// Creates a webhook of a tenant with a delivery that is dead.
async fn furnish(host: &Host, tenant: &str) -> Things {
    let receiver = Receiver::answering("500").await;
    let settings = json!({
        "notify_url": receiver.url, "modules": ["Contact"], "retry": {"schedule_s": [0]}, "description": format!("of {tenant}"),
    });
    let base = format!("/v1/tenants/{tenant}");
    let webhook = text(&host.post(&format!("{base}/subscriptions"), &settings).await, "id").to_owned();
    let sent = host.ask(Method::POST, &format!("{base}/events"), event("Contact is Created", 57)).await.ok();
    let event = text(&sent["events"][0], "id").to_owned();
    let delivery = crate::harness::until("the delivery to end", async || {
        let found = host.get(&format!("{base}/deliveries?event={event}")).await["deliveries"][0].clone();
        (found["state"] == "dead").then_some(found)
    });
    let delivery = text(&delivery.await, "id").to_owned();
    Things { webhook, event, delivery }
}

/// Pages of the portal with these things.
fn pages(things: &Things) -> Vec<String> {
    let Things { webhook, event, delivery } = things;
    vec![
        "/portal/webhooks".into(),
        "/portal/webhooks?health=failing".into(),
        "/portal/webhooks/new".into(),
        format!("/portal/webhooks/{webhook}"),
        "/portal/deliveries".into(),
        format!("/portal/deliveries/{delivery}"),
        format!("/portal/deliveries/{delivery}?view=split"),
        format!("/portal/events/{event}"),
        "/portal/event-types".into(),
    ]
}

/// Fields of a form.
type FormFields = Vec<(&'static str, String)>;

/// Routes that change something: the route of the source, its path and a form.
fn changes(things: &Things) -> Vec<(&'static str, String, FormFields)> {
    let Things { webhook, delivery, .. } = things;
    let form = vec![("notify_url", "http://127.0.0.1:9999/".to_owned()), ("modules", "Deal".to_owned())];
    let mut all = vec![
        ("/portal/webhooks", "/portal/webhooks".to_owned(), form.clone()),
        ("/portal/webhooks/{id}", format!("/portal/webhooks/{webhook}"), form),
        ("/portal/samples", "/portal/samples".to_owned(), vec![("event", "Contact is Created".to_owned())]),
    ];
    for action in ["test", "pause", "resume", "rotate", "redrive", "replay"] {
        let span = vec![("from", "2024-01-01T00:00:00".to_owned()), ("to", "2024-01-02T00:00:00".to_owned())];
        all.push(("/portal/webhooks/{id}/{action}", format!("/portal/webhooks/{webhook}/{action}"), span));
    }
    for action in ["retry", "cancel"] {
        all.push(("/portal/deliveries/{id}/{action}", format!("/portal/deliveries/{delivery}/{action}"), Vec::new()));
        let chosen = vec![("action", action.to_owned()), ("id", delivery.clone())];
        all.push(("/portal/deliveries", "/portal/deliveries".to_owned(), chosen));
    }
    all.push(("/portal/webhooks/{id}/{action}", format!("/portal/webhooks/{webhook}/delete"), Vec::new()));
    all
}

/// Returns the routes of the portal's router that take a form.
fn changing_routes() -> BTreeSet<String> {
    let source = std::fs::read_to_string(root().join("host/hookloom/src/api/pages/portal.rs")).unwrap();
    let routes = source.lines().filter_map(|line| line.trim().strip_prefix(".route(\""));
    let posts = routes.filter_map(|line| line.split_once("\", ")).filter(|(_, methods)| methods.contains("post("));
    posts.map(|(path, _)| path.to_owned()).collect()
}

async fn post(visitor: &mut Visitor<'_>, path: &str, fields: &[(&str, String)]) -> Page {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    visitor.post(path, &fields).await
}

#[tokio::test]
async fn a_portal_session_opens_nothing_else() {
    let host = Host::start().await;
    let things = furnish(&host, "default").await;
    let made = link(&host, "default", json!({})).await;
    let mut visitor = visit(&host, "default", json!({})).await;
    let csrf = visitor.csrf().clone();
    let line = visitor.cookie_line();
    let cookie = line.split("hookloom_portal=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let document = host.ask_as("", Method::GET, "/openapi.json", "").await.ok();
    let mut walked = 0;
    for (template, operations) in document["paths"].as_object().unwrap() {
        if ["/healthz", "/readyz", "/in/{token}"].contains(&template.as_str()) {
            continue;
        }
        let path = template.replace("{t}", "default").replace("{id}", &things.webhook).replace("{shard}", "5");
        let path = path.replace("{name}", "x").replace("{sha256}", "0").replace("{request}", &things.delivery);
        for method in operations.as_object().unwrap().keys().filter(|name| !name.starts_with("param")) {
            let method: Method = method.to_uppercase().parse().unwrap();
            let page = visitor.script(method.clone(), &path, Some(&csrf), b"{}".to_vec()).await;
            assert_eq!(page.status, 401, "{method} {template} with the cookie: {}", page.text);
            for text in [cookie.as_str(), token(&made)] {
                let answer = host.ask_as(text, method.clone(), &path, "{}").await;
                assert_eq!(answer.status, 401, "{method} {template} with {text} as a key: {}", answer.text);
            }
            let http = crate::harness::client_without_redirects();
            let request = http.request(method.clone(), format!("{}{path}", host.url)).body("{}");
            let request = request.header("cookie", format!("hookloom_session={cookie}")).header("x-csrf-token", &csrf);
            assert_eq!(request.send().await.unwrap().status(), 401, "{method} {template} with another cookie's name");
            walked += 1;
        }
    }
    assert!(walked >= 50, "only {walked} routes were walked");
}

#[tokio::test]
async fn the_portal_has_few_of_the_pages() {
    let host = Host::start().await;
    let mut visitor = visit(&host, "default", json!({})).await;
    let csrf = visitor.csrf().clone();
    for path in
        ["/", "/tenants", "/fleet", "/t/default", "/t/default/webhooks", "/t/default/access", "/t/default/plugins"]
    {
        assert_eq!(visitor.get(path).await.status, 303, "{path}");
    }
    // Pages of the console that the portal does not have.
    for path in
        ["plugins", "scripts", "bins", "access", "alerts", "rejected", "live2", "access/keys", "event-types/remove"]
    {
        for method in [Method::GET, Method::POST] {
            let page = visitor.script(method.clone(), &format!("/portal/{path}"), Some(&csrf), Vec::new()).await;
            assert_eq!(page.status, 404, "{method} {path}: {}", page.text);
        }
    }
    let page = visitor.get("/portal/plugins").await;
    assert!(
        page.text.contains("the portal has no such page") && page.text.contains("href=\"/portal\""),
        "{}",
        page.text
    );
    assert_eq!(visitor.post("/portal/event-types", &[("name", "x")]).await.status, 405, "types are only shown");
    // A session of the console is none of the portal.
    let mut admin = Visitor::admin(&host).await;
    assert_eq!(admin.get("/portal/webhooks").await.status, 401);
}

#[tokio::test]
async fn a_portal_shows_one_tenant() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let own = furnish(&host, "default").await;
    let foreign = furnish(&host, "other").await;
    let mut visitor = visit(&host, "default", json!({})).await;
    for path in pages(&own) {
        let page = visitor.see(&path).await;
        assert!(!page.contains("of other") && !page.contains("/t/default"), "{path}: {page}");
    }
    for path in pages(&foreign) {
        let page = visitor.get(&path).await;
        assert!(!page.text.contains("of other"), "{path}: {}", page.text);
        let has_id = [&foreign.webhook, &foreign.event, &foreign.delivery].iter().any(|id| path.contains(*id));
        assert_eq!(page.status, if has_id { 404 } else { 200 }, "{path}");
    }
    let before = host.get("/v1/tenants/other/ledger").await;
    for (_, path, fields) in changes(&foreign).into_iter().filter(|(_, path, _)| path.contains('-')) {
        let page = post(&mut visitor, &path, &fields).await;
        assert_eq!(page.status, 404, "{path}: {}", page.text);
    }
    let chosen = [("action", "retry"), ("id", foreign.delivery.as_str())];
    let page = visitor.follow("/portal/deliveries", &chosen).await;
    assert!(page.contains("1 delivery was not attempted again"), "{page}");
    assert_eq!(host.get("/v1/tenants/other/ledger").await, before);
    assert_eq!(host.get("/v1/tenants/other/subscriptions").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_read_only_session_changes_nothing() {
    let host = Host::start().await;
    let things = furnish(&host, "default").await;
    let mut reader = visit(&host, "default", json!({"read_only": true})).await;
    assert_eq!(reader.get("/portal/webhooks/new").await.status, 403);
    for path in pages(&things).into_iter().filter(|path| path != "/portal/webhooks/new") {
        let page = reader.see(&path).await;
        let page = page.replace("<form method=\"post\" action=\"/portal/sign-out\">", "");
        assert!(page.contains("read only"), "{path}");
        assert!(!page.contains("method=\"post\"") && !page.contains("type=\"checkbox\""), "{path}: {page}");
        assert!(!page.contains("Add a webhook") && !page.contains("formaction"), "{path}: {page}");
    }
    let before = [host.get("./subscriptions").await, host.get("./ledger").await];
    let mut tried: BTreeSet<String> = ["/portal/sign-in", "/portal/sign-out"].map(str::to_owned).into();
    for (route, path, fields) in changes(&things) {
        let page = post(&mut reader, &path, &fields).await;
        assert!(page.status == 403 && page.text.contains("may not manage"), "{path}: {}", page.text);
        assert!(page.text.contains("class=\"portal\""), "{path} answers in the frame of the portal");
        tried.insert(route.to_owned());
    }
    assert_eq!(tried, changing_routes(), "every route of the portal that changes something");
    assert_eq!([host.get("./subscriptions").await, host.get("./ledger").await], before);
    // The same requests of another session are no nonsense.
    let mut writer = visit(&host, "default", json!({})).await;
    for (_, path, fields) in changes(&things) {
        let page = post(&mut writer, &path, &fields).await;
        // The attempt of the retry may have ended before it is cancelled.
        let has_ended = path.ends_with("/cancel") && page.status == 409;
        assert!(page.status == 303 || has_ended, "{path}: {}", page.text);
    }
}

#[tokio::test]
async fn nothing_is_changed_without_the_token_of_the_portal_session() {
    let host = Host::start().await;
    let things = furnish(&host, "default").await;
    let mut visitor = visit(&host, "default", json!({})).await;
    let mut other = visit(&host, "default", json!({})).await;
    *visitor.csrf() = other.csrf().clone();
    for (_, path, fields) in changes(&things) {
        let page = post(&mut visitor, &path, &fields).await;
        assert!(page.status == 403 && page.text.contains("did not come from a page of this host"), "{}", page.text);
    }
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_customer_adds_a_webhook_with_a_plugin_of_the_library() {
    let host = Host::start().await;
    let mut visitor = visit(&host, "default", json!({})).await;
    let form = visitor.see("/portal/webhooks/new").await;
    for left_out in [
        "value=\"Subscription\"",
        "Incident",
        "Subscription is Paused",
        "Receive here",
        "/docs/",
        "Plugin calls",
        "Agile CRM",
    ] {
        assert!(!form.contains(left_out), "{left_out}: {form}");
    }
    assert!(form.contains("value=\"Contact\"") && form.contains("<option value=\"flatten\">"), "{form}");
    let types = visitor.see("/portal/event-types").await;
    assert!(types.contains("Contact is Created") && !types.contains("Incident") && !types.contains("New event type"));
    let fields = [("notify_url", "http://127.0.0.1:9999/"), ("modules", "Contact"), ("plugin", "flatten")];
    let page = visitor.follow("/portal/webhooks", &fields).await;
    assert!(page.contains("Signing secret") && page.contains("whsec_"), "{page}");
    assert!(!page.contains("Write a script") && !page.contains("/t/default"), "{page}");
    assert_eq!(host.get("./plugins").await[0]["name"], "flatten");
    let log = host.get("./changes").await["changes"].clone();
    let created =
        log.as_array().unwrap().iter().find(|entry| entry["action"] == "subscription.create").expect("an entry");
    assert!(text(created, "who").starts_with("portal session ("), "{created}");
    // A bin would receive it, and the portal has none.
    let refused = visitor.post("/portal/webhooks", &[("receive", "here"), ("modules", "Contact")]).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert_eq!(host.get("./bins").await.as_array().unwrap().len(), 0);
}
