//! Plugins that misbehave: each ends only its own call.

use crate::harness::{Host, Receiver, event, example, fixture, guest, text};
use serde_json::{Value, json};

/// Guests with the expected result: verdict, reason code, and a part of the message.
const MISBEHAVIOURS: [(&str, &str, &str, &str); 32] = [
    ("panics", "fault", "plugin-error", "the panic of Contact is Created"),
    ("loops", "fault", "plugin-timeout", "limits.cpu_ms is 50 ms"),
    ("recurses", "fault", "plugin-trap", "call stack exhausted"),
    ("long_names", "fault", "plugin-trap", "call stack exhausted"),
    ("allocates", "fault", "plugin-limit", "limits.memory_bytes is 67108864"),
    ("floods_output", "fault", "plugin-limit", "limits.output_bytes is 262144"),
    ("floods_stdout", "pass", "", ""),
    ("floods_log", "pass", "", ""),
    ("floods_calls", "fault", "plugin-limit", "limits.host_calls is 10000"),
    ("hashes", "fault", "plugin-limit", "limits.hashed_bytes is 4194304"),
    ("invalid_json", "fault", "plugin-bad-output", "the body is not JSON"),
    ("bad_header", "fault", "plugin-bad-output", "not visible ASCII"),
    ("own_header", "fault", "plugin-bad-output", "\"webhook-id\" is set by the host"),
    ("many_headers", "fault", "plugin-bad-output", "17 headers, and limits.headers is 16"),
    ("other_host", "fault", "plugin-bad-output", "\"evil.example\" is not in the subscription's url_hosts"),
    ("sleeps", "fault", "plugin-trap", "a plugin may not sleep"),
    ("polls", "fault", "plugin-limit", "limits.host_calls is 10000"),
    ("waits", "fault", "plugin-trap", "a plugin may not sleep"),
    ("reads_stdin", "drop", "read", "Ok(0)"),
    ("spins_clock", "fault", "plugin-limit", "limits.host_calls is 10000"),
    ("later", "later", "not-yet", "Contact is Created"),
    ("leaks_secret", "fault", "plugin-bad-output", "holds the value of the secret \"token\""),
    ("deep_json", "replace", "", ""),
    ("long_reason", "drop", "xxxxxxxx", "Contact is CreatedContact"),
    ("bad_type", "fault", "plugin-bad-output", "is not a content type"),
    ("bad_url", "fault", "plugin-bad-output", "is not in the subscription's url_hosts"),
    ("exits", "fault", "plugin-trap", "exit"),
    ("remembers", "drop", "call-1", "Contact is Created"),
    ("copies", "fault", "plugin-timeout", "limits.cpu_ms is 50 ms"),
    ("starts_endless", "fault", "plugin-timeout", "limits.cpu_ms is 50 ms"),
    ("starts_large", "fault", "plugin-limit", "limits.memory_bytes is 67108864"),
    ("hands_over", "fault", "plugin-limit", "limits.host_call_bytes is 16777216"),
];

/// Compares the table of docs/explanation/sandbox.md with this one.
#[test]
fn the_documents_list_every_misbehaviour() {
    let document = std::fs::read_to_string(crate::harness::root().join("docs/explanation/sandbox.md")).unwrap();
    for (name, verdict, code, _) in MISBEHAVIOURS {
        let row = format!("| `{name}` |");
        let line = document.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("{row} is missing"));
        assert!(line.contains(verdict) && line.contains(code), "{line}");
    }
}

/// Creates a subscription for each guest. Returns the attempts by the guests' names.
async fn judged_by_all(host: &Host, receiver: &Receiver, also: &Value) -> Vec<(&'static str, Value)> {
    let mut subscriptions = Vec::new();
    for (name, _, _, message) in MISBEHAVIOURS {
        let plugin = name.replace('_', "-");
        host.plugin(&plugin, guest(name)).await;
        let mut body = json!({"plugin": plugin, "description": name, "secrets": {"key": "k", "token": "s3cr3t-t0k3n"}, "config": {"copy": "s3cr3t-t0k3n"}});
        // Long limits, so that on a busy machine the tested fault is not overtaken by another one.
        let cpu_ms = if message.contains("cpu_ms") { 50 } else { 1_000 };
        body["limits"] = json!({"cpu_ms": cpu_ms, "wall_ms": 5_000});
        body.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap());
        subscriptions.push((host.subscription(&format!("{}{name}", receiver.url), body).await, name));
    }
    let event = host.send(event("Contact is Created", 1)).await;
    let deliveries = host.deliveries_when(&event, |delivery| delivery["attempts"][0].is_object()).await;
    assert_eq!(deliveries.len(), MISBEHAVIOURS.len());
    let guest_of = |delivery: &Value| subscriptions.iter().find(|(id, _)| delivery["subscription"] == **id).unwrap().1;
    deliveries.into_iter().map(|delivery| (guest_of(&delivery), delivery)).collect()
}

#[tokio::test]
async fn every_misbehaviour_is_a_recorded_verdict_and_the_host_lives() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for (name, delivery) in judged_by_all(&host, &receiver, &json!({})).await {
        let (_, verdict, code, message) = MISBEHAVIOURS.into_iter().find(|one| one.0 == name).unwrap();
        let attempt = &delivery["attempts"][0];
        assert_eq!(text(attempt, "verdict"), verdict, "{name}: {delivery}");
        assert!(attempt["plugin_sha256"].is_string(), "{name}");
        assert!(delivery.to_string().len() < 40_000, "{name}: a guest chooses how much is recorded");
        if code.is_empty() {
            continue;
        }
        assert!(text(&attempt["reason"], "code").starts_with(code), "{name}: {delivery}");
        assert!(text(&attempt["reason"], "message").contains(message), "{name}: {delivery}");
        // A fault that would recur waits for another version; a timeout is retried by the schedule.
        if verdict == "fault" {
            assert_eq!(delivery["awaiting_plugin"], json!(code != "plugin-timeout"), "{name}: {delivery}");
            assert_eq!(delivery["state"], "pending", "{name}");
        }
    }
    // Only passed events were sent, and the host still works.
    host.plugin("good", example("flatten")).await;
    let good = host.subscription(&format!("{}good", receiver.url), json!({"plugin": "good"})).await;
    let event = host.send(fixture("guide/contact_created.json")).await;
    let delivered =
        host.deliveries_when(&event, |one| one["subscription"] != *good || one["state"] == "delivered").await;
    assert!(delivered.iter().any(|one| one["subscription"] == *good));
    let paths: std::collections::BTreeSet<String> =
        receiver.received().iter().map(|one| text(one, "path").to_owned()).collect();
    assert!(
        paths.iter().all(|path| ["/floods_stdout", "/floods_log", "/deep_json", "/good"].contains(&path.as_str())),
        "{paths:?}"
    );
    host.ledger().await;
}

#[tokio::test]
async fn a_log_is_kept_up_to_its_limit() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("floods_log")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let lines = delivery["attempts"][0]["log"].as_array().unwrap();
    let kept: usize = lines.iter().map(|line| line.as_str().unwrap().len()).sum();
    assert!((10 << 10..=17 << 10).contains(&kept), "{kept} bytes in {} lines", lines.len());
    assert!(lines.iter().all(|line| line.as_str().unwrap().len() <= 1_100));
    assert!(lines.last().unwrap().as_str().unwrap().contains("more lines were left out"), "{lines:?}");
}

#[tokio::test]
async fn a_minute_of_logs_is_kept_up_to_its_limit() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("floods_log")).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "limits": {"log_bytes_per_minute": 20_000}})).await;
    let mut kept = 0;
    let mut is_noted = false;
    for number in 0..3 {
        let delivery = host.ended(&host.send(event("Contact is Created", number)).await).await;
        let lines = delivery["attempts"][0]["log"].as_array().unwrap().clone();
        kept += lines.iter().map(|line| line.as_str().unwrap().len()).sum::<usize>();
        is_noted |= lines.last().unwrap().as_str().unwrap().contains("log_bytes_per_minute");
    }
    // A new minute may begin in between; without the limit it would be three times 16 KiB.
    assert!(is_noted && kept < 41_000, "{kept}");
}

#[tokio::test]
async fn an_owner_may_choose_to_send_what_a_plugin_fails_on() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for name in ["panics", "loops"] {
        host.plugin(name, guest(name)).await;
        host.subscription(&receiver.url, json!({"plugin": name, "on_plugin_fault": "pass"})).await;
    }
    let body = event("Contact is Created", 1);
    host.send(body.clone()).await;
    for received in receiver.expect(2).await {
        assert_eq!(text(&received, "body"), body);
    }
}

#[tokio::test]
async fn a_fixed_version_judges_what_waited() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("panics")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    assert_eq!(host.attempted(&id).await["awaiting_plugin"], true);
    host.plugin("p", guest("passes")).await;
    let delivery = host.ended(&id).await;
    assert_eq!((text(&delivery, "state"), delivery["attempts"].as_array().unwrap().len()), ("delivered", 2));
    let hashes: Vec<_> = delivery["attempts"].as_array().unwrap().iter().map(|one| &one["plugin_sha256"]).collect();
    assert_ne!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn the_three_failures_end_retry_and_pause() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for name in ["invalid_event", "transient", "bad_config"] {
        host.plugin(&name.replace('_', "-"), guest(name)).await;
    }
    let subscribe = async |plugin: &str, module: &str| {
        let also = json!({"plugin": plugin, "modules": [module], "retry": {"schedule_s": [0, 0, 0]}});
        host.subscription(&receiver.url, also).await
    };
    subscribe("invalid-event", "Deal").await;
    let dead = host.ended(&host.send(event("Opportunity is Created", 1)).await).await;
    assert_eq!(
        (text(&dead, "state"), &dead["attempts_made"], &dead["reason"]["code"]),
        ("dead", &json!(1), &json!("hopeless"))
    );

    subscribe("transient", "Contact").await;
    let dead = host.ended(&host.send(event("Contact is Created", 2)).await).await;
    assert_eq!(
        (text(&dead, "state"), &dead["attempts_made"], &dead["reason"]["code"]),
        ("dead", &json!(3), &json!("attempts-exhausted"))
    );

    let paused = subscribe("bad-config", "Deal").await;
    for number in 0..3 {
        host.send(event("Opportunity is Updated", number)).await;
    }
    let path = format!("./subscriptions/{paused}");
    let subscription = crate::harness::until("the pause", async || {
        let subscription = host.get(&path).await;
        (subscription["state"] == "paused").then_some(subscription)
    })
    .await;
    assert!(text(&subscription, "state_reason").contains("bad-config"), "{subscription}");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn the_world_of_a_plugin_is_empty_and_stands_still() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,500,200").await;
    host.plugin("world", guest("world")).await;
    let also = json!({"plugin": "world", "config": {"b": "2", "a": "1"}, "secrets": {"key": "k"}, "retry": {"schedule_s": [0, 0, 0]}});
    host.subscription(&receiver.url, also).await;
    let id = host.send(event("Contact is Created", 1)).await;
    let received = receiver.expect(3).await;
    let bodies: Vec<&str> = received.iter().map(|one| text(one, "body")).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "retries send the same bytes: {bodies:?}");
    let world: Value = serde_json::from_str(bodies[0]).unwrap();
    assert_eq!(world["now_ms"], world["received_at_ms"]);
    assert_eq!(world["config"], json!([["a", "1"], ["b", "2"]]));
    assert_eq!((&world["environment"], &world["arguments"]), (&json!(0), &json!(0)));
    assert!(text(&world, "file").starts_with("Err") && text(&world, "network").starts_with("Err"), "{world}");
    assert_eq!((&world["hmac"], &world["no_secret"]), (&json!(32), &json!(true)));
    let again = host.send(event("Contact is Created", 1)).await;
    host.ended(&again).await;
    let other: Value = serde_json::from_str(text(&receiver.expect(4).await[3], "body")).unwrap();
    assert_ne!(world["random"], other["random"], "another event has other random numbers");
    let delivery = host.ended(&id).await;
    let hashes: Vec<_> = delivery["attempts"].as_array().unwrap().iter().map(|one| &one["body_sha256"]).collect();
    assert!(hashes.len() == 3 && hashes.iter().all(|hash| *hash == hashes[0]));
}

#[tokio::test]
async fn hostile_plugins_do_not_hold_up_the_others() {
    let host = Host::with().set("plugin_threads=2").start().await;
    let receiver = Receiver::start().await;
    host.plugin("loops", guest("loops")).await;
    host.plugin("good", guest("passes")).await;
    fn also(plugin: &str, module: &str) -> Value {
        json!({"plugin": plugin, "modules": [module], "retry": {"schedule_s": [0]}})
    }
    host.subscription(&format!("{}loops", receiver.url), also("loops", "Contact")).await;
    host.subscription(&format!("{}good", receiver.url), also("good", "Deal")).await;
    for number in 0..20 {
        host.send(event("Contact is Created", number)).await;
        host.send(event("Opportunity is Created", number)).await;
    }
    let received = receiver.expect(20).await;
    assert!(received.iter().all(|one| text(one, "path") == "/good"));
    crate::harness::until("the end of the loops", async || (host.ledger().await["dead"] == 20).then_some(())).await;
}

#[tokio::test]
async fn the_operator_sets_the_most_that_a_call_may_use() {
    let host = Host::with().set("plugin_cpu_ms_max=20").set("plugin_memory_bytes_max=16777216").start().await;
    let receiver = Receiver::start().await;
    host.plugin("allocates", guest("allocates")).await;
    let wish = |limits: Value| json!({"notify_url": receiver.url, "modules": ["Contact"], "plugin": "allocates", "limits": limits});
    let made = host.ask(reqwest::Method::POST, "./subscriptions", wish(json!({})).to_string()).await;
    assert_eq!(made.status, 201, "what is not named is the smaller of default and maximum: {}", made.text);
    let refused = host.ask(reqwest::Method::POST, "./subscriptions", wish(json!({"cpu_ms": 21})).to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("at most 20 is allowed"), "{}", refused.text);
    // With the CPU time that the guest needs on a busy machine, until it has the memory.
    let (_, folder) = host.stop().await;
    let host = Host::with().set("plugin_memory_bytes_max=16777216").on(folder).start().await;
    let held = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    assert!(held["reason"].to_string().contains("memory_bytes is 16777216"), "{held}");
}
