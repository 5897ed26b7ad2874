//! Entities of events: ids are compared by value, so order and history do not depend on their spelling.

use crate::harness::{Host, Receiver, example, fixture, text, until};
use reqwest::Method;
use serde_json::{Value, json};

fn deal(data: &str) -> String {
    format!(r#"{{"eventName":"Opportunity is Updated","eventData":{data}}}"#)
}

/// Returns the previous event of the same entity, as the API shows it.
async fn previous(host: &Host, id: &str) -> Value {
    host.get(&format!("./events/{id}")).await["previous"].clone()
}

#[tokio::test]
async fn every_spelling_of_an_id_has_one_history() {
    let host = Host::start().await;
    let mut before = Value::Null;
    for data in [
        r#"{"id":5701666712059904}"#,
        r#"{"id":5.701666712059904E15}"#,
        r#"{"id":5701666712059904.0}"#,
        r#"{"id":"5701666712059904"}"#,
        r#"{"id":57016667120599040e-1}"#,
        r#"{"id":1,"id":5701666712059904}"#,
        r#"{"\u0069d":5701666712059904}"#,
        r#"{"id":5701666712059904,"i\u0064":5701666712059904.00}"#,
        r#"{"id":"57016667120599\u0030\u0034"}"#,
    ] {
        let id = host.send(deal(data)).await;
        assert_eq!(host.get(&format!("./events/{id}")).await["entity_id"], "5701666712059904", "{data}");
        assert_eq!(previous(&host, &id).await, before, "{data}");
        before = json!(id);
    }
}

#[tokio::test]
async fn ids_that_differ_have_histories_of_their_own() {
    let host = Host::start().await;
    for data in [
        // Beyond 2^53, a double would not distinguish these.
        r#"{"id":9007199254740992}"#,
        r#"{"id":9007199254740993}"#,
        r#"{"id":9.007199254740994e15}"#,
        // Strings are not changed.
        r#"{"id":"9007199254740992.0"}"#,
        r#"{"id":"9.007199254740993e15"}"#,
        r#"{"id":-9007199254740993}"#,
        r#"{"id":9007199254740993.5}"#,
    ] {
        let id = host.send(deal(data)).await;
        assert_eq!(previous(&host, &id).await, Value::Null, "{data}");
    }
    let id = host.send(deal(r#"{"id":1e999}"#)).await;
    assert_eq!(host.get(&format!("./events/{id}")).await["entity_id"], Value::Null);
    let sent = host.ask(Method::POST, "./events", deal(r#"{"id":1e999}"#)).await;
    assert!(sent.text.contains("eventData.id has 1000 bytes"), "{}", sent.text);
}

#[tokio::test]
async fn order_and_history_hold_for_one_deal_in_two_spellings() {
    let host = Host::start().await;
    let receiver = Receiver::answering("404,200").await;
    host.plugin("changes", example("changes")).await;
    let ordering = json!({"ordering": {"on_failure": "block"}, "concurrency": 8, "retry": {"schedule_s": [0, 1]}});
    host.subscription(&receiver.url, ordering).await;
    let events = fixture("odd/one_deal_two_spellings.ndjson");
    let mut lines = events.lines();
    host.send(lines.next().unwrap()).await;
    until("the failure", async || (receiver.received().len() == 1).then_some(())).await;
    let second = host.send(lines.next().unwrap()).await;
    let marks: Vec<Value> = receiver
        .expect(3)
        .await
        .iter()
        .map(|received| serde_json::from_str::<Value>(text(received, "body")).unwrap()["eventData"]["v"].clone())
        .collect();
    assert_eq!(marks, [json!(1), json!(1), json!(2)], "the second waited for the first");
    assert_eq!(host.get(&format!("./events/{second}")).await["entity_id"], "5701666712059904");

    // The value has changed, not only the spelling of the id.
    let compared = Receiver::start().await;
    host.subscription(&compared.url, json!({"plugin": "changes"})).await;
    let mut third: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    third["eventData"]["v"] = json!(3);
    host.send(third.to_string()).await;
    let body: Value = serde_json::from_str(text(&compared.expect(1).await[0], "body")).unwrap();
    assert_eq!(body["changed_fields"], json!(["v"]));
}
