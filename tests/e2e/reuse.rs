//! Reuse of instances for several events: only by subscriptions that ask for it, and without cost for a delivery.

use crate::harness::{Host, Receiver, event, guest, text, until};
use serde_json::{Value, json};

/// Sends one event and returns the steps of its only attempt.
async fn judged(host: &Host) -> Vec<Value> {
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    delivery["attempts"][0]["steps"].as_array().unwrap().clone()
}

fn code(step: &Value) -> &str {
    text(&step["reason"], "code")
}

#[tokio::test]
async fn an_instance_is_used_again_only_if_its_subscription_says_so() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("remembers")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    for _ in 0..3 {
        assert_eq!(code(&judged(&host).await[0]), "call-1");
    }
    let edit =
        |reuse: Value| json!({"notify_url": receiver.url, "modules": ["Contact"], "plugin": "p", "reuse": reuse});
    let path = format!("./subscriptions/{id}");
    host.ask(reqwest::Method::PUT, &path, edit(json!({"calls": 3})).to_string()).await.ok();
    let mut codes = Vec::new();
    for _ in 0..5 {
        let step = judged(&host).await.remove(0);
        codes.push((code(&step).to_owned(), step["cost"]["earlier_calls"].as_u64().unwrap()));
    }
    let expected = [("call-1", 0), ("call-2", 1), ("call-3", 2), ("call-1", 0), ("call-2", 1)];
    assert_eq!(codes, expected.map(|(code, earlier)| (code.to_owned(), earlier)));

    // Another config needs another instance, and so does another version, also when the first one is activated again.
    host.ask(reqwest::Method::PUT, &path, edit(json!({"calls": 1_000})).to_string()).await.ok();
    assert_eq!(code(&judged(&host).await[0]), "call-1");
    assert_eq!(code(&judged(&host).await[0]), "call-2");
    host.plugin("p", guest("passes")).await;
    host.plugin("p", guest("remembers")).await;
    assert_eq!(code(&judged(&host).await[0]), "call-1");

    // An instance that is idle for too long ends.
    host.ask(reqwest::Method::PUT, &path, edit(json!({"calls": 1_000, "idle_s": 1})).to_string()).await.ok();
    judged(&host).await;
    until("an instance that rested for too long", || async {
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        (code(&judged(&host).await[0]) == "call-1").then_some(())
    })
    .await;
    let refused = host.ask(reqwest::Method::PUT, &path, edit(json!({"calls": 1})).to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("/reuse"), "{}", refused.text);
}

#[tokio::test]
async fn the_fault_of_an_instance_that_judged_before_costs_no_delivery() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("ages")).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "reuse": {"calls": 100}})).await;
    assert_eq!(judged(&host).await.len(), 1);
    let delivery = host.ended(&host.send(event("Contact is Created", 2)).await).await;
    let attempt = &delivery["attempts"][0];
    let verdicts: Vec<_> = attempt["steps"].as_array().unwrap().iter().map(|step| text(step, "verdict")).collect();
    assert_eq!((text(&delivery, "state"), verdicts), ("delivered", vec!["fault", "pass"]), "{delivery}");
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    let log = attempt["log"].to_string();
    assert!(log.contains("had judged 1 events before and failed") && log.contains("too old for this"), "{log}");
    // The fresh instance is idle now, and so on: every event is delivered.
    for _ in 0..4 {
        assert_eq!(judged(&host).await.last().unwrap()["verdict"], "pass");
    }
    receiver.expect(6).await;
}
