//! Other hosts that share the database. Without them, everything is in force at once.

use crate::StoreError;
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

/// Hosts that share the database.
#[async_trait]
pub trait FleetBackend: Send + Sync {
    /// Waits until the changes that this host has made are in force at every host, at most some seconds. Returns the names of the hosts
    /// that lag behind.
    async fn in_force(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
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
