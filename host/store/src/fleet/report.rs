//! Report of the hosts that share the database, for operators.

use crate::backend::fleet::{FleetView, LostHost, SharedShard, SharingHost};
use crate::ownership::{SHARDS, shard_of};
use crate::{Store, StoreError};
use hookloom_telemetry::FleetGauges;
use std::time::Duration;

/// Number of the only host of a database that no other host can share.
const ONLY_HOST: i16 = 1;

/// Host that shares the database, and what its shards have.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// The host.
    pub host: SharingHost,
    /// Number of shards that it owns.
    pub shards: usize,
    /// Number of subscriptions of its shards.
    pub subscriptions: u64,
    /// Number of pending deliveries of its shards.
    pub pending: u64,
}

/// Shard, and what it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardReport {
    /// The shard.
    pub shard: SharedShard,
    /// Number of its subscriptions.
    pub subscriptions: u64,
    /// Number of their pending deliveries.
    pub pending: u64,
}

/// Hosts that share the database, and the shards.
#[derive(Clone, Debug)]
pub struct FleetReport {
    /// Hosts, by number. One that needs no lease is alone.
    pub hosts: Vec<HostReport>,
    /// Shards, by number.
    pub shards: Vec<ShardReport>,
    /// Hosts that were lost within a week, the last one first.
    pub lost: Vec<LostHost>,
}

impl FleetView {
    /// Returns what is shown as metrics of this host.
    fn gauges(&self) -> FleetGauges {
        let own = self.hosts.iter().find(|one| one.is_this);
        let live: Vec<i16> = self.hosts.iter().filter(|one| !one.has_ended).map(|one| one.number).collect();
        let is_owned = |one: &&SharedShard| one.owner.is_some_and(|owner| live.contains(&owner));
        FleetGauges {
            hosts: live.len(),
            shards: own.map_or(0, |own| self.shards.iter().filter(|one| one.owner == Some(own.number)).count()),
            shards_without_host: self.shards.len() - self.shards.iter().filter(is_owned).count(),
            changes_behind: own.and_then(|own| own.changes_behind),
            lease_left: own.and_then(|own| own.lease_ms).map(Duration::from_millis),
        }
    }
}

impl Store {
    /// Returns the hosts that share the database, with the load of each. A host that is alone returns itself.
    pub async fn fleet(&self) -> Result<FleetReport, StoreError> {
        let FleetView { mut hosts, shards, lost } = self.fleet_view().await?;
        let shards = self.load_of(shards);
        if let Some(own) = hosts.iter_mut().find(|one| one.is_this) {
            own.attempts = self.state.activity.load();
        }
        let hosts = hosts.into_iter().map(|host| {
            let own = shards.iter().filter(|one| one.shard.owner == Some(host.number));
            HostReport {
                shards: own.clone().count(),
                subscriptions: own.clone().map(|one| one.subscriptions).sum(),
                pending: own.map(|one| one.pending).sum(),
                host,
            }
        });
        Ok(FleetReport { hosts: hosts.collect(), lost, shards })
    }

    /// Returns what metrics show of the hosts, without a look at all subscriptions.
    pub async fn fleet_gauges(&self) -> Result<FleetGauges, StoreError> {
        Ok(self.fleet_view().await?.gauges())
    }

    async fn fleet_view(&self) -> Result<FleetView, StoreError> {
        Ok(self.backend.fleet().await?.unwrap_or_else(|| self.view_of_one()))
    }

    /// Returns the view of a host that has its database for itself.
    fn view_of_one(&self) -> FleetView {
        let own = SharingHost {
            number: ONLY_HOST,
            name: machine_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.state.opened_at_ms,
            lease_ms: None,
            has_ended: false,
            changes_behind: Some(0),
            attempts: self.state.activity.load(),
            is_this: true,
        };
        let shard = SharedShard { owner: Some(ONLY_HOST), ..SharedShard::default() };
        FleetView { hosts: vec![own], shards: vec![shard; SHARDS], lost: Vec::new() }
    }

    /// Returns shards with their subscriptions and pending deliveries.
    fn load_of(&self, shards: Vec<SharedShard>) -> Vec<ShardReport> {
        let reports = shards.into_iter().map(|shard| ShardReport { shard, ..ShardReport::default() });
        let mut reports: Vec<ShardReport> = reports.collect();
        for tenant in self.catalog().tenants() {
            let pending = self.pending(&tenant.id);
            for one in self.catalog().subscriptions(&tenant.id).iter() {
                if let Some(report) = reports.get_mut(usize::from(shard_of(one.id))) {
                    report.subscriptions += 1;
                    report.pending += pending.get(&one.id).copied().unwrap_or_default();
                }
            }
        }
        reports
    }
}

/// Returns the name of this machine.
pub(crate) fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
