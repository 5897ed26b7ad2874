//! Faults that cost no attempt: those of the host, and requests that the receiver did not process.
//!
//! Each webhook here has a schedule of one attempt, so that a fault that counted would end its delivery.

use crate::harness::{Authority, Host, NameServer, NginxReceiver, RawReceiver, Receiver, event, text};
use reqwest::Method;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn once() -> Value {
    json!({"retry": {"schedule_s": [0]}})
}

/// Returns the number of host faults in the log.
fn logged(host: &Host) -> usize {
    host.log().lines().filter(|line| line.contains("this host cannot send requests")).count()
}

/// Waits until the host has tried without success, and checks that the delivery is not affected.
async fn tried_without_success(host: &Host, id: &str, words: &str) {
    let delivery = host.attempted(id).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!((text(&delivery, "state"), text(attempt, "outcome")), ("pending", "host-fault"), "{delivery}");
    assert!(text(&attempt["reason"], "message").contains(words), "{attempt}");
    assert_eq!(logged(host), 1, "{}", host.log());
}

#[tokio::test]
async fn no_file_descriptor_is_no_attempt() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let subscription = host.subscription(&receiver.url, once()).await;
    let pid = host.process.id().unwrap();
    let raw = Pid::from_raw(i32::try_from(pid).unwrap());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let open: std::collections::BTreeSet<u64> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    // From now on, only the open connection of this test can be used.
    let before = prlimit(raw, Resource::Nofile, Rlimit { current: Some(free), maximum: limit.maximum }).unwrap();
    let id = host.send(event("Contact is Created", 1)).await;
    tried_without_success(&host, &id, "too many open files").await;
    let lane = host.get(&format!("./subscriptions/{subscription}")).await["lane"].clone();
    assert_eq!(lane["breaker"], "closed", "{lane}");
    prlimit(raw, Resource::Nofile, before).unwrap();
    assert_eq!(text(&host.ended(&id).await, "state"), "delivered");
    receiver.expect(1).await;
    assert_eq!(logged(&host), 1, "{}", host.log());
}

#[tokio::test]
async fn no_route_is_no_attempt() {
    // Linux has no route for TCP to a multicast address.
    let host = Host::with().set("egress_allow=[\"224.0.0.1/32\"]").start().await;
    host.subscription("http://224.0.0.1:9999/", once()).await;
    let id = host.send(event("Contact is Created", 1)).await;
    tried_without_success(&host, &id, "no route").await;
    let why = host.get(&format!("./events/{id}")).await["subscriptions"][0].clone();
    assert!(!text(&why, "why").contains("the receiver is ill"), "{why}");
}

#[tokio::test]
async fn a_name_server_that_is_silent_about_one_family_is_believed_about_the_other() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    names.answer_ipv4_only();
    let host = Host::with().set(&format!("name_servers=[\"{}\"]", names.address)).start().await;
    let receiver = Receiver::start().await;
    let port = receiver.url.rsplit(':').next().unwrap();
    host.subscription(&format!("http://hooks.example.com:{port}"), once()).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(text(&delivery, "state"), "delivered", "{delivery}");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_before_the_request_was_read_is_no_attempt() {
    let host = Host::start().await;
    // Answers the first request of a connection, and closes without reading when the second one has arrived.
    let receiver = RawReceiver::start(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let _ = socket.readable().await;
    })
    .await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}, "concurrency": 1})).await;
    for number in 0..10 {
        let delivery = host.ended(&host.send(event("Contact is Created", number)).await).await;
        assert_eq!(text(&delivery, "state"), "delivered", "{delivery}");
        assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1, "{delivery}");
    }
    assert_eq!(receiver.requests(), 10);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_after_the_request_was_read_is_an_attempt() {
    let host = Host::start().await;
    let receiver = RawReceiver::start(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let mut piece = [0; 64 << 10];
        let mut came = Vec::new();
        while !came.ends_with(b"}}") {
            match socket.read(&mut piece).await {
                Ok(read) if read > 0 => came.extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        let _ = socket.shutdown().await;
    })
    .await;
    host.subscription(&receiver.url, once()).await;
    let mut states = Vec::new();
    for number in 0..2 {
        let delivery = host.ended(&host.send(event("Contact is Created", number)).await).await;
        states.push(text(&delivery, "state").to_owned());
    }
    assert_eq!(states, ["delivered", "dead"], "what may have been processed is not sent again at once");
    assert_eq!(receiver.requests(), 1);
}

/// Behaviour of an HTTP/2 receiver at the requests of a connection, counted from 1.
#[derive(Clone, Copy)]
enum Http2 {
    /// Sends GOAWAY after 10, and ignores streams that were opened after it. Allows this number of concurrent streams.
    GoesAwayAfter10 { streams: u32 },
    /// Refuses every other stream.
    RefusesEverySecond,
    /// Refuses every stream.
    RefusesAll,
}

/// Returns a frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// Serves one connection, and counts the processed requests.
async fn serve(how: Http2, mut io: impl AsyncRead + AsyncWrite + Unpin, taken: &AtomicUsize) -> std::io::Result<()> {
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await?;
    let streams = match how {
        Http2::GoesAwayAfter10 { streams } => streams,
        Http2::RefusesEverySecond | Http2::RefusesAll => u32::MAX,
    };
    let settings = [&MAX_CONCURRENT_STREAMS.to_be_bytes()[..], &streams.to_be_bytes()].concat();
    io.write_all(&frame(SETTINGS, 0, 0, &settings)).await?;
    let mut requests = 0;
    let mut opened = 0;
    let mut last = None;
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        io.read_exact(&mut payload).await?;
        if head[3] == HEADERS {
            opened = opened.max(stream);
        }
        match (head[3], head[4]) {
            // Streams opened after the GOAWAY are ignored, as the frame says.
            _ if last.is_some_and(|last| stream > last) => {}
            (SETTINGS, flags) if flags & ACK == 0 => io.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            (PING, flags) if flags & ACK == 0 => io.write_all(&frame(PING, ACK, 0, &payload)).await?,
            (DATA | HEADERS, flags) if flags & END_STREAM != 0 => {
                requests += 1;
                let refuses = match how {
                    Http2::GoesAwayAfter10 { .. } => false,
                    Http2::RefusesEverySecond => requests % 2 == 0,
                    Http2::RefusesAll => true,
                };
                if refuses {
                    io.write_all(&frame(RST_STREAM, 0, stream, &7u32.to_be_bytes())).await?;
                    continue;
                }
                taken.fetch_add(1, Ordering::SeqCst);
                // `:status: 200` of the static table, with END_HEADERS and END_STREAM.
                io.write_all(&frame(HEADERS, 5, stream, &[0x88])).await?;
                if matches!(how, Http2::GoesAwayAfter10 { .. }) && requests == 10 {
                    last = Some(opened);
                    let payload = [opened.to_be_bytes(), 0u32.to_be_bytes()].concat();
                    io.write_all(&frame(GOAWAY, 0, 0, &payload)).await?;
                }
            }
            _ => {}
        }
        io.flush().await?;
    }
}

/// Starts an HTTP/2 receiver. Returns its URL and the number of processed requests.
async fn http2(how: Http2, authority: &Authority) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let acceptor = authority.acceptor("127.0.0.1", "h2");
    let counted = taken.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            let counted = counted.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    let _ = serve(how, stream, &counted).await;
                }
            });
        }
    });
    (url, taken)
}

#[tokio::test]
async fn a_request_that_http2_reports_as_unprocessed_is_no_attempt() {
    const EVENTS: usize = 200;
    let authority = Authority::new();
    let few = Http2::GoesAwayAfter10 { streams: 2 };
    for how in [Http2::GoesAwayAfter10 { streams: 100 }, few, Http2::RefusesEverySecond] {
        let host = Host::start().await;
        let (url, taken) = http2(how, &authority).await;
        let also =
            json!({"transport": {"authorities": authority.pem()}, "retry": {"schedule_s": [0]}, "timeout_ms": 30_000});
        host.subscription(&url, also).await;
        let batch: Vec<String> = (0..EVENTS).map(|number| event("Contact is Created", number)).collect();
        host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
        host.drained().await;
        let ledger = host.ledger().await;
        assert_eq!(ledger["delivered"], EVENTS, "{ledger}");
        assert_eq!(taken.load(Ordering::SeqCst), EVENTS, "each was taken once");
    }
}

#[tokio::test]
async fn nginx_that_ends_its_connections_costs_no_attempt() {
    const EVENTS: usize = 1_000;
    let authority = Authority::new();
    let host = Host::start().await;
    // The default is 1,000 requests of a connection; then nginx sends a GOAWAY, and so 100 times here.
    let nginx = NginxReceiver::start(&authority, "keepalive_requests 10;").await;
    let also =
        json!({"transport": {"authorities": authority.pem()}, "retry": {"schedule_s": [0]}, "timeout_ms": 30_000});
    host.subscription(&nginx.url, also).await;
    for tens in 0..EVENTS / 10 {
        let batch: Vec<String> = (0..10).map(|number| event("Contact is Created", 10 * tens + number)).collect();
        host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
    }
    host.drained().await;
    let dead = host.get("./deliveries?state=dead").await["deliveries"].clone();
    assert_eq!(dead, json!([]));
    assert_eq!(host.ledger().await["delivered"], EVENTS);
    let received = nginx.receiver.expect(EVENTS).await;
    assert_eq!(received.len(), EVENTS, "each was processed once");
}

#[tokio::test]
async fn a_receiver_that_refuses_every_stream_ends_the_attempt() {
    let host = Host::start().await;
    let authority = Authority::new();
    let (url, taken) = http2(Http2::RefusesAll, &authority).await;
    let also =
        json!({"transport": {"authorities": authority.pem()}, "retry": {"schedule_s": [0]}, "timeout_ms": 30_000});
    host.subscription(&url, also).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let reason = &delivery["attempts"][0]["reason"];
    assert_eq!(text(reason, "code"), "broken", "{delivery}");
    assert!(text(reason, "message").contains("REFUSED_STREAM"), "{reason}");
    assert_eq!(taken.load(Ordering::SeqCst), 0);
}
