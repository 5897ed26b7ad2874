//! Moves: a copy of a running store, and a tenant from one host to another.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, example, program, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::process::Command;

async fn hookloom(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(program()).args(arguments).env("HOOKLOOM_KEY", ADMIN_KEY).output().await.unwrap();
    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_backup_of_a_running_host_starts_and_delivers() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    host.ended(&id).await;
    let folder = Arc::new(TempDir::new().unwrap());
    let from = host.data();
    let to = folder.path().join("data");
    let from = from.to_str().unwrap();
    let to = to.to_str().unwrap();
    let (well, out, err) = hookloom(&["backup", "--data-dir", from, to, "--json"]).await;
    assert!(well, "{out}{err}");
    let (well, _, err) = hookloom(&["backup", "--data-dir", from, to]).await;
    assert!(!well && err.contains("cannot be used"), "a folder that is there is not written over: {err}");
    drop(host);
    let copy = Host::with().on(folder).start().await;
    assert_eq!(text(&copy.ended(&id).await, "state"), "delivered");
    // The signing secret was moved as well.
    copy.send(event("Contact is Created", 2)).await;
    assert!(receiver.expect(2).await.iter().all(|one| one["verified"] == true));
}

#[tokio::test]
async fn a_tenant_moves_to_another_host() {
    let one = Host::start().await;
    let other = Host::start().await;
    let receiver = Receiver::start().await;
    one.plugin("flatten", example("flatten")).await;
    one.event_type("Order is Paid").await;
    let selection = json!({"events": ["Contact is Created", "Order is Paid"], "filter": {"fields": {"value": {"$gte": 75.50, "$neq": null}}}});
    let mut flattened = json!({"plugin": "flatten", "config": {"separator": "_"}});
    flattened.as_object_mut().unwrap().extend(selection.as_object().cloned().unwrap());
    one.subscription(&receiver.url, flattened).await;
    let paused = one.subscription(&receiver.url, json!({"description": "paused"})).await;
    one.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "x"})).await;
    one.post("./bins", &json!({"name": "b"})).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tenant.json");
    let file = file.to_str().unwrap();
    let (well, out, err) = hookloom(&["export", "--url", &one.url, "--out", file]).await;
    assert!(well, "{out}{err}");
    let exported = std::fs::read_to_string(file).unwrap();
    assert!(!exported.contains("whsec_"), "no secret leaves");
    let arguments = ["import", "--url", &other.url, "--tenant", "moved", "--json", file];
    let (well, out, err) = hookloom(&arguments).await;
    assert!(well, "{out}{err}");
    let made: Value = serde_json::from_str(&out).unwrap();
    assert!(text(&made["subscriptions"][0], "signing_secret").starts_with("whsec_"), "{made}");
    let there = other.get("/v1/tenants/moved/subscriptions").await;
    let states: Vec<&str> = there.as_array().unwrap().iter().map(|one| text(one, "state")).collect();
    assert_eq!(states, ["active", "paused"]);
    assert_eq!((&there[0]["config"], &there[0]["notify_url"]), (&json!({"separator": "_"}), &json!(receiver.url)));
    assert_eq!((&there[0]["events"], &there[0]["filter"]), (&selection["events"], &selection["filter"]));
    assert_eq!(other.get("/v1/tenants/moved/bins").await.as_array().unwrap().len(), 1);
    let (well, _, err) = hookloom(&arguments).await;
    assert!(!well && err.contains("moved"), "twice is refused: {err}");
}

#[tokio::test]
async fn a_tenant_with_secrets_says_which_the_file_needs() {
    let host = Host::start().await;
    let also = json!({"secrets": {"token": "s3cr3t-value-0123"}, "headers": {"x-token": "{{secret:token}}"}});
    host.subscription("http://127.0.0.1:9999/", also).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tenant.json");
    let path = file.to_str().unwrap();
    assert!(hookloom(&["export", "--url", &host.url, "--out", path]).await.0);
    let exported = std::fs::read_to_string(&file).unwrap();
    assert!(!exported.contains("s3cr3t"));
    let (well, _, err) = hookloom(&["import", "--url", &host.url, "--tenant", "b", path]).await;
    assert!(!well && err.contains("\"secrets\": {\"token\": \"…\"}"), "{err}");
    assert_eq!(host.get("/v1/tenants").await.as_array().unwrap().len(), 1, "nothing was made");
    let mut all: Value = serde_json::from_str(&exported).unwrap();
    all["subscriptions"][0]["secrets"] = json!({"token": "another-value-0123"});
    std::fs::write(&file, all.to_string()).unwrap();
    let (well, _, err) = hookloom(&["import", "--url", &host.url, "--tenant", "b", path]).await;
    assert!(well, "{err}");
}

#[tokio::test]
async fn a_file_with_a_name_that_is_a_path_changes_nothing() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "victim"})).await;
    let victim = async || host.get("/v1/tenants/victim/plugins").await;
    host.ask(Method::PUT, "/v1/tenants/victim/plugins/redact", example("redact")).await.ok();
    host.plugin("flatten", example("flatten")).await;
    let before = victim().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tenant.json");
    let path = file.to_str().unwrap();
    assert!(hookloom(&["export", "--url", &host.url, "--out", path]).await.0);
    let mut all: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let arguments = ["import", "--url", &host.url, "--tenant", "new", path];
    for name in
        ["../../victim/plugins/redact", "..%2f..%2fvictim%2fplugins%2fredact", "..", "", "a\\\\b", "x?activate=true"]
    {
        all["plugins"][0]["name"] = json!(name);
        std::fs::write(&file, all.to_string()).unwrap();
        let (well, _, err) = hookloom(&arguments).await;
        assert!(!well && err.contains("plugins[0]") && err.contains("nothing was changed"), "{name:?}: {err}");
    }
    assert_eq!(victim().await, before);
    assert_eq!(host.get("/v1/tenants").await.as_array().unwrap().len(), 2, "no tenant was made");
    for tenant in ["../default", "a/b", "..", ""] {
        let (well, _, err) = hookloom(&["import", "--url", &host.url, "--tenant", tenant, path]).await;
        assert!(!well && err.contains("is not a tenant id"), "{err}");
        let (well, _, err) = hookloom(&["export", "--url", &host.url, "--tenant", tenant]).await;
        assert!(!well && err.contains("is not a tenant id"), "{err}");
    }
    let component = folder.path().join("p.wasm");
    std::fs::write(&component, example("flatten")).unwrap();
    let push =
        ["plugin", "push", component.to_str().unwrap(), "--url", &host.url, "--name", "../../victim/plugins/redact"];
    let (well, _, err) = hookloom(&push).await;
    assert!(!well && err.contains("is not a plugin name"), "{err}");
    assert_eq!(victim().await, before);
}
