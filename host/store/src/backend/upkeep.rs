//! Steps of background work: retention, sweeps, and steps of the clock. Their order and pauses are policies of the store.

use crate::StoreError;
use crate::backend::lanes::AttemptClass;
use crate::backend::tenants::WorkStep;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::EventId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of deliveries that one transaction makes due, or moves.
pub(crate) const STEP: usize = 256;

/// Maximum number of events that a step of pruning reads.
pub(crate) const EVENTS_READ_MAX: usize = 256;

/// Maximum number of expired idempotency keys that one transaction deletes.
pub(crate) const KEYS_DELETED_MAX: usize = 256;

/// Outcome of a step of pruning.
#[derive(Clone, Copy, Debug)]
pub struct PruneStep {
    /// Number of events that were deleted.
    pub pruned: u64,
    /// Time for which the step occupied the writer.
    pub took: Duration,
    /// Event after which the next step continues. None: there are no more events.
    pub after: Option<EventId>,
}

/// Subject of a change that deliveries wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A plugin of the tenant.
    Plugin(String),
    /// One subscription.
    Subscription(SubscriptionId),
}

/// Change whose deliveries are not all due yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Tenant of the change.
    pub tenant: TenantId,
    /// Subject of the change.
    pub changed: Changed,
    /// Time of the change, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// Step of the clock: the time after the step, and by how much the clock was set back.
#[derive(Clone, Copy, Debug)]
pub struct ClockStep {
    /// Time after the step, in milliseconds since the epoch.
    pub now_ms: i64,
    /// Number of milliseconds by which the clock was set back.
    pub back_ms: i64,
}

/// Position in a lane, by due time and id.
pub type DuePosition = (i64, Uuid);

/// Retention of events and idempotency keys.
#[async_trait]
pub trait RetentionBackend: Send + Sync {
    /// Deletes the next events after an id that were accepted before a time, with their deliveries and attempts, unless one of their
    /// deliveries is pending or an older event of the same contact or deal is stored. The ledger keeps their numbers.
    async fn prune_events(
        &self,
        tenant: &TenantId,
        after: Option<EventId>,
        before_ms: i64,
    ) -> Result<PruneStep, StoreError>;

    /// Deletes at most [`KEYS_DELETED_MAX`] idempotency keys that were received before a time.
    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<WorkStep, StoreError>;
}

/// Sweeps after a change that deliveries wait for.
#[async_trait]
pub trait SweepBackend: Send + Sync {
    /// Returns the oldest sweep.
    async fn next_sweep(&self) -> Result<Option<Sweep>, StoreError>;

    /// Returns at most [`STEP`] deliveries of a subscription that wait for a change, after an id, by id.
    async fn waiting(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        after: Option<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, StoreError>;

    /// Makes deliveries due that wait for a change made at this time, and publishes the subscription as changed. Returns the time for
    /// which it occupied the writer.
    async fn make_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        deliveries: Vec<DeliveryId>,
        at_ms: i64,
    ) -> Result<Duration, StoreError>;

    /// Deletes a sweep, unless it was recorded again meanwhile.
    async fn end_sweep(&self, sweep: Sweep) -> Result<(), StoreError>;
}

/// Steps of the wall clock.
#[async_trait]
pub trait ClockBackend: Send + Sync {
    /// Moves at most [`STEP`] due times of a lane that come after a position, earliest first. Returns the last position before the move,
    /// and the time for which it occupied the writer. None: there are no more.
    async fn move_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        class: AttemptClass,
        step: ClockStep,
        after: DuePosition,
    ) -> Result<Option<(DuePosition, Duration)>, StoreError>;
}
