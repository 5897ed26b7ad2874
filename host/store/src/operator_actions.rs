//! Operator actions on deliveries: retry, cancel, redrive, replay, test.
//!
//! # Guarantees
//! - A redrive or replay of many deliveries runs in steps, between which other writes run. A step that has been committed stays, even
//!   if a later one fails. The entry in the log of changes is committed with the first step.

use crate::audit::Actor;
use crate::backend::intake::NewEvent;
use crate::backend::operator_actions::{EndedDeliveries, ReplayableEvents, Span, StepEntry};
use crate::{Store, StoreError};
use delegate::delegate;
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::subscription::{Subscription, TenantId};

impl Store {
    delegate! {
        to self.backend {
            /// Makes a delivery due now. A delivery that had ended becomes pending again, with a new budget of attempts.
            pub async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError>;

            /// Cancels a pending delivery. An attempt that is under way is completed and recorded.
            pub async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError>;
        }
    }

    /// Returns the number of a subscription's deliveries that were made in a span and ended in one of these states.
    pub async fn count_ended(
        &self,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        self.backend.count_ended(ended(subscription, states), span).await
    }

    /// Makes the deliveries of [`Store::count_ended`] pending again, each with a new budget of attempts. Returns their number.
    pub async fn redrive(
        &self,
        actor: Actor,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        let of = ended(subscription, states);
        let (mut from, to) = span.ids();
        let mut actor = Some(actor);
        let mut sum = 0;
        loop {
            let selected = self.backend.select_ended(of.clone(), from, to).await?;
            let entry = actor.take().map(|actor| StepEntry { actor, span, is_only: selected.next.is_none() });
            sum += self.backend.redrive(of.clone(), selected.ids, entry).await?;
            match selected.next {
                Some(next) => from = next,
                None => return Ok(sum),
            }
        }
    }

    /// Returns the number of events of a span that a replay would deliver to a subscription.
    pub async fn count_replayable(&self, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        self.backend.count_replayable(replayable(subscription), span).await
    }

    /// Makes a new delivery for every event of [`Store::count_replayable`]. Returns their number.
    pub async fn replay(&self, actor: Actor, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        let of = replayable(subscription);
        let (mut from, to) = span.ids();
        let mut actor = Some(actor);
        let mut sum = 0;
        loop {
            let selected = self.backend.select_replayable(of.clone(), from, to).await?;
            let entry = actor.take().map(|actor| StepEntry { actor, span, is_only: selected.next.is_none() });
            sum += self.backend.replay(of.clone(), selected.ids, entry).await?;
            match selected.next {
                Some(next) => from = next,
                None => return Ok(sum),
            }
        }
    }

    /// Makes a test event with one delivery, to this subscription.
    pub async fn test(
        &self,
        actor: Actor,
        subscription: &Subscription,
        new: NewEvent,
    ) -> Result<DeliveryId, StoreError> {
        self.backend.test(actor, subscription.tenant.clone(), subscription.id, new).await
    }
}

fn ended(subscription: &Subscription, states: Vec<DeliveryState>) -> EndedDeliveries {
    EndedDeliveries { tenant: subscription.tenant.clone(), subscription: subscription.id, states }
}

fn replayable(subscription: &Subscription) -> ReplayableEvents {
    let modules = subscription.settings.modules.clone();
    ReplayableEvents { tenant: subscription.tenant.clone(), subscription: subscription.id, modules }
}
