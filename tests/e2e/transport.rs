//! Per-subscription transport: forward proxies, custom certificate authorities, client certificates; and the durations of the parts
//! of a POST.

use crate::harness::{Authority, Host, NameServer, Proxy, Receiver, TlsReceiver, event, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns the only attempt of a new event.
async fn attempt(host: &Host) -> Value {
    host.ended(&host.send(event("Contact is Created", 1)).await).await["attempts"][0].clone()
}

#[tokio::test]
async fn a_custom_authority_is_trusted_by_its_subscription_only() {
    let host = Host::start().await;
    let authority = Authority::new();
    let receiver = TlsReceiver::start(&authority, None).await;
    let once = json!({"schedule_s": [0]});
    let id = host.subscription(&receiver.url, json!({"retry": once})).await;
    let refused = attempt(&host).await;
    assert_eq!(text(&refused["reason"], "code"), "connect");
    assert!(text(&refused["reason"], "message").contains("certificate"), "{refused}");
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;

    host.subscription(&receiver.url, json!({"transport": {"authorities": authority.pem()}, "retry": once})).await;
    let delivered = attempt(&host).await;
    assert_eq!(delivered["status"], 200, "{delivered}");
    let timings = &delivered["timings"];
    assert!(timings["connect_us"].as_u64().unwrap() > 0 && timings["dns_us"].is_null(), "{timings}");
    assert!(
        timings["total_us"].as_u64() >= timings["first_byte_us"].as_u64() && timings["reused"] == false,
        "{timings}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_sent_on_request() {
    let host = Host::start().await;
    let own = Authority::new();
    let clients = Authority::new();
    let receiver = TlsReceiver::start(&own, Some(&clients)).await;
    let transport = |certificate: Value| {
        json!({
            "transport": {"authorities": own.pem(), "client_certificate": certificate},
            "secrets": {"mine": clients.identity("hookloom.example"), "strangers": own.identity("x.example")},
            "retry": {"schedule_s": [0]},
        })
    };
    let mut statuses = Vec::new();
    for certificate in [json!(null), json!("strangers"), json!("mine")] {
        let id = host.subscription(&receiver.url, transport(certificate)).await;
        statuses.push(attempt(&host).await["status"].clone());
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
    assert_eq!(statuses, [json!(null), json!(null), json!(200)]);
    assert_eq!(receiver.requests(), 1);
}

#[tokio::test]
async fn faults_of_a_transport_are_reported_without_secrets() {
    let host = Host::start().await;
    let key = Authority::new().identity("a.example");
    let body = json!({
        "notify_url": "https://hooks.example.com/", "modules": ["Contact"], "secrets": {"key": key},
        "transport": {"proxy": "http://127.0.0.1:6379", "authorities": "x", "client_certificate": "none"},
    });
    let refused = host.ask(Method::POST, "./subscriptions", body.to_string()).await;
    assert_eq!(refused.status, 422);
    for pointer in ["/transport/proxy", "/transport/authorities", "/transport/client_certificate"] {
        assert!(refused.text.contains(pointer), "{}", refused.text);
    }
    let mut fits = body;
    fits["transport"] = json!({"client_certificate": "key"});
    let made = host.ask(Method::POST, "./subscriptions", fits.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(!made.text.contains("PRIVATE KEY"), "{}", made.text);
    // The named secret is deleted later: that is reported too, and the delivery is not held.
    let path = format!("./subscriptions/{}", text(&made.json, "id"));
    let mut without = fits;
    without["secrets"] = json!({"key": null});
    let refused = host.ask(Method::PUT, &path, without.to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("no secret"), "{}", refused.text);
}

#[tokio::test]
async fn a_proxy_carries_http_and_https_and_gets_what_it_asks_for() {
    let host = Host::start().await;
    let proxy = Proxy::start().await;
    let authority = Authority::new();
    let plain = Receiver::start().await;
    let secure = TlsReceiver::start(&authority, None).await;
    let through = |also: Value| {
        let mut transport = json!({"proxy": proxy.url, "proxy_authorization": "Basic {{secret:proxy}}"});
        transport.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap());
        json!({"transport": transport, "secrets": {"proxy": "aG9vazpsb29t"}, "retry": {"schedule_s": [0]}})
    };
    host.subscription(&plain.url, through(json!({}))).await;
    host.subscription(&secure.url, through(json!({"authorities": authority.pem()}))).await;
    let id = host.send(event("Contact is Created", 1)).await;
    let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
    assert!(deliveries.iter().all(|delivery| delivery["state"] == "delivered"), "{deliveries:?}");
    let received = plain.expect(1).await.remove(0);
    assert!(received["headers"].get("proxy-authorization").is_none() || received["headers"]["via"].is_null());
    let mut heads = proxy.heads();
    heads.sort();
    assert!(heads[0].starts_with("CONNECT 127.0.0.1:") && heads[1].starts_with("POST http://127.0.0.1:"), "{heads:?}");
    assert!(
        heads.iter().all(|head| head
            .to_lowercase()
            .contains("proxy-authorization: basic aG9vazpsb29t".to_lowercase().as_str()))
    );
    assert!(!heads[0].contains("webhook-"), "a tunnel's head says nothing of what is in it");
    assert!(!deliveries.iter().any(|delivery| delivery.to_string().contains("aG9vazpsb29t")));
}

#[tokio::test]
async fn a_proxy_opens_no_door_that_the_guard_shuts() {
    // The guard refuses the first loopback address, and the operator allows the second.
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let host = Host::with()
        .guarded()
        .set("egress_allow=[\"127.0.0.2/32\"]")
        .set(&format!("name_servers=[\"{}\"]", names.address))
        .start()
        .await;
    let proxy = Proxy::start_on("127.0.0.2").await;
    let also = json!({"transport": {"proxy": proxy.url}, "retry": {"schedule_s": [0]}});
    host.subscription("http://hooks.example.com:8080/", also.clone()).await;
    let refused = attempt(&host).await;
    assert_eq!(text(&refused["reason"], "code"), "address-refused", "{refused}");
    assert!(proxy.heads().is_empty(), "the proxy was asked");
    // The address of a proxy is vetted like any other.
    let mut also = also;
    also["transport"] = json!({"proxy": "http://127.0.0.1:3128"});
    also["notify_url"] = json!("http://hooks.example.com:8080/");
    also["modules"] = json!(["Contact"]);
    let answer = host.ask(Method::POST, "./subscriptions", also.to_string()).await;
    assert!(answer.status == 422 && answer.text.contains("/transport/proxy"), "{}", answer.text);
}
