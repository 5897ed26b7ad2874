//! Host names: an accepted name is resolved as written, and others are refused with the reason, by one rule for every place.

use crate::harness::{Host, NameServer, RawReceiver, event, text};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// Names that are common in private networks.
const UNDERSCORES: [&str; 4] = ["my_service.test", "a_b_c", "_x.hooks.example", "x_.example"];

/// Host names that cannot be resolved, each with a part of the reason.
const REFUSED: [(&str, &str); 6] = [
    ("-foo.example", "begins or ends with a hyphen"),
    ("foo-.example", "begins or ends with a hyphen"),
    ("a..example", "two dots in a row"),
    ("*.example", "holds '*'"),
    ("a,b.example", "holds ','"),
    ("a0123456789012345678901234567890123456789012345678901234567890123.example", "more than 63 characters"),
];

/// Starts a name server that knows every name, a host that uses it, and a receiver. Returns the receiver's port as well.
async fn with_names() -> (NameServer, Host, RawReceiver, String) {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let host = Host::with().set(&format!("name_servers=[\"{}\"]", names.address)).start().await;
    let receiver = RawReceiver::start(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    let port = receiver.url.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    (names, host, receiver, port)
}

/// Sends an event and checks that every subscription gets it.
async fn an_event_is_delivered(host: &Host) {
    let id = host.send(event("Contact is Created", 1)).await;
    for delivery in host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await {
        assert_eq!(delivery["state"], "delivered", "{delivery}");
    }
}

#[tokio::test]
async fn names_with_underscores_are_looked_up() {
    let (names, host, receiver, port) = with_names().await;
    for name in UNDERSCORES {
        host.subscription(&format!("http://{name}:{port}/"), json!({"retry": {"schedule_s": [0]}})).await;
    }
    an_event_is_delivered(&host).await;
    assert_eq!((receiver.requests(), names.questions()), (UNDERSCORES.len(), UNDERSCORES.len()));
}

#[tokio::test]
async fn names_that_cannot_be_looked_up_are_refused_wherever_they_are_written() {
    let host = Host::start().await;
    let bin = text(&host.post("./bins", &json!({})).await, "id").to_owned();
    host.ask_as("", Method::POST, &format!("/bins/{bin}"), "x").await.ok();
    let request = host.get(&format!("./bins/{bin}/requests")).await["requests"][0]["id"].clone();
    let replay = format!("./bins/{bin}/requests/{}/replay", request.as_str().unwrap());
    for (name, reason) in REFUSED {
        let url = format!("https://{name}/");
        let whole = json!({"notify_url": "https://hooks.example.com/", "modules": ["Contact"]});
        let with = |field: &str, value: serde_json::Value| {
            let mut body = whole.clone();
            body[field] = value;
            body
        };
        for (path, body, pointer) in [
            ("./subscriptions", with("notify_url", json!(url)), "/notify_url"),
            ("./subscriptions", with("transport", json!({"proxy": url})), "/transport/proxy"),
            ("./subscriptions", with("url_hosts", json!(["b.example", name])), "/url_hosts/1"),
            (replay.as_str(), json!({"url": url}), "/url"),
        ] {
            let reply = host.ask(Method::POST, path, body.to_string()).await;
            assert_eq!(reply.status, 422, "{name} as {pointer}: {}", reply.text);
            let fault = &reply.json["errors"][0];
            assert_eq!(fault["pointer"], pointer, "{}", reply.text);
            assert!(text(fault, "detail").contains(reason), "{}", reply.text);
        }
    }
    for written in ["https://b.example", "b.example:443", "b.example/x"] {
        let body = json!({"notify_url": "https://hooks.example.com/", "modules": ["Contact"], "url_hosts": [written]});
        let reply = host.ask(Method::POST, "./subscriptions", body.to_string()).await;
        assert!(reply.status == 422 && reply.text.contains("without scheme and port"), "{}", reply.text);
    }
}

#[tokio::test]
async fn a_plugins_host_is_compared_whatever_its_spelling() {
    let (_names, host, receiver, port) = with_names().await;
    host.plugin("route", crate::harness::example("route")).await;
    let rule = |name: &str| json!({"rules": format!("event = * -> http://{name}:{port}/")});
    for (allowed, name) in [("My_Service.TEST", "my_service.test"), ("m\u{fc}nchen.test", "xn--mnchen-3ya.test")] {
        let also =
            json!({"plugin": "route", "config": rule(name), "url_hosts": [allowed], "retry": {"schedule_s": [0]}});
        host.subscription("http://nobody.test:1/", also).await;
    }
    an_event_is_delivered(&host).await;
    assert_eq!(receiver.requests(), 2);
}
