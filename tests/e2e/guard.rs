//! The address guard where it needs sockets: what is dialled, by whom, and what is told of it. The table of addresses and
//! URLs is in `host/src/address/cases.rs`.

use crate::harness::{Host, RawReceiver, Receiver, event, text};
use reqwest::Method;
use serde_json::{Value, json};

/// The reason of the only attempt of a new event.
async fn refused(host: &Host) -> String {
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let reason = &delivery["attempts"][0]["reason"];
    format!("{} {}", text(reason, "code"), text(reason, "message"))
}

#[tokio::test]
async fn a_tenant_is_narrowed_and_never_widened() {
    let (host, receiver) = (Host::start().await, Receiver::start().await);
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}})).await;
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    receiver.expect(1).await;
    let narrow = |egress: Value| host.ask(Method::PATCH, "/v1/tenants/default", json!({"egress": egress}).to_string());
    let unfit = narrow(json!({"deny": ["nowhere"]})).await;
    assert_eq!(unfit.status, 422, "{}", unfit.text);
    // It holds at once, also for connections that are open.
    narrow(json!({"deny": ["127.0.0.0/8"]})).await.ok();
    let told = refused(&host).await;
    assert!(
        told.starts_with("address-refused the address 127.0.0.1 is refused: denied by this host; the operator denies"),
        "{told}"
    );
    narrow(json!({"only": ["203.0.113.0/24"]})).await.ok();
    let told = refused(&host).await;
    assert!(told.contains("outside of the tenant's ranges; an admin names"), "{told}");
    let body = json!({"notify_url": receiver.url, "modules": ["Contact"]}).to_string();
    let made = host.ask(Method::POST, "./subscriptions", body).await;
    assert!(made.status == 422 && made.text.contains("outside of the tenant's ranges"), "{}", made.text);
    // Other tenants go on, and a tenant's own key cannot undo it.
    let key = host.post("./keys", &json!({"scopes": ["send", "read", "manage"], "label": "own"})).await;
    let own =
        host.ask_as(text(&key, "key"), Method::PATCH, "/v1/tenants/default", json!({"egress": {}}).to_string()).await;
    assert_eq!(own.status, 403);
    narrow(json!({})).await.ok();
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    receiver.expect(2).await;
}

#[tokio::test]
async fn a_redirect_into_the_house_is_a_failure() {
    let host = Host::start().await;
    let inside = Receiver::start().await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} x\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inside.url);
        let outside = RawReceiver::answering(answer).await;
        let id = host.subscription(&outside.url, json!({"retry": {"schedule_s": [0]}})).await;
        let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
        assert_eq!((text(&delivery, "state"), &delivery["attempts"][0]["status"]), ("dead", &json!(status)));
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
    assert!(inside.received().is_empty());
}

#[tokio::test]
async fn an_edit_is_guarded_like_a_new_subscription() {
    let host = Host::with().guarded().start().await;
    let url = |url: &str| json!({"notify_url": url, "modules": ["Contact"]}).to_string();
    let made = host.ask(Method::POST, "./subscriptions", url("https://hooks.example.com/")).await.ok();
    let path = format!("./subscriptions/{}", text(&made, "id"));
    for bad in [
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "http://a@b.example/",
    ] {
        for (method, path) in [(Method::PUT, path.as_str()), (Method::POST, "./subscriptions")] {
            let answer = host.ask(method, path, url(bad)).await;
            assert!(answer.status == 422 && answer.text.contains("/notify_url"), "{bad}: {}", answer.text);
        }
    }
    assert_eq!(host.get(&path).await["notify_url"], "https://hooks.example.com/");
}

#[tokio::test]
async fn a_key_in_a_query_is_in_no_log_and_no_reason() {
    let host = Host::with().set("log=trace").start().await;
    for url in ["http://127.0.0.1:1/?key=s3cr3t-query", "http://none.invalid/?key=s3cr3t-query"] {
        host.subscription(url, json!({"retry": {"schedule_s": [0]}})).await;
    }
    let id = host.send(event("Contact is Created", 1)).await;
    let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] == "dead").await;
    assert!(deliveries.iter().all(|delivery| !delivery.to_string().contains("s3cr3t-query")), "{deliveries:?}");
    let explained = host.get(&format!("./events/{id}")).await.to_string();
    let metrics = host.ask(Method::GET, "/metrics", "").await.text;
    for (what, text) in [("log", host.log()), ("explanation", explained), ("metrics", metrics)] {
        assert!(!text.contains("s3cr3t-query"), "it is in the {what}");
    }
}
