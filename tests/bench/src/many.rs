//! Rows with many plugins, subscriptions, receivers, or pending deliveries.

use crate::host::{Host, batch, event};
use crate::measure::{COUNT, end_to_end, latency, rate, with_plugin};
use crate::processes::resident_mib;
use crate::receiver::{Receiver, now_us};
use crate::{Args, Failure, Goal, Row};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Returns the component with a custom section without meaning, which makes it another one.
pub(crate) fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    let name = format!("{number:05}");
    let section = [&[0, 6, 5], name.as_bytes()].concat();
    [component, &section].concat()
}

/// Measures requests of 100 events alternately on two hosts, so that other load affects both.
pub(crate) async fn in_turns(
    args: &Args,
    (little, much): (&Host, &Host),
    receivers: (&Receiver, &Receiver),
) -> Result<[Vec<f64>; 2], Failure> {
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    for _ in 0..args.rounds.max(ROUNDS_MIN) {
        floors.push(end_to_end(little, receivers.0, COUNT, 100).await?);
        figures.push(end_to_end(much, receivers.1, COUNT, 100).await?);
    }
    Ok([floors, figures])
}

/// The figures differ by a few percent, which three rounds do not show.
pub(crate) const ROUNDS_MIN: usize = 5;

/// Measures the batch row with a backlog.
pub(crate) async fn backlog(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (little, to_little) = with_plugin(args, Some("flatten")).await?;
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    make_backlog(&host, &receiver, args.backlog).await?;
    let [floors, figures] = in_turns(args, (&little, &host), (&to_little, &receiver)).await?;
    fn resident(host: &Host) -> f64 {
        resident_mib(host.process.id())
    }
    let lists = lists(&host).await?;
    let also = format!("resident {:.0} MiB beside none, {:.0} MiB; {lists}", resident(&little), resident(&host));
    let what = format!("the row batch beside {} pending deliveries; floor: beside none", args.backlog);
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.9), also })
}

/// Creates this number of deliveries that stay pending.
pub(crate) async fn make_backlog(host: &Host, receiver: &Receiver, wanted: usize) -> Result<(), Failure> {
    let resting = host.subscription(&receiver.url, json!({"modules": ["Deal"]})).await?;
    let pause = json!({"reason": "bench"}).to_string();
    host.ask(Method::POST, &format!("/subscriptions/{resting}/pause"), pause).await?;
    let mut made = 0;
    while made < wanted {
        let count = (wanted - made).min(4_000);
        let events =
            String::from_utf8(batch(made as u64, count as u64).to_vec())?.replace("Contact is", "Opportunity is");
        host.ask(Method::POST, "/events", events).await?;
        made += count;
    }
    // The next measurement must have a later time in milliseconds, by which its deliveries are recognised.
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
}

/// Measures pages of deliveries among all that there are: the newest, those of a state, and further ones.
async fn lists(host: &Host) -> Result<String, Failure> {
    let mut medians = Vec::new();
    let first = host.ask(Method::GET, "/deliveries", "").await?;
    let cursor = first["cursor"].as_str().unwrap_or_default();
    for query in ["".to_owned(), format!("?cursor={cursor}"), "?state=pending".to_owned(), "?state=dead".to_owned()] {
        let mut times = Vec::new();
        for _ in 0..21 {
            let begun = Instant::now();
            host.ask(Method::GET, &format!("/deliveries{query}"), "").await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let kind = query.split(['?', '=']).nth(1).unwrap_or("newest");
        let kind = if kind == "state" { query.rsplit('=').next().unwrap_or_default() } else { kind };
        medians.push(format!("{kind} {:.1}", crate::median(&times)));
    }
    Ok(format!("a page of deliveries, ms: {}", medians.join(", ")))
}

/// Measures that subscriptions that do not match an event cost it nothing.
pub(crate) async fn subscriptions(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (little, to_little) = with_plugin(args, Some("flatten")).await?;
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    let took = make_subscriptions(&host, &receiver, 9_999).await?;
    let [floors, figures] = in_turns(args, (&little, &host), (&to_little, &receiver)).await?;
    let what = "the row batch among 10,000 subscriptions; floor: with one".to_owned();
    let also = format!("made in {:.0} s", took.as_secs_f64());
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.8), also })
}

/// Creates this number of subscriptions that match no contact.
pub(crate) async fn make_subscriptions(host: &Host, receiver: &Receiver, count: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let body = json!({"notify_url": receiver.url, "modules": ["Deal"], "plugin": "flatten"}).to_string();
    let built = host.request(Method::POST, "/subscriptions", "").build()?;
    let http = reqwest::Client::new();
    let url = built.url().clone();
    let key = built.headers()["authorization"].clone();
    rate(count, move |_| http.post(url.clone()).header("authorization", key.clone()).body(body.clone())).await?;
    Ok(begun.elapsed())
}

const PLUGINS: usize = 1_000;

/// Measures one event for a thousand subscriptions, each with a different plugin.
pub(crate) async fn plugins(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let component = std::fs::read(args.plugins.join("examples/passes.wasm"))?;
    let little = Host::start(args).await?;
    let host = Host::start(args).await?;
    let receiver = Receiver::start().await?;
    little.ask(Method::PUT, "/plugins/passes", component.clone()).await?;
    little.subscription(&receiver.url, json!({"plugin": "passes"})).await?;
    let took = make_plugins(&host, &component, PLUGINS).await?;
    for number in 0..PLUGINS {
        host.subscription(&receiver.url, json!({"plugin": format!("p{number}")})).await?;
    }
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    for round in 0..args.rounds.max(ROUNDS_MIN) as u64 + 1 {
        floors.push(end_to_end(&little, &receiver, COUNT, 100).await?);
        let from = receiver.count().await?;
        let begun_ms = now_us() / 1_000;
        let begun = Instant::now();
        let events = COUNT / PLUGINS as u64;
        host.ask(Method::POST, "/events", batch(round * events, events)).await?;
        receiver.until(from, COUNT).await?;
        host.recorded_since(begun_ms).await?;
        figures.push(COUNT as f64 / begun.elapsed().as_secs_f64());
    }
    // In the first round, every plugin's code is touched for the first time.
    floors.remove(0);
    figures.remove(0);
    let begun = Instant::now();
    let host = host.restart(args).await?;
    let started = begun.elapsed().as_secs_f64();
    drop(host);
    let what = "deliveries of 1,000 subscriptions with 1,000 distinct plugins; floor: as many of one".to_owned();
    let also =
        format!("compiled in {:.0} s; started again from the cache in {started:.2} s (goal 5 s)", took.as_secs_f64());
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.8), also })
}

/// Uploads this number of versions of one component under different names.
pub(crate) async fn make_plugins(host: &Host, component: &[u8], count: usize) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut uploads = tokio::task::JoinSet::new();
    let mut next = 0;
    while next < count || !uploads.is_empty() {
        if next < count && uploads.len() < 4 {
            let upload = host.request(Method::PUT, &format!("/plugins/p{next}"), distinct(component, next));
            uploads.spawn(upload.send());
            next += 1;
        } else if let Some(done) = uploads.join_next().await {
            done??.error_for_status()?;
        }
    }
    Ok(begun.elapsed())
}

/// Measures 99 healthy receivers, without and with one that never answers.
pub(crate) async fn dead(name: &'static str, args: &Args) -> Result<Row, Failure> {
    const HEALTHY: u64 = 99;
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    for _ in 1..HEALTHY {
        host.subscription(&receiver.url, json!({"plugin": "flatten"})).await?;
    }
    // The system accepts its connections, and nobody reads from them.
    let dead = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let settings = json!({"plugin": "flatten", "timeout_ms": 5_000});
    let unanswered = host.subscription(&format!("http://{}/", dead.local_addr()?), settings).await?;
    let path = format!("/subscriptions/{unanswered}");
    let times = async || {
        latency(&receiver, 10, Duration::from_secs(5), HEALTHY, |number| {
            host.request(Method::POST, "/events", event(number))
        })
        .await
    };
    for _ in 0..args.rounds {
        host.ask(Method::POST, &format!("{path}/pause"), json!({"reason": "bench"}).to_string()).await?;
        floors.push(times().await?[1]);
        host.ask(Method::POST, &format!("{path}/resume"), Value::Object(Default::default()).to_string()).await?;
        figures.push(times().await?[1]);
    }
    let what =
        "p99 of 99 healthy receivers, 990 deliveries/s, beside one that never answers; floor: without it".to_owned();
    Ok(Row { name, what, unit: "ms", floors, figures, goal: Goal::AtMost(1.2), also: String::new() })
}
