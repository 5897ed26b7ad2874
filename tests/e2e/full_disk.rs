//! Full disk: refused writes, continuing operations, and the return to normal operation.

use crate::harness::{Host, Receiver, event, text, until};
use reqwest::Method;
use serde_json::json;

/// Returns an event of about 200 KB.
fn large(number: usize) -> String {
    let filler = "x".repeat(200_000);
    format!(r#"{{"eventName":"Contact is Created","eventData":{{"id":{number},"properties":[],"filler":"{filler}"}}}}"#)
}

/// Sends large events to a tenant until they are refused and readiness reports it constantly. After the first refusal, others may
/// be accepted, in the space that the log used until then. Returns the number of accepted events.
async fn fill(host: &Host, tenant: &str) -> usize {
    let mut accepted = 0;
    for number in 0..2_000 {
        let reply = host.ask(Method::POST, &format!("/v1/tenants/{tenant}/events"), large(number)).await;
        match reply.status {
            202 => accepted += 1,
            503 => {
                assert!(reply.headers.contains_key("retry-after"), "{}", reply.text);
                if host.ask_as("", Method::GET, "/readyz", "").await.status == 503 {
                    return accepted;
                }
            }
            other => panic!("{other}: {}", reply.text),
        }
    }
    panic!("the disk never filled up");
}

#[tokio::test]
async fn a_full_disk_is_seen_and_deleting_is_the_way_out() {
    let receiver = Receiver::start().await;
    let host = Host::with().on_small_disk().start().await;
    let ready = async || host.ask_as("", Method::GET, "/readyz", "").await;
    host.subscription(&receiver.url, json!({})).await;
    let before = host.send(event("Contact is Created", 1)).await;
    assert_eq!(text(&host.ended(&before).await, "state"), "delivered");
    // More than once, because a used reserve is filled again.
    for round in 0..3 {
        host.post("/v1/tenants", &json!({"id": "large"})).await;
        let accepted = fill(&host, "large").await;
        assert!(accepted > 50, "round {round}: {accepted} events of 200 KB on a disk of 48 MiB");
        // Readiness reports the same as each event's answer, at once and constantly.
        for _ in 0..3 {
            let unready = ready().await;
            assert_eq!(unready.status, 503, "round {round}: {}", unready.text);
            assert!(text(&unready.json, "detail").contains("the disk of the data folder is full"), "{}", unready.text);
            assert!(text(&unready.json, "remedy").contains("deleting works on a full disk"), "{}", unready.text);
            let refused = host.ask(Method::POST, "/v1/tenants/large/events", large(0)).await;
            assert_eq!(refused.status, 503, "round {round}: {}", refused.text);
        }
        // Actions of an operator are recorded meanwhile.
        host.ask(Method::PATCH, "/v1/tenants/large", json!({"limits_max": {"cpu_ms": 20}}).to_string()).await.ok();
        assert_eq!(host.ask(Method::DELETE, "/v1/tenants/large?confirm=large", "").await.status / 100, 2);
        until("the tenant to be gone", async || {
            let left = host.ask(Method::GET, "/v1/tenants/large/deletion", "").await;
            (left.status == 404).then_some(())
        })
        .await;
        let again = until("room for an event", async || {
            let reply = host.ask(Method::POST, "./events", event("Contact is Created", 2)).await;
            (reply.status == 202).then(|| text(&reply.json["events"][0], "id").to_owned())
        });
        assert_eq!(text(&host.ended(&again.await).await, "state"), "delivered");
        until("readiness", async || (ready().await.status == 200).then_some(())).await;
    }
    let (status, _) = host.stop().await;
    assert!(status.success());
}
