//! Order of an entity's events.

use crate::harness::{Host, Receiver, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Returns the marks of the bodies in the order of arrival.
fn marks(received: &[Value]) -> Vec<String> {
    fn mark(one: &Value) -> String {
        serde_json::from_str::<Value>(text(one, "body")).unwrap()["eventData"]["mark"].as_str().unwrap().to_owned()
    }
    received.iter().map(mark).collect()
}

fn marked(entity: usize, mark: &str) -> String {
    marked_of("Contact is Updated", entity, mark)
}

fn marked_of(name: &str, entity: usize, mark: &str) -> String {
    json!({"eventName": name, "eventData": {"id": entity, "mark": mark}}).to_string()
}

#[tokio::test]
async fn events_of_one_entity_keep_their_order_and_others_go_on() {
    let host = Host::with().turnable().start().await;
    let receiver = Receiver::answering("404,200").await;
    let also = json!({"ordering": {"on_failure": "block"}, "concurrency": 8, "retry": {"schedule_s": [0, 120]}});
    host.subscription(&receiver.url, also).await;
    host.send(marked(7, "7a")).await;
    until("the failure", async || (receiver.received().len() == 1).then_some(())).await;
    for (entity, mark) in [(7, "7b"), (7, "7c"), (8, "8a"), (8, "8b")] {
        host.send(marked(entity, mark)).await;
    }
    // A deal with the same id is another entity.
    host.send(marked_of("Opportunity is Updated", 7, "deal 7")).await;
    let waiting = host.send(marked(7, "7d")).await;
    let why = host.get(&format!("./events/{waiting}")).await["subscriptions"][0]["why"].clone();
    assert!(why.as_str().unwrap().contains("of the same entity comes first, 1 attempt of it failed"), "{why}");
    receiver.expect(4).await;
    host.pass(Duration::from_secs(150)).await;
    let order = marks(&receiver.expect(8).await);
    let at = |mark: &str| order.iter().rposition(|one| one == mark).unwrap();
    assert!(at("7a") < at("7b") && at("7b") < at("7c") && at("8a") < at("8b"), "{order:?}");
    assert!(at("8b") < at("7a"), "the other contact did not wait: {order:?}");
    assert!(at("deal 7") < at("7a"), "the deal did not wait: {order:?}");
}

#[tokio::test]
async fn events_may_go_on_after_so_many_attempts_of_the_one_before() {
    let host = Host::start().await;
    let receiver = Receiver::answering("404,404,200").await;
    let ordering = json!({"on_failure": "skip-after", "attempts": 2});
    host.subscription(&receiver.url, json!({"ordering": ordering, "retry": {"schedule_s": [0, 0, 3600]}})).await;
    for mark in ["a", "b", "c"] {
        host.send(marked(7, mark)).await;
    }
    assert_eq!(marks(&receiver.expect(4).await), ["a", "a", "b", "c"]);
}

#[tokio::test]
async fn order_survives_a_restart_and_a_burst() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({"ordering": {"on_failure": "block"}, "concurrency": 16})).await;
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "r"})).await;
    let batch: Vec<String> = (0..300).map(|number| marked(number % 3, &format!("{number:03}"))).collect();
    host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
    let order = marks(&receiver.expect(300).await);
    for entity in 0..3 {
        let own: Vec<&String> = order.iter().filter(|mark| mark.parse::<usize>().unwrap() % 3 == entity).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
}
