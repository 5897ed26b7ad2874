//! Event names and filters of subscriptions: what they keep from being delivered, how they are written, explained and tried.

use crate::harness::{Host, Receiver, Visitor, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns an event of a contact that is in a stage.
fn staged(id: u32, stage: &str) -> String {
    let properties = json!([{"name": "stage", "value": stage}]);
    json!({"eventName": "Contact is Updated", "eventData": {"id": id, "properties": properties}}).to_string()
}

/// Returns the filter that requires this of the stage.
fn of_stage(condition: Value) -> Value {
    json!({"fields": {"stage": condition}})
}

/// Returns the number of an event's deliveries, and the explanation for its first subscription.
async fn outcome(host: &Host, event: &str) -> (usize, String) {
    let event = host.get(&format!("./events/{event}")).await;
    (event["deliveries"].as_array().unwrap().len(), text(&event["subscriptions"][0], "why").to_owned())
}

#[tokio::test]
async fn an_event_that_a_filter_refuses_makes_no_delivery_and_is_explained() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"filter": of_stage(json!({"$in": ["won", "lost"]}))})).await;
    let refused = host.send(staged(1, "open")).await;
    let won = host.send(staged(1, "won")).await;
    assert!(text(&receiver.expect(1).await[0], "body").contains("won"));
    let (deliveries, why) = outcome(&host, &refused).await;
    assert_eq!(deliveries, 0);
    assert_eq!(why, r#"not matched: its filter refuses the event: /fields/stage/$in ["won","lost"] met "open""#);
    assert_eq!(outcome(&host, &won).await.0, 1);
    host.drained().await;
    let ledger = host.ledger().await;
    assert_eq!((&ledger["fan_out"], &ledger["delivered"]), (&json!(1), &json!(1)), "{ledger}");
}

#[tokio::test]
async fn only_the_listed_events_are_delivered() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"events": ["Contact is Created", "Opportunity is Updated"]})).await;
    let names = ["Contact is Updated", "Contact is Created", "Opportunity is Created", "Opportunity is Updated"];
    let mut made = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let event = host.send(crate::harness::event(name, number)).await;
        let (deliveries, why) = outcome(&host, &event).await;
        let is_refused = why == format!("not matched: its events do not include {name:?}");
        assert_eq!(deliveries == 0, is_refused, "{name}: {why}");
        made.push(deliveries);
    }
    assert_eq!(made, [0, 1, 0, 1]);
    receiver.expect(2).await;
}

#[tokio::test]
async fn a_change_is_seen_between_two_events_of_one_contact() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"filter": of_stage(json!({"$changed": true}))})).await;
    let mut made = Vec::new();
    let mut last = String::new();
    for (contact, stage) in [(1, "a"), (1, "a"), (2, "b"), (1, "b"), (2, "b")] {
        last = host.send(staged(contact, stage)).await;
        made.push(outcome(&host, &last).await.0);
    }
    assert_eq!(made, [1, 0, 1, 1, 0]);
    let (_, why) = outcome(&host, &last).await;
    assert!(why.contains(r#"/fields/stage/$changed true met the same value as before: "b""#), "{why}");
    receiver.expect(3).await;
    // One request with several events of the contact.
    let batch = [staged(3, "a"), staged(3, "a"), staged(3, "b")].join("\n");
    let accepted = host.ask(Method::POST, "./events", batch).await.ok();
    let made: Vec<&Value> = accepted["events"].as_array().unwrap().iter().map(|one| &one["deliveries"]).collect();
    assert_eq!(made, [1, 0, 1]);
    receiver.expect(5).await;
}

#[tokio::test]
async fn a_wrong_choice_is_refused_with_its_position() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({"modules": ["Contact"]})).await;
    let path = format!("./subscriptions/{id}");
    let deep = (0..20).fold(json!({"eventName": "x"}), |filter, _| json!({"$not": filter}));
    let cases = [
        (json!({"filter": "won"}), "/filter", "object"),
        (json!({"filter": {"stage": "won"}}), "/filter/stage", "allowed are eventName, eventData, fields"),
        (json!({"filter": of_stage(json!({"$is": 1}))}), "/filter/fields/stage/$is", "$startsWith"),
        (json!({"filter": of_stage(json!({"$regex": "("}))}), "/filter/fields/stage/$regex", "unclosed group"),
        (
            json!({"filter": {"eventData": {"a/b": {"$exist": "yes"}}}}),
            "/filter/eventData/a~1b/$exist",
            "true or false",
        ),
        (json!({"filter": deep}), "/filter/$not", "levels"),
        (json!({"events": ["Contact is Updated", "Contact is Won"]}), "/events/1", "Contact is Created"),
        (json!({"events": ["Opportunity is Created"]}), "/events/0", "not in modules"),
    ];
    let before = host.get(&path).await;
    for (body, pointer, detail) in cases {
        let mut whole = json!({"notify_url": receiver.url, "modules": ["Contact"]});
        whole.as_object_mut().unwrap().extend(body.as_object().cloned().unwrap());
        let trial = json!({"modules": ["Contact"], "events": body.get("events").unwrap_or(&json!([])), "filter": body["filter"]});
        let requests = [
            (Method::POST, "./subscriptions", whole.clone()),
            (Method::PUT, path.as_str(), whole),
            (Method::PATCH, path.as_str(), body.clone()),
            (Method::POST, "./filters/try", trial),
        ];
        for (method, path, sent) in requests {
            let refused = host.ask(method.clone(), path, sent.to_string()).await;
            assert_eq!(refused.status, 422, "{method} {path} {sent}: {}", refused.text);
            let fault = &refused.json["errors"][0];
            assert!(text(fault, "pointer").starts_with(pointer), "{method} {sent}: {}", refused.text);
            assert!(text(fault, "detail").contains(detail), "{method} {sent}: {}", refused.text);
        }
    }
    assert_eq!(host.get(&path).await, before, "nothing was changed");
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_filter_is_kept_as_written_and_replaced_as_a_whole() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let filter = json!({"fields": {"stage": "won", "owner": null}, "eventData": {"score": {"$gte": 7}}});
    let events = json!(["Contact is Updated"]);
    let id = host.subscription(&receiver.url, json!({"filter": filter, "events": events})).await;
    let path = format!("./subscriptions/{id}");
    let read = host.get(&path).await;
    assert_eq!((&read["filter"], &read["events"]), (&filter, &events));

    // The answer of GET can be sent back.
    let same = host.ask(Method::PUT, &path, read.to_string()).await.ok();
    assert_eq!((&same["filter"], &same["events"]), (&filter, &events));
    let patch = async |body: Value| host.ask(Method::PATCH, &path, body.to_string()).await.ok();
    assert_eq!(patch(json!({"description": "d"})).await["filter"], filter);
    let other = json!({"fields": {"stage": null}});
    let patched = patch(json!({"filter": other})).await;
    assert_eq!((&patched["filter"], &patched["events"]), (&other, &events), "not merged with the filter before");

    // A form that does not show them keeps them.
    let mut visitor = Visitor::admin(&host).await;
    let fields = [("notify_url", receiver.url.as_str()), ("modules", "Contact"), ("description", "by a form")];
    let page = format!("/t/default/webhooks/{id}");
    visitor.see(&page).await;
    let saved = visitor.post(&page, &fields).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let read = host.get(&path).await;
    assert_eq!(text(&read, "description"), "by a form");
    assert_eq!((&read["filter"], &read["events"]), (&other, &events));

    let none = patch(json!({"filter": null, "events": null})).await;
    assert_eq!((&none["filter"], &none["events"]), (&Value::Null, &json!([])));
    let rewritten = json!({"notify_url": receiver.url, "modules": ["Contact"], "filter": filter});
    assert_eq!(host.ask(Method::PUT, &path, rewritten.to_string()).await.ok()["filter"], filter);
    let absent = json!({"notify_url": receiver.url, "modules": ["Contact"]});
    assert_eq!(host.ask(Method::PUT, &path, absent.to_string()).await.ok()["filter"], Value::Null, "the default");
}

/// Returns the description of an event in the answer to a trial, without its time.
fn described(id: &str, contact: &str) -> Value {
    json!({"id": id, "name": "Contact is Updated", "module": "Contact", "entity_id": contact})
}

/// Returns a list of described events, each of which must have a time, without the times.
fn without_times(list: &Value) -> Vec<Value> {
    let mut list = list.as_array().unwrap().clone();
    list.iter_mut().for_each(|one| assert!(one.as_object_mut().unwrap().remove("received_at_ms").unwrap().is_u64()));
    list
}

#[tokio::test]
async fn a_trial_counts_what_matches_and_explains_what_does_not() {
    let host = Host::start().await;
    let mut sent = Vec::new();
    for (contact, stage) in [(1, "a"), (1, "b"), (2, "b"), (1, "b")] {
        sent.push(host.send(staged(contact, stage)).await);
    }
    host.send(crate::harness::event("Opportunity is Created", 9)).await;
    let trial = json!({"modules": ["Contact"], "filter": of_stage(json!("b"))});
    let tried = host.post("./filters/try", &trial).await;
    assert_eq!((&tried["events"], &tried["matching"], &tried["has_more"]), (&json!(4), &json!(3), &json!(false)));
    assert_eq!(tried["matching_ids"], json!([sent[3], sent[2], sent[1]]), "newest first");
    let newest = [(3, "1"), (2, "2"), (1, "1")].map(|(at, contact)| described(&sent[at], contact));
    assert_eq!(without_times(&tried["newest_matching"]), newest);
    let mut refused = described(&sent[0], "1");
    refused["why"] = json!(r#"/fields/stage "b" met "a""#);
    assert_eq!(without_times(&tried["refused"]), [refused]);
    assert!(tried["fields"].as_array().unwrap().contains(&json!("stage")), "{tried}");

    let changed = json!({"modules": ["Contact"], "filter": of_stage(json!({"$changed": true}))});
    assert_eq!(host.post("./filters/try", &changed).await["matching_ids"], json!([sent[2], sent[1], sent[0]]));
    let all = host.post("./filters/try", &json!({})).await;
    assert_eq!((&all["events"], &all["matching"]), (&json!(5), &json!(5)));
    let named = host.post("./filters/try", &json!({"events": ["Opportunity is Created"]})).await;
    assert_eq!(named["matching"], 1);
    assert_eq!(text(&named["refused"][0], "why"), "events do not include Contact is Updated");

    // It reads only.
    let reader = text(&host.post("./keys", &json!({"scopes": ["read"]})).await, "key").to_owned();
    assert_eq!(host.ask_as(&reader, Method::POST, "./filters/try", trial.to_string()).await.status, 200);
    assert_eq!(host.get("./subscriptions").await, json!([]));
}

#[tokio::test]
async fn a_replay_goes_through_the_filter() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for stage in ["a", "won", "won", "b"] {
        host.send(staged(1, stage)).await;
    }
    let id = host.subscription(&receiver.url, json!({"filter": of_stage(json!("won"))})).await;
    let path = format!("./subscriptions/{id}/replay");
    let preview = json!({"from_ms": 0, "to_ms": 4_102_444_800_000_u64, "preview": true});
    assert_eq!(host.post(&path, &preview).await["deliveries"], 2);
    let replay = json!({"from_ms": 0, "to_ms": 4_102_444_800_000_u64});
    assert_eq!(host.post(&path, &replay).await["deliveries"], 2);
    let received = receiver.expect(2).await;
    assert!(received.iter().all(|one| text(one, "body").contains("won")), "{received:?}");
    host.drained().await;
    assert_eq!(host.ledger().await["replayed"], 2);
}
