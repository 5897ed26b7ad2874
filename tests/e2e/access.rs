//! Authorization: every route is requested with keys of other tenants and scopes.

use crate::harness::{Host, event, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns every route of the OpenAPI document: its method, and its path with the tenant `default` and ids filled in.
async fn routes(host: &Host) -> Vec<(Method, String, String)> {
    let document = host.ask_as("", Method::GET, "/openapi.json", "").await.ok();
    let mut routes = Vec::new();
    for (template, operations) in document["paths"].as_object().unwrap() {
        let path = template
            .replace("{t}", "default")
            .replace("{id}", "01920000-0000-7000-8000-000000000000")
            .replace("{name}", "x")
            .replace("{sha256}", "0")
            .replace("{shard}", "5")
            .replace("{request}", "01920000-0000-7000-8000-000000000000");
        for method in operations.as_object().unwrap().keys().filter(|name| !name.starts_with("param")) {
            routes.push((method.to_uppercase().parse().unwrap(), template.clone(), path.clone()));
        }
    }
    routes
}

async fn tenant_key(host: &Host, tenant: &str, scopes: Value) -> String {
    let key = host.post(&format!("/v1/tenants/{tenant}/keys"), &json!({"scopes": scopes, "label": "test"})).await;
    text(&key, "key").to_owned()
}

#[tokio::test]
async fn no_route_of_a_tenant_opens_to_a_foreign_key() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let foreign = tenant_key(&host, "other", json!(["send", "read", "manage"])).await;
    let mut walked = 0;
    for (method, template, path) in routes(&host).await {
        let public = ["/healthz", "/readyz", "/in/{token}"].contains(&template.as_str());
        let answer = host.ask_as("", method.clone(), &path, "{}").await;
        assert_eq!(answer.status == 401, !public, "{method} {template} without a key: {}", answer.text);
        if public {
            continue;
        }
        assert_eq!(host.ask_as("hlk_wrong", method.clone(), &path, "{}").await.status, 401, "{method} {template}");
        let answer = host.ask_as(&foreign, method.clone(), &path, "{}").await;
        assert_eq!(answer.status, 403, "{method} {template} with a foreign key: {}", answer.text);
        // A tenant that does not exist and another tenant get the same answer.
        if template.contains("{t}") {
            let nowhere = host.ask_as(&foreign, method.clone(), &path.replace("/default", "/nowhere"), "{}").await;
            assert_eq!((nowhere.status, nowhere.text), (403, answer.text), "{method} {template}");
        }
        walked += 1;
    }
    assert!(walked >= 50, "only {walked} routes were walked");
}

#[tokio::test]
async fn no_answer_is_stored_or_guessed_at() {
    let host = Host::start().await;
    fn check(what: &str, answer: &crate::harness::Reply, stored: &str) {
        let header = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!(header("cache-control"), stored, "{what}: {}", answer.text);
        assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
        assert!(header("content-security-policy").contains("default-src 'none'"), "{what}");
    }
    for (method, template, path) in routes(&host).await {
        let bodies = ["{}", "", "{\"scopes\":[\"read\"],\"label\":\"\",\"id\":\"walked\"}"];
        for body in bodies {
            let answer = host.ask(method.clone(), &path, body).await;
            check(&format!("{method} {template}"), &answer, "no-store");
        }
    }
    // Answers that contain a secret.
    let subscription = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Deal"]});
    let made = host.ask(Method::POST, "./subscriptions", subscription.to_string()).await;
    assert!(text(&made.json, "signing_secret").starts_with("whsec_"));
    check("a signing secret", &made, "no-store");
    let rotate = format!("./subscriptions/{}/rotate-secret", text(&made.json, "id"));
    for (path, body, field) in [
        ("./keys", r#"{"scopes":["read"]}"#, "key"),
        ("/v1/keys", "{}", "key"),
        ("./intake-tokens", "{}", "path"),
        ("/v1/sign-in-links", "{}", "path"),
        (rotate.as_str(), "{}", "signing_secret"),
    ] {
        let answer = host.ask(Method::POST, path, body).await;
        assert!(answer.json[field].is_string(), "{path}: {}", answer.text);
        check(path, &answer, "no-store");
    }
    for path in ["/nothing", "/", "/sign-in", "/api", "/openapi.json", "/bins/none/x", "/t/default", "/v1/keys?x=y"] {
        check(path, &host.ask_as("", Method::GET, path, "").await, "no-store");
    }
    check("/assets/app.js", &host.ask_as("", Method::GET, "/assets/app.js", "").await, "max-age=300");
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    let host = Host::start().await;
    let body = event("Contact is Created", 1);
    let try_all = async |key: &str| {
        let mut statuses = Vec::new();
        for (method, path, body) in [
            (Method::POST, "./events", body.as_str()),
            (Method::GET, "./ledger", ""),
            (Method::GET, "./keys", ""),
            (Method::GET, "/v1/tenants", ""),
            (Method::PATCH, "/v1/tenants/default", "{\"event_types\":{}}"),
        ] {
            statuses.push(host.ask_as(key, method, path, body.to_owned()).await.status);
        }
        statuses
    };
    for (scopes, expected) in [
        (json!(["send"]), [202, 403, 403, 403, 403]),
        (json!(["read"]), [403, 200, 403, 403, 403]),
        (json!(["manage"]), [202, 200, 200, 403, 403]),
        (json!([]), [403, 403, 403, 403, 403]),
    ] {
        let key = tenant_key(&host, "default", scopes.clone()).await;
        assert_eq!(try_all(&key).await, expected, "{scopes}");
    }
}

#[tokio::test]
async fn keys_are_shown_once_listed_by_hint_and_end_when_revoked() {
    let host = Host::start().await;
    let made = host.post("./keys", &json!({"scopes": ["read"], "label": "dashboard"})).await;
    let key = text(&made, "key").to_owned();
    let listed = host.get("./keys").await;
    assert_eq!((&listed[0]["label"], &listed[0]["hint"]), (&json!("dashboard"), &json!(&key[..8])));
    assert!(!listed.to_string().contains(&key));
    assert_eq!(host.ask_as(&key, Method::GET, "./ledger", "").await.status, 200);
    host.ask(Method::DELETE, &format!("./keys/{}", text(&made, "id")), "").await.ok();
    assert_eq!(host.ask_as(&key, Method::GET, "./ledger", "").await.status, 401);
    assert_eq!(host.ask(Method::DELETE, &format!("./keys/{}", text(&made, "id")), "").await.status, 404);
    assert!(!String::from_utf8_lossy(&std::fs::read(host.data().join("hookloom.db-wal")).unwrap()).contains(&key));
}

#[tokio::test]
async fn nothing_crosses_tenants() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    assert_eq!(host.ask(Method::GET, &format!("/v1/tenants/other/events/{id}"), "").await.status, 404);
    host.plugin("p", crate::harness::guest("passes")).await;
    let subscription = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Deal"], "plugin": "p"});
    let answer = host.ask(Method::POST, "/v1/tenants/other/subscriptions", subscription.to_string()).await;
    assert_eq!(answer.status, 422, "another tenant's plugin: {}", answer.text);
    let own = host.subscription("http://127.0.0.1:9999/", json!({})).await;
    assert_eq!(host.ask(Method::GET, &format!("/v1/tenants/other/subscriptions/{own}"), "").await.status, 404);
    assert_eq!(host.ask(Method::DELETE, &format!("/v1/tenants/other/subscriptions/{own}"), "").await.status, 404);
}

#[tokio::test]
async fn admin_keys_can_be_replaced_but_not_all_revoked() {
    let host = Host::start().await;
    let listed = host.get("/v1/keys").await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let given = format!("/v1/keys/{}", text(&listed[0], "id"));
    let refused = host.ask(Method::DELETE, &given, "").await;
    assert_eq!((refused.status, text(&refused.json, "type")), (409, "urn:hookloom:problem:last-admin-key"));
    let made = host.post("/v1/keys", &json!({"label": "second"})).await;
    let key = text(&made, "key");
    assert_eq!(host.ask_as(key, Method::DELETE, &given, "").await.status, 204);
    assert_eq!(host.ask(Method::GET, "/v1/keys", "").await.status, 401);
    assert_eq!(host.ask_as(key, Method::GET, "/v1/tenants", "").await.status, 200);
}
