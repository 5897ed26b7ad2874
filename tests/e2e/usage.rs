//! Share of a tenant: what counts, what is refused above it, and how deletions of plugins, versions and tenants reduce the usage.

use crate::harness::{ADMIN_KEY, Host, Receiver, Visitor, event, example, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};

async fn usage(host: &Host) -> Value {
    host.get("./usage").await
}

fn of(usage: &Value, kind: &str) -> u64 {
    let kinds = usage["by_kind"].as_array().unwrap();
    kinds.iter().find(|one| one["kind"] == kind).unwrap()["bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn every_byte_counts_by_kind() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let fresh = usage(&host).await;
    let component = example("flatten");
    host.plugin("p", component.clone()).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "config": {"note": "x".repeat(5_000)}})).await;
    let bin = host.post("./bins", &json!({"name": "b"})).await;
    host.ask_as("", Method::POST, text(&bin, "path"), "y".repeat(3_000)).await;
    let token = host.post("./intake-tokens", &json!({})).await;
    assert_eq!(host.ask_as("", Method::POST, text(&token, "path"), "z".repeat(2_000)).await.status, 400);
    let id = host.send(event("Contact is Created", 1)).await;
    host.ended(&id).await;
    let least = [
        ("events", 100),
        ("deliveries", 100),
        ("attempts", 500),
        ("plugins", component.len() as u64),
        ("subscriptions", 5_000),
        ("bins", 3_000),
        ("rejected_requests", 2_000),
        ("changes", 5_000),
        ("access", 100),
        ("statistics", 50),
    ];
    for (kind, least) in least {
        // Statistics and the log of changes are written a moment later.
        until(kind, async || (of(&usage(&host).await, kind) >= of(&fresh, kind) + least).then_some(())).await;
    }
    let all = usage(&host).await;
    let sum: u64 = all["by_kind"].as_array().unwrap().iter().map(|one| one["bytes"].as_u64().unwrap()).sum();
    assert_eq!((all["bytes"].as_u64(), &all["events"]), (Some(sum), &json!(1)));
    assert_eq!(all["bytes_max"], 21_474_836_480_u64);
}

#[tokio::test]
async fn over_the_share_everything_is_refused_but_outcomes() {
    let host = Host::with().set("tenant_bytes_max=60000").start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let upload = host.ask(Method::PUT, "./plugins/p", example("flatten")).await;
    assert_eq!(upload.status, 507, "{}", upload.text);
    assert!(upload.text.contains("of 60,000 bytes") && upload.text.contains("subscriptions "), "{}", upload.text);
    assert!(upload.text.contains("/usage") && upload.text.contains("tenant_bytes_max"), "{}", upload.text);
    let mut sent = Vec::new();
    loop {
        let reply = host.ask(Method::POST, "./events", event("Contact is Created", sent.len())).await;
        if reply.status == 507 {
            assert!(reply.text.contains("tenant-full"), "{}", reply.text);
            break;
        }
        sent.push(text(&reply.json["events"][0], "id").to_owned());
        assert!(sent.len() < 400, "attempts do not count");
    }
    // Accepted events are delivered and recorded, even though no more are accepted.
    for id in &sent {
        assert_eq!(text(&host.ended(id).await, "state"), "delivered");
    }
    assert_eq!(host.ask(Method::POST, "./events", event("Contact is Created", 1)).await.status, 507);
    assert!(usage(&host).await["bytes"].as_u64().unwrap() > 50_000);
}

#[tokio::test]
async fn an_unused_plugin_is_deleted_and_no_file_brings_it_back() {
    let host = Host::start().await;
    let folder = host.data().join("plugins/default");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.wasm"), guest("passes")).unwrap();
    let is_there = async |name: &str| {
        let plugins = host.get("./plugins").await;
        plugins.as_array().unwrap().iter().any(|one| one["name"] == name)
    };
    until("the file's plugin", async || is_there("p").await.then_some(())).await;
    let first = text(&host.get("./plugins").await[0], "active_sha256").to_owned();
    let second = text(&host.plugin("p", example("flatten")).await, "sha256").to_owned();
    let pinned = host.subscription("http://127.0.0.1:9999/", json!({"plugin": format!("p@{first}")})).await;
    let delete = async |path: &str| host.ask(Method::DELETE, path, "").await;
    let old = format!("./plugins/p/versions/{first}");
    let active = format!("./plugins/p/versions/{second}");

    for (path, message) in
        [(&active, "active version"), (&old, pinned.as_str()), (&"./plugins/p".to_owned(), pinned.as_str())]
    {
        let refused = delete(path).await;
        assert!(refused.status == 409 && refused.text.contains(message), "{path}: {}", refused.text);
    }
    delete(&format!("./subscriptions/{pinned}")).await;
    let shadow = json!({"kind": "shadow", "sha256": first}).to_string();
    host.ask(Method::PUT, "./plugins/p/rollout", shadow).await.ok();
    let refused = delete(&old).await;
    assert!(refused.status == 409 && refused.text.contains("shadow"), "{}", refused.text);
    assert!(delete("./plugins/p/rollout").await.status < 300);
    assert_eq!(delete(&old).await.status, 204);
    assert_eq!(delete(&old).await.status, 404);
    assert_eq!(host.get("./plugins/p/versions").await.as_array().unwrap().len(), 1);

    assert_eq!(delete("./plugins/p").await.status, 204);
    assert!(!is_there("p").await);
    assert_eq!(host.ask(Method::GET, "./plugins/p/versions", "").await.status, 404);
    until("its bytes to be given back", async || (of(&usage(&host).await, "plugins") == 0).then_some(())).await;
    let changes = host.get("./changes").await.to_string();
    assert!(changes.contains("plugin.delete-version") && changes.contains("\"plugin.delete\""), "{changes}");

    // The file still exists, and a restart reads it again; another component is installed.
    let (_, folder_of_host) = host.stop().await;
    let host = Host::with().on(folder_of_host).start().await;
    std::fs::write(folder.join("q.wasm"), example("flatten")).unwrap();
    until("the other file's plugin", async || {
        let plugins = host.get("./plugins").await;
        plugins.as_array().unwrap().iter().any(|one| one["name"] == "q").then_some(())
    })
    .await;
    assert_eq!(host.get("./plugins").await.as_array().unwrap().len(), 1);
}

/// Creates a tenant with something of every kind. Returns its key and its address.
async fn acme(host: &Host) -> (String, String) {
    fn made(value: &Value, name: &str) -> String {
        text(value, name).to_owned()
    }
    host.post("/v1/tenants", &json!({"id": "acme"})).await;
    let key = host.post("/v1/tenants/acme/keys", &json!({"scopes": ["send", "read", "manage"]})).await;
    let token = host.post("/v1/tenants/acme/intake-tokens", &json!({})).await;
    host.ask(Method::PUT, "/v1/tenants/acme/plugins/p", guest("passes")).await.ok();
    let subscription = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Contact"], "plugin": "p",
        "retry": {"schedule_s": [3600]}});
    for _ in 0..3 {
        host.post("/v1/tenants/acme/subscriptions", &subscription).await;
    }
    let batch: Vec<String> = (0..600).map(|number| event("Contact is Created", number)).collect();
    host.ask(Method::POST, "/v1/tenants/acme/events", batch.join("\n")).await.ok();
    (made(&key, "key"), made(&token, "path"))
}

#[tokio::test]
async fn a_tenant_goes_with_all_that_hangs_on_it_also_over_a_crash() {
    let host = Host::start().await;
    let (key, address) = acme(&host).await;
    let bin = host.post("/v1/tenants/acme/bins", &json!({})).await;
    let bin = text(&bin, "path").to_owned();
    let counted = host.get("/v1/tenants/acme/deletion").await;
    let count = |name: &str| counted[name].as_u64().unwrap();
    assert_eq!(
        ["events", "deliveries", "plugins", "versions", "subscriptions", "bins", "keys", "intake_tokens"].map(count),
        [600, 1_800, 1, 1, 3, 1, 1, 1]
    );
    let delete = async |as_key: &str, query: &str| {
        host.ask_as(as_key, Method::DELETE, &format!("/v1/tenants/acme{query}"), "").await
    };
    assert_eq!(delete(&key, "?confirm=acme").await.status, 403, "only an admin");
    assert_eq!(delete(ADMIN_KEY, "").await.status, 422);
    assert_eq!(delete(ADMIN_KEY, "?confirm=default").await.status, 422);
    let begun = delete(ADMIN_KEY, "?confirm=acme").await;
    assert_eq!((begun.status, &begun.json["tenant"]), (202, &json!("acme")), "{}", begun.text);

    // At once, no key works any more, and nothing can be created.
    let statuses = [
        host.ask_as("", Method::POST, &address, event("Contact is Created", 1)).await.status,
        host.ask_as(&key, Method::GET, "/v1/tenants/acme/subscriptions", "").await.status,
        host.ask(Method::GET, "/v1/tenants/acme", "").await.status,
        host.ask_as("", Method::POST, &bin, "x").await.status,
        delete(ADMIN_KEY, "?confirm=acme").await.status,
    ];
    assert!(matches!(statuses, [404, 401, 404, 404, 404]), "{statuses:?}");
    let host = Host::with().on(host.kill().await).start().await;
    until("the rest to be deleted", async || {
        let left = host.ask(Method::GET, "/v1/tenants/acme/deletion", "").await;
        (left.status == 404).then_some(())
    })
    .await;
    assert!(host.get("/v1/changes").await.to_string().contains("tenant.delete"));
    // Its name is free, and none of its data is left.
    host.post("/v1/tenants", &json!({"id": "acme"})).await;
    let usage = host.get("/v1/tenants/acme/usage").await;
    assert_eq!((&usage["bytes"], &usage["events"]), (&json!(0), &json!(0)), "{usage}");
    assert_eq!(host.get("/v1/tenants/acme/plugins").await, json!([]));
    assert_eq!(host.get("/v1/tenants/acme/ledger").await["fan_out"], 0);
}

#[tokio::test]
async fn pages_show_usage_and_delete() {
    let host = Host::start().await;
    acme(&host).await;
    let mut visitor = Visitor::admin(&host).await;
    let overview = visitor.see("/t/acme").await;
    assert!(overview.contains("of 20.0 GiB") && overview.contains("Plugin versions"), "{overview}");
    let plugin = visitor.see("/t/acme/plugins/p").await;
    assert!(plugin.contains("It can be deleted when no webhook uses it"), "{plugin}");
    host.plugin("lonely", guest("passes")).await;
    visitor.see("/t/default/plugins/lonely").await;
    let page = visitor.post("/t/default/plugins/lonely/delete", &[]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/t/default/plugins"), "{}", page.text);
    assert_eq!(host.get("./plugins").await, json!([]));
    let page = visitor.see("/tenants/acme/delete").await;
    assert!(page.contains("<td data-label=\"Count\" class=\"number\">1,800</td>"), "{page}");
    assert_eq!(visitor.post("/tenants/acme/delete", &[("confirm", "acne")]).await.status, 422);
    let page = visitor.post("/tenants/acme/delete", &[("confirm", "acme")]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/tenants"), "{}", page.text);
    assert!(visitor.see("/tenants").await.contains("The tenant acme is being deleted."));
    assert_eq!(visitor.get("/t/acme").await.status, 404);
}
