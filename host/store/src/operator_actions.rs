//! Operator actions on deliveries: retry, cancel, redrive, replay, test.
//!
//! # Guarantees
//! - A redrive or replay of many deliveries runs in steps, between which other writes run. A step that has been committed stays, even
//!   if a later one fails. The entry in the log of changes is committed with the first step.
//! - A replay delivers the events that the subscription would receive now: those that its modules, event names and filter let through.
//!   `$changed` compares with the event before, as at acceptance. A redrive, a retry and a test make no such choice.
//!
//! # Limits
//! The replay of a subscription with event names or a filter reads each event of its modules, and so does its count.

use crate::audit::Actor;
use crate::backend::intake::NewEvent;
use crate::backend::operator_actions::{EndedDeliveries, ReplayableEvents, Span, StepEntry};
use crate::{Store, StoreError};
use delegate::delegate;
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::event::{Event, EventId};
use hookloom_model::filter::{Decision, ParsedEvent};
use hookloom_model::subscription::{Settings, Subscription, TenantId};

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
        let of = replayable(subscription);
        if !subscription.settings.is_selective() {
            return self.backend.count_replayable(of, span).await;
        }
        let (mut from, to) = span.ids();
        let mut sum = 0;
        loop {
            let selected = self.backend.select_replayable(of.clone(), from, to).await?;
            sum += self.received(subscription, selected.ids).await?.len() as u64;
            match selected.next {
                Some(next) => from = next,
                None => return Ok(sum),
            }
        }
    }

    /// Returns those of some events of its modules that the event names and the filter of a subscription let through.
    async fn received(&self, subscription: &Subscription, ids: Vec<EventId>) -> Result<Vec<EventId>, StoreError> {
        if !subscription.settings.is_selective() {
            return Ok(ids);
        }
        let mut received = Vec::new();
        for id in ids {
            let event = match self.backend.event(subscription.tenant.clone(), id).await {
                Err(StoreError::NotFound(_)) => continue,
                found => found?.event,
            };
            if self.receives(&subscription.tenant, &subscription.settings, &event).await? {
                received.push(id);
            }
        }
        Ok(received)
    }

    /// Returns true if the event names and the filter of some settings let a stored event of their modules through.
    pub async fn receives(&self, tenant: &TenantId, settings: &Settings, event: &Event) -> Result<bool, StoreError> {
        if !settings.lists(&event.name) {
            return Ok(false);
        }
        let Some(filter) = &settings.filter else { return Ok(true) };
        let parsed = ParsedEvent::of(event);
        let document = parsed.document();
        let decision = filter.decide(&document);
        match decision {
            Decision::Matches => Ok(true),
            Decision::Refuses => Ok(false),
            Decision::Depends(residual) => {
                let previous = self.backend.previous(tenant.clone(), event).await?;
                let previous = previous.as_deref().map(ParsedEvent::of);
                let previous = previous.as_ref().map(ParsedEvent::document);
                Ok(residual.holds(&document, previous.as_ref()))
            }
        }
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
            let ids = self.received(subscription, selected.ids).await?;
            if entry.is_some() || !ids.is_empty() {
                sum += self.backend.replay(of.clone(), ids, entry).await?;
            }
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
