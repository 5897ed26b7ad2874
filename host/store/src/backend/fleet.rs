//! Other hosts that share the database. Without them, everything is in force at once.

use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::audit::Actor;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

/// Change of plugins by another host, which the plugin runtime of this host follows.
#[derive(Debug)]
pub struct PluginChange {
    /// Tenants whose plugins changed.
    pub tenants: Vec<TenantId>,
    /// Change of the catalog that this one belongs to.
    #[cfg_attr(
        not(any(test, feature = "memory", feature = "postgres")),
        expect(dead_code, reason = "other backends have one host")
    )]
    pub(crate) generation: i64,
}

/// Host that shares the database, as its row shows it.
#[derive(Clone, Debug)]
pub struct SharingHost {
    /// Number of the host, which a restart keeps.
    pub number: i16,
    /// Name of its machine.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// Time at which it registered, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Rest of its lease in milliseconds. None: it needs no lease, because no other host can take over.
    pub lease_ms: Option<u64>,
    /// True if its lease has ended, so that another host takes over.
    pub has_ended: bool,
    /// Number of changes that are not in force there. None: it has not loaded the catalog yet.
    pub changes_behind: Option<u64>,
    /// Its attempts, as of the last renewal of its lease.
    pub attempts: AttemptLoad,
    /// True if it is this host.
    pub is_this: bool,
}

/// Host that was taken over and has not registered again.
#[derive(Clone, Debug)]
pub struct LostHost {
    /// Number that it had. Another host may have it now.
    pub number: i16,
    /// Name of its machine.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// Time of the takeover, in milliseconds since the epoch.
    pub lost_at_ms: i64,
}

/// Shard, as its row shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedShard {
    /// Number of the host that makes the attempts of its subscriptions. None: there is none.
    pub owner: Option<i16>,
    /// True if an operator moved it to a host.
    pub is_pinned: bool,
    /// Number of the host that an operator moved it to. None: there is none, or that host is not registered now.
    pub pinned_to: Option<i16>,
}

/// Hosts that share the database, and the shards.
#[derive(Clone, Debug, Default)]
pub struct FleetView {
    /// Hosts, by number.
    pub hosts: Vec<SharingHost>,
    /// Shards, by number.
    pub shards: Vec<SharedShard>,
    /// Hosts that were lost within a week, the last one first.
    pub lost: Vec<LostHost>,
}

/// Hosts that share the database.
#[async_trait]
pub trait FleetBackend: Send + Sync {
    /// Waits until the changes that this host has made are in force at every host, at most some seconds. Returns the names of the hosts
    /// that lag behind.
    async fn in_force(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Returns the hosts that share the database. None: no other host can.
    async fn fleet(&self) -> Result<Option<FleetView>, StoreError> {
        Ok(None)
    }

    /// Lets the owner of a shard give it to a host, by the host's number, which keeps it while it lives. None: to any host, as the hosts
    /// balance it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if no host with that number has a lease.
    async fn pin_shard(&self, _actor: Actor, _shard: u8, _to: Option<i16>) -> Result<(), StoreError> {
        Err(StoreError::Conflict("no other host can share the database of this host".to_owned()))
    }

    /// Records that the plugin runtime has followed a change.
    fn note_in_force(&self, _change: &PluginChange) {}

    /// Begins no more attempts, and gives what this host owns to other hosts, each shard as soon as its last attempt has ended. Returns
    /// when nothing is left to give.
    async fn give_away(&self) {}

    /// Leaves the other hosts, after the last write. What this host still owns goes to them at once.
    async fn leave(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
