//! Operator actions on deliveries: retry, cancel, redrive, replay, test.
//!
//! # Guarantees of every backend
//! - New deliveries are counted in the ledger in the transaction that makes them.
//! - The entry in the log of changes commits with the action; with the first step, if there are several.

use crate::audit::{Actor, SelectionAudit};
use crate::backend::intake::NewEvent;
use crate::{Catalog, StoreError};
use async_trait::async_trait;
use hookloom_model::delivery::{DeliveryId, DeliveryState, Reason};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::{SubscriptionId, SubscriptionState, TenantId};
use uuid::Uuid;

/// Span of time, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Beginning, inclusive.
    pub from_ms: i64,
    /// End, exclusive.
    pub to_ms: i64,
}

impl Span {
    /// Returns the smallest possible id of the span, and the smallest after it.
    pub(crate) fn ids(self) -> (Uuid, Uuid) {
        (first_id(self.from_ms), first_id(self.to_ms))
    }

    /// Returns true if an id is of the span.
    pub(crate) fn contains(self, id: Uuid) -> bool {
        let (from, to) = self.ids();
        from <= id && id < to
    }
}

/// Smallest id of a millisecond: ids begin with their time.
fn first_id(ms: i64) -> Uuid {
    let ms = u128::try_from(ms.clamp(0, (1 << 48) - 1)).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

fn next_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// Returns an error if a delivery cannot be retried, because its subscription has been deleted or disabled.
pub(crate) fn require_retriable(catalog: &Catalog, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
    let current = catalog.subscription(tenant, id);
    let current = current.ok_or_else(|| StoreError::Conflict("its subscription was deleted".into()))?;
    if current.state == SubscriptionState::Disabled {
        return Err(StoreError::Conflict("its subscription is disabled; resume it first".into()));
    }
    Ok(())
}

/// Returns the error of a delivery that cannot be cancelled.
pub(crate) fn not_pending() -> StoreError {
    StoreError::Conflict("it is no longer pending".into())
}

/// Returns the reason of a cancelled delivery.
pub(crate) fn cancel_reason() -> Reason {
    Reason::new("cancelled", "cancelled by an operator")
}

/// Returns an error if the subscription has been deleted or disabled.
pub(crate) fn accepts_deliveries(catalog: &Catalog, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
    let current = catalog.subscription(tenant, id);
    let current = current.ok_or_else(|| StoreError::Conflict("the subscription was deleted".into()))?;
    if current.state == SubscriptionState::Disabled {
        return Err(StoreError::Conflict("the subscription is disabled; resume it first".into()));
    }
    Ok(())
}

/// Maximum number of deliveries that one step makes or redrives.
pub(crate) const STEP: usize = 500;

/// Maximum number of rows that one selection reads, to find at most [`STEP`] of them.
pub(crate) const ROWS_READ_MAX: usize = 5_000;

/// Ended deliveries that a redrive makes pending again.
#[derive(Clone, Debug)]
pub struct EndedDeliveries {
    /// Tenant of the subscription.
    pub tenant: TenantId,
    /// Subscription of the deliveries.
    pub subscription: SubscriptionId,
    /// States in which they ended.
    pub states: Vec<DeliveryState>,
}

/// Events that a replay delivers once more.
#[derive(Clone, Debug)]
pub struct ReplayableEvents {
    /// Tenant of the subscription.
    pub tenant: TenantId,
    /// Subscription that gets the deliveries.
    pub subscription: SubscriptionId,
    /// Modules of the events.
    pub modules: Vec<Module>,
}

/// Ids that a step changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<T> {
    /// At most [`STEP`] ids, in their order.
    pub ids: Vec<T>,
    /// First id of the next step. None: this step is the last.
    pub next: Option<Uuid>,
}

impl<T> Selected<T> {
    /// Collects the ids of the rows that are selected, from rows in the order of their ids.
    pub(crate) fn of(
        rows: impl Iterator<Item = Result<(Uuid, bool), StoreError>>,
        id: impl Fn(Uuid) -> T,
    ) -> Result<Self, StoreError> {
        let mut selected = Selected { ids: Vec::new(), next: None };
        for (index, row) in rows.enumerate() {
            let (found, is_selected) = row?;
            if selected.ids.len() == STEP {
                selected.next = Some(found);
                return Ok(selected);
            }
            if is_selected {
                selected.ids.push(id(found));
            }
            selected.next = (index + 1 == ROWS_READ_MAX).then(|| next_id(found));
        }
        Ok(selected)
    }
}

/// Entry of an action, which commits with its first step. `deliveries` of the selection is set if that step is the only one.
#[derive(Clone, Debug)]
pub struct StepEntry {
    /// Author of the action.
    pub actor: Actor,
    /// Span of the action.
    pub span: Span,
    /// True if the first step is the last one, so that its number of deliveries is that of the action.
    pub is_only: bool,
}

impl StepEntry {
    /// Returns the selection of the action for its entry. `deliveries` is the number that the first step made.
    pub(crate) fn selection(&self, states: Option<Vec<DeliveryState>>, deliveries: u64) -> SelectionAudit {
        let Span { from_ms, to_ms } = self.span;
        SelectionAudit {
            states,
            from_ms,
            to_ms: (to_ms < i64::MAX).then_some(to_ms),
            deliveries: self.is_only.then_some(deliveries),
        }
    }
}

/// Operator actions on deliveries.
#[async_trait]
pub trait OperatorBackend: Send + Sync {
    /// Makes a delivery due now. A delivery that had ended becomes pending again, with a new budget of attempts.
    async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError>;

    /// Cancels a pending delivery. An attempt that is under way is completed and recorded.
    async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError>;

    /// Returns the number of ended deliveries that were made in a span.
    async fn count_ended(&self, of: EndedDeliveries, span: Span) -> Result<u64, StoreError>;

    /// Selects ended deliveries with ids from `from` on and before `to`.
    async fn select_ended(&self, of: EndedDeliveries, from: Uuid, to: Uuid)
    -> Result<Selected<DeliveryId>, StoreError>;

    /// Makes deliveries pending again that are still ended as the selection says, each with a new budget of attempts. Returns their number.
    async fn redrive(
        &self,
        of: EndedDeliveries,
        ids: Vec<DeliveryId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError>;

    /// Returns the number of a span's events that a replay would deliver.
    async fn count_replayable(&self, of: ReplayableEvents, span: Span) -> Result<u64, StoreError>;

    /// Selects events with ids from `from` on and before `to`.
    async fn select_replayable(
        &self,
        of: ReplayableEvents,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<EventId>, StoreError>;

    /// Makes a new delivery for each of these events that still exists. Returns their number.
    async fn replay(
        &self,
        of: ReplayableEvents,
        ids: Vec<EventId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError>;

    /// Makes a test event with one delivery, to this subscription.
    async fn test(
        &self,
        actor: Actor,
        tenant: TenantId,
        subscription: SubscriptionId,
        new: NewEvent,
    ) -> Result<DeliveryId, StoreError>;
}
