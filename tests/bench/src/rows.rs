//! Rows of the table: measurement, floor, and the goal for their ratio.

use crate::host::{Host, event};
use crate::measure::{COUNT, bare, end_to_end, latency, rate, with_plugin};
use crate::processes::cpu_s;
use crate::receiver::Receiver;
use crate::{Args, Failure, Goal, Row, filters, many, store};
use hookloom::store::NewSubscription;
use hookloom::subscription::LoadedSettings;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names of all rows.
pub(crate) const NAMES: [&str; 14] = [
    "single",
    "batch",
    "no-plugin",
    "call",
    "store",
    "door",
    "light-p50",
    "light-p99",
    "reload",
    "dead",
    "backlog",
    "subscriptions",
    "plugins",
    "filters",
];

/// Measures a row.
pub(crate) async fn measure(name: &'static str, args: &Args) -> Result<Row, Failure> {
    match name {
        "single" => whole_way(name, args, 1, Some("flatten"), 0.33).await,
        "batch" => whole_way(name, args, 100, Some("flatten"), 0.4).await,
        "no-plugin" => whole_way(name, args, 100, None, 0.4).await,
        "store" => at_the_store(name, args).await,
        "door" => at_the_door(name, args).await,
        "light-p50" => light(name, args, 0, 3.0).await,
        "light-p99" => light(name, args, 1, 15.0).await,
        "reload" => reload(name, args).await,
        "call" => call(name, args).await,
        "dead" => many::dead(name, args).await,
        "backlog" => many::backlog(name, args).await,
        "filters" => filters::row(name, args).await,
        "plugins" => many::plugins(name, args).await,
        _ => many::subscriptions(name, args).await,
    }
}

async fn whole_way(
    name: &'static str,
    args: &Args,
    per_request: u64,
    plugin: Option<&str>,
    goal: f64,
) -> Result<Row, Failure> {
    let (host, receiver) = with_plugin(args, plugin).await?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let spent = || [host.process.id(), None, receiver.process.id()].map(cpu_s);
    let mut cpu_us = [0.0; 3];
    for _ in 0..args.rounds {
        floors.push(bare(&receiver, COUNT).await?);
        let before = spent();
        figures.push(end_to_end(&host, &receiver, COUNT, per_request).await?);
        let after = spent();
        cpu_us.iter_mut().enumerate().for_each(|(at, sum)| *sum += (after[at] - before[at]) * 1e6);
    }
    let [of_host, of_sender, of_receiver] = cpu_us.map(|us| us / (COUNT as f64 * args.rounds as f64));
    let how =
        if per_request == 1 { "one event a request".to_owned() } else { format!("NDJSON, {per_request} a request") };
    Ok(Row {
        name,
        what: format!("accept → {} → POST → recorded, {how}; floor: bare POSTs", plugin.unwrap_or("no plugin")),
        unit: "/s",
        floors,
        figures,
        goal: Goal::AtLeast(goal),
        also: format!("CPU µs a delivery: host {of_host:.0}, sender {of_sender:.0}, receiver {of_receiver:.0}"),
    })
}

/// Measures one call of a plugin. The program compares by itself, on a plugin thread.
async fn call(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let folder = tempfile::TempDir::new_in("target")?;
    let file = folder.path().join("event.json");
    std::fs::write(&file, event(1))?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    for _ in 0..args.rounds {
        let mut bench = tokio::process::Command::new(&args.program);
        bench.args(["plugin", "bench", "--json", "--calls", "5000", "--event"]).arg(&file);
        let output = bench.arg(args.plugins.join("flatten.wasm")).output().await?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let p50 = |kind: &str| report[kind]["p50"].as_f64().unwrap_or(f64::NAN) / 1e3;
        floors.push(p50("bare_ns"));
        figures.push(p50("whole_ns"));
    }
    let what = "one call of flatten in a fresh instance; floor: bare wasmtime, the same engine".to_owned();
    Ok(Row { name, what, unit: "µs", floors, figures, goal: Goal::AtMost(1.3), also: String::new() })
}

async fn at_the_store(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let settings = json!({"notify_url": "http://127.0.0.1:8000/", "modules": ["Contact"]});
    for _ in 0..args.rounds {
        floors.push(store::bare_inserts(COUNT * 4).await?);
        let subscription = NewSubscription {
            settings: LoadedSettings::new(serde_json::from_value(settings.clone())?, BTreeMap::new())?,
            signing: Vec::new(),
        };
        figures.push(store::accepts(COUNT * 4, subscription).await?);
    }
    let what = "durable accept at the store, 512 waiting; floor: SQLite, the same rows, 512 a transaction".to_owned();
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.8), also: String::new() })
}

async fn at_the_door(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let host = Host::start(args).await?;
    let receiver = Receiver::start().await?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    for _ in 0..args.rounds {
        let http = reqwest::Client::new();
        let url = format!("{}door", receiver.url);
        floors.push(rate(COUNT, move |number| http.post(&url).body(event(number))).await?);
        let built = host.request(Method::POST, "/events", "").build()?;
        let http = reqwest::Client::new();
        let url = built.url().clone();
        let key = built.headers()["authorization"].clone();
        let post = move |number| http.post(url.clone()).header("authorization", key.clone()).body(event(number));
        figures.push(rate(COUNT, post).await?);
    }
    let what = "durable accept over HTTP, 64 senders; floor: a door that answers 202 at once".to_owned();
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.6), also: String::new() })
}

async fn light(name: &'static str, args: &Args, part: usize, goal: f64) -> Result<Row, Failure> {
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let http = reqwest::Client::new();
    let span = Duration::from_secs(5);
    for _ in 0..args.rounds {
        let bare = latency(&receiver, 100, span, 1, |number| http.post(&receiver.url).body(event(number))).await?;
        floors.push(bare[part]);
        let through =
            latency(&receiver, 100, span, 1, |number| host.request(Method::POST, "/events", event(number))).await?;
        figures.push(through[part]);
    }
    let what = format!("sent → received at 100 events/s, {}; floor: the bare POST", ["p50", "p99"][part]);
    Ok(Row { name, what, unit: "ms", floors, figures, goal: Goal::Above(goal), also: String::new() })
}

/// Measures the time from writing a file to the activation of its version. The floor is the compile time.
async fn reload(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (host, _receiver) = with_plugin(args, Some("flatten")).await?;
    let component = std::fs::read(args.plugins.join("flatten.wasm"))?;
    let folder = host.folder.path().join("data/plugins/default");
    std::fs::create_dir_all(&folder)?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    for round in 0..args.rounds.max(5) {
        std::fs::write(folder.join(".next"), many::distinct(&component, round))?;
        let active = async || {
            let all = host.ask(Method::GET, "/plugins", "").await?;
            Ok::<_, Failure>(all[0]["active_sha256"].clone())
        };
        let before = active().await?;
        let begun = Instant::now();
        std::fs::rename(folder.join(".next"), folder.join("flatten.wasm"))?;
        while active().await? == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        figures.push(begun.elapsed().as_secs_f64() * 1e3);
        let versions = host.ask(Method::GET, "/plugins/flatten/versions", "").await?;
        floors.push(versions[0]["report"]["compile_ms"].as_f64().unwrap_or(f64::NAN));
    }
    let what = "file written → it judges; floor: compiling it".to_owned();
    Ok(Row { name, what, unit: "ms", floors, figures, goal: Goal::Above(150.0), also: String::new() })
}
