//! Operator actions on deliveries: retry, cancel, redrive, replay, test.

use crate::harness::{Host, RawReceiver, Receiver, event, example, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};

async fn act(host: &Host, path: &str, body: Value) -> (u16, Value) {
    let reply = host.ask(Method::POST, path, body.to_string()).await;
    (reply.status, reply.json)
}

#[tokio::test]
async fn a_dead_delivery_is_retried_with_a_new_budget() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,500,200").await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0, 0]}})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(text(&delivery, "state"), "dead");
    let path = format!("./deliveries/{}", text(&delivery, "id"));
    let (status, retried) = act(&host, &format!("{path}/retry"), json!({})).await;
    assert_eq!(status, 200, "{retried}");
    let ended =
        until("the retry", async || Some(host.get(&path).await).filter(|one| one["state"] == "delivered")).await;
    let numbers: Vec<_> = ended["attempts"].as_array().unwrap().iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    // The receiver recognises it, because the id is the same.
    let ids: std::collections::BTreeSet<_> =
        receiver.expect(3).await.iter().map(|one| one["headers"]["webhook-id"].clone().to_string()).collect();
    assert_eq!(ids.len(), 1);
    host.ledger().await;
    assert_eq!(act(&host, "./deliveries/00000000-0000-0000-0000-000000000000/retry", json!({})).await.0, 404);
}

#[tokio::test]
async fn a_pending_delivery_is_cancelled_and_stays_so() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,200").await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0, 3600]}})).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let path = format!("./deliveries/{}", text(&delivery, "id"));
    let (_, cancelled) = act(&host, &format!("{path}/cancel"), json!({})).await;
    assert_eq!((text(&cancelled, "state"), text(&cancelled["reason"], "code")), ("cancelled", "cancelled"));
    let (status, problem) = act(&host, &format!("{path}/cancel"), json!({})).await;
    assert!(status == 409 && text(&problem, "detail").contains("no longer pending"), "{problem}");
    // A waiting delivery is retried at once; a cancelled one can be retried as well.
    act(&host, &format!("{path}/retry"), json!({})).await;
    until("the retry", async || (host.get(&path).await["state"] == "delivered").then_some(())).await;
    host.ledger().await;
}

#[tokio::test]
async fn a_delivery_that_is_cancelled_during_its_attempt_stays_cancelled() {
    let (begun, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let receiver = RawReceiver::start(move |mut socket| {
        let begun = begun.clone();
        let held = held.clone();
        async move {
            use tokio::io::AsyncWriteExt as _;
            let _ = begun.send(());
            held.notified().await;
            let _ = socket.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let host = Host::start().await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0, 0]}})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    hears.recv().await.unwrap();
    let delivery = host.deliveries_when(&id, |_| true).await.remove(0);
    let path = format!("./deliveries/{}", text(&delivery, "id"));
    act(&host, &format!("{path}/cancel"), json!({})).await;
    release.notify_one();
    let ended =
        until("the attempt", async || Some(host.get(&path).await).filter(|one| one["attempts"][0].is_object())).await;
    assert_eq!((text(&ended, "state"), ended["attempts"].as_array().unwrap().len()), ("cancelled", 1), "{ended}");
    host.ledger().await;
}

#[tokio::test]
async fn dead_deliveries_are_counted_and_redriven_in_one_call() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("dies", guest("invalid_event")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "dies"})).await;
    let many = 1_203;
    let batch: Vec<String> = (0..many).map(|number| event("Contact is Created", number)).collect();
    host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
    until("all to be dead", async || (host.ledger().await["dead"] == many).then_some(())).await;
    let edit = json!({"notify_url": receiver.url, "modules": ["Contact"], "signing_secret": crate::harness::SECRET});
    host.ask(Method::PUT, &format!("./subscriptions/{id}"), edit.to_string()).await.ok();
    let path = format!("./subscriptions/{id}/redrive");
    assert_eq!(act(&host, &path, json!({"preview": true})).await.1, json!({"deliveries": many, "preview": true}));
    assert_eq!(host.ledger().await["dead"], many, "a preview changes nothing");
    assert_eq!(act(&host, &path, json!({"preview": true, "to_ms": 1_000})).await.1["deliveries"], 0);
    assert_eq!(act(&host, &path, json!({})).await.1, json!({"deliveries": many, "preview": false}));
    until("all to be delivered", async || (host.ledger().await["delivered"] == many).then_some(())).await;
    assert_eq!(act(&host, &path, json!({})).await.1["deliveries"], 0);
    // The entry is part of the first transaction, which knows the number only if it is the last one as well.
    let changes = host.get("./changes").await;
    let after = [0, 1].map(|index| &changes["changes"][index]["after"]);
    assert_eq!(*after[0], json!({"states": ["dead"], "from_ms": 0, "deliveries": 0}));
    assert_eq!(*after[1], json!({"states": ["dead"], "from_ms": 0}));
}

#[tokio::test]
async fn events_of_a_span_are_replayed_to_one_subscription() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let old = host.subscription(&format!("{}old", receiver.url), json!({})).await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(
            host.send(event(if number == 3 { "Opportunity is Created" } else { "Contact is Created" }, number)).await,
        );
    }
    receiver.expect(4).await;
    let new = host.subscription(&format!("{}new", receiver.url), json!({"modules": ["Contact"]})).await;
    let time = async |id: &str| host.get(&format!("./events/{id}")).await["received_at_ms"].as_i64().unwrap();
    let span = json!({"from_ms": time(&ids[0]).await, "to_ms": time(&ids[3]).await + 1});
    let path = format!("./subscriptions/{new}/replay");
    let mut preview = span.clone();
    preview["preview"] = json!(true);
    assert_eq!(act(&host, &path, preview).await.1, json!({"deliveries": 3, "preview": true}));
    assert_eq!(act(&host, &path, span.clone()).await.1["deliveries"], 3);
    let mut selected = span;
    selected["deliveries"] = json!(3);
    assert_eq!(host.get("./changes").await["changes"][0]["after"], selected);
    let received = receiver.expect(7).await;
    let replayed: Vec<_> = received.iter().filter(|one| text(one, "path") == "/new").collect();
    assert_eq!(replayed.len(), 3, "the deal is not for it, and the other subscription gets nothing again");
    let ledger = host.ledger().await;
    assert_eq!((&ledger["fan_out"], &ledger["replayed"]), (&json!(4), &json!(3)));
    let listed = host.get(&format!("./deliveries?subscription={new}")).await;
    assert!(listed["deliveries"].as_array().unwrap().iter().all(|one| one["kind"] == "replay"));
    assert_eq!(host.get(&format!("./deliveries?subscription={old}")).await["deliveries"][0]["kind"], "usual");
    let (status, problem) = act(&host, &path, json!({"from_ms": 5, "to_ms": 5})).await;
    assert!(status == 422 && problem.to_string().contains("to_ms must be later than from_ms"), "{problem}");
}

#[tokio::test]
async fn a_test_shows_what_the_receiver_answers_and_is_attempted_once() {
    let host = Host::start().await;
    let receiver = Receiver::answering("200,500").await;
    host.plugin("flatten", example("flatten")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "flatten"})).await;
    host.subscription(&format!("{}other", receiver.url), json!({})).await;
    let path = format!("./subscriptions/{id}/test");
    let reply = host.ask(Method::POST, &path, "").await.ok();
    assert_eq!(
        (text(&reply, "state"), text(&reply, "kind"), &reply["attempts"][0]["status"]),
        ("delivered", "test", &json!(200))
    );
    let received = receiver.expect(1).await;
    assert!(text(&received[0], "body").contains("\"event\":\"contact.created\""), "through the plugin: {received:?}");
    let failed = host.ask(Method::POST, &path, event("Opportunity is Updated", 5)).await.ok();
    assert_eq!((text(&failed, "state"), failed["attempts"].as_array().unwrap().len()), ("dead", 1), "{failed}");
    let ledger = host.ledger().await;
    assert_eq!((&ledger["fan_out"], &ledger["tests"]), (&json!(0), &json!(2)), "no other subscription gets it");
    // An invalid event is refused, and a plugin's fault is shown.
    assert_eq!(host.ask(Method::POST, &path, "{}").await.status, 400);
    host.plugin("flatten", guest("panics")).await;
    let faulty = host.ask(Method::POST, &path, "").await.ok();
    assert!(text(&faulty, "state") == "dead" && faulty["reason"].to_string().contains("the panic of"), "{faulty}");
    act(&host, &format!("./subscriptions/{id}/pause"), json!({"reason": "r"})).await;
    assert_eq!(act(&host, &path, json!({})).await.0, 409);
}

/// Without a body, a test sends what the webhook would get.
#[tokio::test]
async fn a_test_has_an_event_such_as_the_webhook_gets() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.event_type("Invoice is Paid").await;
    let cases = [
        (json!({"modules": ["Contact", "Deal"]}), "Contact is Created"),
        (json!({"modules": ["Deal"], "events": ["Opportunity is Updated"]}), "Opportunity is Updated"),
        (json!({"modules": ["Subscription"]}), "Subscription is Disabled"),
        (json!({"modules": ["Subscription"], "events": ["Subscription is Paused"]}), "Subscription is Paused"),
        (json!({"modules": ["Incident"]}), "Incident is Opened"),
        (json!({"modules": ["Incident"], "events": ["Incident is Closed"]}), "Incident is Closed"),
    ];
    for (index, (settings, expected)) in cases.into_iter().enumerate() {
        let id = host.subscription(&receiver.url, settings).await;
        let tested = host.ask(Method::POST, &format!("./subscriptions/{id}/test"), "").await.ok();
        assert_eq!(text(&tested, "state"), "delivered", "{tested}");
        let received = receiver.expect(index + 1).await;
        let body: Value = serde_json::from_str(text(&received[index], "body")).unwrap();
        assert_eq!(text(&body, "eventName"), expected);
        if expected.starts_with("Incident") || expected.starts_with("Subscription") {
            assert!(body.to_string().contains("this is a test, and nothing is wrong"), "{body}");
        }
    }
    // Nobody but the tenant knows what an event of its own type looks like.
    let id = host.subscription(&receiver.url, json!({"modules": ["Deal"], "events": ["Invoice is Paid"]})).await;
    let path = format!("./subscriptions/{id}/test");
    let refused = host.ask(Method::POST, &path, "").await;
    assert!(refused.status == 409 && refused.text.contains("no event of Invoice is Paid yet"), "{}", refused.text);
    host.send(&event("Invoice is Paid", 8)).await;
    receiver.expect(7).await;
    host.ask(Method::POST, &path, "").await.ok();
    let received = receiver.expect(8).await;
    let bodies = [6, 7].map(|index| text(&received[index], "body"));
    assert!(bodies[0] == bodies[1] && bodies[0].contains("Invoice is Paid"), "{bodies:?}");
}
