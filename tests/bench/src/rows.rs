//! The rows: what is measured, beside what, and what the ratio shall be.

use crate::host::{Host, batch, cpu_s, event, resident_mib};
use crate::measure::{bare, end_to_end, latency, rate};
use crate::receiver::Receiver;
use crate::{Args, Failure, Goal, Row, store};
use hookloom::store::NewSubscription;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Every row's name.
pub(crate) const NAMES: [&str; 10] =
    ["single", "batch", "no-plugin", "store", "door", "light-p50", "light-p99", "reload", "backlog", "subscriptions"];

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
        "backlog" => backlog(name, args).await,
        _ => subscriptions(name, args).await,
    }
}

/// How many deliveries a round has.
const COUNT: u64 = 10_000;

async fn with_plugin(args: &Args, plugin: Option<&str>) -> Result<(Host, Receiver), Failure> {
    let (host, receiver) = (Host::start(args).await?, Receiver::start().await?);
    if let Some(plugin) = plugin {
        host.plugin(args, plugin).await?;
    }
    host.subscription(&receiver.url, json!({"plugin": plugin})).await?;
    // Connections, caches and pages are there before anything counts.
    end_to_end(&host, &receiver, 1_000, 100).await?;
    Ok((host, receiver))
}

async fn whole_way(
    name: &'static str,
    args: &Args,
    per_request: u64,
    plugin: Option<&str>,
    goal: f64,
) -> Result<Row, Failure> {
    let (host, receiver) = with_plugin(args, plugin).await?;
    let (mut floors, mut figures) = (Vec::new(), Vec::new());
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

async fn at_the_store(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (mut floors, mut figures) = (Vec::new(), Vec::new());
    let settings = json!({"notify_url": "http://127.0.0.1:8000/", "modules": ["Contact"]});
    for _ in 0..args.rounds {
        floors.push(store::bare_inserts(COUNT * 4).await?);
        let subscription = NewSubscription {
            settings: serde_json::from_value(settings.clone())?,
            signing: Vec::new(),
            secrets: BTreeMap::new(),
        };
        figures.push(store::accepts(COUNT * 4, subscription).await?);
    }
    let what = "durable accept at the store, 512 waiting; floor: SQLite, the same rows, 512 a transaction".to_owned();
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.8), also: String::new() })
}

async fn at_the_door(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (host, receiver) = (Host::start(args).await?, Receiver::start().await?);
    let (mut floors, mut figures) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let (http, url) = (reqwest::Client::new(), format!("{}door", receiver.url));
        floors.push(rate(COUNT, move |number| http.post(&url).body(event(number))).await?);
        let built = host.request(Method::POST, "/events", "").build()?;
        let (http, url, key) = (reqwest::Client::new(), built.url().clone(), built.headers()["authorization"].clone());
        let post = move |number| http.post(url.clone()).header("authorization", key.clone()).body(event(number));
        figures.push(rate(COUNT, post).await?);
    }
    let what = "durable accept over HTTP, 64 senders; floor: a door that answers 202 at once".to_owned();
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.6), also: String::new() })
}

async fn light(name: &'static str, args: &Args, part: usize, goal: f64) -> Result<Row, Failure> {
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    let (mut floors, mut figures) = (Vec::new(), Vec::new());
    let (http, span) = (reqwest::Client::new(), Duration::from_secs(5));
    for _ in 0..args.rounds {
        let bare = latency(&receiver, 100, span, |number| http.post(&receiver.url).body(event(number))).await?;
        floors.push(bare[part]);
        let through =
            latency(&receiver, 100, span, |number| host.request(Method::POST, "/events", event(number))).await?;
        figures.push(through[part]);
    }
    let what = format!("sent → received at 100 events/s, {}; floor: the bare POST", ["p50", "p99"][part]);
    Ok(Row { name, what, unit: "ms", floors, figures, goal: Goal::Above(goal), also: String::new() })
}

/// From a file that is written to the version that judges. The floor is what compiling took.
async fn reload(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (host, _receiver) = with_plugin(args, Some("flatten")).await?;
    let component = std::fs::read(args.plugins.join("flatten.wasm"))?;
    let folder = host.folder.path().join("data/plugins/default");
    std::fs::create_dir_all(&folder)?;
    let (mut floors, mut figures) = (Vec::new(), Vec::new());
    for round in 0..args.rounds.max(5) {
        // A custom section that says nothing makes it another file.
        let section = [&[0, 6, 5][..], b"round"].concat();
        let other = [&component[..], &section.repeat(round + 1)].concat();
        std::fs::write(folder.join(".next"), &other)?;
        let active = async || {
            let all = host.ask(Method::GET, "/plugins", "").await?;
            Ok::<_, Failure>(all[0]["active_sha256"].clone())
        };
        let (before, begun) = (active().await?, Instant::now());
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

async fn backlog(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    let mut floors = Vec::new();
    for _ in 0..args.rounds {
        floors.push(end_to_end(&host, &receiver, COUNT, 100).await?);
    }
    let empty_mib = resident_mib(host.process.id());
    let resting = host.subscription(&receiver.url, json!({"modules": ["Deal"]})).await?;
    let pause = json!({"reason": "bench"}).to_string();
    host.ask(Method::POST, &format!("/subscriptions/{resting}/pause"), pause).await?;
    let mut made = 0;
    while made < args.backlog {
        let events = String::from_utf8(batch(made as u64, 5_000).to_vec())?.replace("Contact is", "Opportunity is");
        host.ask(Method::POST, "/events", events).await?;
        made += 5_000;
    }
    let mut figures = Vec::new();
    for _ in 0..args.rounds {
        figures.push(end_to_end(&host, &receiver, COUNT, 100).await?);
    }
    let also = format!("resident {empty_mib:.0} MiB, then {:.0} MiB", resident_mib(host.process.id()));
    let what = format!("the row batch beside {made} pending deliveries; floor: beside none");
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.9), also })
}

/// Subscriptions that an event does not match cost it nothing.
async fn subscriptions(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let (host, receiver) = with_plugin(args, Some("flatten")).await?;
    let mut floors = Vec::new();
    for _ in 0..args.rounds {
        floors.push(end_to_end(&host, &receiver, COUNT, 100).await?);
    }
    let body = json!({"notify_url": receiver.url, "modules": ["Deal"], "plugin": "flatten"}).to_string();
    let built = host.request(Method::POST, "/subscriptions", "").build()?;
    let (http, url, key) = (reqwest::Client::new(), built.url().clone(), built.headers()["authorization"].clone());
    rate(9_999, move |_| http.post(url.clone()).header("authorization", key.clone()).body(body.clone())).await?;
    let mut figures = Vec::new();
    for _ in 0..args.rounds {
        figures.push(end_to_end(&host, &receiver, COUNT, 100).await?);
    }
    let what = "the row batch among 10,000 subscriptions; floor: with one".to_owned();
    Ok(Row { name, what, unit: "/s", floors, figures, goal: Goal::AtLeast(0.8), also: String::new() })
}
