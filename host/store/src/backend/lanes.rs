//! Deliveries of a lane: due ones, and the outcomes of their attempts.
//!
//! # Guarantees of every backend
//! - A page has only deliveries that are pending, due and free: see [`ClaimPage::is_free`].
//! - An outcome changes its delivery once, even if it is recorded again because the answer to the first call was lost.
//! - A delivery that ended meanwhile keeps its state, and the attempt is added to it.
//! - A delivery whose settling has ended is never superseded, at no host.

use crate::StoreError;
use crate::claims::ClaimPage;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Attempt, DeliveryId, DeliveryState, DueDelivery, Reason};
use hookloom_model::event::Event;
use hookloom_model::pauses::Pauses;
use hookloom_model::retry::Next;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::collections::HashSet;
use std::sync::Arc;

/// Attempt class of due deliveries. A lane reads the classes separately, so that a backlog of one does not delay the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptClass {
    /// Deliveries without an attempt.
    First = 0,
    /// Deliveries with at least one attempt.
    Retry = 1,
}

/// Page as it was read, before its deliveries are claimed.
#[derive(Debug, Default)]
pub struct DuePage {
    /// Due deliveries with their events, earliest due time first.
    pub due: Vec<(DueDelivery, Arc<Event>)>,
    /// True if there are more due deliveries.
    pub more: bool,
    /// Due time of the next delivery after these, in milliseconds since the epoch, if there is one.
    pub next_due_at_ms: Option<i64>,
}

/// Selection of a lane's deliveries: subscription, attempt class, and limits.
#[derive(Clone, Debug)]
pub struct LaneRead {
    /// Tenant of the subscription.
    pub tenant: TenantId,
    /// Subscription of the lane.
    pub subscription: SubscriptionId,
    /// Attempt class of the deliveries.
    pub class: AttemptClass,
    /// Number of attempts below which an earlier pending delivery of the same entity blocks a later one. 0: there is no order.
    pub blocks_below: u32,
    /// Pauses of the subscription, whose time does not count as age.
    pub pauses: Pauses,
    /// Maximum number of deliveries.
    pub limit: usize,
}

/// Size of the payloads of a page at which it ends, in bytes. Bounds the memory of a lane.
pub(crate) const PAGE_BYTES_MAX: usize = 1 << 20;

/// Attempt and its consequences.
#[derive(Debug)]
pub struct AttemptRecord {
    /// The attempt.
    pub attempt: Attempt,
    /// Consequence for the delivery.
    pub next: Next,
    /// Latest time at which the delivery may be attempted, in milliseconds since the epoch.
    pub age_end_ms: i64,
    /// Reason to disable the subscription, if the attempt does so.
    pub disables: Option<Reason>,
}

/// Columns of a delivery after an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutcomeColumns<'r> {
    pub(crate) state: DeliveryState,
    pub(crate) due_at_ms: i64,
    pub(crate) awaiting_plugin: bool,
    /// True if the attempt is one of the delivery's budget.
    pub(crate) counts: bool,
    pub(crate) reason: Option<&'r Reason>,
}

impl AttemptRecord {
    /// Returns true if the outcome depends on [`AttemptRecord::columns`]' `is_current`.
    pub(crate) fn awaits_plugin(&self) -> bool {
        matches!(self.next, Next::AwaitPlugin { .. })
    }

    /// Returns the columns of the delivery after this attempt. `is_current` is true if the plugin versions and the config that judged
    /// are still the active ones: the version or config that the delivery should wait for may have come during the attempt.
    pub(crate) fn columns(&self, is_current: bool) -> OutcomeColumns<'_> {
        let pending = DeliveryState::Pending;
        let (state, due_at_ms, awaiting_plugin, counts, reason) = match &self.next {
            Next::AwaitPlugin { reason } if !is_current => (pending, now_ms(), false, true, Some(reason)),
            Next::AwaitPlugin { reason } => (pending, self.age_end_ms, true, true, Some(reason)),
            Next::End { state, reason } => (*state, 0, false, true, reason.as_ref()),
            Next::Again { at_ms, counts, reason } => (pending, *at_ms, false, *counts, Some(reason)),
        };
        OutcomeColumns { state, due_at_ms, awaiting_plugin, counts, reason }
    }

    /// Returns the record of an attempt that would disable a subscription whose config has changed meanwhile: the receiver of an earlier
    /// config wants no more webhooks, and the present one has not been asked.
    pub(crate) fn of_earlier_config(&self) -> AttemptRecord {
        let reason = Reason::new("config-changed", "the receiver of the previous configuration answered 410 Gone");
        let next = Next::Again { at_ms: now_ms(), counts: true, reason };
        AttemptRecord { attempt: self.attempt.clone(), next, age_end_ms: self.age_end_ms, disables: None }
    }
}

/// Due deliveries of lanes.
#[async_trait]
pub trait LaneBackend: Send + Sync {
    /// Reads at most `limit` due deliveries of a lane that are free, earliest due time first.
    async fn due(&self, lane: LaneRead, page: Arc<ClaimPage>) -> Result<DuePage, StoreError>;

    /// Ends the settling of claimed deliveries of a subscription, each with its event, before they are attempted. Returns those of them
    /// that are settling no more and were not superseded meanwhile. Durable when it returns.
    async fn end_settling(
        &self,
        subscription: &Subscription,
        deliveries: Vec<(DeliveryId, Arc<Event>)>,
    ) -> Result<HashSet<DeliveryId>, StoreError>;
}

/// Outcomes of attempts.
#[async_trait]
pub trait OutcomeBackend: Send + Sync {
    /// Records an attempt and updates its delivery.
    async fn record(&self, delivery: &DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError>;

    /// Ends a pending delivery without an attempt.
    async fn give_up(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError>;
}

/// Earlier events.
#[async_trait]
pub trait HistoryBackend: Send + Sync {
    /// Returns the last event of the same entity that was accepted before another one. None: there was none, or it has been pruned.
    async fn previous(&self, tenant: TenantId, event: &Event) -> Result<Option<Arc<Event>>, StoreError>;

    /// Returns the event of a delivery. None: both are gone. For some seconds after that, a backend may return the event from a cache.
    async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError>;
}
