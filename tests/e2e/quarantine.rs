//! Versions that end the process in which they are called. A guest can no longer do that, so the tests disable the defence: a build
//! with debug assertions aborts, or hangs in a call, when a guest writes a certain line to its log.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

const ABORT_AT: &str = "TEST_HOOKLOOM_ABORT_AT";
const HANG_AT: &str = "TEST_HOOKLOOM_HANG_AT";

/// Adds a plugin to a host that reports the entity of an event, for contacts, and another one for deals.
async fn host_with_two(receiver: &Receiver, host: Host) -> Host {
    host.plugin("tells", guest("logs_entity")).await;
    host.plugin("passes", guest("passes")).await;
    for (plugin, module) in [("tells", "Contact"), ("passes", "Deal")] {
        let also = json!({"plugin": plugin, "modules": [module]});
        host.subscription(&format!("{}{plugin}", receiver.url), also).await;
    }
    host
}

/// Waits until a host has ended by itself, and returns its folder.
async fn died(mut host: Host) -> Arc<tempfile::TempDir> {
    tokio::time::timeout(crate::harness::PATIENCE, host.process.wait()).await.expect("it lives on").unwrap();
    host.folder
}

async fn plugin(host: &Host, name: &str) -> Value {
    let plugins = host.get("./plugins").await;
    plugins.as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_else(|| panic!("{plugins}"))
}

/// Waits until a plugin thread is in a call, as the first word of a record shows.
async fn in_a_call(host: &Host) {
    let path = host.data().join("calls");
    until("a call", async || {
        std::fs::read(&path).unwrap().chunks(256).any(|record| record.first() == Some(&1)).then_some(())
    })
    .await;
}

async fn delivered_to(receiver: &Receiver, path: &str) {
    let there = || receiver.received().iter().any(|one| text(one, "path") == path);
    until("a request", async || there().then_some(())).await;
}

#[tokio::test]
async fn a_version_that_ends_the_process_on_a_sample_never_comes_into_a_host() {
    // Id of the sample contact.
    let sample: Value = serde_json::from_str(include_str!("../../host/model/src/event/sample_contact.json")).unwrap();
    let id = sample["eventData"]["id"].to_string();
    let host = Host::with().env(ABORT_AT, &format!("entity {}", id.trim_matches('"'))).start().await;
    for path in ["./plugins/tells", "./plugins/tells?activate=true"] {
        let refused = host.ask(Method::PUT, path, guest("logs_entity")).await;
        assert_eq!(
            (refused.status, text(&refused.json, "type")),
            (422, "urn:hookloom:problem:plugin-kills-its-process")
        );
        assert!(text(&refused.json, "detail").contains("died of it (signal: 6"), "{}", refused.text);
    }
    assert_eq!(host.get("./plugins").await, json!([]));
    host.plugin("passes", guest("passes")).await;
}

#[tokio::test]
async fn a_version_in_whose_call_the_host_died_is_quarantined_and_the_rest_runs() {
    let receiver = Receiver::start().await;
    fn killing() -> crate::harness::HostBuilder {
        Host::with().env(ABORT_AT, "entity 666")
    }
    let host = host_with_two(&receiver, killing().start().await).await;
    let sha256 = text(&plugin(&host, "tells").await, "active_sha256").to_owned();
    // The host may die before it answers.
    let _ = host.try_ask(ADMIN_KEY, Method::POST, "./events", event("Contact is Created", 666)).await;
    let host = killing().on(died(host).await).start().await;
    let killer = text(&host.get("./events?entity_id=666").await["events"][0], "id").to_owned();

    let shown = plugin(&host, "tells").await;
    assert_eq!(shown["quarantined"]["reason"], "the host died in a call of it (signal 6)", "{shown}");
    assert!(shown["quarantined"]["since_ms"].as_u64() > Some(1_700_000_000_000), "{shown}");
    assert_eq!(plugin(&host, "passes").await["quarantined"], Value::Null);
    assert_eq!(host.get("./plugins/tells/versions").await[0]["quarantined"]["reason"], shown["quarantined"]["reason"]);
    let metric = format!("hookloom_plugin_versions_quarantined{{tenant=\"default\",sha256=\"{sha256}\"}} 1");
    let metrics = host.ask(Method::GET, "/metrics", "").await.text;
    assert!(metrics.contains(&metric), "{metrics}");

    // Its deliveries wait and cost no attempt; others are delivered.
    let waits = host.send(event("Contact is Created", 1)).await;
    host.send(event("Opportunity is Created", 2)).await;
    delivered_to(&receiver, "/passes").await;
    for id in [&killer, &waits] {
        let delivery = host.deliveries_when(id, |_| true).await.remove(0);
        assert_eq!((text(&delivery, "state"), &delivery["attempts_made"]), ("pending", &json!(0)), "{delivery}");
    }

    // Neither a restart, nor an upload of the same bytes, nor a key without the scope brings it back.
    let host = killing().on(host.stop().await.1).start().await;
    assert!(plugin(&host, "tells").await["quarantined"].is_object());
    let refused = host.ask(Method::PUT, "./plugins/tells", guest("logs_entity")).await;
    assert_eq!((refused.status, text(&refused.json, "type")), (422, "urn:hookloom:problem:plugin-quarantined"));
    let key = host.post("./keys", &json!({"scopes": ["manage"], "label": "owner"})).await;
    let activate = format!("/v1/tenants/default/plugins/tells/versions/{sha256}/activate");
    let refused = host.ask_as(text(&key, "key"), Method::POST, &activate, "").await;
    assert_eq!((refused.status, text(&refused.json, "type")), (422, "urn:hookloom:problem:plugin-quarantined"));

    // Another version judges the waiting deliveries. An admin releases the old one on a host that does not die of it.
    host.plugin("tells", guest("passes")).await;
    for id in [&killer, &waits] {
        assert_eq!(text(&host.ended(id).await, "state"), "delivered");
    }
    assert_eq!(plugin(&host, "tells").await["quarantined"], Value::Null);
    let host = Host::with().on(host.stop().await.1).start().await;
    host.ask_as(ADMIN_KEY, Method::POST, &activate, "").await.ok();
    let again = host.ended(&host.send(event("Contact is Created", 666)).await).await;
    assert_eq!((text(&again, "state"), &again["attempts"][0]["plugin_sha256"]), ("delivered", &json!(sha256)));
}

#[tokio::test]
async fn a_host_that_is_killed_in_a_call_suspects_no_version() {
    let receiver = Receiver::start().await;
    let host = host_with_two(&receiver, Host::with().env(HANG_AT, "entity 7").start().await).await;
    let id = host.send(event("Contact is Created", 7)).await;
    in_a_call(&host).await;
    let host = Host::with().on(host.kill().await).start().await;
    assert_eq!(plugin(&host, "tells").await["quarantined"], Value::Null);
    assert_eq!(text(&host.ended(&id).await, "state"), "delivered");
}

#[tokio::test]
async fn a_stop_ends_whatever_plugin_threads_do() {
    let receiver = Receiver::start().await;
    let host = Host::with().env(HANG_AT, "entity 7").set("stop_grace_s=4").start().await;
    let host = host_with_two(&receiver, host).await;
    let id = host.send(event("Contact is Created", 7)).await;
    in_a_call(&host).await;
    let (status, folder) = host.stop().await;
    assert!(status.success(), "{status}");
    // The call was overdue, so its version is known.
    let host = Host::with().on(folder).start().await;
    let shown = plugin(&host, "tells").await;
    assert_eq!(shown["quarantined"]["reason"], "the host was stopped while a call of it did not end", "{shown}");
    host.plugin("tells", guest("passes")).await;
    assert_eq!(text(&host.ended(&id).await, "state"), "delivered");
}
