//! Verification by `hookloom receive` of webhooks with any bytes.

use crate::harness::{Host, Receiver, event, guest, text};
use serde_json::json;

#[tokio::test]
async fn a_binary_body_is_verified() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("binary", guest("binary")).await;
    host.subscription(&receiver.url, json!({"plugin": "binary"})).await;
    let delivered = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(text(&delivered, "state"), "delivered");
    // `expect` asserts that the signature verifies.
    let received = receiver.expect(1).await.remove(0);
    assert_eq!((text(&received, "body_base64"), &received["verify_error"]), ("/yQ=", &json!(null)), "{received}");
}

#[tokio::test]
async fn a_large_body_is_received() {
    let receiver = Receiver::start().await;
    let unsigned = crate::harness::client().post(&receiver.url).body(vec![b'x'; 3 << 20]).send().await.unwrap();
    assert_eq!(unsigned.status(), 200);
    let received = crate::harness::until("the request", async || receiver.received().pop()).await;
    assert_eq!(received["body"].as_str().unwrap().len(), 3 << 20);
    assert_eq!((&received["verified"], &received["body_base64"]), (&json!(false), &json!(null)));
}
