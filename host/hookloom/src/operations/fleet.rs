//! Hosts that share the database, and their shards, for operators.

use super::{Admin, Operations, Problem};
use crate::store::{AttemptLoad, FleetReport, HostReport, LostHost, ShardReport, StoreError};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Host that shares the database.
#[derive(Serialize, ToSchema)]
pub(crate) struct HostBody {
    /// Number of the host. A restart after a kill keeps it.
    pub(crate) number: i16,
    /// Name of its machine.
    pub(crate) name: String,
    /// Version of its program.
    pub(crate) version: String,
    /// Time at which it registered: its start, or the end of an interruption of its lease.
    pub(crate) started_at_ms: i64,
    /// `serving`, `starting` (it has not loaded the catalog) or `ended` (its lease has ended; another host takes over).
    pub(crate) state: &'static str,
    /// Rest of its lease. Null: it has its database for itself.
    pub(crate) lease_ms: Option<u64>,
    /// Number of changes that are not in force there. Null: it is starting.
    pub(crate) changes_behind: Option<u64>,
    /// Number of shards that it owns, of 256.
    pub(crate) shards: usize,
    /// Number of subscriptions in its shards.
    pub(crate) subscriptions: u64,
    /// Number of pending deliveries in its shards.
    pub(crate) pending: u64,
    /// Attempts that it makes in a second, as a mean of ten seconds.
    pub(crate) attempts_per_s: f64,
    /// Attempts under way there.
    pub(crate) attempts_under_way: u32,
    /// True if it has answered this request.
    pub(crate) this: bool,
}

/// Shard: the unit in which hosts share subscriptions.
#[derive(Serialize, ToSchema)]
pub(crate) struct ShardBody {
    /// Number of the shard: the last byte of the ids of its subscriptions.
    pub(crate) shard: usize,
    /// Number of the host that makes the attempts of its subscriptions. Null: there is none.
    pub(crate) host: Option<i16>,
    /// True if an operator moved it to a host.
    pub(crate) pinned: bool,
    /// Number of the host that an operator moved it to. Null: there is none, or that host does not run now.
    pub(crate) pinned_to: Option<i16>,
    /// Number of its subscriptions.
    pub(crate) subscriptions: u64,
    /// Number of their pending deliveries.
    pub(crate) pending: u64,
}

/// Host that was taken over and has not come back.
#[derive(Serialize, ToSchema)]
pub(crate) struct LostHostBody {
    /// Number that it had.
    pub(crate) number: i16,
    /// Name of its machine.
    pub(crate) name: String,
    /// Version of its program.
    pub(crate) version: String,
    /// Time of the takeover.
    pub(crate) lost_at_ms: i64,
}

/// Hosts that share the database.
#[derive(Serialize, ToSchema)]
pub(crate) struct FleetBody {
    /// Hosts by number. With SQLite, a host is alone.
    pub(crate) hosts: Vec<HostBody>,
    /// Shards by number.
    pub(crate) shards: Vec<ShardBody>,
    /// Hosts that were lost within 7 days and have not come back, the last one first.
    pub(crate) lost: Vec<LostHostBody>,
}

/// Move of a shard.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardWrite {
    /// Number of the host that the shard is to be given to, which keeps it. Null: any host, as the hosts balance it.
    pub(crate) host: Option<i16>,
}

impl From<HostReport> for HostBody {
    fn from(HostReport { host, shards, subscriptions, pending }: HostReport) -> Self {
        let state = match host.changes_behind {
            _ if host.has_ended => "ended",
            None => "starting",
            Some(_) => "serving",
        };
        let AttemptLoad { per_s, under_way } = host.attempts;
        HostBody {
            number: host.number,
            name: host.name,
            version: host.version,
            started_at_ms: host.started_at_ms,
            state,
            lease_ms: host.lease_ms,
            changes_behind: host.changes_behind,
            shards,
            subscriptions,
            pending,
            attempts_per_s: per_s,
            attempts_under_way: under_way,
            this: host.is_this,
        }
    }
}

impl ShardBody {
    fn of((shard, report): (usize, ShardReport)) -> Self {
        let ShardReport { shard: shared, subscriptions, pending } = report;
        ShardBody {
            shard,
            host: shared.owner,
            pinned: shared.is_pinned,
            pinned_to: shared.pinned_to,
            subscriptions,
            pending,
        }
    }
}

impl From<LostHost> for LostHostBody {
    fn from(LostHost { number, name, version, lost_at_ms }: LostHost) -> Self {
        LostHostBody { number, name, version, lost_at_ms }
    }
}

impl From<FleetReport> for FleetBody {
    fn from(FleetReport { hosts, shards, lost }: FleetReport) -> Self {
        FleetBody {
            hosts: hosts.into_iter().map(HostBody::from).collect(),
            shards: shards.into_iter().enumerate().map(ShardBody::of).collect(),
            lost: lost.into_iter().map(LostHostBody::from).collect(),
        }
    }
}

impl Operations {
    /// Lists the hosts that share the database, and the shards.
    pub(crate) async fn fleet(&self, _: &Admin) -> Result<FleetBody, Problem> {
        Ok(self.store.fleet().await?.into())
    }

    /// Lets the owner of a shard give it to a host, which keeps it. Returns the shard, which moves when none of its attempts is under way.
    pub(crate) async fn move_shard(&self, admin: &Admin, shard: &str, to: ShardWrite) -> Result<ShardBody, Problem> {
        let number: u8 = shard.parse().map_err(|_| {
            Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such shard: they have the numbers 0 to 255")
        })?;
        let host = to.host;
        let pinned = self.store.pin_shard(admin.actor(), number, host).await;
        pinned.map_err(|error| match (error, host) {
            (StoreError::NotFound(_), Some(host)) => {
                Problem::field("/host", format!("no host with the number {host} runs"))
                    .remedy("GET /v1/fleet lists the hosts")
            }
            (error, _) => error.into(),
        })?;
        let report = self.store.fleet().await?.shards.into_iter().enumerate().nth(usize::from(number));
        report.map(ShardBody::of).ok_or_else(|| Problem::not_found("shard"))
    }
}
