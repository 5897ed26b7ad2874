//! Measurements with many concurrent senders, and of the time between sending and receiving.

use crate::host::{Host, batch, event};
use crate::receiver::{Receiver, now_us};
use crate::{Args, Failure, median};
use reqwest::Method;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Number of concurrent requests.
pub(crate) const SENDERS: usize = 64;

/// Sends `count` requests, 64 at a time. Returns the rate per second.
pub(crate) async fn rate(
    count: u64,
    request: impl Fn(u64) -> reqwest::RequestBuilder + Send + Sync + 'static,
) -> Result<f64, Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let request = Arc::new(request);
    let begun = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..SENDERS {
        let next = next.clone();
        let request = request.clone();
        senders.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<(), reqwest::Error>(());
                }
                let response = request(number).send().await?.error_for_status()?;
                response.bytes().await?;
            }
        });
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Measures POSTs to the receiver without a host, the floor of deliveries.
pub(crate) async fn bare(receiver: &Receiver, count: u64) -> Result<f64, Failure> {
    let http = reqwest::Client::new();
    let url = receiver.url.clone();
    rate(count, move |number| http.post(&url).body(event(number))).await
}

/// Measures deliveries per second, from the first request until all are received and recorded.
pub(crate) async fn end_to_end(host: &Host, receiver: &Receiver, count: u64, per_request: u64) -> Result<f64, Failure> {
    let from = receiver.count().await?;
    let begun_ms = now_us() / 1_000;
    let begun = Instant::now();
    let http = host.http.clone();
    let url = host.request(Method::POST, "/events", "").build()?;
    let key = url.headers()["authorization"].clone();
    let url = url.url().clone();
    rate(count / per_request, move |number| {
        let body = if per_request == 1 { event(number).into() } else { batch(number * per_request, per_request) };
        http.post(url.clone()).header("authorization", key.clone()).body(body)
    })
    .await?;
    receiver.until(from, count).await?;
    // Received deliveries must also be recorded.
    host.recorded_since(begun_ms).await?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Measures the time between sending and receiving under a light load, in milliseconds: p50 and p99. Each request is received
/// `times_received` times.
pub(crate) async fn latency(
    receiver: &Receiver,
    per_s: u64,
    span: Duration,
    times_received: u64,
    request: impl Fn(u64) -> reqwest::RequestBuilder,
) -> Result<[f64; 2], Failure> {
    receiver.arrivals().await?;
    let count = per_s * span.as_secs();
    let pause = Duration::from_micros(1_000_000 / per_s);
    let mut ticks = tokio::time::interval(pause);
    let mut sent = HashMap::new();
    let mut senders = tokio::task::JoinSet::new();
    let from = receiver.count().await?;
    for number in 0..count {
        ticks.tick().await;
        sent.insert(number, now_us());
        senders.spawn(request(number).send());
    }
    while let Some(done) = senders.join_next().await {
        done??.error_for_status()?;
    }
    receiver.until(from, count * times_received).await?;
    let mut times: Vec<f64> = receiver
        .arrivals()
        .await?
        .into_iter()
        .filter_map(|(number, at)| Some(at.saturating_sub(*sent.get(&number)?) as f64 / 1e3))
        .collect();
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Ok([median(&times), p99])
}

/// Number of deliveries in a round.
pub(crate) const COUNT: u64 = 10_000;

pub(crate) async fn with_plugin(args: &Args, plugin: Option<&str>) -> Result<(Host, Receiver), Failure> {
    let host = Host::start(args).await?;
    let receiver = Receiver::start().await?;
    if let Some(plugin) = plugin {
        host.plugin(args, plugin).await?;
    }
    host.subscription(&receiver.url, json!({"plugin": plugin})).await?;
    // Creates connections, caches and pages before the measurement.
    end_to_end(&host, &receiver, 1_000, 100).await?;
    Ok((host, receiver))
}
