//! Address guard with sockets: dialled addresses, and what messages reveal about them. The table of addresses and URLs is in
//! `host/model/src/address/cases.rs`.

use crate::harness::{Authority, Host, NameServer, RawReceiver, Receiver, TlsReceiver, event, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Returns the reason of the only attempt of a new event.
async fn refused(host: &Host) -> String {
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let reason = &delivery["attempts"][0]["reason"];
    format!("{} {}", text(reason, "code"), text(reason, "message"))
}

#[tokio::test]
async fn a_tenant_is_narrowed_and_never_widened() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}})).await;
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    receiver.expect(1).await;
    let narrow = |egress: Value| host.ask(Method::PATCH, "/v1/tenants/default", json!({"egress": egress}).to_string());
    let unfit = narrow(json!({"deny": ["nowhere"]})).await;
    assert_eq!(unfit.status, 422, "{}", unfit.text);
    // The narrowing applies at once, also to open connections.
    narrow(json!({"deny": ["127.0.0.0/8"]})).await.ok();
    let message = refused(&host).await;
    assert!(
        message
            .starts_with("address-refused the address 127.0.0.1 is refused: denied by the operator; its range is in"),
        "{message}"
    );
    narrow(json!({"only": ["203.0.113.0/24"]})).await.ok();
    let message = refused(&host).await;
    assert!(message.contains("outside of the tenant's ranges; an admin names"), "{message}");
    let body = json!({"notify_url": receiver.url, "modules": ["Contact"]}).to_string();
    let made = host.ask(Method::POST, "./subscriptions", body).await;
    assert!(made.status == 422 && made.text.contains("outside of the tenant's ranges"), "{}", made.text);
    // Other tenants are not affected, and a key of the tenant cannot undo it.
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
    fn url(url: &str) -> String {
        json!({"notify_url": url, "modules": ["Contact"]}).to_string()
    }
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

/// Starts a host that may dial only the second loopback address, and that uses this name server.
async fn host_with(names: &NameServer) -> Host {
    Host::with()
        .guarded()
        .set("egress_allow=[\"127.0.0.2/32\"]")
        .set(&format!("name_servers=[\"{}\"]", names.address))
        .start()
        .await
}

/// Starts a receiver on the second loopback address. Returns its name as well.
async fn named_receiver() -> (RawReceiver, String) {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let receiver = RawReceiver::start_on("127.0.0.2", move |mut socket| async move {
        let _ = socket.write_all(answer.as_bytes()).await;
    })
    .await;
    let port = receiver.url.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    (receiver, format!("http://hooks.example.com:{port}/"))
}

/// Row 35: a name server that answers differently the second time gains nothing.
#[tokio::test]
async fn a_name_is_dialled_where_it_was_vetted() {
    let names = NameServer::answering(&["127.0.0.2"]).await;
    let host = host_with(&names).await;
    let (receiver, url) = named_receiver().await;
    host.subscription(&url, json!({"retry": {"schedule_s": [0]}})).await;
    let delivered = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(delivered["attempts"][0]["status"], 200, "{delivered}");
    assert!(delivered["attempts"][0]["timings"]["dns_us"].as_u64().unwrap() > 0, "{delivered}");
    assert_eq!((names.questions(), receiver.requests()), (1, 1), "one lookup is vetted and dialled");
    // Another receiver has the same port at the address to which the name resolves now.
    let port = receiver.url.trim_end_matches('/').rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let inside = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    names.answer(&["127.0.0.1"]);
    let message = refused(&host).await;
    assert!(
        message.starts_with("address-refused the name resolves to an address that is refused: loopback"),
        "{message}"
    );
    assert!(!message.contains("127.0.0.1"), "what an internal name resolves to is not told: {message}");
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(200), inside.accept()).await;
    assert!(nobody.is_err() && receiver.requests() == 1);
}

/// Rows 36 and 37: one refused address refuses the name, at any position, without a fallback.
#[tokio::test]
async fn a_mixed_answer_is_refused_as_a_whole() {
    let names = NameServer::answering(&["127.0.0.2", "127.0.0.1"]).await;
    let host = host_with(&names).await;
    let (receiver, url) = named_receiver().await;
    host.subscription(&url, json!({"retry": {"schedule_s": [0]}})).await;
    for answer in [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "10.0.0.1"]] {
        names.answer(&answer);
        let message = refused(&host).await;
        assert!(message.starts_with("address-refused"), "{answer:?}: {message}");
    }
    assert_eq!(receiver.requests(), 0);
}

/// Row 49: a silent name server costs a separate deadline.
#[tokio::test]
async fn a_silent_name_server_has_a_deadline() {
    let names = NameServer::answering(&[]).await;
    let host = host_with(&names).await;
    host.subscription("http://hooks.example.com/", json!({"retry": {"schedule_s": [0]}, "timeout_ms": 1_000})).await;
    let message = refused(&host).await;
    assert!(message.starts_with("timeout no answer within 1000 ms"), "{message}");
}

/// Row 33: search domains of the machine are not appended to names.
#[tokio::test]
async fn a_name_is_a_whole_name() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let host = host_with(&names).await;
    fn made(name: &str) -> String {
        json!({"notify_url": format!("http://{name}/"), "modules": ["Contact"]}).to_string()
    }
    for name in ["metadata.google.internal", "kubernetes.default.svc", "db"] {
        host.ask(Method::POST, "./subscriptions", made(name)).await.ok();
    }
    let id = host.send(event("Contact is Created", 1)).await;
    for delivery in host.deliveries_when(&id, |delivery| delivery["attempts"][0].is_object()).await {
        assert_eq!(text(&delivery["attempts"][0]["reason"], "code"), "address-refused", "{delivery}");
    }
    assert_eq!(names.questions(), 3, "each name is asked for once, as it is");
}

/// Row 38: an open connection does not outlive the policy that allowed it, neither by name nor by address.
#[tokio::test]
async fn an_open_connection_does_not_outlive_its_policy() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let receiver = Receiver::start().await;
    let host = Host::with().set(&format!("name_servers=[\"{}\"]", names.address)).start().await;
    let port = receiver.url.trim_end_matches('/').rsplit(':').next().unwrap();
    host.subscription(&format!("http://hooks.example.com:{port}/"), json!({"retry": {"schedule_s": [0]}})).await;
    let mut attempts = Vec::new();
    for number in 0..2 {
        attempts.push(host.ended(&host.send(event("Contact is Created", number)).await).await["attempts"][0].clone());
    }
    assert_eq!(attempts[1]["timings"]["reused"], true, "{attempts:?}");
    let narrow = json!({"egress": {"deny": ["127.0.0.1/32"]}}).to_string();
    host.ask(Method::PATCH, "/v1/tenants/default", narrow).await.ok();
    assert!(refused(&host).await.starts_with("address-refused"));
    assert_eq!(receiver.received().len(), 2);
}

/// Rows 41 and 48: a URL chosen by a plugin is vetted as well, and messages reveal nothing about its destination.
#[tokio::test]
async fn a_plugins_url_is_vetted_too() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("whole", crate::contract::frozen("whole")).await;
    for (number, target) in
        ["http://169.254.169.254/latest", "http://10.0.0.1/", "file:///etc/passwd"].iter().enumerate()
    {
        let config = json!({"url": target});
        let hosts = json!(["169.254.169.254", "10.0.0.1", ""]);
        let also = json!({"plugin": "whole", "config": config, "url_hosts": hosts, "retry": {"schedule_s": [0]}});
        let id = host.subscription(&receiver.url, also).await;
        let delivery = host.attempted(&host.send(event("Contact is Created", number)).await).await;
        let attempt = &delivery["attempts"][0];
        assert_eq!(text(&attempt["reason"], "code"), "address-refused", "{target}: {delivery}");
        assert!(attempt["response"].is_null() && attempt["status"].is_null(), "{delivery}");
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
    assert!(receiver.received().is_empty());
}

/// Row 44: a host does not deliver to itself, by address or by name.
#[tokio::test]
async fn the_host_does_not_call_itself() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let host = Host::with().set(&format!("name_servers=[\"{}\"]", names.address)).start().await;
    let token = host.post("./intake-tokens", &json!({"label": "crm"})).await;
    let path = text(&token, "path");
    let literal = json!({"notify_url": format!("{}{path}", host.url), "modules": ["Contact"]}).to_string();
    let made = host.ask(Method::POST, "./subscriptions", literal).await;
    assert!(made.status == 422 && made.text.contains("leads back to this host"), "{}", made.text);
    let port = host.url.rsplit(':').next().unwrap();
    host.subscription(&format!("http://hooks.example.com:{port}{path}"), json!({"retry": {"schedule_s": [0]}})).await;
    let message = refused(&host).await;
    assert!(message.starts_with("address-refused the URL leads back to this host"), "{message}");
    assert_eq!(host.ledger().await["events"], 1, "the event did not come in again");
}

/// Another service at the host's port of another loopback address is not a bin, whatever its path.
#[tokio::test]
async fn another_service_on_the_host_is_no_bin() {
    let host = Host::with().guarded().start().await;
    let port = host.url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let service = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let made = async |url: &str| {
        let body = json!({"notify_url": url, "modules": ["Contact"]}).to_string();
        host.ask(Method::POST, "./subscriptions", body).await
    };
    for address in ["127.0.0.2", "[::1]", "localhost"] {
        let made = made(&format!("http://{address}:{port}/bins/x")).await;
        assert!(made.status == 422 && made.text.contains("/notify_url"), "{address}: {}", made.text);
    }
    let bin = host.post("./bins", &json!({})).await;
    let receiver = format!("http://127.0.0.1:{port}{}", text(&bin, "path"));
    made(&receiver).await.ok();
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(delivery["attempts"][0]["status"], 200, "{delivery}");
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(200), service.accept()).await;
    assert!(nobody.is_err());
}

/// A plugin cannot replace https by http, unless the owner allows it.
#[tokio::test]
async fn a_plugin_makes_no_http_of_https() {
    let host = Host::start().await;
    let plain = Receiver::start().await;
    host.plugin("whole", crate::contract::frozen("whole")).await;
    for (allowed, came_to) in [(false, json!("plugin-bad-output")), (true, json!(null))] {
        let also = json!({
            "plugin": "whole", "config": {"url": plain.url}, "url_allow_http": allowed, "retry": {"schedule_s": [0]},
        });
        let id = host.subscription("https://127.0.0.1:1/", also).await;
        let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
        assert_eq!(delivery["attempts"][0]["reason"]["code"], came_to, "{delivery}");
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
    assert_eq!(plain.expect(1).await.len(), 1);
}

/// Row 49: a receiver that accepts and then sends nothing, also in the middle of the TLS handshake, costs the deadline.
#[tokio::test]
async fn a_silent_handshake_has_a_deadline() {
    let host = Host::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    host.subscription(&url, json!({"timeout_ms": 1_000, "retry": {"schedule_s": [0]}})).await;
    assert!(refused(&host).await.starts_with("timeout no answer within 1000 ms"));
}

/// Row 51: TLS verifies the name in the URL, even though an address is dialled.
#[tokio::test]
async fn tls_is_about_the_name() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let authority = Authority::new();
    let host = Host::with().set(&format!("name_servers=[\"{}\"]", names.address)).start().await;
    let receiver = TlsReceiver::named("hooks.example.com", &authority, None).await;
    let port = receiver.url.trim_end_matches('/').rsplit(':').next().unwrap();
    let also = json!({"transport": {"authorities": authority.pem()}, "retry": {"schedule_s": [0]}});
    for (name, status) in [("hooks.example.com", json!(200)), ("other.example.com", json!(null))] {
        let id = host.subscription(&format!("https://{name}:{port}/"), also.clone()).await;
        let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
        assert_eq!(delivery["attempts"][0]["status"], status, "{name}: {delivery}");
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
}

/// Row 52: a name that looks like another one is also shown as it is resolved.
#[tokio::test]
async fn a_name_in_other_letters_is_shown_both_ways() {
    let host = Host::start().await;
    let made = json!({"notify_url": "https://pаypal.example/", "modules": ["Contact"]}).to_string();
    let made = host.ask(Method::POST, "./subscriptions", made).await.ok();
    assert_eq!(
        (text(&made, "notify_url"), text(&made, "ascii_host")),
        ("https://pаypal.example/", "xn--pypal-4ve.example")
    );
    let plain = json!({"notify_url": "https://Hooks.example.com/", "modules": ["Contact"]}).to_string();
    assert!(host.ask(Method::POST, "./subscriptions", plain).await.ok()["ascii_host"].is_null());
}

/// Row 53: the start reports each check that is disabled.
#[tokio::test]
async fn disabled_checks_are_reported() {
    let host = Host::with().set("egress_allow=[\"10.0.0.0/8\"]").start().await;
    assert!(host.log().contains("the address guard lets Notify URLs name this machine (allow_loopback)"));
    let health = host.ask_as("", Method::GET, "/healthz", "").await.ok();
    assert_eq!(health["switched_off"], json!(["address guard for loopback", "address guard for 1 ranges"]));
}

#[tokio::test]
async fn credentials_in_a_url_are_refused_and_logged_nowhere() {
    let host = Host::with().set("log=trace").start().await;
    fn with(url: &str) -> String {
        json!({"notify_url": url, "modules": ["Contact"]}).to_string()
    }
    let refused =
        host.ask(Method::POST, "./subscriptions", with("https://kim:s3cr3t-password@hooks.example.com/")).await;
    assert!(refused.status == 422 && refused.text.contains("holds credentials"), "{}", refused.text);
    assert!(!refused.text.contains("s3cr3t-password") && !host.log().contains("s3cr3t-password"));
    // For a receiver that answers, the message reveals as little as for one that does not.
    let receiver = Receiver::start().await;
    host.subscription(&format!("{}?key=s3cr3t-query", receiver.url), json!({})).await;
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    receiver.expect(1).await;
    assert!(!host.log().contains("s3cr3t-query"));
}
