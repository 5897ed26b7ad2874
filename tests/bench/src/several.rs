//! Rows of hosts on PostgreSQL: one host beside one on SQLite, several hosts beside one, and what a database may have besides the work.
//!
//! # Limits
//! Server, hosts, receiver and sender share the machine. On two cores, more hosts only add work: the rows of several hosts show what the
//! sharing itself costs, and not how far hosts on machines of their own go.

use crate::database::Database;
use crate::host::{Host, batch, event};
use crate::many::ROUNDS_MIN;
use crate::measure::{COUNT, bare, end_to_end, latency, rate};
use crate::processes::cpu_s;
use crate::receiver::Receiver;
use crate::{Args, Failure, Goal, Row, many, raw_rows};
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names of the rows.
pub(crate) const NAMES: [&str; 8] = [
    "pg-store",
    "pg-no-plugin",
    "pg-two-hosts",
    "pg-three-hosts",
    "pg-light",
    "pg-light-other",
    "pg-snapshot",
    "pg-backlog",
];

/// Measures a row.
pub(crate) async fn measure(name: &'static str, args: &Args) -> Result<Row, Failure> {
    match name {
        "pg-store" => raw_rows::row(name, args).await,
        "pg-no-plugin" => beside_sqlite(name, args).await,
        "pg-two-hosts" => shared(name, args, 2).await,
        "pg-three-hosts" => shared(name, args, 3).await,
        "pg-light" => light(name, args, 0, 5.0).await,
        "pg-light-other" => light(name, args, 1, 8.0).await,
        "pg-snapshot" => beside_a_snapshot(name, args).await,
        _ => beside_a_backlog(name, args).await,
    }
}

/// Hosts on one database, with tenants of one subscription each.
struct Fleet {
    hosts: Arc<Vec<Host>>,
    /// Ends after the hosts.
    database: Database,
    tenants: Arc<Vec<String>>,
    receiver: Receiver,
}

impl Fleet {
    async fn start(args: &Args, hosts: usize, tenants: usize) -> Result<Self, Failure> {
        let database = Database::start().await?;
        let receiver = Receiver::start().await?;
        let mut started: Vec<Host> = Vec::new();
        for _ in 0..hosts {
            started.push(Host::start_on(&database, started.first(), args).await?);
        }
        let names: Vec<String> = (0..tenants).map(|number| format!("t{number}")).collect();
        for tenant in &names {
            let host = &started[0];
            let http = host.http.post(format!("{}/v1/tenants", host.url)).bearer_auth(crate::host::KEY);
            http.body(json!({"id": tenant}).to_string()).send().await?.error_for_status()?;
            let settings = json!({"notify_url": receiver.url, "modules": ["Contact"], "concurrency": 64}).to_string();
            host.ask_of(tenant, Method::POST, "/subscriptions", settings).await?;
        }
        let fleet = Fleet { hosts: Arc::new(started), database, tenants: Arc::new(names), receiver };
        fleet.spread().await?;
        fleet.deliveries(1_000).await?;
        Ok(fleet)
    }

    /// Waits until each host has its part of the shards.
    async fn spread(&self) -> Result<(), Failure> {
        let most = i64::try_from(256_usize.div_ceil(self.hosts.len()))?;
        let sql = "SELECT count(DISTINCT owner), max(shards) FROM (SELECT owner, count(*) OVER (PARTITION BY owner) shards FROM shards) s";
        let client = self.database.connect().await?;
        loop {
            let row = client.query_one(sql, &[]).await?;
            let owners: i64 = row.get(0);
            if owners == i64::try_from(self.hosts.len())? && row.get::<_, i64>(1) <= most {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Measures deliveries per second. Requests of 100 events go to each host in turn, so that most of them belong to another one.
    async fn deliveries(&self, count: u64) -> Result<f64, Failure> {
        let from = self.receiver.count().await?;
        let begun = Instant::now();
        let [hosts, tenants] = [self.hosts.len(), self.tenants.len()];
        let all = self.hosts.clone();
        let names = self.tenants.clone();
        rate(count / 100, move |number| {
            let at = usize::try_from(number).unwrap_or(0);
            all[at % hosts].request_of(&names[at / hosts % tenants], Method::POST, "/events", batch(number * 100, 100))
        })
        .await?;
        self.receiver.until(from, count).await?;
        self.recorded().await?;
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    /// Waits until no delivery is pending.
    async fn recorded(&self) -> Result<(), Failure> {
        let client = self.database.connect().await?;
        while client.query_opt("SELECT 1 FROM deliveries_pending LIMIT 1", &[]).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Ok(())
    }
}

async fn beside_sqlite(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let receiver = Receiver::start().await?;
    let embedded = Host::start(args).await?;
    let database = Database::start().await?;
    let host = Host::start_on(&database, None, args).await?;
    for host in [&embedded, &host] {
        host.subscription(&receiver.url, json!({})).await?;
        end_to_end(host, &receiver, 1_000, 100).await?;
    }
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let mut cpu_us = [0.0; 2];
    for _ in 0..args.rounds.max(ROUNDS_MIN) {
        floors.push(end_to_end(&embedded, &receiver, COUNT, 100).await?);
        let spent = || [cpu_s(host.process.id()), database.cpu_s()];
        let before = spent();
        figures.push(end_to_end(&host, &receiver, COUNT, 100).await?);
        let after = spent();
        cpu_us.iter_mut().enumerate().for_each(|(at, sum)| *sum += (after[at] - before[at]) * 1e6);
    }
    let [of_host, of_server] = cpu_us.map(|us| us / (COUNT as f64 * figures.len() as f64));
    Ok(Row {
        name,
        what: "the row no-plugin on PostgreSQL on the same machine; floor: on SQLite".to_owned(),
        unit: "/s",
        floors,
        figures,
        goal: Goal::AtLeast(0.6),
        also: format!("CPU µs a delivery: host {of_host:.0}, server {of_server:.0}"),
    })
}

/// Number of tenants of the rows with several hosts.
const TENANTS: usize = 30;

async fn shared(name: &'static str, args: &Args, hosts: usize) -> Result<Row, Failure> {
    let one = Fleet::start(args, 1, TENANTS).await?;
    let several = Fleet::start(args, hosts, TENANTS).await?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    for _ in 0..args.rounds.max(ROUNDS_MIN) {
        floors.push(one.deliveries(COUNT).await?);
        figures.push(several.deliveries(COUNT).await?);
    }
    Ok(Row {
        name,
        what: format!("deliveries of {hosts} hosts, events sent to each in turn, all on one machine; floor: one host"),
        unit: "/s",
        floors,
        figures,
        goal: Goal::AtLeast(0.75),
        also: String::new(),
    })
}

/// Measures the time from sending to receiving. `place`: the host that gets the events; the first one makes all attempts.
async fn light(name: &'static str, args: &Args, place: usize, goal: f64) -> Result<Row, Failure> {
    let fleet = Fleet::start(args, 2, 1).await?;
    let client = fleet.database.connect().await?;
    let sql = "SELECT owner = (SELECT min(host) FROM hosts) FROM shards
               WHERE shard = (SELECT get_byte(uuid_send(id), 15) FROM subscriptions)";
    // Hosts register one after the other, with growing numbers.
    let is_of_first: bool = client.query_one(sql, &[]).await?.get(0);
    let owner = usize::from(!is_of_first);
    let host = &fleet.hosts[(owner + place) % 2];
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let http = reqwest::Client::new();
    let span = Duration::from_secs(5);
    let receiver = &fleet.receiver;
    for _ in 0..args.rounds {
        floors.push(latency(receiver, 100, span, 1, |number| http.post(&receiver.url).body(event(number))).await?[0]);
        let request = |number| host.request_of(&fleet.tenants[0], Method::POST, "/events", event(number));
        figures.push(latency(receiver, 100, span, 1, request).await?[0]);
    }
    let of = ["that makes the attempts", "beside the one that makes the attempts"][place];
    let what = format!("sent → received at 100 events/s, p50, through the host {of}; floor: the bare POST");
    Ok(Row { name, what, unit: "ms", floors, figures, goal: Goal::Above(goal), also: String::new() })
}

/// Time for which a snapshot has been held before and while the row is measured.
const HELD: Duration = Duration::from_secs(60);

async fn beside_a_snapshot(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let free = Fleet::start(args, 1, 1).await?;
    let held = Fleet::start(args, 1, 1).await?;
    let holder = held.database.connect().await?;
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM deliveries").await?;
    let begun = Instant::now();
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    while begun.elapsed() < HELD || figures.len() < args.rounds.max(ROUNDS_MIN) {
        floors.push(free.deliveries(COUNT).await?);
        figures.push(held.deliveries(COUNT).await?);
    }
    let sql = "SELECT sum(n_dead_tup)::int8 FROM pg_stat_user_tables WHERE relname LIKE 'deliveries_pending%'";
    let dead: i64 = held.database.connect().await?.query_one(sql, &[]).await?.get(0);
    // The last rounds have the most rows that cannot be removed.
    let last = figures.len() - args.rounds.max(ROUNDS_MIN);
    Ok(Row {
        name,
        what: format!("deliveries while a transaction holds a snapshot for {} s and more; floor: none", HELD.as_secs()),
        unit: "/s",
        floors: floors.split_off(last),
        figures: figures.split_off(last),
        goal: Goal::AtLeast(0.8),
        also: format!("{dead} rows of ended deliveries that the server cannot remove"),
    })
}

async fn beside_a_backlog(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let receiver = Receiver::start().await?;
    let databases = [Database::start().await?, Database::start().await?];
    let little = Host::start_on(&databases[0], None, args).await?;
    let much = Host::start_on(&databases[1], None, args).await?;
    many::make_backlog(&much, &receiver, args.backlog).await?;
    for host in [&little, &much] {
        host.subscription(&receiver.url, json!({})).await?;
        end_to_end(host, &receiver, 1_000, 100).await?;
    }
    let [floors, figures] = many::in_turns(args, (&little, &much), (&receiver, &receiver)).await?;
    let bare = bare(&receiver, COUNT).await?;
    Ok(Row {
        name,
        what: format!("the row pg-no-plugin beside {} pending deliveries; floor: beside none", args.backlog),
        unit: "/s",
        floors,
        figures,
        goal: Goal::AtLeast(0.9),
        also: format!("bare POSTs {bare:.0}/s"),
    })
}
