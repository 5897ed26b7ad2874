//! Path of an event without faults.

use crate::harness::{Host, Receiver, SECRET, event, example, fixture, text};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn bytes_in_are_bytes_signed_are_bytes_out() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let odd = " {\"eventData\" : {\"z\":1.0, \"a\":null,\"n\":12345678901234567890, \"e\":1E3,\n\"t\":\"\\u00e9\u{e9}\"},\t\"eventName\":\"Contact is Created\"}\r\n";
    let id = host.send(odd).await;
    let received = receiver.expect(1).await.remove(0);
    assert_eq!(text(&received, "body"), odd);
    let headers = &received["headers"];
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(text(headers, "hookloom-event-id"), id);
    assert!(!text(headers, "webhook-id").contains('.'));
    let delivery = host.ended(&id).await;
    assert_eq!((text(&delivery, "state"), text(&delivery, "id")), ("delivered", text(headers, "webhook-id")));
    assert_eq!(delivery["attempts"][0]["status"], 200);
    host.ledger().await;
}

#[tokio::test]
async fn each_subscription_gets_its_modules_once() {
    let host = Host::start().await;
    let contacts = Receiver::start().await;
    let deals = Receiver::start().await;
    let both = Receiver::start().await;
    host.subscription(&contacts.url, json!({"modules": ["Contact"]})).await;
    host.subscription(&deals.url, json!({"modules": ["Deal", "Deal"]})).await;
    host.subscription(&both.url, json!({})).await;
    for name in ["Contact is Created", "Contact is Updated", "Opportunity is Created", "Opportunity is Updated"] {
        let accepted = host.ask(Method::POST, "./events", event(name, 1)).await.ok();
        assert_eq!(accepted["events"][0]["deliveries"], 2);
    }
    fn names(received: Vec<Value>) -> Vec<String> {
        fn name(one: &Value) -> String {
            serde_json::from_str::<Value>(text(one, "body")).unwrap()["eventName"].as_str().unwrap().to_owned()
        }
        let mut names: Vec<_> = received.iter().map(name).collect();
        names.sort();
        names
    }
    assert_eq!(names(contacts.expect(2).await), ["Contact is Created", "Contact is Updated"]);
    assert_eq!(names(deals.expect(2).await), ["Opportunity is Created", "Opportunity is Updated"]);
    assert_eq!(both.expect(4).await.len(), 4);
    assert_eq!(host.ledger().await["fan_out"], 8);
}

#[tokio::test]
async fn an_event_without_subscriptions_is_accepted() {
    let host = Host::start().await;
    let accepted = host.ask(Method::POST, "./events", event("Contact is Created", 1)).await;
    assert_eq!((accepted.status, &accepted.json["events"][0]["deliveries"]), (202, &json!(0)));
    let id = text(&accepted.json["events"][0], "id");
    let shown = host.get(&format!("./events/{id}")).await;
    assert_eq!((&shown["fan_out"], &shown["payload"]["eventName"]), (&json!(0), &json!("Contact is Created")));
}

#[tokio::test]
async fn the_vendors_address_answers_with_the_event() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let token = host.post("./intake-tokens", &json!({"label": "Agile CRM"})).await;
    let path = text(&token, "path");
    for name in ["contact_created", "contact_updated", "opportunity_created", "opportunity_updated"] {
        let payload = fixture(&format!("guide/{name}.json"));
        let answer = host.ask_as("", Method::POST, path, payload.clone()).await;
        assert_eq!((answer.status, &answer.text), (202, &payload));
        assert!(answer.headers.contains_key("hookloom-event-id"));
    }
    let bodies: Vec<String> = receiver.expect(4).await.iter().map(|one| text(one, "body").to_owned()).collect();
    assert!(bodies.contains(&fixture("guide/opportunity_updated.json")));

    let rotated = host.post(&format!("./intake-tokens/{}/rotate", text(&token, "id")), &json!({})).await;
    assert_eq!(host.ask_as("", Method::POST, path, fixture("guide/contact_created.json")).await.status, 404);
    assert_eq!(
        host.ask_as("", Method::POST, text(&rotated, "path"), fixture("guide/contact_created.json")).await.status,
        202
    );
}

#[tokio::test]
async fn batches_keep_each_events_slice() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"concurrency": 1})).await;
    let a = "{\"eventName\":\"Contact is Created\", \"eventData\":{\"n\":1.0}}";
    let b = "{\"eventData\":{ },\"eventName\":\"Contact is Updated\"}";
    for body in [format!("[{a} , {b}]"), format!("{a}\n\n{b}\r\n")] {
        let accepted = host.ask(Method::POST, "./events", body).await.ok();
        assert_eq!(accepted["events"].as_array().unwrap().len(), 2);
    }
    let mut bodies: Vec<String> = receiver.expect(4).await.iter().map(|one| text(one, "body").to_owned()).collect();
    bodies.sort();
    assert_eq!(bodies, [b, b, a, a]);
}

#[tokio::test]
async fn headers_and_secrets_of_the_owner_are_sent_and_never_shown() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let also = json!({"headers": {"Authorization": "Bearer {{secret:token}}", "X-Plain": "1"}, "secrets": {"token": "s3cr3t-t0k3n"}});
    let id = host.subscription(&format!("{}?key=query-key", receiver.url), also).await;
    host.send(event("Contact is Created", 1)).await;
    let received = receiver.expect(1).await.remove(0);
    assert_eq!(received["headers"]["authorization"], "Bearer s3cr3t-t0k3n");
    assert_eq!(received["headers"]["x-plain"], "1");
    let shown = host.get(&format!("./subscriptions/{id}")).await;
    assert_eq!(shown["secrets"], json!(["token"]));
    assert_eq!(shown.get("signing_secret"), None);
    for place in [
        shown.to_string(),
        host.log(),
        String::from_utf8_lossy(&std::fs::read(host.data().join("hookloom.db-wal")).unwrap()).into_owned(),
    ] {
        assert!(!place.contains("s3cr3t-t0k3n") && !place.contains(&SECRET[6..]), "a secret is in the open");
    }
    assert!(!host.log().contains("query-key"));
}

#[tokio::test]
async fn edits_hold_from_the_next_event_on_and_deletion_cancels() {
    let host = Host::start().await;
    let first = Receiver::start().await;
    let second = Receiver::start().await;
    let id = host.subscription(&first.url, json!({})).await;
    let event_1 = host.send(event("Contact is Created", 1)).await;
    assert_eq!(host.ended(&event_1).await["attempts"][0]["config_generation"], 1);

    let path = format!("./subscriptions/{id}");
    let edit = json!({"notify_url": second.url, "modules": ["Contact"]});
    host.ask(Method::PUT, &path, edit.to_string()).await.ok();
    let event_2 = host.send(event("Contact is Created", 2)).await;
    assert_eq!(host.ended(&event_2).await["attempts"][0]["config_generation"], 2);
    // The edit did not name the secret, so it stayed: the receiver still verifies.
    second.expect(1).await;

    host.post(&format!("{path}/pause"), &json!({"reason": "by hand"})).await;
    let event_3 = host.send(event("Contact is Created", 3)).await;
    let waiting = host.get(&format!("./events/{event_3}")).await;
    assert_eq!(waiting["deliveries"][0]["state"], "pending");
    host.ask(Method::DELETE, &path, "").await.ok();
    assert_eq!(host.ended(&event_3).await["state"], "cancelled");
    assert_eq!((first.received().len(), second.received().len()), (1, 1));
    host.ledger().await;
}

#[tokio::test]
async fn a_paused_subscription_goes_on_where_it_was() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({})).await;
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "holiday"})).await;
    for number in 0..5 {
        host.send(event("Contact is Created", number)).await;
    }
    assert_eq!(host.ledger().await["pending"], 5);
    assert_eq!(host.get(&format!("./subscriptions/{id}")).await["state_reason"], "holiday");
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
    receiver.expect(5).await;
}

#[tokio::test]
async fn a_plugin_replaces_drops_and_passes() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("deal-filter", example("deal-filter")).await;
    let version = host.plugin("flatten", example("flatten")).await;
    host.subscription(&format!("{}flat", receiver.url), json!({"plugin": "flatten", "modules": ["Contact"]})).await;
    host.subscription(
        &format!("{}deals", receiver.url),
        json!({"plugin": "deal-filter", "modules": ["Deal"], "config": {"min_probability": "97"}}),
    )
    .await;

    let contact = host.ended(&host.send(fixture("guide/contact_created.json")).await).await;
    let attempt = &contact["attempts"][0];
    assert_eq!((text(attempt, "verdict"), &attempt["plugin_sha256"]), ("replace", &version["sha256"]));
    let flat: Value = serde_json::from_str(text(&receiver.expect(1).await[0], "body")).unwrap();
    assert_eq!((text(&flat, "event"), text(&flat, "email")), ("contact.created", "john@alien.comm"));

    let dropped = host.ended(&host.send(fixture("guide/opportunity_created.json")).await).await;
    assert_eq!(text(&dropped, "state"), "dropped");
    assert_eq!(dropped["reason"], json!({"code": "low-probability", "message": "probability 95 < 97"}));

    host.ended(&host.send(fixture("guide/opportunity_updated.json")).await).await;
    assert_eq!(text(&receiver.expect(2).await[1], "body"), fixture("guide/opportunity_updated.json"));
    let ledger = host.ledger().await;
    assert_eq!((&ledger["delivered"], &ledger["dropped"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_new_version_serves_at_once_and_both_are_listed() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let first = host.plugin("p", example("flatten")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    host.ended(&host.send(fixture("guide/contact_created.json")).await).await;
    let second = host.plugin("p", example("redact")).await;
    let delivery = host.ended(&host.send(fixture("guide/contact_created.json")).await).await;
    assert_eq!(delivery["attempts"][0]["plugin_sha256"], second["sha256"]);
    let versions = host.get("./plugins/p/versions").await;
    let listed: Vec<_> =
        versions.as_array().unwrap().iter().map(|one| (one["sha256"].clone(), one["active"].clone())).collect();
    assert_eq!(listed, [(second["sha256"].clone(), json!(true)), (first["sha256"].clone(), json!(false))]);
    assert_eq!(host.get("./plugins").await[0]["active_sha256"], second["sha256"]);
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(host.subscription(&receiver.url, json!({})).await);
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    let pages = loop {
        let page = host.ask(Method::GET, &format!("./subscriptions{query}"), "").await;
        seen.extend(page.json.as_array().unwrap().iter().map(|one| text(one, "id").to_owned()));
        let Some(next) = page.headers.get("link").map(|link| link.to_str().unwrap().to_owned()) else {
            break seen.len();
        };
        query = next.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        // A deletion between two pages does not affect the others.
        if seen.len() == 2 {
            host.ask(Method::DELETE, &format!("./subscriptions/{}", made[1]), "").await;
        }
    };
    assert_eq!((pages, seen), (5, made));
    let refused = host.ask(Method::GET, "./subscriptions?page=2", "").await;
    assert_eq!((refused.status, text(&refused.json, "type")), (400, "urn:hookloom:problem:invalid-query"));
}
