//! Traces: spans of an event at a collector, and the context for a receiver.

use crate::harness::{Host, Receiver, event, example, text, until};
use serde_json::{Value, json};
use tempfile::TempDir;

fn spans(received: &[Value]) -> Vec<Value> {
    let bodies = received.iter().map(|one| serde_json::from_str::<Value>(text(one, "body")).unwrap());
    let lists = bodies.flat_map(|body| body["resourceSpans"].as_array().cloned().unwrap_or_default());
    let scopes = lists.flat_map(|list| list["scopeSpans"].as_array().cloned().unwrap_or_default());
    scopes.flat_map(|scope| scope["spans"].as_array().cloned().unwrap_or_default()).collect()
}

#[tokio::test]
async fn an_events_way_is_a_trace_that_its_receiver_can_go_on_with() {
    let collector = Receiver::start().await;
    let receiver = Receiver::start().await;
    let endpoint = collector.url.trim_end_matches('/');
    let host = Host::with().set(&format!("otlp_endpoint=\"{endpoint}\"")).start().await;
    host.plugin("flatten", example("flatten")).await;
    host.subscription(&receiver.url, json!({"plugin": "flatten", "traceparent": true})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    assert_eq!(text(&host.ended(&id).await, "state"), "delivered");
    let found = until("the spans", || async {
        let found = spans(&collector.received());
        (found.len() >= 4).then_some(found)
    })
    .await;
    let named =
        |name: &str| found.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name}: {found:?}"));
    let intake = named("intake");
    let attempt = named("attempt");
    let post = named("POST");
    assert!(found.iter().all(|span| span["traceId"] == id.replace('-', "")), "the trace is the event: {found:?}");
    assert_eq!(attempt["parentSpanId"], intake["spanId"]);
    assert_eq!(
        (&post["parentSpanId"], &named("plugin flatten")["parentSpanId"]),
        (&attempt["spanId"], &attempt["spanId"])
    );
    let traceparent = format!("00-{}-{}-01", id.replace('-', ""), text(attempt, "spanId"));
    let received = receiver.expect(1).await;
    assert_eq!(received[0]["headers"]["traceparent"], traceparent);
    assert_eq!(text(&collector.received()[0], "path"), "/v1/traces");
}

#[tokio::test]
async fn no_delivery_waits_for_a_collector() {
    let receiver = Receiver::start().await;
    // No collector listens there.
    let host = Host::with().set("otlp_endpoint=\"http://127.0.0.1:9998\"").start().await;
    host.subscription(&receiver.url, json!({})).await;
    for number in 0..20 {
        host.send(event("Contact is Created", number)).await;
    }
    let received = receiver.expect(20).await;
    assert!(received.iter().all(|one| one["headers"]["traceparent"].is_null()), "only who wishes it gets it");
    let folder: std::sync::Arc<TempDir> = host.stop().await.1;
    assert!(!std::fs::read_to_string(folder.path().join("log")).unwrap().contains("panicked"));
}
