//! Subscriptions: settings, secrets and state.
//!
//! # Guarantees
//! - A change of the catalog is shown before the next write, so no delivery is made for a subscription that was disabled before the
//!   event.
//! - An edit is refused if another one came first.
//!
//! The reason of a pause or a disabling is part of the subscription. Deliveries of a disabled or deleted subscription end in steps
//! ([`endings`]).

use crate::audit::Actor;
use crate::backend::lanes::AttemptRecord;
use crate::backend::subscriptions::{Edit, NewSubscription, StateAnswer, StateRequest};
use crate::endings;
use crate::state_change::StateChange;
use crate::{Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, DueDelivery};
use hookloom_model::pauses::Pauses;
use hookloom_model::signature::SigningKey;
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use std::sync::Arc;

impl Store {
    /// Creates a subscription.
    pub async fn create_subscription(
        &self,
        actor: Actor,
        tenant: TenantId,
        new: NewSubscription,
    ) -> Result<Arc<Subscription>, StoreError> {
        let subscription = Subscription {
            id: SubscriptionId::new(),
            tenant,
            settings: new.settings,
            state: SubscriptionState::Active,
            state_reason: None,
            failing_since_ms: None,
            pauses: Pauses::default(),
            generation: 1,
            signing: new.signing,
            created_at_ms: now_ms(),
        };
        let _change = self.changes.read().await;
        self.backend.create_subscription(actor, subscription).await
    }

    /// Replaces a subscription, if it is unchanged since `old`; otherwise another edit would be lost, and the error is
    /// [`StoreError::Edited`]. Deliveries that wait for another config become due.
    pub async fn update_subscription(
        &self,
        actor: Actor,
        old: &Subscription,
        new: NewSubscription,
    ) -> Result<Arc<Subscription>, StoreError> {
        self.edit(actor, old, new, Edit::Settings).await
    }

    /// Replaces the signing keys of a subscription, as [`Store::update_subscription`] replaces the rest. The entry does not say more.
    pub async fn rotate_signing_keys(
        &self,
        actor: Actor,
        old: &Subscription,
        signing: Vec<SigningKey>,
    ) -> Result<Arc<Subscription>, StoreError> {
        let new = NewSubscription { settings: old.settings.clone(), signing };
        self.edit(actor, old, new, Edit::SigningKeys).await
    }

    async fn edit(
        &self,
        actor: Actor,
        old: &Subscription,
        new: NewSubscription,
        edit: Edit,
    ) -> Result<Arc<Subscription>, StoreError> {
        let change = self.changes.read().await;
        let changed = self.backend.update_subscription(actor, old, new, edit).await?;
        drop(change);
        self.sweeps.notify_one();
        Ok(changed)
    }

    /// Deletes a subscription and cancels its pending deliveries.
    pub async fn delete_subscription(
        &self,
        actor: Actor,
        tenant: &TenantId,
        id: SubscriptionId,
    ) -> Result<(), StoreError> {
        let change = self.changes.read().await;
        self.backend.delete_subscription(actor, tenant, id).await?;
        drop(change);
        self.end_rest(tenant, id, Some((DeliveryState::Cancelled, endings::deleted()))).await
    }

    /// Pauses, resumes or disables a subscription.
    pub async fn set_subscription_state(
        &self,
        actor: Actor,
        tenant: &TenantId,
        id: SubscriptionId,
        change: StateChange,
    ) -> Result<Arc<Subscription>, StoreError> {
        self.change_state(actor, tenant, id, change, None).await?;
        self.catalog().subscription(tenant, id).ok_or(StoreError::NotFound("subscription"))
    }

    /// Changes the state of a subscription, and records the attempt that is the cause, if there is one, in the same transaction. If the
    /// subscription does not exist any more, the attempt is recorded nevertheless.
    pub(crate) async fn change_state(
        &self,
        actor: Actor,
        tenant: &TenantId,
        id: SubscriptionId,
        change: StateChange,
        cause: Option<(DueDelivery, Arc<AttemptRecord>)>,
    ) -> Result<(), StoreError> {
        let rest = match &change {
            StateChange::Disable { reason, .. } => Some((DeliveryState::Dead, reason.clone())),
            StateChange::Pause { .. } | StateChange::Resume => None,
        };
        let receivers = self.catalog().receivers(tenant);
        let request = StateRequest { actor, tenant: tenant.clone(), subscription: id, change, cause, receivers };
        let shared = self.changes.read().await;
        let mut answer = self.backend.set_subscription_state(request.clone()).await?;
        drop(shared);
        // A change whose client has gone may still be on its way, so that one more answer can be stale.
        while answer == StateAnswer::Stale {
            let _quiet = self.changes.write().await;
            let receivers = self.catalog().receivers(tenant);
            answer = self.backend.set_subscription_state(StateRequest { receivers, ..request.clone() }).await?;
        }
        match rest {
            Some(_) => self.end_rest(tenant, id, rest).await,
            None => Ok(()),
        }
    }

    /// Records since when the receiver of a subscription fails, or that it no longer fails.
    pub async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let _change = self.changes.read().await;
        self.backend.note_failing(tenant, id, since_ms).await
    }
}
