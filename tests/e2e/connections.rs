//! Connections, streams and bodies: clients and tenants that hold as many as possible leave room for others.
//!
//! All of them come from one address, so that addresses cannot tell them apart.

use crate::harness::{ADMIN_KEY, Host, HostBuilder, Visitor, event, text, until};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Duration, Instant, sleep, timeout};

fn address(host: &Host) -> &str {
    host.url.strip_prefix("http://").unwrap()
}

async fn connect(host: &Host) -> TcpStream {
    TcpStream::connect(address(host)).await.unwrap()
}

/// Opens a connection and sends these bytes.
async fn having_sent(host: &Host, bytes: &[u8]) -> TcpStream {
    let mut socket = connect(host).await;
    socket.write_all(bytes).await.unwrap();
    socket
}

/// Returns the next answer on a connection as text: head, and a body of the announced length. None: the host has closed the
/// connection.
async fn answer(socket: &mut TcpStream) -> Option<String> {
    let read = async {
        let mut answer = Vec::new();
        let mut piece = [0; 4_096];
        loop {
            let whole = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = whole.split_once("\r\n\r\n") {
                let length = head.to_lowercase();
                let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                if body.len() >= length.parse::<usize>().unwrap() {
                    return Some(whole);
                }
            }
            match socket.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => answer.extend_from_slice(&piece[..read]),
            }
        }
    };
    timeout(crate::harness::PATIENCE, read).await.expect("an answer, or an end")
}

/// Checks that an event of another tenant is accepted, and that the host reports that it is ready.
async fn others_are_served(host: &Host) {
    let health = having_sent(host, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let health = answer(&mut { health }).await.expect("/healthz answers");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let events = "/v1/tenants/other/events";
    let head =
        format!("POST {events} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\n");
    let body = event("Contact is Created", 1);
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let accepted = answer(&mut having_sent(host, request.as_bytes()).await).await.expect("an answer");
    assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
}

async fn with_another_tenant(host: &Host) {
    host.post("/v1/tenants", &json!({"id": "other"})).await;
}

/// Returns the number of the host's sockets.
fn sockets(host: &Host) -> usize {
    let folder = format!("/proc/{}/fd", host.process.id().unwrap());
    let links = std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// Returns the resident memory of the host (proc(5), VmRSS), in MiB.
fn resident_mib(host: &Host) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.process.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

/// Returns the head of a batch of the default tenant.
fn batch_head(bytes: usize) -> String {
    format!(
        "POST /v1/tenants/default/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-length: {bytes}\r\n\r\n"
    )
}

#[tokio::test]
async fn silent_and_slow_and_idle_connections_give_way() {
    let host = Host::with().set("connections_max=16").set("head_timeout_s=3600").set("idle_timeout_s=3600");
    let host = host.set("stall_timeout_s=3600").start().await;
    with_another_tenant(&host).await;
    let mut held = Vec::new();
    let half_a_form = "POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nkey=";
    for bytes in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", half_a_form] {
        for _ in 0..20 {
            held.push(having_sent(&host, bytes.as_bytes()).await);
        }
        others_are_served(&host).await;
    }
    assert!(sockets(&host) < 16 + 10, "{} sockets", sockets(&host));
}

/// Opens a connection from this loopback address.
async fn connect_from(host: &Host, peer: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((peer, 0).into()).unwrap();
    socket.connect(address(host).parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_client_that_sends_a_few_requests_at_once_keeps_its_connections() {
    let host = Host::with().set("connections_max=256").set("head_timeout_s=3600").start().await;
    let mut strangers = Vec::new();
    for number in 0..=255 {
        strangers.push(connect_from(&host, [127, 3, 0, number]).await);
    }
    let (begin, end) = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".split_at(20);
    let mut at_once = Vec::new();
    for _ in 0..4 {
        let mut socket = connect_from(&host, [127, 0, 0, 9]).await;
        socket.write_all(begin).await.unwrap();
        at_once.push(socket);
    }
    for mut socket in at_once {
        socket.write_all(end).await.unwrap();
        assert!(answer(&mut socket).await.expect("an answer").starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_hung_up_on_and_one_that_reads_slowly_is_not() {
    let host = Host::with().set("stall_timeout_s=1").start().await;
    let ask = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(400);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut slow = socket.connect(address(&host).parse().unwrap()).await.unwrap();
    slow.write_all(ask.as_bytes()).await.unwrap();
    // The connection is counted only after it was accepted.
    slow.read_exact(&mut [0]).await.unwrap();
    let before = sockets(&host);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(having_sent(&host, ask.as_bytes()).await);
    }
    until("the connections to be accepted", async || (sockets(&host) >= before + 10).then_some(())).await;
    let mut read = 0;
    let mut piece = [0; 4_096];
    let begun = Instant::now();
    // Reads for three times as long as the others may stall, and until they are closed.
    while sockets(&host) > before || begun.elapsed() < Duration::from_secs(3) {
        read += timeout(crate::harness::PATIENCE, slow.read_exact(&mut piece)).await.unwrap().unwrap();
        sleep(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < crate::harness::PATIENCE, "{} sockets, {before} before", sockets(&host));
    }
    assert!(read > 0 && sockets(&host) == before, "{read} bytes read, {} sockets", sockets(&host));
}

#[tokio::test]
async fn an_idle_connection_outlives_the_deadline_of_heads() {
    let host = Host::with().set("head_timeout_s=1").start().await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut idle = having_sent(&host, request).await;
    assert!(answer(&mut idle).await.is_some());
    for half in ["", "GET /healthz HTT"] {
        let mut slow = having_sent(&host, half.as_bytes()).await;
        assert_eq!(answer(&mut slow).await, None, "it was hung up on");
    }
    idle.write_all(request).await.unwrap();
    assert!(answer(&mut idle).await.is_some());
    let host = Host::with().set("idle_timeout_s=1").start().await;
    let mut idle = having_sent(&host, request).await;
    assert!(answer(&mut idle).await.is_some());
    assert_eq!(answer(&mut idle).await, None, "it was hung up on");
}

#[tokio::test]
async fn a_tenant_has_a_share_of_the_requests_under_way() {
    let host = Host::with().set("connections_max=16").set("stall_timeout_s=3600").start().await;
    with_another_tenant(&host).await;
    // Six of twelve are under way, and as many are left to others. One more waits for a second first.
    let request = batch_head(100) + "{";
    let (refused, _held) = refused_in_the_end(&host, request.as_bytes(), Duration::from_secs(5)).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("too-many-requests"), "{refused}");
    assert!(refused.contains("retry-after:"), "{refused}");
    others_are_served(&host).await;
}

/// Sends the same bytes over more and more connections until one of them is answered. Returns that answer, and the other
/// connections.
async fn refused_in_the_end(host: &Host, bytes: &[u8], patience: Duration) -> (String, Vec<TcpStream>) {
    let give_up = Instant::now() + crate::harness::PATIENCE;
    let mut held = Vec::new();
    while Instant::now() < give_up {
        let mut socket = connect(host).await;
        let _ = socket.write_all(bytes).await;
        if timeout(patience, socket.readable()).await.is_ok() {
            return (answer(&mut socket).await.expect("an answer"), held);
        }
        held.push(socket);
    }
    panic!("nothing of {} was refused", held.len());
}

/// Starts a host with bodies of up to 4 MiB, and a budget of 16 MiB.
fn with_small_bodies() -> HostBuilder {
    let sizes = ["event_bytes_max=4194304", "batch_bytes_max=4194304", "component_bytes_max=4194304"];
    sizes.into_iter().fold(Host::with(), HostBuilder::set).set("bodies_bytes_max=16777216")
}

#[tokio::test]
async fn bodies_share_a_budget_and_what_is_over_it_is_refused() {
    let host = with_small_bodies().set("stall_timeout_s=3600").start().await;
    with_another_tenant(&host).await;
    others_are_served(&host).await;
    let before = resident_mib(&host);
    let begun = [batch_head(4 << 20).as_bytes(), &vec![b' '; 7 << 19]].concat();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..50 {
        let mut socket = connect(&host).await;
        // A host that refuses a body reads on for a while, so that its answer is seen.
        let _ = socket.write_all(&begun).await;
        held.push(socket);
    }
    // One tenant has at most half of 16 MiB, which two such bodies fill.
    until("all but two to be refused", async || {
        let mut answered = 0;
        for socket in &held {
            answered += usize::from(timeout(Duration::from_millis(1), socket.readable()).await.is_ok());
        }
        (answered >= 48).then_some(())
    })
    .await;
    for socket in &mut held {
        if timeout(Duration::from_millis(1), socket.readable()).await.is_ok() {
            let answer = answer(socket).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("over-body-budget"), "{answer}");
            assert!(answer.contains("retry-after:"), "{answer}");
            refused += 1;
        }
    }
    assert!(refused < 50, "some have room");
    let grown = resident_mib(&host).saturating_sub(before);
    assert!(grown < 100, "{grown} MiB for bodies that may take 16, of 175 that were sent");
    others_are_served(&host).await;
    let large = vec![event("Contact is Created", 1); 1_000].join("\n");
    let accepted = host.ask(Method::POST, "/v1/tenants/other/events", large).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
}

#[tokio::test]
async fn a_stalled_body_gives_its_memory_back() {
    let host = with_small_bodies().set("stall_timeout_s=1").start().await;
    let begun = [batch_head(4 << 20).as_bytes(), &vec![b' '; 7 << 19]].concat();
    let mut stalled = [having_sent(&host, &begun).await, having_sent(&host, &begun).await];
    for socket in &mut stalled {
        let answer = answer(socket).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-too-slow"), "{answer}");
    }
    let whole = [event("Contact is Created", 1), " ".repeat(4_000_000)].concat();
    assert_eq!(host.ask(Method::POST, "./events", whole).await.status, 202);
}

#[tokio::test]
async fn every_route_that_reads_a_body_is_within_the_budget() {
    let host = with_small_bodies().set("stall_timeout_s=3600").start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/plugins").await;
    let path = text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned();
    let bin = text(&host.post("./bins", &json!({"body_bytes_max": 4 << 20})).await, "id").to_owned();
    let key = format!("authorization: Bearer {ADMIN_KEY}");
    let cookie = format!("cookie: {}", visitor.cookie_line());
    let form = format!("content-type: multipart/form-data; boundary=x\r\n{cookie}");
    for (request, head, bytes) in [
        ("POST /v1/tenants/default/events", &key, 7 << 19),
        ("PUT /v1/tenants/default/plugins/p", &key, 7 << 19),
        ("POST /t/default/plugins", &form, 7 << 19),
        (&format!("POST {path}"), &"x: x".to_owned(), 7 << 19),
        (&format!("PATCH /bins/{bin}/"), &"x: x".to_owned(), 7 << 19),
        ("POST /sign-in", &"x: x".to_owned(), 60 << 10),
    ] {
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\n{head}\r\ncontent-length: {}\r\n\r\n", bytes + 1);
        let begun = [head.as_bytes(), &vec![b' '; bytes]].concat();
        let (refused, _held) = refused_in_the_end(&host, &begun, Duration::from_millis(50)).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("no memory left"), "{request}: {refused}");
    }
}

#[tokio::test]
async fn a_session_has_few_streams_and_they_end_with_it() {
    let host = Host::with().set("streams_per_session_max=2").start().await;
    let key = host.post("./keys", &json!({"scopes": ["manage"], "label": "own"})).await;
    let mut visitor = Visitor::with_key(&host, text(&key, "key")).await;
    let path = "/t/default/live?topic=attempts";
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = visitor.open_stream(path).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let oldest = streams.remove(0).text().await.unwrap();
    assert_eq!(oldest, "retry: 60000\n\n", "it says when to ask again, and ends");
    let other = Visitor::with_key(&host, text(&key, "key")).await;
    streams.push(other.open_stream(path).await);
    // Signing out ends the streams of one session, and revoking the key all of them.
    visitor.see("/t/default").await;
    visitor.post("/sign-out", &[]).await;
    for stream in streams.drain(..2) {
        assert_eq!(timeout(crate::harness::PATIENCE, stream.text()).await.expect("an end").unwrap(), "");
    }
    assert_eq!(visitor.get(path).await.status, 303, "nobody is signed in");
    let mut last = streams.remove(0);
    assert!(timeout(Duration::from_secs(2), last.chunk()).await.is_err(), "it goes on");
    host.ask(Method::DELETE, &format!("./keys/{}", text(&key, "id")), "").await;
    assert_eq!(timeout(crate::harness::PATIENCE, last.text()).await.expect("an end").unwrap(), "");
}

#[tokio::test]
async fn streams_of_many_sessions_leave_connections_to_others() {
    let host = Host::with().set("connections_max=32").start().await;
    with_another_tenant(&host).await;
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..10 {
        let stream = Visitor::admin(&host).await.open_stream("/t/default/live?topic=attempts").await;
        match stream.status().as_u16() {
            200 => streams.push(stream),
            429 => {
                assert!(stream.headers().contains_key("retry-after"));
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((streams.len(), refused), (2, 8), "half of an eighth of the connections");
    others_are_served(&host).await;
    let of_other = Visitor::admin(&host).await.open_stream("/t/other/live?topic=attempts").await;
    assert_eq!(of_other.status(), 200, "another tenant has its share");
}

#[tokio::test]
async fn delayed_replies_of_bins_are_bounded() {
    let host = Host::with().set("connections_max=16").start().await;
    with_another_tenant(&host).await;
    let bin = text(&host.post("./bins", &json!({"reply": {"delay_ms": 30_000}})).await, "id").to_owned();
    let request = format!("GET /bins/{bin}/ HTTP/1.1\r\nhost: x\r\n\r\n");
    let _held = [having_sent(&host, request.as_bytes()).await, having_sent(&host, request.as_bytes()).await];
    let received = async || host.get(&format!("./bins/{bin}")).await["received"].as_u64().unwrap();
    until("two that wait", async || (received().await == 2).then_some(())).await;
    let refused = host.ask_as("", Method::GET, &format!("/bins/{bin}/"), "").await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"5".parse().unwrap()), "{}", refused.text);
    assert_eq!(refused.json["type"], "urn:hookloom:problem:too-many-delayed-replies");
    assert_eq!(received().await, 2, "what is refused is not kept");
    others_are_served(&host).await;
}

#[tokio::test]
async fn strangers_send_small_heads_and_forms() {
    let host = Host::start().await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let refused = answer(&mut having_sent(&host, long.as_bytes()).await).await.expect("an answer");
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    let form = host.ask_as("", Method::POST, "/sign-in", "x".repeat(70_000)).await;
    assert_eq!(form.status, 413, "{}", form.text);
}
