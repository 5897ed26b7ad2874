//! Sample payloads in every example plugin.

use crate::contract::{LANGUAGES, frozen};
use crate::harness::{Host, Receiver, event, example, fixture, fixtures, guest, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Plugins whose verdict depends only on the event.
const PLUGINS: [&str; 10] =
    ["flatten", "redact", "slack", "deal-filter", "reshape", "route", "normalise", "units", "enrich", "wrap"];

/// Plugins that use history.
const HISTORIANS: [&str; 2] = ["changes", "guard"];

/// Returns every event of every sample file as text, by the file's name, with numbers in sequences.
fn samples() -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    for folder in ["", "guide"] {
        for entry in std::fs::read_dir(fixtures().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_none_or(|kind| kind != "json")
                || name == "MANIFEST.json"
                || name.starts_with("zapier")
            {
                continue;
            }
            let whole = std::fs::read_to_string(&path).unwrap();
            let name = format!("{folder}/{name}");
            match serde_json::from_str(&whole).unwrap() {
                Value::Array(list) => {
                    samples.extend(list.iter().enumerate().map(|(n, one)| (format!("{name}#{n}"), one.to_string())));
                }
                _ => drop(samples.insert(name, whole)),
            }
        }
    }
    samples
}

async fn host_with_examples() -> Host {
    with_examples(Host::start().await).await
}

async fn with_examples(host: Host) -> Host {
    let names = json!({"event_types": {"Contact is Deleted": {"module": "Contact"}, "Opportunity is Deleted": {"module": "Deal"}}});
    host.ask(Method::PATCH, "/v1/tenants/default", names.to_string()).await.ok();
    for plugin in PLUGINS.into_iter().chain(HISTORIANS) {
        host.plugin(plugin, example(plugin)).await;
    }
    host
}

#[tokio::test]
async fn every_sample_goes_through_every_plugin() {
    let host = host_with_examples().await;
    let receiver = Receiver::start().await;
    for plugin in PLUGINS {
        host.subscription(&format!("{}{plugin}", receiver.url), json!({"plugin": plugin, "description": plugin})).await;
    }
    let subscriptions = host.get("./subscriptions").await;
    let samples = samples();
    assert!(samples.len() >= 24, "only {} samples", samples.len());
    for (name, payload) in &samples {
        let id = host.send(payload.clone()).await;
        for delivery in host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await {
            let own = |one: &&Value| one["id"] == delivery["subscription"];
            let plugin = text(subscriptions.as_array().unwrap().iter().find(own).unwrap(), "description");
            let attempt = &delivery["attempts"][0];
            let expected = expected_verdict(plugin, payload);
            assert_eq!(text(attempt, "verdict"), expected, "{plugin} of {name}: {delivery}");
            assert_eq!(
                text(&delivery, "state"),
                if expected == "drop" { "dropped" } else { "delivered" },
                "{plugin} of {name}"
            );
        }
    }
    let ledger = host.ledger().await;
    let delivered = usize::try_from(ledger["delivered"].as_u64().unwrap()).unwrap();
    assert_eq!(ledger["fan_out"], samples.len() * PLUGINS.len());
    // `expect` verifies every signature; every body of a plugin is JSON.
    for received in receiver.expect(delivered).await {
        let body: Value = serde_json::from_str(text(&received, "body")).unwrap();
        assert!(body.is_object());
    }
}

fn expected_verdict(plugin: &str, payload: &str) -> &'static str {
    let json: Value = serde_json::from_str(payload).unwrap();
    let won = json["eventName"].as_str().unwrap().starts_with("Opportunity") && json["eventData"]["milestone"] == "Won";
    match plugin {
        "deal-filter" | "route" => "pass",
        "slack" if !won => "drop",
        "normalise" if !is_unlike_itself(&json["eventData"]) => "pass",
        _ => "replace",
    }
}

/// Returns true if an address or a number is not spelled as by `normalise`.
fn is_unlike_itself(data: &Value) -> bool {
    fn unlike(property: &Value) -> bool {
        match (property["name"].as_str(), property["value"].as_str()) {
            (Some("email"), Some(email)) => email != email.trim().to_lowercase(),
            (Some("phone"), Some(phone)) => phone.contains([' ', '-']),
            _ => false,
        }
    }
    data["properties"].as_array().is_some_and(|properties| properties.iter().any(unlike))
}

#[tokio::test]
async fn the_expected_outputs_come_out() {
    let host = host_with_examples().await;
    for (file, plugin, config) in [
        ("flatten_contact", "flatten", json!({})),
        ("redact_contact", "redact", json!({})),
        ("slack_deal_won", "slack", json!({})),
        ("filter_probability_75", "deal-filter", json!({"min_probability": "75"})),
        ("filter_probability_75_pass", "deal-filter", json!({"min_probability": "75"})),
    ] {
        let expected: Value = serde_json::from_str(&fixture(&format!("expected/{file}.json"))).unwrap();
        let input: Value = serde_json::from_str(&fixture(text(&expected, "input"))).unwrap();
        let run = json!({"event": input, "config": config});
        let judged = host.post(&format!("./plugins/{plugin}/dry-run"), &run).await;
        let expected = &expected["expected"];
        match expected["decision"].as_str() {
            Some("drop") => {
                assert_eq!((text(&judged, "verdict"), &judged["reason"]["message"]), ("drop", &expected["reason"]));
            }
            Some("deliver") => assert_eq!(text(&judged, "verdict"), "pass"),
            _ => assert_eq!(serde_json::from_str::<Value>(text(&judged, "body")).unwrap(), *expected, "{file}"),
        }
        assert!(judged["cost"]["memory_bytes"].as_u64().unwrap() > 0, "{judged}");
    }
    assert_eq!(host.ledger().await["events"], 0, "a dry run stores nothing");
}

#[tokio::test]
async fn plugins_that_look_back_say_what_changed_and_drop_what_did_not() {
    let host = host_with_examples().await;
    let receiver = Receiver::start().await;
    for plugin in HISTORIANS {
        host.subscription(&format!("{}{plugin}", receiver.url), json!({"plugin": plugin})).await;
    }
    let burst: Vec<Value> = serde_json::from_str(&fixture("burst_duplicate.json")).unwrap();
    let tagged: Value = serde_json::from_str(&fixture("contact_updated_tag_added.json")).unwrap();
    let mut verdicts = Vec::new();
    let earlier: Value = serde_json::from_str(&fixture("contact_updated_person_property.json")).unwrap();
    for event in [&tagged, &burst[0], &burst[1], &burst[2], &earlier] {
        let id = host.send(event.to_string()).await;
        let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
        let verdict = |plugin: &str| {
            let steps = deliveries.iter().map(|delivery| &delivery["attempts"][0]["steps"][0]);
            let step = steps.into_iter().find(|step| step["plugin"] == plugin).unwrap();
            format!("{} {}", text(step, "verdict"), step["reason"]["code"].as_str().unwrap_or("-"))
        };
        verdicts.push(HISTORIANS.map(verdict));
    }
    // The first is new; the burst repeats it three times; the last belongs to an earlier update.
    let expected = [
        ["pass -", "pass -"],
        ["drop unchanged", "drop duplicate"],
        ["drop unchanged", "drop duplicate"],
        ["drop unchanged", "drop duplicate"],
        ["replace -", "drop late"],
    ];
    assert_eq!(verdicts, expected.map(|pair| pair.map(str::to_owned)));
}

#[tokio::test]
async fn the_vendors_flat_zapier_bodies_are_no_events() {
    let host = Host::start().await;
    for file in ["zapier_flat_contact.json", "zapier_flat_deal.json"] {
        let answer = host.ask(Method::POST, "./events", fixture(file)).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(text(&answer.json, "detail").contains("unexpected key"), "{}", answer.text);
    }
}

#[tokio::test]
async fn large_payloads_go_through() {
    let host = host_with_examples().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"plugin": "redact"})).await;
    let note = "call a@b.example ".repeat(11_000);
    let large =
        event("Contact is Created", 1).replace("\"properties\"", &format!("\"note\":{},\"properties\"", json!(note)));
    host.send(large).await;
    let received = receiver.expect(1).await.remove(0);
    assert!(!text(&received, "body").contains("a@b.example") || text(&received, "body").contains("a***@b.example"));
}

/// Returns the parts of an attempt that must not depend on the instance.
fn judged(attempt: &Value) -> [&Value; 3] {
    [&attempt["verdict"], &attempt["reason"], &attempt["body_sha256"]]
}

#[tokio::test]
async fn reused_instances_give_the_same_bytes_as_fresh_ones() {
    // Capacity for an instance of every plugin. With less, reuse would depend on their order.
    let host = with_examples(Host::with().set("resting_instances_max=40").start().await).await;
    let receiver = Receiver::start().await;
    for language in LANGUAGES {
        host.plugin(language, frozen(language)).await;
    }
    let plugins: Vec<&str> = PLUGINS.into_iter().chain(HISTORIANS).chain(LANGUAGES).collect();
    for plugin in &plugins {
        // One after the other, so that an instance can be reused.
        for reuse in [json!(null), json!({"calls": 1_000, "idle_s": 600})] {
            let limits = json!({"cpu_ms": 1_000, "wall_ms": 5_000});
            let body =
                json!({"plugin": plugin, "description": plugin, "concurrency": 1, "reuse": reuse, "limits": limits});
            host.subscription(&receiver.url, body).await;
        }
    }
    let subscriptions = host.get("./subscriptions").await;
    let mut used_again = 0;
    // Twice: the second time, every instance has seen every sample.
    for (name, payload) in samples().into_iter().chain(samples()) {
        let id = host.send(payload).await;
        let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
        for pair in subscriptions.as_array().unwrap().chunks(2) {
            let attempt_of = |subscription: &Value| {
                let own = |one: &&Value| one["subscription"] == subscription["id"];
                &deliveries.iter().find(own).unwrap()["attempts"][0]
            };
            let fresh = attempt_of(&pair[0]);
            let reused = attempt_of(&pair[1]);
            assert_eq!(judged(fresh), judged(reused), "{}: {name}", text(&pair[0], "description"));
            assert_eq!(fresh["steps"][0]["cost"]["earlier_calls"], 0);
            used_again += usize::from(reused["steps"][0]["cost"]["earlier_calls"] != 0);
        }
    }
    assert_eq!(used_again, (2 * samples().len() - 1) * plugins.len(), "calls made in an instance that judged before");
}

#[tokio::test]
async fn the_same_event_gives_the_same_bytes() {
    let host = host_with_examples().await;
    // The last one sends the values of its clock and its random numbers.
    host.plugin("world", guest("world")).await;
    for plugin in PLUGINS.into_iter().chain(["world"]) {
        for (name, payload) in samples() {
            let event: Value = serde_json::from_str(&payload).unwrap();
            let judge = async || {
                let body = json!({"event": event, "received_at_ms": 1_700_000_000_000_i64});
                let mut judged = host.post(&format!("./plugins/{plugin}/dry-run"), &body).await;
                judged.as_object_mut().unwrap().remove("cost");
                judged
            };
            assert_eq!(judge().await, judge().await, "{plugin}: {name}");
        }
    }
}
