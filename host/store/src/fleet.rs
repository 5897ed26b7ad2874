//! Hosts that share the database with this one.
//!
//! On a database of one host, everything is in force at once, and there is nobody to give anything to. Otherwise the host is a member of
//! the fleet, whatever the database (`membership`), which has the tables (`database`).

#[cfg(any(test, feature = "memory", feature = "postgres"))]
mod database;
#[cfg(any(test, feature = "memory", feature = "postgres"))]
mod giving;
#[cfg(any(test, feature = "memory", feature = "postgres"))]
mod membership;
mod report;
#[cfg(any(test, feature = "memory", feature = "postgres"))]
mod state;

#[cfg(any(test, feature = "memory", feature = "postgres"))]
pub(crate) use database::{FleetDatabase, Hint, LEASE, Registration};
#[cfg(any(test, feature = "postgres"))]
pub(crate) use membership::POLL;
#[cfg(any(test, feature = "memory", feature = "postgres"))]
pub(crate) use membership::{HINT_PAUSE, Membership, Renewal};
#[cfg(any(test, feature = "postgres"))]
pub(crate) use report::machine_name;
pub use report::{FleetReport, HostReport, ShardReport};
#[cfg(any(test, feature = "memory", feature = "postgres"))]
pub(crate) use state::{FleetHost, FleetState};

use crate::audit::Actor;
use crate::backend::fleet::PluginChange;
use crate::{Store, StoreError};
use delegate::delegate;
use tokio::sync::mpsc;

impl Store {
    delegate! {
        to self.backend {
            /// Waits until the changes that this host has made are in force at every host, at most some seconds. Returns the names of
            /// the hosts that lag behind.
            pub async fn in_force(&self) -> Result<Vec<String>, StoreError>;

            /// Begins no more attempts, and gives what this host owns to other hosts, each shard as soon as its last attempt has ended.
            /// Returns when nothing is left to give.
            pub async fn give_away(&self);

            /// Lets the owner of a shard give it to a host, by the host's number, as soon as none of its attempts is under way. That host
            /// keeps it while it lives. None: to any host, as the hosts balance it.
            ///
            /// # Errors
            /// [`StoreError::NotFound`] if no host with that number has a lease, and [`StoreError::Conflict`] if no other host can share
            /// the database.
            pub async fn pin_shard(&self, actor: Actor, shard: u8, to: Option<i16>) -> Result<(), StoreError>;

            /// Leaves the other hosts, after the last write. What this host still owns goes to them at once.
            pub async fn leave(&self) -> Result<(), StoreError>;
        }
    }

    /// Records that the plugin runtime has followed a change, and wakes the lanes of its tenants: deliveries may have waited for it.
    pub fn note_in_force(&self, change: &PluginChange) {
        for tenant in &change.tenants {
            self.catalog().subscriptions(tenant).iter().for_each(|one| self.state.publish_change(one.id));
        }
        self.backend.note_in_force(change);
    }

    /// Returns how often this host has ceased to own a subscription, so that a simulation knows of a new lane.
    #[cfg(any(test, feature = "memory"))]
    pub fn ownership_period(&self, id: hookloom_model::subscription::SubscriptionId) -> u64 {
        self.state.claims.period(id)
    }

    /// Returns the channel of changes of plugins by other hosts, which the plugin runtime follows.
    pub fn plugin_changes(&self) -> mpsc::UnboundedReceiver<PluginChange> {
        self.state.plugin_changes()
    }
}
