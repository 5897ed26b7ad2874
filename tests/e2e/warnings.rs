//! Warnings in the answer to a write of a subscription, about predicted failures of its plugins.

use crate::harness::{Host, Receiver, Visitor, event, example, guest, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Creates a subscription, and returns its warnings.
async fn warnings(host: &Host, settings: Value) -> Vec<String> {
    let mut body = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Contact", "Deal"]});
    body.as_object_mut().unwrap().extend(settings.as_object().cloned().unwrap());
    let made = host.post("./subscriptions", &body).await;
    let warnings = made["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

async fn host_with(plugins: &[&str]) -> Host {
    let host = Host::start().await;
    for name in plugins {
        host.plugin(name, example(name)).await;
    }
    host
}

#[tokio::test]
async fn a_chain_in_the_wrong_order_is_reported_with_the_right_one() {
    let host = host_with(&["flatten", "redact", "deal-filter", "reshape"]).await;
    let wrong = warnings(&host, json!({"plugin": ["flatten", "redact"]})).await;
    assert_eq!(wrong.len(), 2, "one for each module: {wrong:?}");
    for (warning, module) in wrong.iter().zip(["Contact", "Deal"]) {
        assert!(warning.contains(&format!("no {module} event can be delivered: the plugin redact fails")), "{warning}");
        assert!(warning.contains("name redact before flatten"), "{warning}");
    }
    assert_eq!(warnings(&host, json!({"plugin": ["redact", "flatten"]})).await, Vec::<String>::new());
    let other = warnings(&host, json!({"plugin": ["flatten", "deal-filter"], "modules": ["Deal"]})).await;
    assert!(other.len() == 1 && other[0].contains("name deal-filter before flatten"), "{other:?}");
    // Nothing was counted, and the subscriptions exist.
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 3);
    let metrics = host.ask(Method::GET, "/metrics", "").await.text;
    assert!(!metrics.contains("hookloom_plugin_calls_total{"), "{metrics}");
}

#[tokio::test]
async fn a_plugin_that_fails_on_everything_is_reported() {
    let host = Host::start().await;
    for program in ["panics", "bad_config", "binary", "passes"] {
        host.plugin(&program.replace('_', "-"), guest(program)).await;
    }
    fn one(plugin: Value) -> Value {
        json!({"plugin": plugin, "modules": ["Contact"]})
    }
    let panics = warnings(&host, one(json!("panics"))).await;
    assert!(
        panics.len() == 1 && panics[0].contains("the plugin panics fails on the 1 event that was tried"),
        "{panics:?}"
    );
    assert!(warnings(&host, one(json!("bad-config"))).await[0].contains("no-key"));
    let binary = warnings(&host, one(json!(["binary", "passes"]))).await;
    assert!(binary.len() == 1 && binary[0].contains("only the last plugin of a chain may"), "{binary:?}");
    assert!(warnings(&host, one(json!("passes"))).await.is_empty());
    // Real events are tried besides the sample.
    host.send(event("Contact is Created", 1)).await;
    let more = warnings(&host, one(json!("panics"))).await;
    assert!(more[0].contains("the 2 events that were tried"), "{more:?}");
    // A call that was stopped by a limit is no result, and delays nothing.
    host.plugin("loops", guest("loops")).await;
    assert!(warnings(&host, one(json!("loops"))).await.is_empty());
}

#[tokio::test]
async fn a_config_key_that_no_plugin_reads_is_reported() {
    let host = host_with(&["deal-filter", "redact", "wrap"]).await;
    fn of(plugin: Value, config: Value) -> Value {
        json!({"plugin": plugin, "config": config})
    }
    let good = warnings(&host, of(json!("redact"), json!({"properties": "email:mask", "emails": "keep"}))).await;
    assert_eq!(good, Vec::<String>::new());
    let misspelt = warnings(&host, of(json!("redact"), json!({"propertys": "email:mask"}))).await;
    assert_eq!(misspelt, ["no plugin reads the config key \"propertys\": perhaps \"properties\" is meant"]);
    let unknown = warnings(&host, of(json!("redact"), json!({"colour-of-it": "red"}))).await;
    assert!(unknown.len() == 1 && unknown[0].contains("\"colour-of-it\" for the 2 events"), "{unknown:?}");
    let in_a_chain = json!({"propertys": "email:mask", "min_probability": "50"});
    let chain = warnings(&host, of(json!(["redact", "deal-filter"]), in_a_chain)).await;
    assert!(chain.iter().any(|warning| warning.contains("\"properties\" is meant")), "{chain:?}");
    let alone = warnings(&host, json!({"config": {"a": "b"}})).await;
    assert_eq!(alone, ["config is set, and there is no plugin to read it"]);

    // An edit has warnings too; a read does not.
    let subscriptions = host.get("./subscriptions").await;
    let id = text(&subscriptions[0], "id");
    let edit = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Contact"], "plugin": "redact", "config": {"patern": "x"}});
    let edited = host.ask(Method::PUT, &format!("./subscriptions/{id}"), edit.to_string()).await.ok();
    assert!(edited["warnings"][0].as_str().unwrap().contains("\"patterns\" is meant"), "{edited}");
    assert_eq!(host.get(&format!("./subscriptions/{id}")).await["warnings"], Value::Null);
    let dry = json!({"event": serde_json::from_str::<Value>(&event("Contact is Created", 1)).unwrap(), "config": {"patern": "x", "emails": "keep"}});
    assert_eq!(host.post("./plugins/redact/dry-run", &dry).await["unread_config"], json!(["patern"]));
}

#[tokio::test]
async fn the_page_shows_what_will_go_wrong() {
    let host = host_with(&["flatten", "redact"]).await;
    let receiver = Receiver::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let fields = [("notify_url", receiver.url.as_str()), ("modules", "Contact"), ("plugin", "flatten, redact")];
    let saved = visitor.post("/t/default/webhooks", &fields).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let shown = visitor.see(&saved.location).await;
    assert!(shown.contains("with these problems") && shown.contains("name redact before flatten"), "{shown}");
}
