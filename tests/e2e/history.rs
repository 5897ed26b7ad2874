//! History: a plugin sees the previous event of the same contact or deal, and the same one at every attempt.

use crate::harness::{Host, Receiver, event, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};

fn event_of(name: &str, entity: &Value, mark: &str) -> String {
    json!({"eventName": name, "eventData": {"id": entity, "mark": mark}}).to_string()
}

/// Returns the plugin's reason for its verdict on an event at the last attempt.
async fn seen(host: &Host, id: &str) -> String {
    let delivery = host.attempted(id).await;
    text(&delivery["attempts"].as_array().unwrap().last().unwrap()["reason"], "message").to_owned()
}

#[tokio::test]
async fn the_event_before_is_that_of_the_same_entity() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("looks_back")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let nothing = "nothing was accepted before";
    let first = host.send(event_of("Contact is Created", &json!(7), "a")).await;
    assert_eq!(seen(&host, &first).await, nothing);
    let other = host.send(event_of("Contact is Created", &json!(8), "b")).await;
    assert_eq!(seen(&host, &other).await, nothing, "another contact");
    let deal = host.send(event_of("Opportunity is Created", &json!(7), "c")).await;
    assert_eq!(seen(&host, &deal).await, nothing, "a deal with a contact's id");
    let nameless = host.send(r#"{"eventName":"Contact is Updated","eventData":{}}"#).await;
    assert_eq!(seen(&host, &nameless).await, nothing, "no id");
    // An id as text is the same as the number, because the vendor sends both.
    let second = host.send(event_of("Contact is Updated", &json!("7"), "d")).await;
    assert_eq!(
        seen(&host, &second).await,
        format!("Contact is Created {first} {}", event_of("Contact is Created", &json!(7), "a"))
    );
    // Events of one batch are accepted in its order.
    let batch =
        [event_of("Contact is Updated", &json!(7), "e"), event_of("Contact is Updated", &json!(7), "f")].join("\n");
    let sent = host.ask(Method::POST, "./events", batch).await.ok();
    let [third, fourth] = [0, 1].map(|at| text(&sent["events"][at], "id").to_owned());
    assert!(seen(&host, &third).await.contains(&second) && seen(&host, &fourth).await.contains(&third));
    assert_eq!(host.get(&format!("./events/{fourth}")).await["previous"], json!(third));

    // Another tenant has another history.
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let sent =
        host.ask(Method::POST, "/v1/tenants/other/events", event_of("Contact is Updated", &json!(7), "g")).await.ok();
    let id = text(&sent["events"][0], "id");
    assert_eq!(host.get(&format!("/v1/tenants/other/events/{id}")).await["previous"], Value::Null);
}

#[tokio::test]
async fn every_attempt_sees_the_same_past() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("panics")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let first = host.send(event("Contact is Created", 1)).await;
    let second = host.send(event("Contact is Updated", 1)).await;
    host.attempted(&second).await;
    // A later event does not change the history of the second one, also after a restart.
    let third = host.send(event("Contact is Updated", 1)).await;
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    host.plugin("p", guest("looks_back")).await;
    for (id, before) in [(&second, &first), (&third, &second)] {
        let delivery = host.ended(id).await;
        let last = delivery["attempts"].as_array().unwrap().last().unwrap().clone();
        assert!(text(&last["reason"], "message").contains(before.as_str()), "{delivery}");
    }
}

#[tokio::test]
async fn a_dry_run_has_the_past_it_is_given() {
    let host = Host::start().await;
    host.plugin("p", guest("looks_back")).await;
    fn json(text: String) -> Value {
        serde_json::from_str::<Value>(&text).unwrap()
    }
    let now = json(event("Contact is Updated", 1));
    let before = json(event("Contact is Created", 1));
    let judged = host.post("./plugins/p/dry-run", &json!({"event": now, "previous": before})).await;
    assert!(text(&judged["reason"], "message").starts_with("Contact is Created"), "{judged}");
    let judged = host.post("./plugins/p/dry-run", &json!({"event": now})).await;
    assert_eq!(text(&judged["reason"], "code"), "none");
}

#[tokio::test]
async fn what_a_pending_event_looks_back_to_is_not_pruned() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let first = host.send(event("Contact is Created", 1)).await;
    let other = host.send(event("Contact is Created", 2)).await;
    host.ended(&first).await;
    host.ended(&other).await;
    host.plugin("p", guest("panics")).await;
    let second = host.send(event("Contact is Updated", 1)).await;
    host.attempted(&second).await;
    let (_, folder) = host.stop().await;
    let host = Host::with().set("retention_s=1").on(folder).start().await;
    // The other one is as old as the first, and is no event's history.
    let gone = async |id: &str| host.ask(Method::GET, &format!("./events/{id}"), "").await.status == 404;
    until("the other event to be pruned", async || gone(&other).await.then_some(())).await;
    assert!(!gone(&first).await);
    host.plugin("p", guest("looks_back")).await;
    assert!(seen_at_the_end(&host, &second).await.contains(&first));
    until("the first to be pruned", async || gone(&first).await.then_some(())).await;
}

async fn seen_at_the_end(host: &Host, id: &str) -> String {
    let delivery = host.ended(id).await;
    text(&delivery["attempts"].as_array().unwrap().last().unwrap()["reason"], "message").to_owned()
}

#[tokio::test]
async fn no_history_crosses_a_pruned_event() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("panics")).await;
    let id = host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let first = host.send(event("Contact is Created", 1)).await;
    host.attempted(&first).await;
    let only_deals = json!({"notify_url": receiver.url, "plugin": "p", "modules": ["Deal"]});
    host.ask(Method::PUT, &format!("./subscriptions/{id}"), only_deals.to_string()).await.ok();
    // None of these is pending, and their age would allow pruning. The delivery that waits for another config may have been
    // attempted again.
    let second = host.send(event("Contact is Updated", 1)).await;
    let third = host.send(event("Contact is Updated", 1)).await;
    let other = host.send(event("Contact is Created", 2)).await;
    let (_, folder) = host.stop().await;
    let host = Host::with().set("retention_s=1").on(folder).start().await;
    let gone = async |id: &str| host.ask(Method::GET, &format!("./events/{id}"), "").await.status == 404;
    until("another contact's event to be pruned", async || gone(&other).await.then_some(())).await;
    assert_eq!(host.get(&format!("./events/{third}")).await["previous"], json!(second), "not the first, past a gap");
    // Once the first can be pruned, all are.
    host.plugin("p", guest("passes")).await;
    until("the last to be pruned", async || gone(&third).await.then_some(())).await;
    assert!(gone(&first).await && gone(&second).await);
}
