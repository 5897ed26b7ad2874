//! Flow control of lanes: window, circuit breaker, rate, and first attempts before retries.

use crate::harness::{Host, RawReceiver, Receiver, event, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

/// Sends this number of events of different contacts.
async fn send(host: &Host, events: usize) {
    let batch: Vec<String> = (0..events).map(|number| event("Contact is Created", number)).collect();
    host.ask(Method::POST, "./events", batch.join("\n")).await.ok();
}

/// Starts a receiver that answers with the present value of `status`.
async fn switchable(status: Arc<AtomicU16>) -> RawReceiver {
    RawReceiver::start(move |mut socket| {
        let status = status.load(Ordering::SeqCst);
        async move {
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_receiver_that_throttles_is_asked_less_and_then_more_again() {
    let status = Arc::new(AtomicU16::new(429));
    let host = Host::start().await;
    let receiver = switchable(status.clone()).await;
    // More attempts than a busy machine can use before the halved window is seen.
    let retry = json!({"schedule_s": vec![1; 30]});
    let id = host.subscription(&receiver.url, json!({"concurrency": 8, "retry": retry})).await;
    let window =
        async || host.get(&format!("./subscriptions/{id}")).await["lane"]["window"].as_u64().unwrap_or(u64::MAX);
    host.send(event("Contact is Created", 1)).await;
    until("half of the window", async || (window().await <= 4).then_some(())).await;
    status.store(200, Ordering::SeqCst);
    send(&host, 200).await;
    until("all to be delivered", async || (host.ledger().await["delivered"] == 201).then_some(())).await;
    until("the whole window", async || (window().await == 8).then_some(())).await;
}

#[tokio::test]
async fn a_failing_receiver_is_paused_and_tried_again() {
    let status = Arc::new(AtomicU16::new(500));
    let host = Host::with().turnable().start().await;
    let receiver = switchable(status.clone()).await;
    let also = json!({"concurrency": 1, "retry": {"schedule_s": [0, 600]}});
    let id = host.subscription(&receiver.url, also).await;
    send(&host, 30).await;
    let lane = async || host.get(&format!("./subscriptions/{id}")).await["lane"].clone();
    until("the breaker", async || (lane().await["breaker"] == "open").then_some(())).await;
    let words = "waits: the receiver is failing, so its circuit breaker is open for";
    // On a busy machine, the breaker may be half-open for a moment: one more request fails, and it opens for twice as long.
    until("the explanation", async || {
        let waiting = host.get("./deliveries?state=pending&limit=1").await["deliveries"][0].clone();
        let event = host.get(&format!("./events/{}", text(&waiting, "event"))).await;
        text(&event["subscriptions"][0], "why").starts_with(words).then_some(())
    })
    .await;
    status.store(200, Ordering::SeqCst);
    // Longer than the breaker was open, also if it has opened again.
    host.pass(Duration::from_secs(21)).await;
    let failed = until("the others", async || {
        let pending = host.get("./deliveries?state=pending&limit=500").await["deliveries"].as_array().unwrap().clone();
        let have_failed = pending.iter().all(|one| one["attempts_made"] == 1);
        (have_failed && host.ledger().await["delivered"] == 30 - pending.len()).then_some(pending.len())
    })
    .await;
    assert!((10..15).contains(&failed), "{failed} failed; the others wait, and use up none of their attempts");
    assert_eq!(lane().await["breaker"], "closed");
    assert_eq!(receiver.requests(), 30);
}

#[tokio::test]
async fn requests_begin_at_the_rate_that_the_owner_allows() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"rate_per_s": 20})).await;
    let begun = Instant::now();
    send(&host, 70).await;
    receiver.expect(70).await;
    // The events of one second are sent at once.
    assert!(begun.elapsed() >= Duration::from_millis(2_400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_rate_outlives_edits_and_reloads() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    let settings = |description: usize| {
        json!({"notify_url": receiver.url, "modules": ["Contact"], "plugin": "p",
        "signing_secret": crate::harness::SECRET, "rate_per_s": 5, "description": description.to_string()})
    };
    let id = text(&host.post("./subscriptions", &settings(0)).await, "id").to_owned();
    let begun = Instant::now();
    send(&host, 20).await;
    for number in 1..10 {
        host.ask(Method::PUT, &format!("./subscriptions/{id}"), settings(number).to_string()).await.ok();
        host.plugin("p", guest(if number % 2 == 0 { "passes" } else { "appends" })).await;
    }
    receiver.expect(20).await;
    // Five at once and fifteen in three seconds. A bucket that each edit filled again would be empty at once.
    assert!(begun.elapsed() >= Duration::from_millis(2_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_new_event_does_not_wait_behind_retries() {
    let host = Host::start().await;
    // Slow, so that the order of arrival is the order of sending.
    let receiver = RawReceiver::start(|mut socket| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = socket.write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    let also = json!({"concurrency": 2, "retry": {"schedule_s": vec![0; 100]}});
    host.subscription(&receiver.url, also).await;
    send(&host, 300).await;
    until("a first attempt of each", async || {
        let pending = host.get("./deliveries?state=pending&limit=500").await;
        pending["deliveries"].as_array().unwrap().iter().all(|one| one["attempts_made"] != 0).then_some(())
    })
    .await;
    let before = receiver.requests();
    let id = host.send(event("Contact is Updated", 777)).await;
    host.attempted(&id).await;
    // Three hundred retries were due, thirty of which take as long as this test lets a new event wait.
    let came_first = receiver.requests() - before;
    assert!(came_first <= 30, "{came_first} requests came first");
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_disabled_too() {
    let host = Host::with().turnable().start().await;
    let receiver = Receiver::answering("404").await;
    let also =
        json!({"disable_after_s": 432_000, "retry": {"schedule_s": [0, 302_400, 302_400], "age_max_s": 1_000_000}});
    let id = host.subscription(&receiver.url, also).await;
    let sent = host.send(event("Contact is Created", 1)).await;
    let path = format!("./subscriptions/{id}");
    for attempts in 1..=2 {
        attempted_times(&host, &sent, attempts).await;
        assert_eq!(host.get(&path).await["state"], "active", "after {attempts} attempts");
        host.pass(Duration::from_secs(400_000)).await;
    }
    until("it to be disabled", async || (host.get(&path).await["state"] == "disabled").then_some(())).await;
}

/// Waits until the delivery of an event has had this number of attempts.
async fn attempted_times(host: &Host, event: &str, attempts: usize) {
    let path = format!("./events/{event}");
    until("the attempt", async || (host.get(&path).await["deliveries"][0]["attempts_made"] == attempts).then_some(()))
        .await;
}

#[tokio::test]
async fn a_disabled_subscription_causes_a_host_event() {
    let host = Host::start().await;
    let watcher = Receiver::start().await;
    let gone = Receiver::answering("410").await;
    let modules = json!(["Subscription"]);
    host.subscription(&watcher.url, json!({"modules": modules, "description": "watcher"})).await;
    let id = host.subscription(&gone.url, json!({"modules": ["Contact"], "description": "crm to erp"})).await;
    host.send(event("Contact is Created", 1)).await;
    let received: Value = serde_json::from_str(text(&watcher.expect(1).await[0], "body")).unwrap();
    assert_eq!(text(&received, "eventName"), "Subscription is Disabled");
    let data = &received["eventData"];
    assert_eq!((text(data, "id"), text(data, "description")), (id.as_str(), "crm to erp"));
    assert!(text(data, "reason").contains("410"), "{received}");

    // No sender may send such an event, or use its name.
    let forged = host.ask(Method::POST, "./events", received.to_string()).await;
    assert_eq!(forged.status, 422, "{}", forged.text);
    let names = json!({"event_types": {"Subscription is Disabled": {"module": "Subscription"}}});
    let refused = host.ask(Method::PATCH, "/v1/tenants/default", names.to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("an event name of the host"), "{}", refused.text);
    host.ledger().await;
}

#[tokio::test]
async fn a_schedule_that_waits_at_first_does_so_for_every_event() {
    let host = Host::with().turnable().start().await;
    let watcher = Receiver::start().await;
    let gone = Receiver::answering("410").await;
    let also = json!({"modules": ["Contact", "Subscription"], "retry": {"schedule_s": [120]}});
    let waits = host.subscription(&watcher.url, also).await;
    host.subscription(&gone.url, json!({"modules": ["Contact"]})).await;
    // The event disables the second subscription, which causes a host event.
    host.send(event("Contact is Created", 1)).await;
    until("the host event", async || (host.ledger().await["events"] == 2).then_some(())).await;
    assert_eq!(watcher.received().len(), 0);
    host.pass(Duration::from_secs(121)).await;
    watcher.expect(2).await;
    let recorded = until("both to be recorded", async || {
        let all = host.get(&format!("./deliveries?subscription={waits}")).await["deliveries"].take();
        Some(all).filter(|all| all.as_array().unwrap().iter().all(|one| one["state"] == "delivered"))
    });
    for one in recorded.await.as_array().unwrap() {
        let delivery = host.get(&format!("./deliveries/{}", text(one, "id"))).await;
        let begun = delivery["attempts"][0]["started_at_ms"].as_i64().unwrap();
        let waited = begun - delivery["created_at_ms"].as_i64().unwrap();
        assert!(waited >= 120_000, "{waited} ms: {delivery}");
    }
}

#[tokio::test]
async fn a_receiver_that_fails_for_too_long_is_disabled() {
    let host = Host::with().turnable().start().await;
    let receiver = Receiver::answering("500").await;
    let watcher = Receiver::start().await;
    // Below the five minutes that a receiver allows between its clock and a signature's.
    let also = json!({"disable_after_s": 120, "retry": {"schedule_s": [0, 80, 80]}});
    let id = host.subscription(&receiver.url, also).await;
    host.subscription(&watcher.url, json!({"modules": ["Subscription"]})).await;
    let sent = host.send(event("Contact is Created", 1)).await;
    let path = format!("./subscriptions/{id}");
    for attempts in 1..=2 {
        attempted_times(&host, &sent, attempts).await;
        host.pass(Duration::from_secs(100)).await;
    }
    let disabled = until("it to be disabled", async || {
        Some(host.get(&path).await).filter(|subscription| subscription["state"] == "disabled")
    })
    .await;
    assert!(text(&disabled, "state_reason").contains("has failed for"), "{disabled}");
    let received = watcher.expect(1).await.remove(0);
    assert!(
        text(&received, "body").contains("Subscription is Disabled") && text(&received, "body").contains(&id),
        "{received}"
    );
    // After the resumption, the count starts over: one failure does not disable the subscription again.
    host.post(&format!("{path}/resume"), &json!({})).await;
    host.attempted(&host.send(event("Contact is Created", 2)).await).await;
    assert_eq!(host.get(&path).await["state"], "active");
}

#[tokio::test]
async fn an_event_is_explained_for_every_subscription() {
    let host = Host::start().await;
    let receiver = Receiver::answering("200").await;
    for plugin in ["passes", "invalid_event", "panics"] {
        host.plugin(&plugin.replace('_', "-"), guest(plugin)).await;
    }
    let paused = host.subscription(&receiver.url, json!({"description": "paused"})).await;
    host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "holiday"})).await;
    for (description, also) in [
        ("deals", json!({"modules": ["Deal"]})),
        ("passes", json!({"plugin": "passes"})),
        ("dies", json!({"plugin": "invalid-event"})),
        ("panics", json!({"plugin": "panics"})),
        ("fails", json!({"notify_url": "http://127.0.0.1:1/", "retry": {"schedule_s": [0, 3_600]}})),
    ] {
        let mut also = also;
        also["description"] = json!(description);
        host.subscription(&receiver.url, also).await;
    }
    let id = host.send(event("Contact is Created", 1)).await;
    host.deliveries_when(&id, |delivery| delivery["attempts"][0].is_object() || delivery["subscription"] == *paused)
        .await;
    host.subscription(&receiver.url, json!({"description": "later"})).await;
    let explained = host.get(&format!("./events/{id}")).await;
    let why = |description: &str| {
        let own = |one: &&Value| text(one, "description") == description;
        text(explained["subscriptions"].as_array().unwrap().iter().find(own).unwrap(), "why").to_owned()
    };
    #[track_caller]
    fn check(why: String, expected: &str) {
        assert!(why.contains(expected), "{why}");
    }
    check(why("paused"), "waits: the subscription is paused (holiday)");
    check(why("deals"), "not matched: its modules do not include Contact");
    check(why("passes"), "delivered by attempt 1, answered 200");
    check(why("dies"), "dead: ");
    check(why("panics"), "waits for another version or config of its plugin; the last attempt: plugin-error");
    check(why("fails"), "is attempted again in 3");
    check(why("later"), "made after the event; a replay delivers it");
}

/// Tenants whose receivers hang use free permits; a tenant that comes later always finds one.
#[tokio::test]
async fn tenants_with_many_slow_receivers_leave_room_for_others() {
    let host = Host::with().set("attempts_max=64").start().await;
    let good = Receiver::start().await;
    let hanging = RawReceiver::hanging().await;
    let subscribe = async |tenant: &str, url: &str| {
        let body = json!({
            "notify_url": url, "modules": ["Contact"], "signing_secret": crate::harness::SECRET, "timeout_ms": 30_000,
        });
        text(&host.post(&format!("/v1/tenants/{tenant}/subscriptions"), &body).await, "id").to_owned()
    };
    let send_to = async |tenant: &str, events: usize| {
        let batch: Vec<_> = (0..events).map(|number| event("Contact is Created", number)).collect();
        let path = format!("/v1/tenants/{tenant}/events");
        host.ask(Method::POST, &path, batch.join("\n")).await.ok();
    };
    let mut expected = 0;
    for (tenant, most) in [("a", 32), ("b", 16), ("c", 8), ("d", 4)] {
        host.post("/v1/tenants", &json!({"id": tenant})).await;
        for number in 0..3 {
            subscribe(tenant, &format!("{}{number}", hanging.url)).await;
        }
        send_to(tenant, 30).await;
        // Fewer permits than a batch may stay free.
        expected += most / 2;
        until("a tenant to use what is free", async || (hanging.requests() >= expected).then_some(())).await;
    }
    host.post("/v1/tenants", &json!({"id": "late"})).await;
    subscribe("late", &good.url).await;
    let begun = Instant::now();
    send_to("late", 1).await;
    good.expect(1).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(hanging.requests() < 64, "{}: something is always free", hanging.requests());
}

/// Nothing is sent after a pause was answered, even if a plugin has judged the event and it waits for a permit.
#[tokio::test]
async fn a_waiting_request_is_released_when_its_webhook_is_paused() {
    let host = Host::with().set("attempts_max=1").start().await;
    let good = Receiver::start().await;
    let hanging = RawReceiver::hanging().await;
    host.plugin("passes", guest("passes")).await;
    let judged = host.subscription(&good.url, json!({"plugin": "passes", "modules": ["Deal"]})).await;
    // The only permit to send is held while the receiver hangs.
    let also = json!({"timeout_ms": 5_000, "modules": ["Contact"], "retry": {"schedule_s": [0]}});
    host.subscription(&hanging.url, also).await;
    let held = host.send(event("Contact is Created", 1)).await;
    until("the permit to be held", async || (hanging.requests() == 1).then_some(())).await;
    let waits = host.send(event("Opportunity is Created", 2)).await;
    until("the plugin to have judged", async || {
        let metrics = host.ask(Method::GET, "/metrics", "").await.text;
        metrics.contains("hookloom_plugin_calls_total{").then_some(())
    })
    .await;
    host.post(&format!("./subscriptions/{judged}/pause"), &json!({"reason": "holiday"})).await;
    host.ended(&held).await;
    until("the attempt to be given back", async || {
        let lane = host.get(&format!("./subscriptions/{judged}")).await["lane"].clone();
        (lane["in_flight"] == 0).then_some(())
    })
    .await;
    assert!(good.received().is_empty(), "a request began after the pause was answered");
    host.post(&format!("./subscriptions/{judged}/resume"), &json!({})).await;
    let delivery = host.ended(&waits).await;
    assert_eq!((text(&delivery, "state"), &delivery["attempts"][0]["number"]), ("delivered", &json!(1)), "{delivery}");
    assert_eq!((good.received().len(), delivery["attempts"].as_array().unwrap().len()), (1, 1));
}
