//! Limits on the writes of one request and on the duration of a read, with values above them.

use crate::harness::{Host, Receiver, event, text, until};
use crate::repeats::send_once;
use reqwest::Method;
use serde_json::{Value, json};

fn events(count: usize) -> String {
    (0..count).map(|number| event("Contact is Created", number) + "\n").collect()
}

#[tokio::test]
async fn a_request_makes_no_more_deliveries_than_it_may_and_one_event_reaches_all() {
    let host = Host::with().set("request_deliveries_max=5").start().await;
    let receiver = Receiver::start().await;
    for _ in 0..3 {
        host.subscription(&receiver.url, json!({})).await;
    }
    let refused = host.ask(Method::POST, "./events", events(2)).await;
    assert_eq!((refused.status, text(&refused.json, "type")), (413, "urn:hookloom:problem:too-many-deliveries"));
    for part in ["2 events would make 6 deliveries", "at most 5 for one request"] {
        assert!(text(&refused.json, "detail").contains(part), "{}", refused.text);
    }
    assert!(text(&refused.json, "remedy").contains("send about 1 of these"), "{}", refused.text);
    assert_eq!(host.ledger().await["events"], 0, "all or none");
    for _ in 0..3 {
        host.subscription(&receiver.url, json!({})).await;
    }
    // One event makes six deliveries by now: it is accepted, also from the vendor, which sends once.
    host.send(event("Contact is Created", 1)).await;
    let token = host.post("./intake-tokens", &json!({})).await;
    let vendors = host.ask_as("", Method::POST, text(&token, "path"), event("Contact is Created", 2)).await;
    assert_eq!(vendors.status, 202, "{}", vendors.text);
    receiver.expect(12).await;
    // Events without matching subscriptions make no deliveries.
    let other: String = events(100).replace("Contact is Created", "Opportunity is Created");
    let subscriptions = host.get("./subscriptions").await;
    for one in subscriptions.as_array().unwrap() {
        let path = format!("./subscriptions/{}", text(one, "id"));
        let contacts = json!({"notify_url": receiver.url, "modules": ["Contact"]});
        host.ask(Method::PUT, &path, contacts.to_string()).await.ok();
    }
    host.ask(Method::POST, "./events", other).await.ok();
    host.ledger().await;
}

#[tokio::test]
async fn a_repetition_is_answered_though_more_webhooks_match_by_now() {
    let host = Host::with().set("request_deliveries_max=2").start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let first = send_once(&host, "once", &events(2)).await;
    assert_eq!(first.0, 202, "{}", first.1);
    host.subscription(&receiver.url, json!({})).await;
    assert_eq!(send_once(&host, "once", &events(2)).await, first);
    let (status, other) = send_once(&host, "once", &events(3)).await;
    assert!(status == 409 && text(&other, "type").ends_with("idempotency-key-reused"), "{other}");
    assert_eq!(send_once(&host, "other", &events(2)).await.0, 413);
    receiver.expect(2).await;
    host.ledger().await;
}

#[tokio::test]
async fn an_entity_id_that_is_too_long_is_ignored_with_a_note() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"ordering": {"on_failure": "block"}})).await;
    fn named(id: String) -> String {
        json!({"eventName": "Contact is Updated", "eventData": {"id": id}}).to_string()
    }
    let body = format!("{}\n{}", named("9".repeat(200_000)), named("9".repeat(255)));
    let accepted = host.ask(Method::POST, "./events", body).await.ok();
    let [long, short] = &accepted["events"].as_array().unwrap()[..] else { panic!("{accepted}") };
    assert!(text(long, "note").contains("has 200000 bytes, and an entity id has at most 255"), "{accepted}");
    assert_eq!(short.get("note"), None);
    receiver.expect(2).await;
    let id = text(long, "id");
    host.ended(id).await;
    let shown = host.get(&format!("./events/{id}")).await;
    assert_eq!((&shown["entity_id"], &shown["note"]), (&Value::Null, &long["note"]));
    let why = text(&shown["subscriptions"][0], "why");
    assert!(why.starts_with("delivered by attempt 1") && why.contains("; out of order, because eventData.id"), "{why}");
    let short = host.get(&format!("./events/{}", text(short, "id"))).await;
    assert_eq!(text(&short, "entity_id").len(), 255);
    assert_eq!(short.get("note"), None);
    host.ledger().await;
}

#[tokio::test]
async fn what_is_kept_of_a_rejected_request_says_why_in_few_words() {
    let host = Host::start().await;
    let token = host.post("./intake-tokens", &json!({})).await;
    for body in [
        json!({"eventName": "n".repeat(100_000), "eventData": {}}).to_string(),
        format!("{{\"{}\": 1}}", "k".repeat(100_000)),
        format!("\"{}\"", "v".repeat(100_000)),
    ] {
        let refused = host.ask_as("", Method::POST, text(&token, "path"), body).await;
        assert!(refused.status == 400 || refused.status == 422, "{}", refused.text);
        assert!(refused.text.len() < 2_000, "{} bytes", refused.text.len());
    }
    let kept = host.get("./rejected-requests").await;
    let kept = kept.as_array().unwrap();
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|one| text(one, "reason").len() <= 1_024 && one["bytes"].as_u64() > Some(100_000)));
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped_and_says_what_to_do() {
    let host = Host::with().set("query_ms_max=1").set("request_deliveries_max=1").start().await;
    for _ in 0..3 {
        host.ask(Method::POST, "./events", events(10_000)).await.ok();
    }
    let slow = host.ask(Method::GET, "./ledger", "").await;
    assert_eq!((slow.status, text(&slow.json, "type")), (503, "urn:hookloom:problem:query-too-slow"), "{}", slow.text);
    assert!(text(&slow.json, "detail").contains("more than 1 ms"), "{}", slow.text);
    assert!(text(&slow.json, "remedy").contains("query_ms_max"), "{}", slow.text);
    // The connection serves the next query.
    host.get("./subscriptions").await;
    host.get("./deliveries").await;
}

/// Number of waiting deliveries of one subscription, more than one transaction ends.
const BACKLOG: usize = 1_201;

#[tokio::test]
async fn a_large_backlog_ends_with_its_webhook() {
    let host = Host::start().await;
    let receiver = Receiver::answering("410").await;
    let deleted = host.subscription(&receiver.url, json!({})).await;
    host.post(&format!("./subscriptions/{deleted}/pause"), &json!({"reason": "a test"})).await;
    host.ask(Method::POST, "./events", events(BACKLOG)).await.ok();
    host.ask(Method::DELETE, &format!("./subscriptions/{deleted}"), "").await.ok();
    let ledger = host.ledger().await;
    assert_eq!((&ledger["cancelled"], &ledger["pending"]), (&json!(BACKLOG), &json!(0)));
    // The receiver wants no more: the others are dead, in whichever step they end.
    host.subscription(&receiver.url, json!({"rate_per_s": 1, "concurrency": 1})).await;
    host.ask(Method::POST, "./events", events(BACKLOG)).await.ok();
    let dead =
        until("the end of what is pending", async || Some(host.ledger().await).filter(|ledger| ledger["pending"] == 0));
    assert_eq!(dead.await["dead"], BACKLOG);
}

#[tokio::test]
async fn a_search_looks_at_so_much_and_goes_on_with_its_cursor() {
    let host = Host::start().await;
    let bin = host.post("./bins", &json!({"requests_max": 200})).await;
    let id = text(&bin, "id");
    let url = text(&bin, "path");
    host.ask_as("", Method::POST, url, "The Needle").await;
    for _ in 0..70 {
        host.ask_as("", Method::POST, url, "x".repeat(64 << 10)).await;
    }
    fn found(page: &Value) -> usize {
        page["requests"].as_array().unwrap().len()
    }
    let page = host.get(&format!("./bins/{id}/requests?search=needle")).await;
    assert_eq!(found(&page), 0, "4 MiB are 64 of them");
    let page = host.get(&format!("./bins/{id}/requests?search=needle&cursor={}", text(&page, "cursor"))).await;
    assert_eq!((found(&page), &page["cursor"]), (1, &Value::Null));
    let long = host.ask(Method::GET, &format!("./bins/{id}/requests?search={}", "n".repeat(257)), "").await;
    assert!(long.status == 400 && long.text.contains("at most 256 bytes"), "{}", long.text);
}
