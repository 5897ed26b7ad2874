//! Subscriptions: settings, secrets and state.
//!
//! # Guarantees of every backend
//! - A change is committed alone, and the catalog shows it before the next write. So no delivery is made for a subscription that was
//!   disabled before the event.

use crate::StoreError;
use crate::audit::Actor;
use crate::backend::lanes::AttemptRecord;
use crate::catalog::Receivers;
use crate::state_change::StateChange;
use async_trait::async_trait;
use hookloom_model::delivery::{DeliveryState, DueDelivery, Reason};
use hookloom_model::signature::SigningKey;
use hookloom_model::subscription::{LoadedSettings, Subscription, SubscriptionId, TenantId};
use std::sync::Arc;

/// New or changed subscription.
#[derive(Debug)]
pub struct NewSubscription {
    /// Settings of the owner, and secrets for the plugins.
    pub settings: LoadedSettings,
    /// Keys that sign the webhooks.
    pub signing: Vec<SigningKey>,
}

/// Kind of an edit, for its entry in the log of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Settings and secrets.
    Settings,
    /// Signing keys only.
    SigningKeys,
}

/// Change of a subscription's state, with what commits with it.
#[derive(Clone, Debug)]
pub struct StateRequest {
    /// Author of the change.
    pub actor: Actor,
    /// Tenant of the subscription.
    pub tenant: TenantId,
    /// Subscription that changes.
    pub subscription: SubscriptionId,
    /// The change.
    pub change: StateChange,
    /// Attempt whose answer is the cause, recorded in the same transaction even if the subscription does not exist any more.
    pub cause: Option<(DueDelivery, Arc<AttemptRecord>)>,
    /// Receivers of a host event about the change.
    pub receivers: Receivers,
}

/// Answer to a [`StateRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateAnswer {
    /// The change is durable, if it applied.
    Done,
    /// The receivers of host events have changed. Nothing was written.
    Stale,
}

/// Maximum number of deliveries that one transaction ends.
pub(crate) const ENDED_MAX: usize = 500;

/// Settings and secrets of subscriptions.
#[async_trait]
pub trait SubscriptionBackend: Send + Sync {
    /// Stores a new subscription.
    async fn create_subscription(&self, actor: Actor, new: Subscription) -> Result<Arc<Subscription>, StoreError>;

    /// Replaces settings and keys of a subscription, if its generation is that of `old`. Deliveries that wait for another config
    /// become due, now or by a sweep.
    ///
    /// # Errors
    /// [`StoreError::Edited`]: another edit came first.
    async fn update_subscription(
        &self,
        actor: Actor,
        old: &Subscription,
        new: NewSubscription,
        edit: Edit,
    ) -> Result<Arc<Subscription>, StoreError>;

    /// Deletes a subscription, and cancels at most [`ENDED_MAX`] of its pending deliveries.
    async fn delete_subscription(&self, actor: Actor, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError>;
}

/// States of subscriptions.
#[async_trait]
pub trait StateBackend: Send + Sync {
    /// Changes the state of a subscription. Disabling it ends at most [`ENDED_MAX`] of its pending deliveries. A change by the host
    /// accepts a host event in the same transaction.
    async fn set_subscription_state(&self, request: StateRequest) -> Result<StateAnswer, StoreError>;

    /// Records since when the receiver of a subscription fails, or that it no longer fails.
    async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError>;
}

/// End of the deliveries of disabled and deleted subscriptions.
#[async_trait]
pub trait EndingBackend: Send + Sync {
    /// Ends at most [`ENDED_MAX`] pending deliveries of a subscription that is disabled or deleted, with the given state and reason,
    /// or else those of the subscription's state. Returns their number: 0 if none is pending, or if the subscription was resumed.
    async fn end_pending(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        end: Option<(DeliveryState, Reason)>,
    ) -> Result<usize, StoreError>;
}
