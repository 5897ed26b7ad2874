//! Questions of the membership of a host to the database that the hosts share.

use super::state::FleetState;
use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::ownership::ShardSet;
use async_trait::async_trait;
use hookloom_model::subscription::SubscriptionId;
use std::time::Duration;

/// Duration of a lease.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// Part of a lease at its end in which the host begins no attempt: the clocks of two machines do not go equally fast.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// Registration of a host. Every write names it, and a write of an earlier epoch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) host: i16,
    /// Number that each registration and each takeover raises.
    pub(crate) epoch: i64,
}

/// Hint from one host to the others: something changed, look now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// The catalog or the owners of shards changed.
    Fleet,
    /// Subscriptions have new deliveries.
    Deliveries(Vec<SubscriptionId>),
    /// Any subscription may have new deliveries.
    AllDeliveries,
}

/// Connection of a membership to the database.
#[async_trait]
pub(crate) trait FleetDatabase: Send + Sync {
    /// Registers this host, also if it is registered. Shards that nobody owns become its own.
    async fn register(&self) -> Result<Registration, StoreError>;

    /// Renews the lease of this host, and shows the last change that is in force here, and the load. Returns false if the lease has ended,
    /// or if the host was taken over.
    async fn renew(
        &self,
        registration: Registration,
        generation: Option<i64>,
        load: AttemptLoad,
    ) -> Result<bool, StoreError>;

    /// Reads the state of the fleet.
    async fn read(&self) -> Result<FleetState, StoreError>;

    /// Takes over from a host whose lease has ended: raises its epoch, and gives its shards to the other hosts in turn. Returns false if
    /// the lease was renewed or another host was faster.
    async fn take_over(&self, by: Registration, from: i16) -> Result<bool, StoreError>;

    /// Gives shards to another host, in a transaction of the writer.
    async fn give(&self, from: Registration, to: i16, shards: ShardSet) -> Result<(), StoreError>;

    /// Sends a hint to the other hosts.
    async fn hint(&self, hint: &Hint) -> Result<(), StoreError>;

    /// Lets the writer load what other hosts changed.
    fn look_for_changes(&self);
}
