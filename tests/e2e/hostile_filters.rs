//! Filters that are made to break or to slow down the host, and the agreement of trial, explanation and intake.

use crate::harness::{Host, Receiver, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Sends the text of a filter in each request that takes one. Checks that it is refused with this position.
async fn check_refused(host: &Host, subscription: &str, filter: &str, pointer: &str) {
    let whole = format!(r#"{{"notify_url":"https://hooks.example.com/","modules":["Contact"],"filter":{filter}}}"#);
    let own = format!("./subscriptions/{subscription}");
    let only = format!(r#"{{"filter":{filter}}}"#);
    let requests = [
        (Method::POST, "./subscriptions", &whole),
        (Method::PUT, own.as_str(), &whole),
        (Method::PATCH, own.as_str(), &only),
        (Method::POST, "./filters/try", &only),
    ];
    for (method, path, body) in requests {
        let reply = host.ask(method.clone(), path, body.clone()).await;
        let beginning: String = filter.chars().take(80).collect();
        assert_eq!(reply.status, 422, "{method} {path} {beginning}: {}", reply.text);
        assert_eq!(reply.json["errors"][0]["pointer"], json!(pointer), "{method} {path} {beginning}: {}", reply.text);
        assert!(reply.text.len() < 2_000 + 4 * pointer.len(), "an answer does not repeat what was sent");
    }
}

/// Returns a filter with a condition on the field `a`.
fn of(condition: &str) -> String {
    format!(r#"{{"fields":{{"a":{condition}}}}}"#)
}

fn deep(levels: usize) -> String {
    format!("{}1{}", r#"{"$not":"#.repeat(levels), "}".repeat(levels))
}

#[tokio::test]
async fn hostile_filters_are_refused_with_their_position() {
    let host = Host::start().await;
    let id = host.subscription("https://hooks.example.com/", json!({"modules": ["Contact"]})).await;
    let nots = format!("/filter{}", "/$not".repeat(17));
    let many = vec![r#"{"$gt":1}"#; 100_000].join(",");
    let conditions = vec!["1"; 101].join(",");
    let long_key = format!(r#"{{"fields":{{"{}":[{}]}}}}"#, "k".repeat(400_000), vec!["1"; 200_000].join(","));
    let cases = [
        (deep(20), nots.as_str()),
        (deep(100), nots.as_str()),
        (deep(50_000), nots.as_str()),
        (of(&format!(r#"{{"$or":[{many}]}}"#)), "/filter"),
        (of(&format!(r#"{{"$or":[{conditions}]}}"#)), "/filter/fields/a/$or/100"),
        (of(&format!(r#""{}""#, "x".repeat(900_000))), "/filter"),
        (of(&"9".repeat(900_000)), "/filter"),
        (long_key, "/filter"),
        (of(&format!(r#"{{"$regex":"{}"}}"#, "a".repeat(15_000))), "/filter/fields/a/$regex"),
        (of(r#"{"$regex":"(?:(?:a{1,100}){1,100}){1,100}"}"#), "/filter/fields/a/$regex"),
        (of(&format!(r#"{{"$regex":"{}a{}"}}"#, "(".repeat(5_000), ")".repeat(5_000))), "/filter/fields/a/$regex"),
        (of(r#"{"$regex":"(?=a)b"}"#), "/filter/fields/a/$regex"),
        (of(r#"{"$where":"1"}"#), "/filter/fields/a/$where"),
        (of(r#"{"$gt":{"$gt":1}}"#), "/filter/fields/a/$gt"),
        (of(r#"{"$gt":1,"$lt":9,"$gt":2}"#), "/filter/fields/a/$gt"),
        (r#"{"fields":{"a":1},"fields":{"b":2}}"#.to_owned(), "/filter/fields"),
    ];
    let before = host.get(&format!("./subscriptions/{id}")).await;
    for (filter, pointer) in cases {
        check_refused(&host, &id, &filter, pointer).await;
    }
    assert_eq!(host.get(&format!("./subscriptions/{id}")).await, before, "nothing was changed");
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 1);
}

/// Largest event of the test, in bytes.
const EVENT_BYTES: usize = 1 << 20;

fn contact(number: usize, value: Value) -> String {
    json!({"eventName": "Contact is Updated", "eventData": {"id": number, "a": value}}).to_string()
}

#[tokio::test]
async fn expensive_filters_are_evaluated_within_a_bound() {
    let host = Host::with().set(&format!("event_bytes_max={}", EVENT_BYTES + 1_000)).start().await;
    let receiver = Receiver::start().await;
    let each: Vec<Value> = (0..100).map(|number| json!({"$lt": -1 - number})).collect();
    let operands: Vec<Value> = (0..2_500).map(|number| json!(-1 - number)).collect();
    let catastrophic = "^(a+)+$|(a|aa)+c|(?:a?){100}b";
    let filters = [
        json!({"eventData": {"a": {"$or": each}}}),
        json!({"eventData": {"a": {"$in": operands}}}),
        json!({"eventData": {"a": {"$regex": catastrophic}}}),
        json!({"$not": {"eventData": {"a": {"$or": each}}}}),
    ];
    for filter in &filters {
        host.subscription(&receiver.url, json!({"filter": filter})).await;
    }
    let events = [
        contact(1, json!("a".repeat(EVENT_BYTES))),
        contact(2, json!(vec![1; EVENT_BYTES / 2])),
        contact(3, json!(vec!["a".repeat(1_000); EVENT_BYTES / 1_100])),
        contact(4, json!(5)),
    ];
    let begun = std::time::Instant::now();
    let mut made = Vec::new();
    for event in events {
        let id = host.send(event).await;
        let seen = host.get(&format!("./events/{id}")).await;
        let why: Vec<String> =
            seen["subscriptions"].as_array().unwrap().iter().map(|one| text(one, "why").to_owned()).collect();
        made.push((seen["deliveries"].as_array().unwrap().len(), why));
    }
    println!("four events, four filters, accepted and explained in {:?}", begun.elapsed());
    let deliveries: Vec<usize> = made.iter().map(|(deliveries, _)| *deliveries).collect();
    // The list of numbers is too long for a hundred conditions, and so for their negation.
    assert_eq!(deliveries, [1, 0, 2, 1], "{made:?}");
    for why in [&made[1].1[0], &made[1].1[3]] {
        assert!(why.contains("an event that takes more than 1048576 steps to compare"), "{why}");
    }
    host.drained().await;
    host.ledger().await;
}

#[tokio::test]
async fn trial_explanation_and_intake_agree() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let filters = [
        json!({"fields": {"a": {"$changed": true}}}),
        json!({"$not": {"fields": {"a": {"$changed": true}}}}),
        json!({"fields": {"a": {"$in": [1, "b", null]}}}),
        json!({"$or": [{"fields": {"a": {"$gt": 1}}}, {"fields": {"a": {"$changed": false}}}]}),
        json!({"eventData": {"a": {"b": {"$exist": false}}}}),
        json!({"fields": {"a": {"$contains": "b", "$not": {"$regex": "^b"}}}}),
    ];
    let mut subscriptions = Vec::new();
    for filter in &filters {
        subscriptions.push(host.subscription(&receiver.url, json!({"filter": filter})).await);
    }
    let values = [json!(1), json!("b"), json!(null), json!({"b": 2}), json!(["ab", 1.0]), json!(2), json!("abc")];
    let mut events = Vec::new();
    // Two in a row of a contact have the same value.
    for number in 0..6 * values.len() {
        events.push(host.send(contact(number % 3, values[number / 6].clone())).await);
    }
    for (filter, subscription) in filters.iter().zip(&subscriptions) {
        let tried = host.post("./filters/try", &json!({"filter": filter})).await;
        let matching = tried["matching_ids"].as_array().unwrap();
        assert_eq!(tried["matching"], matching.len());
        assert!((1..events.len()).contains(&matching.len()), "the filter {filter} tells events apart");
        for event in &events {
            let seen = host.get(&format!("./events/{event}")).await;
            let is_made =
                seen["deliveries"].as_array().unwrap().iter().any(|one| one["subscription"] == **subscription);
            let explained =
                seen["subscriptions"].as_array().unwrap().iter().find(|one| one["subscription"] == **subscription);
            let why = text(explained.unwrap(), "why");
            assert_eq!(matching.contains(&json!(event)), is_made, "{filter} {event}: {why}");
            assert_eq!(
                why.starts_with("not matched: its filter refuses the event"),
                !is_made,
                "{filter} {event}: {why}"
            );
        }
    }
}
