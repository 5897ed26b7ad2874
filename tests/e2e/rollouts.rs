//! Rollouts of plugin versions: pins, canaries, shadows, the promotion gate; and chains of plugins.

use crate::harness::{Host, Receiver, event, example, fixture, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};

/// Uploads a version without activating it, and returns its sha256.
async fn candidate(host: &Host, component: Vec<u8>) -> String {
    let version = host.ask(Method::PUT, "./plugins/p?activate=false", component).await.ok();
    assert_eq!(version["active"], false);
    text(&version, "sha256").to_owned()
}

async fn rollout(host: &Host, body: Value) -> Value {
    host.ask(Method::PUT, "./plugins/p/rollout", body.to_string()).await.ok()
}

/// Sends this number of events and waits until every delivery has ended.
async fn send_many(host: &Host, count: usize) {
    let lines: String = (0..count).map(|number| event("Contact is Created", number) + "\n").collect();
    host.ask(Method::POST, "./events", lines).await.ok();
    host.drained().await;
}

#[tokio::test]
async fn a_chain_judges_in_order_and_each_sees_what_came_before() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for (name, program) in [("a", "appends"), ("pass", "passes"), ("binary", "binary"), ("drop", "remembers")] {
        host.plugin(name, guest(program)).await;
    }
    let id = host.subscription(&format!("{}chain", receiver.url), json!({"plugin": ["a", "pass", "a"]})).await;
    assert_eq!(host.get(&format!("./subscriptions/{id}")).await["plugin"], json!(["a", "pass", "a"]));
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let received = receiver.expect(1).await.remove(0);
    let body: Value = serde_json::from_str(text(&received, "body")).unwrap();
    assert_eq!((&body["steps"], &body["eventName"]), (&json!(["a", "a"]), &json!("Contact is Created")));
    let headers = received["headers"].to_string();
    assert!(headers.contains("x-step-1") && headers.contains("x-step-2"), "headers add up: {headers}");
    let last = received["headers"]["x-last"].to_string();
    assert!(last.contains('2') && !last.contains('1'), "the later plugin's header wins: {headers}");
    let attempt = &delivery["attempts"][0];
    let steps: Vec<_> =
        attempt["steps"].as_array().unwrap().iter().map(|step| (text(step, "plugin"), text(step, "verdict"))).collect();
    assert_eq!(steps, [("a", "replace"), ("pass", "pass"), ("a", "replace")]);
    assert_eq!(text(attempt, "verdict"), "replace");

    // A drop ends the chain; a binary body may only come last.
    host.subscription(&format!("{}dropped", receiver.url), json!({"plugin": ["a", "drop", "a"], "modules": ["Deal"]}))
        .await;
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    let dropped = host.ended(&host.send(event("Opportunity is Created", 1)).await).await;
    assert_eq!((text(&dropped, "state"), dropped["attempts"][0]["steps"].as_array().unwrap().len()), ("dropped", 2));
    host.subscription(&format!("{}binary", receiver.url), json!({"plugin": ["binary", "a"], "modules": ["Contact"]}))
        .await;
    let held = host.attempted(&host.send(event("Contact is Created", 2)).await).await;
    assert!(held["reason"].to_string().contains("only the last plugin of a chain may"), "{held}");
    let nine = json!({"notify_url": receiver.url, "modules": ["Deal"], "plugin": vec!["a"; 9]});
    let refused = host.ask(Method::POST, "./subscriptions", nine.to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("8 are the most"), "{}", refused.text);
}

#[tokio::test]
async fn the_wall_time_of_a_chain_is_one_budget() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("burns", guest("burns")).await;
    // Four times the time of one call on this machine: eight need more. A busy machine may delay the first call that long, so the
    // result must occur in one of several attempts.
    let sample: Value = serde_json::from_str(&event("Contact is Created", 1)).unwrap();
    fn limits(wall_ms: u64) -> Value {
        json!({"cpu_ms": 1000, "wall_ms": wall_ms})
    }
    let wall_us = async || {
        let alone = host.post("./plugins/burns/dry-run", &json!({"event": sample, "limits": limits(5_000)})).await;
        alone["cost"]["wall_us"].as_u64().unwrap()
    };
    let wall_ms = wall_us().await.min(wall_us().await).min(wall_us().await) * 4 / 1_000 + 1;
    let settings =
        json!({"plugin": vec!["burns"; 8], "limits": limits(wall_ms), "concurrency": 1, "retry": {"schedule_s": [0]}});
    host.subscription(&receiver.url, settings).await;
    let mut seen = Vec::new();
    for number in 0..20 {
        let dead = host.ended(&host.send(event("Contact is Created", number)).await).await;
        let attempt = &dead["attempts"][0];
        let steps = attempt["steps"].as_array().unwrap();
        let sum_us: u64 = steps.iter().map(|step| step["cost"]["wall_us"].as_u64().unwrap()).sum();
        // No plugin is stopped before the budget is used (each time is cut to whole microseconds).
        assert!(text(attempt, "verdict") == "pass" || sum_us + 10 >= wall_ms * 1_000, "{wall_ms} ms: {dead}");
        let stopped = text(attempt, "verdict") == "fault" && attempt["reason"].to_string().contains("wall_ms");
        // With a separate budget for each, only a plugin that uses all of its budget would be stopped.
        let none_alone = steps.iter().all(|step| step["cost"]["wall_us"].as_u64().unwrap() < wall_ms * 1_000);
        if stopped && none_alone && steps.len() > 1 {
            return;
        }
        seen.push((steps.len(), sum_us));
    }
    panic!("no chain was stopped after its first plugin: {wall_ms} ms, {seen:?}");
}

#[tokio::test]
async fn every_plugin_of_a_chain_knows_the_event_that_came_in() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("appends", guest("appends")).await;
    host.plugin("whole", guest("whole_contract")).await;
    let id =
        host.subscription(&receiver.url, json!({"plugin": ["appends", "whole"], "secrets": {"key": "k-k-k-k"}})).await;
    let event_id = host.send(event("Contact is Created", 7)).await;
    let body = text(&receiver.expect(1).await[0], "body").to_owned();
    let seen: Value = serde_json::from_str(&body).unwrap();
    let identity = ["id", "subscription", "name", "entity_id"].map(|name| text(&seen, name).to_owned());
    assert_eq!(identity, [event_id.as_str(), &id, "Contact is Created", "7"]);
    assert!(seen["received_at_ms"].as_i64().unwrap() > 1_700_000_000_000);

    // The sum of their headers is under the limits of one plugin.
    let limits = json!({"header_bytes": 60});
    host.subscription(&receiver.url, json!({"plugin": vec!["appends"; 8], "modules": ["Deal"], "limits": limits}))
        .await;
    let held = host.attempted(&host.send(event("Opportunity is Created", 1)).await).await;
    assert!(held["reason"].to_string().contains("limits.header_bytes is 60"), "{held}");
}

#[tokio::test]
async fn a_pinned_subscription_keeps_its_version() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let first = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    host.plugin("p", guest("panics")).await;
    host.subscription(&receiver.url, json!({"plugin": format!("p@{first}")})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let step = &delivery["attempts"][0]["steps"][0];
    assert_eq!((text(step, "sha256"), text(step, "arm")), (first.as_str(), "pinned"));
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    let delivery = host.ended(&host.send(event("Contact is Created", 2)).await).await;
    assert_eq!(delivery["attempts"][0]["plugin_sha256"], first);
    let unknown = json!({"notify_url": receiver.url, "modules": ["Deal"], "plugin": format!("p@{}", "0".repeat(64))});
    let refused = host.ask(Method::POST, "./subscriptions", unknown.to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("has no version"), "{}", refused.text);
}

#[tokio::test]
async fn a_bad_canary_costs_no_delivery_and_is_taken_back() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let good = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let bad = candidate(&host, guest("panics")).await;
    let began = rollout(&host, json!({"kind": "canary", "sha256": bad, "percent": 50})).await;
    assert_eq!(began["figures"]["canary"]["calls"], 0);
    send_many(&host, 150).await;
    let ended = until("the canary's end", async || {
        Some(host.get("./plugins/p/rollout").await).filter(|rollout| rollout["ended_reason"].is_string())
    })
    .await;
    assert!(text(&ended, "ended_reason").contains("fault rate is 100.0 %"), "{ended}");
    let figures = &ended["figures"];
    let calls = figures["canary"]["calls"].as_u64().unwrap();
    // Calls that were under way at the end of the tenth are counted, too.
    assert!((10..=30).contains(&calls), "about ten: {ended}");
    assert_eq!((&figures["canary"]["faults"], figures["test"]["events"].as_u64() >= Some(10)), (&json!(calls), true));
    assert_eq!(host.ledger().await["delivered"], 150);
    assert_eq!(receiver.expect(150).await.len(), 150);

    // An attempt shows both: the canary that failed, and the active version that judged.
    let deliveries = host.get("./deliveries?limit=500").await;
    let mut both = 0;
    for delivery in deliveries["deliveries"].as_array().unwrap().iter().rev().take(60) {
        let delivery = host.get(&format!("./deliveries/{}", text(delivery, "id"))).await;
        let steps = delivery["attempts"][0]["steps"].as_array().unwrap().clone();
        if steps.len() == 2 {
            assert_eq!((text(&steps[0], "arm"), text(&steps[0], "verdict")), ("canary", "fault"));
            assert_eq!((text(&steps[1], "arm"), text(&steps[1], "sha256")), ("active", good.as_str()));
            both += 1;
        }
    }
    assert!(both > 0);
}

#[tokio::test]
async fn a_canary_that_refuses_events_costs_no_delivery_either() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    for program in ["invalid_event", "bad_config", "transient"] {
        let bad = candidate(&host, guest(program)).await;
        rollout(&host, json!({"kind": "canary", "sha256": bad, "percent": 100})).await;
        send_many(&host, 20).await;
        let ended = until("the canary's end", async || {
            Some(host.get("./plugins/p/rollout").await).filter(|rollout| rollout["ended_reason"].is_string())
        })
        .await;
        let canary = &ended["figures"]["canary"];
        assert!(canary["calls"].as_u64() >= Some(10) && canary["faults"] == canary["calls"], "{program}: {ended}");
    }
    assert_eq!(host.ledger().await["delivered"], 60);
    assert_eq!(host.get(&format!("./subscriptions/{id}")).await["state"], "active");
    // In the middle of a chain it may not return bytes; then, too, the active version judges.
    let binary = candidate(&host, guest("binary")).await;
    rollout(&host, json!({"kind": "canary", "sha256": binary, "percent": 100})).await;
    host.subscription(&receiver.url, json!({"plugin": ["p", "p"], "modules": ["Deal"]})).await;
    let delivery = host.ended(&host.send(event("Opportunity is Created", 1)).await).await;
    assert_eq!(text(&delivery, "state"), "delivered", "{delivery}");
    // A dry run does not count in a rollout.
    let before = host.get("./plugins/p/rollout").await["figures"]["canary"]["calls"].clone();
    let sample: Value = serde_json::from_str(&event("Contact is Created", 1)).unwrap();
    assert_eq!(host.post("./plugins/p/dry-run", &json!({"event": sample})).await["verdict"], "pass");
    assert_eq!(host.get("./plugins/p/rollout").await["figures"]["canary"]["calls"], before);
}

#[tokio::test]
async fn a_delivery_keeps_its_arm_when_the_percentage_changes() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,500,500,500,500,500,500,500,200").await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "retry": {"schedule_s": [0, 1, 1]}, "concurrency": 8}))
        .await;
    let new = candidate(&host, guest("appends")).await;
    let percent =
        async |percent: u32| rollout(&host, json!({"kind": "canary", "sha256": new, "percent": percent})).await;
    percent(50).await;
    let mut sent = Vec::new();
    for number in 0..8 {
        sent.push(host.send(event("Contact is Created", number)).await);
    }
    until("a first attempt of each", async || (receiver.received().len() >= 8).then_some(())).await;
    percent(1).await;
    percent(100).await;
    let mut arms = Vec::new();
    for id in sent {
        let delivery = host.ended(&id).await;
        let own: Vec<String> = delivery["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| text(&attempt["steps"][0], "arm").to_owned())
            .collect();
        assert!(own.len() >= 2 && own.iter().all(|arm| *arm == own[0]), "{own:?}");
        arms.push(own[0].clone());
    }
    // All eight have the same arm once in 128 runs by chance, so this is only printed.
    println!("arms: {arms:?}");
}

#[tokio::test]
async fn a_slow_canary_is_taken_back_and_a_good_one_can_be_promoted() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let slow = candidate(&host, guest("burns")).await;
    rollout(&host, json!({"kind": "canary", "sha256": slow, "percent": 50})).await;
    send_many(&host, 700).await;
    let ended = host.get("./plugins/p/rollout").await;
    assert!(ended["ended_reason"].to_string().contains("95 % of its calls"), "{ended}");

    let better = candidate(&host, example("redact")).await;
    rollout(&host, json!({"kind": "canary", "sha256": better, "percent": 100})).await;
    send_many(&host, 10).await;
    assert_eq!(host.get("./plugins/p/rollout").await["figures"]["canary"]["calls"], 10);
    host.post(&format!("./plugins/p/versions/{better}/activate"), &json!({})).await;
    let ended = host.get("./plugins/p/rollout").await;
    assert!(text(&ended, "ended_reason").contains("another version was activated"), "{ended}");
    assert_eq!(ended["figures"]["canary"]["calls"], 10, "what was counted is kept: {ended}");
    let wrong = host
        .ask(Method::PUT, "./plugins/p/rollout", json!({"kind": "canary", "sha256": better, "percent": 0}).to_string())
        .await;
    assert!(wrong.status == 422 && wrong.text.contains("more than 0"), "{}", wrong.text);
    let unknown = json!({"kind": "shadow", "sha256": "0".repeat(64)});
    assert_eq!(host.ask(Method::PUT, "./plugins/p/rollout", unknown.to_string()).await.status, 404);
}

#[tokio::test]
async fn a_shadow_is_compared_and_never_sent() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let other = candidate(&host, example("flatten")).await;
    rollout(&host, json!({"kind": "shadow", "sha256": other})).await;
    let body = fixture("guide/contact_created.json");
    host.send(body.clone()).await;
    assert_eq!(text(&receiver.expect(1).await[0], "body"), body);
    let shown = until("the comparison", async || {
        Some(host.get("./plugins/p/rollout").await).filter(|rollout| rollout["figures"]["different"] == 1)
    })
    .await;
    let difference = &shown["figures"]["differences"][0];
    assert_eq!(
        (&difference["active"]["verdict"], &difference["other"]["verdict"]),
        (&json!("pass"), &json!("replace"))
    );
    assert!(difference["other"]["body"].is_string());
    let diff: Vec<&str> = difference["diff"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        diff.iter().any(|line| line.starts_with("- ")) && diff.iter().any(|line| line.starts_with("+ ")),
        "{diff:?}"
    );
    // It is durable: a restart continues it.
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    let figures = host.get("./plugins/p/rollout").await["figures"].clone();
    assert_eq!((&figures["same"], &figures["different"]), (&json!(0), &json!(1)), "counts survive: {figures}");
    assert_eq!(host.ask(Method::DELETE, "./plugins/p/rollout", "").await.status, 204);
    assert_eq!(host.get("./plugins/p/rollout").await["ended_reason"], "ended manually");
}

#[tokio::test]
async fn a_version_is_compared_over_real_events_before_it_is_promoted() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let first = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    send_many(&host, 20).await;
    let bad = host.ask(Method::PUT, "./plugins/p?gate=15", guest("panics")).await;
    assert_eq!(bad.status, 409);
    assert!(text(&bad.json, "detail").contains("fails on 15 of the last 15 real events"), "{}", bad.text);
    assert_eq!(text(&host.get("./plugins").await[0], "active_sha256"), first);
    assert_eq!(host.get("./plugins/p/versions").await.as_array().unwrap().len(), 2, "it was kept");

    let changed = host.ask(Method::PUT, "./plugins/p?gate=15", guest("appends")).await.ok();
    let comparison = &changed["comparison"];
    assert_eq!(
        (&comparison["events"], &comparison["changed"], &changed["active"]),
        (&json!(15), &json!(15), &json!(true))
    );
    assert!(comparison["new_us_p95"].as_u64().unwrap() > 0 && comparison["active_us_p95"].as_u64().unwrap() > 0);
    let same = host.post(&format!("./plugins/p/versions/{first}/compare"), &json!({"events": 500})).await;
    assert_eq!((&same["events"], &same["changed"]), (&json!(20), &json!(20)));
    assert_eq!(text(&same["differences"][0]["other"], "verdict"), "pass");
    let back = host.post(&format!("./plugins/p/versions/{first}/activate?gate=5"), &json!({})).await;
    assert_eq!((text(&back, "sha256"), &back["comparison"]["failed"]), (first.as_str(), &json!(0)));
    assert_eq!(receiver.received().len(), 20, "nothing was sent by any of it");

    // A version that is as broken as the active one may replace it; a version that refuses events which the active one judges may
    // not.
    let refuses = host.ask(Method::PUT, "./plugins/p?gate=5", guest("invalid_event")).await;
    assert!(refuses.status == 409 && refuses.text.contains("fails on 5 of the last 5"), "{}", refuses.text);
    host.plugin("p", guest("panics")).await;
    let other = host.ask(Method::PUT, "./plugins/p?gate=5", guest("exits")).await.ok();
    assert_eq!((&other["comparison"]["failed"], &other["comparison"]["changed"]), (&json!(0), &json!(5)));
}

#[tokio::test]
async fn a_later_plugin_of_a_chain_is_compared_over_what_it_would_read() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("first", guest("appends")).await;
    host.plugin("p", guest("appends")).await;
    host.subscription(&receiver.url, json!({"plugin": ["first", "p"]})).await;
    send_many(&host, 3).await;
    let compared = host.ask(Method::PUT, "./plugins/p?gate=3", guest("passes")).await.ok();
    let diff = compared["comparison"]["differences"][0].to_string();
    // The output of the second plugin contains what the first one added.
    assert!(diff.contains("\\\"a\\\"") || compared["comparison"]["changed"] == 3, "{diff}");
    assert!(text(&compared["comparison"]["differences"][0]["active"], "body").contains("steps"), "{diff}");
}
