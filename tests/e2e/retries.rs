//! Retries: receivers that fail, hang, break the connection, or are gone.

use crate::harness::{Host, RawReceiver, Receiver, event, text, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Returns a short schedule of three attempts.
fn quick() -> Value {
    json!({"retry": {"schedule_s": [0, 0, 0]}, "timeout_ms": 1000})
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_with_the_same_id_and_body() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,503,200").await;
    host.subscription(&receiver.url, quick()).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(text(&delivery, "state"), "delivered");
    let statuses: Vec<_> = delivery["attempts"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [json!(500), json!(503), json!(200)]);
    let received = receiver.expect(3).await;
    for one in &received {
        assert_eq!(one["headers"]["webhook-id"], delivery["id"]);
        assert_eq!(one["body"], received[0]["body"]);
    }
}

#[tokio::test]
async fn attempts_end_as_dead() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500").await;
    host.subscription(&receiver.url, quick()).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!((text(&delivery, "state"), &delivery["reason"]["code"]), ("dead", &json!("attempts-exhausted")));
    assert_eq!(receiver.expect(3).await.len(), 3);
    host.ledger().await;
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let host = Host::start().await;
    fn answer(status: &str, more: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{more}content-length: 0\r\n\r\n")
    }
    let cases = [
        (answer("204 No Content", ""), "delivered", "", 1),
        (answer("302 Found", "location: http://127.0.0.1:1/\r\n"), "dead", "attempts-exhausted", 3),
        (answer("404 Not Found", ""), "dead", "attempts-exhausted", 3),
        (answer("410 Gone", ""), "dead", "gone", 1),
        ("nonsense\r\n\r\n".to_owned(), "dead", "attempts-exhausted", 3),
        (String::new(), "dead", "attempts-exhausted", 3),
        (format!("HTTP/1.1 200 OK\r\n{}", "x".repeat(200)), "dead", "attempts-exhausted", 3),
    ];
    for (bytes, state, code, attempts) in cases {
        let receiver = RawReceiver::answering(bytes.clone()).await;
        let id = host.subscription(&receiver.url, quick()).await;
        let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
        assert_eq!(text(&delivery, "state"), state, "{bytes:?}: {delivery}");
        assert_eq!(delivery["reason"]["code"].as_str().unwrap_or_default(), code, "{bytes:?}: {delivery}");
        assert_eq!(receiver.requests(), attempts, "{bytes:?}");
        let subscription = host.get(&format!("./subscriptions/{id}")).await;
        assert_eq!(subscription["state"] == "disabled", code == "gone", "{bytes:?}");
        host.ask(reqwest::Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();
    }
}

#[tokio::test]
async fn after_410_nothing_more_is_sent_and_what_waits_is_dead() {
    let host = Host::start().await;
    let receiver =
        RawReceiver::answering("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into()).await;
    let id = host.subscription(&receiver.url, json!({"concurrency": 1})).await;
    let first = host.send(event("Contact is Created", 1)).await;
    host.ended(&first).await;
    until("the disabled subscription", async || {
        (host.get(&format!("./subscriptions/{id}")).await["state"] == "disabled").then_some(())
    })
    .await;
    let accepted = host.ask(reqwest::Method::POST, "./events", event("Contact is Created", 2)).await.ok();
    assert_eq!(accepted["events"][0]["deliveries"], 0);
    assert_eq!(receiver.requests(), 1);
    assert_eq!(host.ledger().await["pending"], 0);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let host = Host::start().await;
    let receiver = RawReceiver::answering(
        "HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into(),
    )
    .await;
    host.subscription(&receiver.url, quick()).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let wait_ms = delivery["due_at_ms"].as_i64().unwrap() - delivery["updated_at_ms"].as_i64().unwrap();
    assert!((3_590_000..=3_600_000).contains(&wait_ms), "{wait_ms}");
    assert_eq!((delivery["state"].as_str(), receiver.requests()), (Some("pending"), 1));
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_at_the_deadline() {
    let host = Host::start().await;
    let receiver = RawReceiver::hanging().await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}, "timeout_ms": 1000})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!(attempt["reason"]["code"], "timeout", "{delivery}");
    let took_us = attempt["post_us"].as_u64().unwrap();
    assert!((1_000_000..2_000_000).contains(&took_us), "{took_us}");
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_cap() {
    let host = Host::start().await;
    let endless = RawReceiver::start(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while socket.write_all(&[b'x'; 4_096]).await.is_ok() {}
    })
    .await;
    host.subscription(&endless.url, json!({})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(text(&delivery, "state"), "delivered");
    assert_eq!(text(&delivery["attempts"][0], "response").len(), 16 << 10);
}

#[tokio::test]
async fn the_echo_of_the_vendors_guide_is_recognised() {
    let host = Host::start().await;
    let echo = "{\"eventName\":\"x\",\"eventData\":{}}";
    let receiver = RawReceiver::answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{echo}",
        echo.len()
    ))
    .await;
    host.subscription(&receiver.url, json!({})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!((&delivery["attempts"][0]["echoed"], text(&delivery["attempts"][0], "response")), (&json!(true), echo));
}

#[tokio::test]
async fn nobody_there() {
    let host = Host::start().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    host.subscription(&format!("http://{closed}/?secret=query"), json!({"retry": {"schedule_s": [0]}})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(delivery["attempts"][0]["reason"]["code"], "connect", "{delivery}");
    assert!(!delivery.to_string().contains("secret=query") && !host.log().contains("secret=query"));
}

#[tokio::test]
async fn a_slow_receiver_delays_only_its_lane() {
    let host = Host::start().await;
    let good = Receiver::start().await;
    let slow = RawReceiver::hanging().await;
    host.subscription(&slow.url, json!({"concurrency": 2, "timeout_ms": 30000})).await;
    host.subscription(&good.url, json!({})).await;
    for number in 0..400 {
        host.send(event("Contact is Created", number)).await;
    }
    good.expect(400).await;
    assert!(slow.requests() <= 2);
    // The last answer is received a moment before it is recorded.
    until("the last record", async || (host.ledger().await["delivered"] == 400).then_some(())).await;
    assert_eq!(host.ledger().await["pending"], 400);
}

#[tokio::test]
async fn a_receiver_that_says_when_to_come_back_is_left_alone_until_then() {
    let host = Host::start().await;
    for status in ["429 Too Many Requests", "503 Busy"] {
        let answer =
            format!("HTTP/1.1 {status}\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let receiver = RawReceiver::answering(answer).await;
        let id = host.subscription(&receiver.url, quick()).await;
        host.attempted(&host.send(event("Contact is Created", 1)).await).await;
        let second = host.send(event("Contact is Created", 2)).await;
        let explained = until("the lane to rest", async || {
            let explained = host.get(&format!("./events/{second}")).await["subscriptions"][0].clone();
            (explained["lane"]["rests_for"] == "retry-after").then_some(explained)
        })
        .await;
        assert!(text(&explained, "why").starts_with("waits: the receiver asked for a pause of"), "{explained}");
        assert_eq!(receiver.requests(), 1, "the second event waits as well");
        host.ask(reqwest::Method::DELETE, &format!("./subscriptions/{id}"), "").await.ok();
    }
}

#[tokio::test]
async fn a_delivery_that_waits_too_long_is_dead() {
    let host = Host::with().turnable().start().await;
    let receiver = Receiver::answering("500").await;
    // Ten failures in a row open the breaker.
    let retry = json!({"schedule_s": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "age_max_s": 3_600});
    host.subscription(&receiver.url, json!({"concurrency": 1, "retry": retry})).await;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(host.send(event("Contact is Created", number)).await);
    }
    receiver.expect(10).await;
    host.pass(std::time::Duration::from_secs(3_601)).await;
    for id in sent {
        let delivery = host.ended(&id).await;
        assert_eq!((text(&delivery, "state"), &delivery["reason"]["code"]), ("dead", &json!("too-old")), "{delivery}");
        assert!(text(&delivery["reason"], "message").contains("while it waited"), "{delivery}");
    }
    assert_eq!(receiver.received().len(), 10, "what was too old was not sent");
    host.ledger().await;
}

#[tokio::test]
async fn an_edit_holds_from_the_next_attempt_on() {
    let host = Host::start().await;
    let previous = Receiver::answering("500").await;
    let new = Receiver::start().await;
    fn settings(url: &str, header: &str) -> Value {
        json!({
            "notify_url": url, "modules": ["Contact"], "signing_secret": crate::harness::SECRET,
            "headers": {"x-edition": header}, "retry": {"schedule_s": [0, 3_600]},
        })
    }
    let id = text(&host.post("./subscriptions", &settings(&previous.url, "1")).await, "id").to_owned();
    let event = host.send(event("Contact is Created", 1)).await;
    let delivery = host.attempted(&event).await;
    let path = format!("./subscriptions/{id}");
    host.ask(reqwest::Method::PUT, &path, settings(&new.url, "2").to_string()).await.ok();
    host.ask(reqwest::Method::POST, &format!("./deliveries/{}/retry", text(&delivery, "id")), "").await.ok();
    let received = new.expect(1).await.remove(0);
    assert_eq!((text(&received["headers"], "x-edition"), &received["headers"]["webhook-id"]), ("2", &delivery["id"]));
    let attempts = host.ended(&event).await["attempts"].clone();
    assert_eq!((&attempts[0]["config_generation"], &attempts[1]["config_generation"]), (&json!(1), &json!(2)));
    assert_eq!(previous.received().len(), 1);
}

#[tokio::test]
async fn a_connection_is_reused_and_the_parts_of_a_post_are_recorded() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let mut reused = Vec::new();
    for number in 0..3 {
        let delivery = host.ended(&host.send(event("Contact is Created", number)).await).await;
        let timings = delivery["attempts"][0]["timings"].clone();
        let part = |name: &str| timings[name].as_u64().unwrap_or_default();
        assert!(part("first_byte_us") > 0 && part("first_byte_us") <= part("total_us"), "{timings}");
        assert_eq!(timings["reused"] == true, timings["connect_us"].is_null(), "{timings}");
        reused.push(timings["reused"] == true);
    }
    assert_eq!(reused, [false, true, true]);
}
