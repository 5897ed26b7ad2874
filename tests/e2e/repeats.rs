//! Repeated requests, rotated keys, full tenants, and pruning.

use crate::harness::{Host, Receiver, SECRET, event, text, until};
use reqwest::Method;
use serde_json::{Value, json};

/// Sends with an Idempotency-Key.
pub(crate) async fn send_once(host: &Host, key: &str, body: &str) -> (u16, Value) {
    let client = crate::harness::client();
    let request = client.post(format!("{}/v1/tenants/default/events", host.url));
    let request = request.bearer_auth(crate::harness::ADMIN_KEY).header("idempotency-key", key);
    let reply = request.body(body.to_owned()).send().await.unwrap();
    let status = reply.status().as_u16();
    (status, serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_request_with_a_key_is_accepted_once() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let body = [event("Contact is Created", 1), event("Contact is Created", 2)].join("\n");
    let first = send_once(&host, "import-1", &body).await;
    assert_eq!((first.0, first.1["events"].as_array().unwrap().len()), (202, 2));
    // Concurrently, many times, and after a restart: the same answer.
    let again = futures_util::future::join_all((0..20).map(|_| send_once(&host, "import-1", &body))).await;
    assert!(again.iter().all(|one| *one == first), "{again:?}");
    receiver.expect(2).await;
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    assert_eq!(send_once(&host, "import-1", &body).await, first);
    assert_eq!(host.ledger().await["fan_out"], 2);
    let (status, problem) = send_once(&host, "import-1", &event("Contact is Created", 3)).await;
    assert!(status == 409 && text(&problem, "type").ends_with("idempotency-key-reused"), "{problem}");
    assert_eq!(send_once(&host, "import-2", &body).await.0, 202);
    assert_eq!(send_once(&host, &"k".repeat(256), &body).await.0, 400);
    // A refused request may be repeated in a corrected form.
    assert_eq!(send_once(&host, "import-3", "{}").await.0, 400);
    assert_eq!(send_once(&host, "import-3", &body).await.0, 202);
    assert_eq!(host.ledger().await["events"], 6);
}

#[tokio::test]
async fn a_key_of_one_tenant_is_none_of_another() {
    let host = Host::start().await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let body = event("Contact is Created", 1);
    assert_eq!(send_once(&host, "k", &body).await.0, 202);
    let client = crate::harness::client();
    let request = client.post(format!("{}/v1/tenants/other/events", host.url)).bearer_auth(crate::harness::ADMIN_KEY);
    let reply = request.header("idempotency-key", "k").body(event("Contact is Created", 2)).send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 202);
}

#[tokio::test]
async fn previous_keys_sign_with_the_new_one_for_a_while() {
    let host = Host::start().await;
    // This receiver knows only the first secret, and refuses other signatures.
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({})).await;
    let path = format!("./subscriptions/{id}/rotate-secret");
    let rotated = host.post(&path, &json!({"overlap_s": 3})).await;
    let secret = text(&rotated, "signing_secret").to_owned();
    assert!(secret.starts_with("whsec_") && secret != SECRET);
    let keys = rotated["signing_keys"].as_array().unwrap();
    assert!(keys.len() == 2 && keys[0]["until_ms"].is_null() && keys[1]["until_ms"].is_i64(), "{rotated}");
    host.send(event("Contact is Created", 1)).await;
    let received = receiver.expect(1).await.remove(0);
    let signatures: Vec<&str> = text(&received["headers"], "webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2, "both sign: {received}");
    // After a rotation to a key pair, one header has both kinds of signatures, and each verifies.
    let pair = host.post(&path, &json!({"scheme": "v1a", "overlap_s": 60})).await;
    host.send(event("Contact is Created", 2)).await;
    let received = receiver.expect(2).await.remove(1);
    let signatures: Vec<&str> = text(&received["headers"], "webhook-signature").split(' ').collect();
    assert!(signatures[0].starts_with("v1a,") && signatures[1].starts_with("v1,"), "{received}");
    let public = text(&pair["signing_keys"][0], "public_key").strip_prefix("whpk_").unwrap();
    assert!(verifies(public, signatures[0].strip_prefix("v1a,").unwrap(), &received), "{received}");
    assert!(!verifies(public, signatures[0].strip_prefix("v1a,").unwrap(), &receiver.received()[0]));
    // A key pair, whose public key is shown.
    let pair = host.post(&path, &json!({"scheme": "v1a", "overlap_s": 0})).await;
    assert!(text(&pair, "signing_secret").starts_with("whsk_"));
    assert!(text(&pair["signing_keys"][0], "public_key").starts_with("whpk_"), "{pair}");
    assert_eq!(pair["signing_keys"].as_array().unwrap().len(), 1, "no overlap, no previous key");
    let shown = host.get(&format!("./subscriptions/{id}")).await;
    assert!(shown["signing_secret"].is_null() && !shown.to_string().contains("whsk_"), "{shown}");
    for (body, pointer) in [
        (json!({"scheme": "v2"}), "/scheme"),
        (json!({"signing_secret": "x"}), "/signing_secret"),
        (json!({"overlap_s": 99_999_999}), "/overlap_s"),
    ] {
        let refused = host.ask(Method::POST, &path, body.to_string()).await;
        assert!(refused.status == 422 && refused.text.contains(pointer), "{}", refused.text);
    }
}

/// Returns true if an ed25519 signature is that of a request (Standard Webhooks, "Asymmetric").
fn verifies(public: &str, signature: &str, received: &Value) -> bool {
    use base64::Engine as _;
    fn decode(text: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }
    let key = ed25519_dalek::VerifyingKey::try_from(decode(public).as_slice()).unwrap();
    let headers = &received["headers"];
    let signed = [text(headers, "webhook-id"), text(headers, "webhook-timestamp"), text(received, "body")].join(".");
    let signature = ed25519_dalek::Signature::from_slice(&decode(signature)).unwrap();
    key.verify_strict(signed.as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn a_rotated_key_stops_signing() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({})).await;
    host.post(&format!("./subscriptions/{id}/rotate-secret"), &json!({"overlap_s": 1})).await;
    until("one key", async || {
        let keys = host.get(&format!("./subscriptions/{id}")).await["signing_keys"].as_array().unwrap().len();
        (keys == 1).then_some(())
    })
    .await;
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    // The receiver still verifies with the first secret.
    assert_eq!(receiver.received()[0]["verified"], false, "{:?}", receiver.received());
}

#[tokio::test]
async fn ended_deliveries_are_pruned_and_kept_in_the_ledger() {
    let host = Host::with().set("retention_s=3600").turnable().start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"modules": ["Contact"]})).await;
    host.subscription("http://127.0.0.1:1/", json!({"modules": ["Deal"], "retry": {"schedule_s": [0, 86_400]}})).await;
    let pending = host.send(event("Opportunity is Created", 1)).await;
    let batch: Vec<String> = (0..700).map(|number| event("Contact is Created", number)).collect();
    host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
    receiver.expect(700).await;
    host.pass(std::time::Duration::from_secs(3_600)).await;
    until("all but one to be pruned", async || (host.ledger().await["events"] == 1).then_some(())).await;
    let ledger = host.ledger().await;
    assert_eq!(
        (&ledger["pruned"]["delivered"], &ledger["fan_out"], &ledger["pending"]),
        (&json!(700), &json!(701), &json!(1))
    );
    assert!(ledger["bytes"].as_u64().unwrap() < 1_000, "{ledger}");
    assert_eq!(host.get("./deliveries").await["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(host.get(&format!("./events/{pending}")).await["deliveries"][0]["state"], "pending");
    // Freed space is used again.
    host.send(event("Contact is Created", 1)).await;
}

#[tokio::test]
async fn a_full_tenant_is_refused_and_others_are_not() {
    let host = Host::with().set("tenant_events_max=10").start().await;
    for number in 0..10 {
        host.send(event("Contact is Created", number)).await;
    }
    let full = host.ask(Method::POST, "./events", event("Contact is Created", 10)).await;
    assert!(full.status == 507 && full.text.contains("tenant-full"), "{}", full.text);
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let other = host.ask(Method::POST, "/v1/tenants/other/events", event("Contact is Created", 1)).await;
    assert_eq!(other.status, 202);
    // Agile CRM does not send again, so its limit is a tenth higher.
    let token = host.post("./intake-tokens", &json!({"label": "crm"})).await;
    let address = text(&token, "path").to_owned();
    assert_eq!(host.ask_as("", Method::POST, &address, event("Contact is Created", 11)).await.status, 202);
    assert_eq!(host.ask_as("", Method::POST, &address, event("Contact is Created", 12)).await.status, 507);
    assert_eq!(host.ledger().await["events"], 11);
}
