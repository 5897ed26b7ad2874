//! The long form of the fault tests: minutes, a line of a table each. `cargo xtask soak` runs them; `cargo xtask test` does
//! not.

use crate::crash::kill_again_and_again;
use crate::harness::{Host, RawReceiver, Receiver, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn told(what: &str, figures: &str) {
    println!("| {what} | {figures} |");
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

#[tokio::test]
#[ignore = "long; cargo xtask soak runs it"]
async fn kills() {
    let tally = kill_again_and_again(100).await;
    told(
        "kill -9 at random moments under load, 100 times",
        &format!(
            "{} accepted, {} received, {} lost, {} sent twice",
            tally.accepted, tally.received, tally.lost, tally.twice
        ),
    );
}

const HEALTHY: usize = 99;
const ROUNDS: usize = 150;

/// Sends events to all subscriptions at a steady pace; how long each healthy delivery took, in milliseconds.
async fn latencies(dead: bool) -> Vec<f64> {
    let (host, receiver) = (Host::start().await, Receiver::start().await);
    for number in 0..HEALTHY {
        host.subscription(&format!("{}{number}", receiver.url), json!({})).await;
    }
    let hanging = RawReceiver::start(|_socket| std::future::pending()).await;
    let other = if dead { hanging.url.clone() } else { format!("{}other", receiver.url) };
    host.subscription(&other, json!({"timeout_ms": 5_000})).await;
    for number in 0..ROUNDS {
        let event = json!({"eventName": "Contact is Updated", "eventData": {"id": number, "sent_ms": now_ms()}});
        host.send(event.to_string()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let received = receiver.expect(HEALTHY * ROUNDS).await;
    let healthy = received.iter().filter(|one| text(one, "path") != "/other");
    let took = |one: &Value| {
        let body: Value = serde_json::from_str(text(one, "body")).unwrap();
        (one["at_ms"].as_u64().unwrap() - body["eventData"]["sent_ms"].as_u64().unwrap()) as f64
    };
    sorted(healthy.map(took).collect())
}

#[tokio::test]
#[ignore = "long; cargo xtask soak runs it"]
async fn one_dead_receiver_among_a_hundred() {
    let (without, with) = (latencies(false).await, latencies(true).await);
    let p99 = |values: &[f64]| percentile(values, 99);
    let ratio = p99(&with) / p99(&without);
    told(
        "one dead receiver among 100, 1,000 deliveries/s: p99 of the others",
        &format!("{:.0} ms with it, {:.0} ms without, ratio {ratio:.2} (goal: at most 1.2)", p99(&with), p99(&without)),
    );
    assert!(ratio <= 1.5, "{ratio}");
}

/// How long single events take to be accepted, for so long, in milliseconds.
async fn intake(host: &Host, lasts: Duration) -> Vec<f64> {
    let (end, mut took) = (Instant::now() + lasts, Vec::new());
    while Instant::now() < end {
        let begun = Instant::now();
        let event = json!({"eventName": "Opportunity is Created", "eventData": {"id": took.len()}});
        host.send(event.to_string()).await;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    sorted(took)
}

const SUBSCRIPTIONS: usize = 100;
const EVENTS: usize = 10_000;

#[tokio::test]
#[ignore = "long; cargo xtask soak runs it"]
async fn a_million_deliveries_are_pruned_beside_intake() {
    let (host, gone) = (Host::start().await, Receiver::answering("410").await);
    for _ in 0..SUBSCRIPTIONS {
        let id = host.subscription(&gone.url, json!({"modules": ["Contact"]})).await;
        host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "until all is there"})).await;
    }
    for batch in 0..EVENTS / 100 {
        let events: Vec<String> =
            (0..100).map(|number| crate::harness::event("Contact is Created", batch * 100 + number)).collect();
        host.ask(Method::POST, "./events", events.join("\n")).await.ok();
    }
    // The first answer of each is 410, which ends all that waits.
    let subscriptions = host.get("./subscriptions").await;
    for subscription in subscriptions.as_array().unwrap() {
        host.post(&format!("./subscriptions/{}/resume", text(subscription, "id")), &json!({})).await;
    }
    crate::harness::until("a million dead deliveries", async || (host.ledger().await["pending"] == 0).then_some(()))
        .await;
    let before = intake(&host, Duration::from_secs(10)).await;
    let (_, folder) = host.stop().await;
    let host = Host::with().set("retention_s=1").on(folder).start().await;
    let begun = Instant::now();
    let during = intake(&host, Duration::from_secs(10)).await;
    let ledger = host.ledger().await;
    let pruned = ledger["pruned"]["dead"].as_u64().unwrap();
    let row = |values: &[f64]| {
        format!(
            "p50 {:.1}, p99 {:.1}, max {:.0} ms",
            percentile(values, 50),
            percentile(values, 99),
            values[values.len() - 1]
        )
    };
    told(
        "one event after the other beside 1,000,000 ended deliveries",
        &format!(
            "accepted in {} before; {} while {pruned} were pruned in {:.0} s",
            row(&before),
            row(&during),
            begun.elapsed().as_secs_f64()
        ),
    );
    assert!(pruned > 0);
}
