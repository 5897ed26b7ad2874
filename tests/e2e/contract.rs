//! Compatibility of the contract: a component that was built for 1.0.0 runs in every later host, in every language.
//!
//! The components in `fixtures/contract/1.0.0` were built when the contract was frozen, and are never built again.

use crate::harness::{Host, Receiver, event, fixtures, text};
use serde_json::{Value, json};
use std::io::Read as _;

/// Languages with a template.
pub(crate) const LANGUAGES: [&str; 5] = ["rust", "js", "ts", "python", "c"];

pub(crate) fn frozen(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(fixtures().join(format!("contract/1.0.0/{name}.wasm.gz"))).unwrap();
    let mut component = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut component).unwrap();
    component
}

#[tokio::test]
async fn a_plugin_of_1_0_0_still_runs_in_every_language() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for language in LANGUAGES {
        let report = host.plugin(language, frozen(language)).await;
        assert_eq!(report["report"]["contract"], "hookloom:plugin@1.0.0", "{language}");
        let body = json!({"plugin": language, "description": language, "limits": {"cpu_ms": 500}});
        host.subscription(&format!("{}{language}", receiver.url), body).await;
    }
    let sent = event("Contact is Created", 7);
    host.send(sent.clone()).await;
    for received in receiver.expect(LANGUAGES.len()).await {
        let body: Value = serde_json::from_str(text(&received, "body")).unwrap();
        assert_eq!((&body["event"], &body["id"]), (&json!("Contact is Created"), &json!("7")), "{received}");
        assert_eq!(body["payload"], serde_json::from_str::<Value>(&sent).unwrap());
    }
}

#[tokio::test]
async fn everything_in_1_0_0_still_works() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("whole", frozen("whole")).await;
    let also = json!({"plugin": "whole", "secrets": {"key": "a secret of some length"}, "config": {"url": format!("{}elsewhere", receiver.url)}});
    let subscription = host.subscription(&receiver.url, also).await;
    let first = event("Opportunity is Created", 7);
    host.send(first.clone()).await;
    receiver.expect(1).await;
    let id = host.send(event("Opportunity is Updated", 7)).await;
    let received = receiver.expect(2).await.remove(1);
    let seen: Value = serde_json::from_str(text(&received, "body")).unwrap();
    let expected = json!({"id": id, "tenant": "default", "subscription": subscription, "name": "Opportunity is Updated",
        "module": "Deal", "entity_id": "7", "attributes": [], "hmac_bytes": 32, "no_secret": true, "previous": first});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen[name], value, "{name}");
    }
    assert_eq!(text(&received, "path"), "/elsewhere");
    assert_eq!(text(&received["headers"], "x-first"), "1");
    assert_eq!(text(&received["headers"], "content-type"), "application/vnd.seen+json");
    let delivery = host.ended(&id).await;
    assert_eq!(delivery["attempts"][0]["log"], json!(["debug: a", "info: b", "warn: c", "error: d"]));

    let now: Value = serde_json::from_str(&event("Contact is Created", 1)).unwrap();
    for (what, verdict) in [
        ("pass", "pass"),
        ("drop", "drop"),
        ("later", "later"),
        ("invalid-event", "failure"),
        ("transient", "failure"),
        ("bad-config", "failure"),
        ("binary", "replace"),
    ] {
        let shown = host.post("./plugins/whole/dry-run", &json!({"event": now, "config": {"do": what}})).await;
        assert_eq!(text(&shown, "verdict"), verdict, "{what}: {shown}");
    }
}
