//! Hosts of a fleet: real processes with their own data folders, which share a database and a master key.

use crate::harness::{ADMIN_KEY, Host, Pooler, Postgres, program, until};
use parking_lot::Mutex;
use reqwest::Method;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::Command;

/// Number of shards.
const SHARDS: usize = 256;

/// URLs of the hosts that run, which senders choose from.
pub(super) type HostUrls = Arc<Mutex<BTreeMap<usize, String>>>;

/// Private database and the hosts that share it. A host is named by its place, which it keeps when it starts again.
pub(crate) struct Fleet {
    pub(super) server: Postgres,
    /// Pooler between the hosts and the server. None: hosts connect to the server.
    pub(super) pooler: Option<Pooler>,
    hosts: BTreeMap<usize, Host>,
    places: Vec<HostPlace>,
    pub(super) urls: HostUrls,
}

/// Settings with which the host of a place starts.
#[derive(Clone)]
pub(super) struct HostStart {
    /// URL of the database.
    pub(super) store: String,
    pub(super) environment: Vec<(&'static str, String)>,
    /// Another program than the one that is tested.
    pub(super) program: Option<PathBuf>,
}

impl HostStart {
    /// Returns the settings of a host without others than the URL of its database.
    pub(super) fn at(store: String) -> HostStart {
        HostStart { store, environment: Vec::new(), program: None }
    }
}

struct HostPlace {
    folder: Arc<TempDir>,
    start: HostStart,
}

impl Fleet {
    /// Starts hosts, one after the other, and waits until each has its part of the shards.
    pub(crate) async fn start(hosts: usize) -> Fleet {
        Fleet::on(Postgres::start().await, hosts).await
    }

    /// Starts hosts on a server, as [`Fleet::start`] does.
    pub(super) async fn on(server: Postgres, hosts: usize) -> Fleet {
        let start = HostStart::at(server.url());
        Fleet::of(server, vec![start; hosts]).await
    }

    /// Starts hosts as [`Fleet::start`] does, behind a pooler with this number of connections to the server.
    pub(super) async fn start_behind_pooler(hosts: usize, connections: usize) -> Fleet {
        let server = Postgres::start().await;
        let pooler = Pooler::start(&server, connections).await;
        let start = HostStart::at(format!("{}&pooler=transaction", pooler.url()));
        let mut fleet = Fleet::of(server, vec![start; hosts]).await;
        fleet.pooler = Some(pooler);
        fleet
    }

    /// Starts a host on a server for each of these settings, as [`Fleet::start`] does.
    pub(super) async fn of(server: Postgres, starts: Vec<HostStart>) -> Fleet {
        let mut fleet = Fleet::without_hosts(server);
        for start in starts {
            fleet.add_with(start).await;
        }
        fleet.spread().await;
        fleet
    }

    fn without_hosts(server: Postgres) -> Fleet {
        Fleet { server, pooler: None, hosts: BTreeMap::new(), places: Vec::new(), urls: HostUrls::default() }
    }

    /// Starts one host, whose store is in its data folder. The database is empty.
    pub(super) async fn on_sqlite() -> Fleet {
        let mut fleet = Fleet::without_hosts(Postgres::start().await);
        fleet.add_with(HostStart::at(String::new())).await;
        fleet
    }

    /// Returns the command that moves the store of a host to the database.
    pub(super) fn move_store(&self, place: usize, options: &[&str]) -> Command {
        let mut command = Command::new(program());
        let listen = self.host(place).url.trim_start_matches("http://").to_owned();
        command.args(["move-store", "--listen", &listen, "--to", &self.server.url(), "--data-dir"]);
        command.arg(self.host(place).data()).args(options).env("HOOKLOOM_ADMIN_KEY", ADMIN_KEY).kill_on_drop(true);
        command
    }

    /// Waits for the end of a host whose store was moved, and starts it again, on the database.
    pub(super) async fn restart_moved(&mut self, place: usize) {
        self.places[place].start.store = self.server.url();
        let (status, folder) = self.hosts.remove(&place).unwrap().stopped().await;
        assert!(status.success(), "{status}: {}", log_of(&folder));
        self.restart(place).await;
    }

    /// Starts a new host. Returns its place.
    pub(super) async fn add(&mut self) -> usize {
        self.add_with(HostStart::at(self.server.url())).await
    }

    async fn add_with(&mut self, start: HostStart) -> usize {
        let folder = Arc::new(TempDir::new().unwrap());
        if let Some(first) = self.places.first() {
            let [from, to] = [&first.folder, &folder].map(|folder| folder.path().join("data"));
            std::fs::create_dir(&to).unwrap();
            std::fs::copy(from.join("master.key"), to.join("master.key")).unwrap();
        }
        self.places.push(HostPlace { folder, start });
        let place = self.places.len() - 1;
        self.restart(place).await;
        place
    }

    /// Starts a host again in its folder.
    pub(super) async fn restart(&mut self, place: usize) {
        let HostPlace { folder, start } = &self.places[place];
        let mut builder = Host::with().set(&format!("store={}", start.store)).on(folder.clone());
        for (name, value) in &start.environment {
            builder = builder.env(name, value);
        }
        if let Some(program) = &start.program {
            builder = builder.program(program);
        }
        let host = builder.start().await;
        self.urls.lock().insert(place, host.url.clone());
        self.hosts.insert(place, host);
    }

    /// Lets the host of a place run another program when it starts again. None: the one that is tested.
    pub(super) fn run_program(&mut self, place: usize, program: Option<PathBuf>) {
        self.places[place].start.program = program;
    }

    /// Returns a running host.
    pub(crate) fn host(&self, place: usize) -> &Host {
        &self.hosts[&place]
    }

    /// Returns the places of the running hosts.
    pub(super) fn places(&self) -> Vec<usize> {
        self.hosts.keys().copied().collect()
    }

    /// Returns the number of takeovers by the hosts that run, since each of them started.
    pub(super) async fn takeovers(&self) -> u64 {
        let mut sum = 0;
        for host in self.hosts.values() {
            let text = host.ask(Method::GET, "/metrics", "").await.text;
            let value = text.lines().find_map(|line| line.strip_prefix("hookloom_fleet_takeovers_total "));
            sum += value.expect("a count of takeovers").parse::<u64>().unwrap();
        }
        sum
    }

    fn take_out(&mut self, place: usize) -> Host {
        self.urls.lock().remove(&place);
        self.hosts.remove(&place).unwrap()
    }

    /// Kills a host, as kill -9 does. Senders still try to reach it until this returns.
    pub(crate) async fn kill(&mut self, place: usize) {
        self.hosts.remove(&place).unwrap().kill().await;
        self.urls.lock().remove(&place);
    }

    /// Stops a host by SIGTERM, and waits for its end. Returns the time that it took.
    pub(super) async fn stop(&mut self, place: usize) -> Duration {
        let begun = Instant::now();
        let host = self.take_out(place);
        let (status, folder) = host.stop().await;
        assert!(status.success(), "{status}: {}", log_of(&folder));
        begun.elapsed()
    }

    /// Lets a host stand still. Senders still send to it.
    pub(super) async fn freeze(&self, place: usize) {
        self.host(place).signal("STOP").await;
    }

    /// Lets a host that stands still go on.
    pub(super) async fn thaw(&self, place: usize) {
        self.host(place).signal("CONT").await;
    }

    /// Returns the log of a host, also if it has ended.
    pub(super) fn log(&self, place: usize) -> String {
        log_of(&self.places[place].folder)
    }

    /// Returns the number of a host in the fleet. None: it is not registered.
    pub(super) async fn number(&self, place: usize) -> Option<i16> {
        let identity = std::fs::read_to_string(self.places[place].folder.path().join("data/host.id")).unwrap();
        let sql = format!("SELECT host FROM hosts WHERE identity = '{}'", identity.trim());
        self.server.query(&sql).await.first().map(|number| number.parse().unwrap())
    }

    /// Returns the shards of each host, by its number.
    pub(crate) async fn owners(&self) -> BTreeMap<i16, Vec<u8>> {
        let mut owners: BTreeMap<i16, Vec<u8>> = BTreeMap::new();
        for row in self.server.query("SELECT owner, shard FROM shards WHERE owner IS NOT NULL ORDER BY shard").await {
            let (owner, shard) = row.split_once('|').unwrap();
            owners.entry(owner.parse().unwrap()).or_default().push(shard.parse().unwrap());
        }
        owners
    }

    /// Returns the shards of a host, by its place.
    pub(super) async fn shards(&self, place: usize) -> Vec<u8> {
        let Some(number) = self.number(place).await else { return Vec::new() };
        self.owners().await.remove(&number).unwrap_or_default()
    }

    /// Waits until every running host has its part of the shards, and no other host has any. Returns how long it took.
    pub(crate) async fn spread(&self) -> Duration {
        let begun = Instant::now();
        // No host has more than its part, so that the last may have less.
        let part = SHARDS.div_ceil(self.hosts.len());
        until("each host to have its part of the shards", async || {
            let mut owners = self.owners().await;
            for place in self.places() {
                let shards = owners.remove(&self.number(place).await?)?;
                if shards.len() > part {
                    return None;
                }
            }
            owners.is_empty().then_some(())
        })
        .await;
        begun.elapsed()
    }
}

/// Number of lines of a log that a failed test shows.
const LINES_SHOWN: usize = 60;

impl Drop for Fleet {
    /// Shows the logs of a test that failed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (place, HostPlace { folder, .. }) in self.places.iter().enumerate() {
            let log = log_of(folder);
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            println!("log of host {place}:\n{}", last.join("\n"));
        }
    }
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

/// Runs `hookloom fleet` against a host. Returns what it printed, or its error.
pub(super) fn run_fleet(host: &Host, arguments: &[&str]) -> Result<String, String> {
    let options = ["--url", &host.url, "--key", ADMIN_KEY];
    let output = std::process::Command::new(program()).arg("fleet").args(arguments).args(options).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    if output.status.success() { Ok(out) } else { Err(err) }
}
