//! TLS failures: the reason has the fault and the remedy in plain words, and the log has no errors.

use crate::harness::{Authority, Host, TlsReceiver, event, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// Returns the reason why the only attempt at a URL failed.
async fn reason(host: &Host, url: &str, transport: Value) -> String {
    let id = host.subscription(url, json!({"transport": transport, "retry": {"schedule_s": [0]}})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();
    let reason = &delivery["attempts"][0]["reason"];
    assert_eq!(text(reason, "code"), "connect", "{delivery}");
    text(reason, "message").to_owned()
}

/// Starts a receiver that speaks HTTP where TLS is expected.
async fn plain() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.readable().await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
            let _ = socket.shutdown().await;
        }
    });
    url
}

#[tokio::test]
async fn each_failure_says_what_to_do() {
    let host = Host::start().await;
    let authority = Authority::new();
    let clients = Authority::new();
    let trusted = || json!({"authorities": authority.pem()});
    let expired = TlsReceiver::valid_in([2020, 2021], &authority).await;
    let future = TlsReceiver::valid_in([2050, 2051], &authority).await;
    let misnamed = TlsReceiver::named("other.example", &authority, None).await;
    let usual = TlsReceiver::start(&authority, None).await;
    let mutual = TlsReceiver::start(&authority, Some(&clients)).await;
    let plain = plain().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let cases = [
        (&expired.url, trusted(), "no TLS connection: the certificate expired on 2021-01-01; renew it"),
        (&future.url, trusted(), "no TLS connection: the certificate is not valid before 2050-01-01; check the clocks"),
        (
            &misnamed.url,
            trusted(),
            "no TLS connection: the certificate is for other.example, not for 127.0.0.1; correct",
        ),
        (&usual.url, json!({}), "no TLS connection: the certificate comes from an issuer that is not trusted. If"),
        (&mutual.url, trusted(), "no TLS connection: the receiver wants a client certificate; name one in"),
        (&plain, trusted(), "no TLS connection: the receiver does not speak TLS at this port"),
        (&format!("https://{closed}/"), trusted(), "no connection: connection refused; nothing listens"),
    ];
    for (url, transport, expected) in cases {
        let message = reason(&host, url, transport).await;
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("os error") && !message.contains("UnixTime") && !message.contains('{'), "{message}");
    }
    let log = host.log();
    assert!(!log.contains("ERROR"), "{log}");
}
