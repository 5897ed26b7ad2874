//! Comparison of two programs, `cargo xtask bench --before PROGRAM`.
//!
//! Both programs run beside each other, each with its own data and receiver, and take turns. The order within a pair alternates, so
//! that drift of the machine affects both. The ratio of a row is the median of the ratios of its pairs, because only that shows a few
//! percent on a noisy machine.

use crate::host::{Host, event};
use crate::measure::{COUNT, end_to_end, latency, rate, with_plugin};
use crate::processes::{cpu_s, wakeups};
use crate::receiver::Receiver;
use crate::{Args, Failure, median, print};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Rows that are compared: name, events in a request, plugin. `door` sends to a host without subscriptions, and `light` an event
/// every 10 ms; its rate is the inverse of the median time from sending to receiving.
const ROWS: [(&str, u64, Option<&str>); 5] = [
    ("single", 1, Some("flatten")),
    ("batch", 100, Some("flatten")),
    ("no-plugin", 100, None),
    ("door", 1, None),
    ("light", 1, Some("flatten")),
];

/// Events of a turn of `light`, a second.
const LIGHT_PER_S: u64 = 100;

/// Length of a turn of `light`.
const LIGHT_SPAN: Duration = Duration::from_secs(2);

/// Minimum of the rate after / before.
const GOAL: f64 = 0.97;

/// One program under measurement.
struct Side {
    host: Host,
    receiver: Receiver,
    rates: Vec<f64>,
    /// CPU of the host for each event, in microseconds.
    cpu_us: Vec<f64>,
    /// Wake-ups of the host's threads for each event.
    wakeups: Vec<f64>,
}

impl Side {
    async fn start(args: &Args, program: &Path, row: &str, plugin: Option<&str>) -> Result<Self, Failure> {
        let args = Args { program: program.to_owned(), ..args.clone() };
        let (host, receiver) = if row == "door" {
            (Host::start(&args).await?, Receiver::start().await?)
        } else {
            with_plugin(&args, plugin).await?
        };
        Ok(Self { host, receiver, rates: Vec::new(), cpu_us: Vec::new(), wakeups: Vec::new() })
    }

    async fn turn(&mut self, row: &str, per_request: u64) -> Result<(), Failure> {
        let pid = self.host.process.id();
        let before_s = cpu_s(pid);
        let woken = wakeups(pid);
        let (measured, count) = match row {
            "door" => (accept(&self.host).await?, COUNT),
            "light" => (light(&self.host, &self.receiver).await?, LIGHT_PER_S * LIGHT_SPAN.as_secs()),
            _ => (end_to_end(&self.host, &self.receiver, COUNT, per_request).await?, COUNT),
        };
        self.rates.push(measured);
        self.cpu_us.push((cpu_s(pid) - before_s) * 1e6 / count as f64);
        self.wakeups.push((wakeups(pid) - woken) / count as f64);
        Ok(())
    }
}

/// Measures durable accepts over HTTP, one event in a request.
async fn accept(host: &Host) -> Result<f64, Failure> {
    let built = host.request(Method::POST, "/events", "").build()?;
    let http = host.http.clone();
    let url = built.url().clone();
    let key = built.headers()["authorization"].clone();
    rate(COUNT, move |number| http.post(url.clone()).header("authorization", key.clone()).body(event(number))).await
}

/// Measures deliveries one after the other. Returns how many of them a second has room for.
async fn light(host: &Host, receiver: &Receiver) -> Result<f64, Failure> {
    let request = |number| host.request(Method::POST, "/events", event(number));
    let [p50_ms, _] = latency(receiver, LIGHT_PER_S, LIGHT_SPAN, 1, request).await?;
    Ok(1e3 / p50_ms)
}

/// Returns the median of the ratios of pairs.
fn ratio(after: &[f64], before: &[f64]) -> f64 {
    let ratios: Vec<f64> = after.iter().zip(before).map(|(after, before)| after / before).collect();
    median(&ratios)
}

/// Measures each row, or one, with the program `before` and the built program in turns, and prints a table.
pub(crate) async fn compare(args: &Args, before: &Path) -> Result<Value, Failure> {
    print(
        "| row | before | after | rate, after / before | goal | CPU µs before | after | CPU, after / before | wake-ups before | after |",
    );
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut all = Vec::new();
    for (row, per_request, plugin) in
        ROWS.into_iter().filter(|(row, ..)| args.row.as_deref().is_none_or(|one| one == *row))
    {
        let mut old = Side::start(args, before, row, plugin).await?;
        let mut new = Side::start(args, &args.program, row, plugin).await?;
        for pair in 0..args.pairs {
            let sides = if pair % 2 == 0 { [&mut old, &mut new] } else { [&mut new, &mut old] };
            for side in sides {
                side.turn(row, per_request).await?;
            }
        }
        let rates = ratio(&new.rates, &old.rates);
        let cpu = ratio(&new.cpu_us, &old.cpu_us);
        print(&format!(
            "| {row} | {:.0}/s | {:.0}/s | {rates:.3} | ≥ {GOAL} {} | {:.0} | {:.0} | {cpu:.3} | {:.2} | {:.2} |",
            median(&old.rates),
            median(&new.rates),
            if rates >= GOAL { "✓" } else { "✗" },
            median(&old.cpu_us),
            median(&new.cpu_us),
            median(&old.wakeups),
            median(&new.wakeups),
        ));
        all.push(json!({
            "row": row, "before": old.rates, "after": new.rates, "ratio": rates, "goal": GOAL,
            "cpu_us_before": old.cpu_us, "cpu_us_after": new.cpu_us, "cpu_ratio": cpu,
            "wakeups_before": old.wakeups, "wakeups_after": new.wakeups,
        }));
    }
    if all.is_empty() {
        return Err(
            "the rows single, batch, no-plugin, door and light are those that two programs can be compared by".into()
        );
    }
    Ok(Value::from(all))
}
