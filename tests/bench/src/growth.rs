//! Growth of time and memory with the backlog, subscriptions, plugins, the payload and the plugin's language.
//!
//! One line for each, with everything else as in the row `batch`. A line that grows with something on which it should not depend,
//! or faster than it should, is a defect.

use crate::host::{Host, event_of};
use crate::many::{make_backlog, make_plugins, make_subscriptions};
use crate::measure::rate;
use crate::processes::{cpu_s, resident_mib};
use crate::receiver::{Receiver, now_us};
use crate::{Args, Failure, median};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Instant;

/// Measured quantity over a growing size.
struct Line {
    what: &'static str,
    unit: &'static str,
    /// Maximum factor by which an event's time may grow when the size grows ten times: 1 for no growth, 10 for proportional growth.
    allowed: f64,
    points: Vec<Point>,
}

struct Point {
    /// Size, or index, of the point.
    at: f64,
    name: String,
    /// Wall time of one delivery.
    wall_us: f64,
    cpu_us: f64,
    resident_mib: f64,
}

/// Measures all lines, prints them as a table and draws them.
pub(crate) async fn growth(args: &Args, picture: &std::path::Path) -> Result<Value, Failure> {
    crate::print(
        "| against | at | µs a delivery | CPU µs of the host | resident MiB |\n| --- | --- | --- | --- | --- |",
    );
    let lines = [
        backlog(args).await?,
        subscriptions(args).await?,
        plugins(args).await?,
        payload(args).await?,
        languages(args).await?,
    ];
    std::fs::write(picture, crate::plot::svg(&lines.each_ref().map(Line::as_plot)))?;
    Ok(lines.iter().map(Line::as_json).collect())
}

impl Line {
    fn new(what: &'static str, unit: &'static str, allowed: f64) -> Self {
        Line { what, unit, allowed, points: Vec::new() }
    }

    fn put(&mut self, at: f64, name: String, [wall_us, cpu_us, resident_mib]: [f64; 3]) {
        crate::print(&format!("| {} | {name} | {wall_us:.0} | {cpu_us:.0} | {resident_mib:.0} |", self.what));
        self.points.push(Point { at, name, wall_us, cpu_us, resident_mib });
    }

    /// Returns the factor by which an event's CPU time grows when the size grows ten times, from end to end.
    fn per_decade(&self) -> Option<f64> {
        let first = self.points.first()?;
        let last = self.points.last()?;
        let decades = (last.at / first.at).log10();
        (decades > 0.0).then(|| (last.cpu_us / first.cpu_us).powf(1.0 / decades))
    }

    fn as_json(&self) -> Value {
        let points = self.points.iter().map(|point| {
            json!({"at": point.at, "name": point.name, "wall_us": point.wall_us, "cpu_us": point.cpu_us, "resident_mib": point.resident_mib})
        });
        json!({"against": self.what, "unit": self.unit, "per_decade": self.per_decade(), "allowed": self.allowed, "points": points.collect::<Vec<_>>()})
    }

    fn as_plot(&self) -> crate::plot::Plot {
        let subtitle = match self.per_decade() {
            Some(times) if self.allowed.is_finite() => format!("ten times as many: × {times:.2}"),
            _ => self.unit.to_owned(),
        };
        crate::plot::Plot {
            title: self.what.to_owned(),
            subtitle,
            connected: self.allowed.is_finite(),
            points: self
                .points
                .iter()
                .map(|point| (point.name.clone(), point.at, [point.wall_us, point.cpu_us]))
                .collect(),
        }
    }
}

/// Returns the medians of several rounds of this number of deliveries: wall and CPU µs of one, and the host's memory.
async fn measured(
    args: &Args,
    host: &Host,
    receiver: &Receiver,
    [events, fan_out]: [u64; 2],
    bytes: usize,
) -> Result<[f64; 3], Failure> {
    let built = host.request(Method::POST, "/events", "").build()?;
    let url = built.url().clone();
    let key = built.headers()["authorization"].clone();
    let per_request = (events / 4).clamp(1, 100.min((4 << 20) / bytes as u64));
    let mut wall = Vec::new();
    let mut cpu = Vec::new();
    // The first round is a warm-up.
    for round in 0..=args.rounds {
        let http = host.http.clone();
        let url = url.clone();
        let key = key.clone();
        let from = receiver.count().await?;
        let before = cpu_s(host.process.id());
        let begun_ms = now_us() / 1_000;
        let begun = Instant::now();
        rate(events / per_request, move |number| {
            let mut body = String::new();
            for one in 0..per_request {
                let _ = writeln!(body, "{}", event_of(number * per_request + one, bytes));
            }
            http.post(url.clone()).header("authorization", key.clone()).body(Bytes::from(body))
        })
        .await?;
        receiver.until(from, events / per_request * per_request * fan_out).await?;
        host.recorded_since(begun_ms).await?;
        if round > 0 {
            let deliveries = (events / per_request * per_request * fan_out) as f64;
            wall.push(begun.elapsed().as_secs_f64() * 1e6 / deliveries);
            cpu.push((cpu_s(host.process.id()) - before) * 1e6 / deliveries);
        }
    }
    Ok([median(&wall), median(&cpu), resident_mib(host.process.id())])
}

/// Size of one event, as in the row `batch`.
const BYTES: usize = 337;
const USUAL: [u64; 2] = [4_000, 1];

async fn fresh(args: &Args, plugin: &str) -> Result<(Host, Receiver), Failure> {
    let host = Host::start(args).await?;
    let receiver = Receiver::start().await?;
    host.plugin(args, plugin).await?;
    host.subscription(&receiver.url, json!({"plugin": plugin})).await?;
    Ok((host, receiver))
}

async fn backlog(args: &Args) -> Result<Line, Failure> {
    let mut line = Line::new("pending deliveries of another", "", 1.2);
    for pending in [1, 1_000, args.backlog] {
        let (host, receiver) = fresh(args, "flatten").await?;
        make_backlog(&host, &receiver, pending).await?;
        line.put(pending as f64, pending.to_string(), measured(args, &host, &receiver, USUAL, BYTES).await?);
    }
    Ok(line)
}

async fn subscriptions(args: &Args) -> Result<Line, Failure> {
    let mut line = Line::new("subscriptions that do not match", "", 1.2);
    let (host, receiver) = fresh(args, "flatten").await?;
    let mut made = 1;
    for wanted in [1, 100, 10_000] {
        make_subscriptions(&host, &receiver, wanted - made).await?;
        made = wanted;
        line.put(wanted as f64, wanted.to_string(), measured(args, &host, &receiver, USUAL, BYTES).await?);
    }
    Ok(line)
}

async fn plugins(args: &Args) -> Result<Line, Failure> {
    let mut line = Line::new("distinct plugins", "", 1.2);
    let component = std::fs::read(args.plugins.join("examples/passes.wasm"))?;
    for count in [1, 1_000] {
        let host = Host::start(args).await?;
        let receiver = Receiver::start().await?;
        make_plugins(&host, &component, count).await?;
        for number in 0..count {
            host.subscription(&receiver.url, json!({"plugin": format!("p{number}")})).await?;
        }
        let events = USUAL[0] / count as u64;
        line.put(
            count as f64,
            count.to_string(),
            measured(args, &host, &receiver, [events, count as u64], BYTES).await?,
        );
    }
    Ok(line)
}

async fn payload(args: &Args) -> Result<Line, Failure> {
    let mut line = Line::new("bytes of an event", "", 10.0);
    let (host, receiver) = fresh(args, "flatten").await?;
    for (bytes, events) in [(BYTES, USUAL[0]), (10_000, 2_000), (200_000, 200)] {
        line.put(bytes as f64, bytes.to_string(), measured(args, &host, &receiver, [events, 1], bytes).await?);
    }
    Ok(line)
}

/// Measures the same plugin in each language: the templates' output, built when the contract was frozen.
async fn languages(args: &Args) -> Result<Line, Failure> {
    let mut line = Line::new("language", "the same plugin in each", f64::INFINITY);
    for (at, language) in ["rust", "c", "js", "ts", "python"].into_iter().enumerate() {
        let host = Host::start(args).await?;
        let receiver = Receiver::start().await?;
        let file = format!("tests/fixtures/contract/1.0.0/{language}.wasm.gz");
        let mut component = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(std::fs::File::open(file)?), &mut component)?;
        host.ask(Method::PUT, "/plugins/p", component).await?;
        host.subscription(&receiver.url, json!({"plugin": "p", "limits": {"cpu_ms": 1_000, "wall_ms": 5_000}})).await?;
        line.put(
            10_f64.powi(at as i32),
            language.to_owned(),
            measured(args, &host, &receiver, [1_000, 1], BYTES).await?,
        );
    }
    Ok(line)
}
