//! Hosts of a fleet: real processes with their own data folders, which share a database and a master key.

use crate::harness::{Host, Postgres, until};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Number of shards.
const SHARDS: usize = 256;

/// URLs of the hosts that run, which senders choose from.
pub(super) type HostUrls = Arc<Mutex<BTreeMap<usize, String>>>;

/// Private database and the hosts that share it. A host is named by its place, which it keeps when it starts again.
pub(super) struct Fleet {
    pub(super) server: Postgres,
    hosts: BTreeMap<usize, Host>,
    folders: Vec<Arc<TempDir>>,
    pub(super) urls: HostUrls,
}

impl Fleet {
    /// Starts hosts, one after the other, and waits until each has its part of the shards.
    pub(super) async fn start(hosts: usize) -> Fleet {
        let server = Postgres::start().await;
        let mut fleet = Fleet { server, hosts: BTreeMap::new(), folders: Vec::new(), urls: HostUrls::default() };
        for _ in 0..hosts {
            fleet.add().await;
        }
        fleet.spread().await;
        fleet
    }

    /// Starts a new host. Returns its place.
    pub(super) async fn add(&mut self) -> usize {
        let folder = Arc::new(TempDir::new().unwrap());
        if let Some(first) = self.folders.first() {
            let [from, to] = [first, &folder].map(|folder| folder.path().join("data"));
            std::fs::create_dir(&to).unwrap();
            std::fs::copy(from.join("master.key"), to.join("master.key")).unwrap();
        }
        self.folders.push(folder);
        let place = self.folders.len() - 1;
        self.restart(place).await;
        place
    }

    /// Starts a host again in its folder.
    pub(super) async fn restart(&mut self, place: usize) {
        let store = format!("store={}", self.server.url());
        let host = Host::with().set(&store).on(self.folders[place].clone()).start().await;
        self.urls.lock().insert(place, host.url.clone());
        self.hosts.insert(place, host);
    }

    /// Returns a running host.
    pub(super) fn host(&self, place: usize) -> &Host {
        &self.hosts[&place]
    }

    /// Returns the places of the running hosts.
    pub(super) fn places(&self) -> Vec<usize> {
        self.hosts.keys().copied().collect()
    }

    fn take_out(&mut self, place: usize) -> Host {
        self.urls.lock().remove(&place);
        self.hosts.remove(&place).unwrap()
    }

    /// Kills a host, as kill -9 does. Senders still try to reach it until this returns.
    pub(super) async fn kill(&mut self, place: usize) {
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
        log_of(&self.folders[place])
    }

    /// Returns the number of a host in the fleet. None: it is not registered.
    pub(super) async fn number(&self, place: usize) -> Option<i16> {
        let identity = std::fs::read_to_string(self.folders[place].path().join("data/host.id")).unwrap();
        let sql = format!("SELECT host FROM hosts WHERE identity = '{}'", identity.trim());
        self.server.query(&sql).await.first().map(|number| number.parse().unwrap())
    }

    /// Returns the shards of each host, by its number.
    pub(super) async fn owners(&self) -> BTreeMap<i16, Vec<u8>> {
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
    pub(super) async fn spread(&self) -> Duration {
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
        for (place, folder) in self.folders.iter().enumerate() {
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
