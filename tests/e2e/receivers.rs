//! Receivers with unusual answers: malformed heads, long delays, and rate limits.

use crate::harness::{Host, RawReceiver, Receiver, event, fixtures, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

/// Starts a receiver that answers with these bytes and closes.
async fn answering(bytes: Vec<u8>) -> RawReceiver {
    RawReceiver::start(move |mut socket| {
        let bytes = bytes.clone();
        async move {
            // In two pieces, so that a head is received before it is complete.
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            let _ = socket.set_nodelay(true);
            let _ = socket.write_all(first).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            let _ = socket.write_all(rest).await;
            let _ = socket.shutdown().await;
        }
    })
    .await
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("receivers").join(name)).unwrap()
}

/// Returns an answer with these lines in its head.
fn with_lines(status: &str, lines: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n").as_bytes(), lines, b"\r\nContent-Length: 2\r\n\r\nok"].concat()
}

#[tokio::test]
async fn a_received_status_counts_in_any_malformed_head() {
    let host = Host::start().await;
    let many: Vec<u8> = (0..1_000).flat_map(|number| format!("X-{number}: 1\r\n").into_bytes()).collect();
    let cases: [(&str, Vec<u8>, u64); 15] = [
        ("folded", fixture("folded_header.http"), 200),
        ("blank before the colon", fixture("blank_before_colon.http"), 200),
        ("a hundred headers", fixture("hundred_headers.http"), 200),
        ("a thousand headers", with_lines("200 OK", &[&many[..], b"X: 1"].concat()), 200),
        ("a byte outside ASCII in a value", with_lines("200 OK", b"X-Name: M\xfcller"), 200),
        ("a byte outside ASCII in a name", with_lines("200 OK", b"X-N\xe4me: 1"), 200),
        ("a byte outside ASCII in the reason", with_lines("200 ü", b"X: 1"), 200),
        ("a control character in a value", with_lines("200 OK", b"X: a\x00b"), 200),
        ("a line without a colon", with_lines("200 OK", b"nonsense"), 200),
        ("a name that is empty", with_lines("200 OK", b": 1"), 200),
        ("two lengths", with_lines("200 OK", b"Content-Length: 7"), 200),
        ("a length that is no number", with_lines("204 No Content", b"Content-Length: none"), 204),
        ("a version that is not known", b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), 200),
        ("lines that end in LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec(), 200),
        ("a failure", with_lines("500 x", b"X: a\x00b"), 500),
    ];
    for (what, bytes, status) in cases {
        let receiver = answering(bytes).await;
        let id = host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}})).await;
        let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
        assert_eq!(delivery["attempts"][0]["status"], status, "{what}: {delivery}");
        assert_eq!(text(&delivery, "state") == "delivered", status < 300, "{what}: {delivery}");
        assert_eq!(receiver.requests(), 1, "{what}");
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();
    }
}

#[tokio::test]
async fn the_readable_part_of_an_unusual_answer_is_shown() {
    let host = Host::start().await;
    let receiver = answering(fixture("folded_header.http")).await;
    let id = host.subscription(&receiver.url, json!({})).await;
    let attempt = host.ended(&host.send(event("Contact is Created", 1)).await).await["attempts"][0].clone();
    let lines = attempt["response_headers"].to_string();
    assert!(lines.contains("content-security-policy: ") && lines.contains("img-src *"), "{lines}");
    assert_eq!(text(&attempt, "response"), "ok");
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();

    let receiver = answering(with_lines("503 Busy", b"Retry-After: 1800\r\nX: \x00")).await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0, 0]}})).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let wait_ms = delivery["due_at_ms"].as_i64().unwrap() - delivery["updated_at_ms"].as_i64().unwrap();
    assert!((1_790_000..=1_800_000).contains(&wait_ms), "{wait_ms}");
    assert!(delivery["attempts"][0]["log"].to_string().contains("its status counts"), "{delivery}");
}

#[tokio::test]
async fn an_early_answer_to_a_large_body_counts() {
    let host = Host::start().await;
    // It answers after the head and closes without reading more, so the rest of the body is refused by the system.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // The head arrives first; none of it is read.
            let _ = socket.peek(&mut [0]).await;
            let _ = socket.write_all(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            let _ = socket.shutdown().await;
        }
    });
    host.subscription(&url, json!({"retry": {"schedule_s": [0]}})).await;
    let large = format!(r#"{{"eventName":"Contact is Created","eventData":{{"id":1,"x":"{}"}}}}"#, "x".repeat(250_000));
    let delivery = host.ended(&host.send(large).await).await;
    assert_eq!(delivery["attempts"][0]["status"], 413, "{delivery}");
}

#[tokio::test]
async fn retry_after_delays_and_never_ends_a_delivery() {
    let host = Host::start().await;
    fn answer(status: &str) -> Vec<u8> {
        let head = fixture("retry_after_is_a_clock_time.http");
        String::from_utf8(head).unwrap().replace("503 Busy", status).into_bytes()
    }
    let wait_s = async |settings: Value, bytes: Vec<u8>| {
        let receiver = answering(bytes).await;
        let id = host.subscription(&receiver.url, settings).await;
        let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();
        assert_eq!(text(&delivery, "state"), "pending", "{delivery}");
        (delivery["due_at_ms"].as_i64().unwrap() - delivery["updated_at_ms"].as_i64().unwrap()) as f64 / 1_000.0
    };
    for status in ["503 Busy", "429 Too Many Requests", "404 Not Found", "500 x", "302 Found"] {
        let wait = wait_s(json!({}), answer(status)).await;
        assert!((86_390.0..=86_400.0).contains(&wait), "{status}: {wait} s");
    }
    // A day is more than this schedule allows.
    let hour = json!({"retry": {"schedule_s": [0, 5, 60], "age_max_s": 3_600}});
    let wait = wait_s(hour, answer("503 Busy")).await;
    assert!((3_300.0..3_540.0).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn the_longest_delay_is_a_setting() {
    let host = Host::with().set("retry_after_max_s=60").start().await;
    let receiver = answering(fixture("retry_after_is_a_clock_time.http")).await;
    host.subscription(&receiver.url, json!({})).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let wait_ms = delivery["due_at_ms"].as_i64().unwrap() - delivery["updated_at_ms"].as_i64().unwrap();
    assert!((50_000..=60_000).contains(&wait_ms), "{wait_ms}");
}

/// Starts a receiver with a token bucket. Returns the numbers of accepted and refused requests as well.
async fn limited(rate_per_s: f64, size: f64, refusal: &'static str) -> (RawReceiver, Arc<[AtomicUsize; 2]>) {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let bucket = Arc::new(Mutex::new((size, Instant::now())));
    let counted = counts.clone();
    let receiver = RawReceiver::start(move |mut socket| {
        let takes = {
            let mut bucket = bucket.lock().unwrap();
            let tokens = (bucket.0 + bucket.1.elapsed().as_secs_f64() * rate_per_s).min(size);
            let takes = tokens >= 1.0;
            *bucket = (if takes { tokens - 1.0 } else { tokens }, Instant::now());
            takes
        };
        counted[usize::from(!takes)].fetch_add(1, Ordering::SeqCst);
        let answer = if takes { "HTTP/1.1 200 OK\r\n" } else { refusal };
        async move {
            let head = format!("{answer}connection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = socket.write_all(head.as_bytes()).await;
        }
    })
    .await;
    (receiver, counts)
}

#[tokio::test]
async fn a_receiver_that_throttles_gets_most_of_what_it_allows() {
    const EVENTS: usize = 600;
    const RATE_PER_S: f64 = 40.0;
    for refusal in ["HTTP/1.1 503 Busy\r\n", "HTTP/1.1 429 x\r\nretry-after: 1\r\n"] {
        let host = Host::start().await;
        let (receiver, counts) = limited(RATE_PER_S, 5.0, refusal).await;
        host.subscription(&receiver.url, json!({"retry": {"schedule_s": vec![1; 20]}})).await;
        let begun = Instant::now();
        let batch: Vec<String> = (0..EVENTS).map(|number| event("Contact is Created", number)).collect();
        host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
        until("all to be delivered", async || (host.ledger().await["delivered"] == EVENTS).then_some(())).await;
        let took = begun.elapsed();
        let refused = counts[1].load(Ordering::SeqCst);
        assert!(refused * 20 <= EVENTS + refused, "{refused} of {} were refused", EVENTS + refused);
        // Other load on the machine takes time; the pure rule is tested against stricter figures.
        let allowed = Duration::from_secs_f64(EVENTS as f64 / RATE_PER_S);
        assert!(took <= allowed * 2 + Duration::from_secs(5), "{took:?}, and the receiver allows {allowed:?}");
    }
}

#[tokio::test]
async fn headers_of_an_owner_are_sent() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let headers = json!({"User-Agent": "crm/{{secret:build}}", "accept": "text/plain", "Accept-Language": "de", "traceparent": "own"});
    let also = json!({"headers": headers, "secrets": {"build": "s3cret"}, "traceparent": true});
    let id = host.subscription(&receiver.url, also).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let received = receiver.expect(1).await.remove(0);
    let sent = |name: &str| text(&received["headers"], name).to_owned();
    assert_eq!((sent("user-agent"), sent("accept")), ("crm/s3cret".to_owned(), "text/plain".to_owned()));
    assert_eq!((sent("accept-language"), sent("traceparent")), ("de".to_owned(), "own".to_owned()));
    assert!(!delivery.to_string().contains("s3cret"), "{delivery}");
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();

    host.subscription(&receiver.url, json!({})).await;
    host.ended(&host.send(event("Contact is Created", 2)).await).await;
    let received = receiver.expect(2).await.remove(1);
    assert!(text(&received["headers"], "user-agent").starts_with("hookloom/"), "{received}");
    assert_eq!(text(&received["headers"], "accept"), "application/json");
    for refused in [json!({"User_Agent": "x"}), json!({"Content-Type": "x/y"}), json!({"X-A": "1", "x-a": "2"})] {
        let body = json!({"notify_url": receiver.url, "modules": ["Contact"], "headers": refused});
        let reply = host.ask(Method::POST, "./subscriptions", body.to_string()).await;
        assert!(reply.status == 422 && reply.text.contains("/headers/"), "{refused}: {}", reply.text);
    }
}
