//! Subscriptions: settings, secrets and state.

use super::intake::{accept_one, resolve};
use super::lanes::{in_lane_order, record_one};
use super::plugins::require_versions;
use super::tables::{MemoryTables, SubscriptionRow};
use super::upkeep::judge_again;
use super::{Memory, share};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::lanes::AttemptRecord;
use crate::backend::subscriptions::{
    ENDED_MAX, Edit, EndingBackend, NewSubscription, StateAnswer, StateBackend, StateRequest, SubscriptionBackend,
};
use crate::backend::upkeep::Changed;
use crate::commits::StateCommit;
use crate::endings::{deleted, end_of};
use crate::host_events;
use crate::host_state::HostState;
use crate::state_change::StateEffect;
use crate::store_event::NewDeliveries;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DeliveryState, DueDelivery, Reason};
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::sync::Arc;

#[async_trait]
impl SubscriptionBackend for Memory {
    async fn create_subscription(&self, actor: Actor, new: Subscription) -> Result<Arc<Subscription>, StoreError> {
        let share = self.limits.share;
        let new = Arc::new(new);
        let write = |tables: &mut MemoryTables| {
            require_versions(tables, &new)?;
            share::within_share(tables, &new.tenant, share, |tables| {
                let row = SubscriptionRow { subscription: new.clone(), paused_at_ms: None };
                tables.subscriptions.insert_mut(new.id, row);
                Ok(())
            })?;
            share::record(tables, &actor, Some(&new.tenant), &AuditAction::SubscriptionCreate(&new), share)?;
            Ok(new.clone())
        };
        self.write(write, |state, new| show(state, new)).await
    }

    async fn update_subscription(
        &self,
        actor: Actor,
        old: &Subscription,
        new: NewSubscription,
        edit: Edit,
    ) -> Result<Arc<Subscription>, StoreError> {
        let write = |tables: &mut MemoryTables| self.update_in(tables, &actor, old, new, edit);
        let publish = |state: &HostState, changed: &mut Arc<Subscription>| {
            show(state, changed);
            state.publish_change(old.id);
        };
        self.write(write, publish).await
    }

    async fn delete_subscription(&self, actor: Actor, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            let before = self.current(tenant, id)?;
            tables.subscriptions.remove_mut(&id);
            end_pending(tables, tenant, id, DeliveryState::Cancelled, &deleted());
            let action = AuditAction::SubscriptionDelete(&before);
            share::record(tables, &actor, Some(tenant), &action, self.limits.share)
        };
        let publish = |state: &HostState, (): &mut ()| {
            state.catalog.remove_subscription(tenant, id);
            state.publish_change(id);
        };
        self.write(write, publish).await
    }
}

#[async_trait]
impl StateBackend for Memory {
    async fn set_subscription_state(&self, request: StateRequest) -> Result<StateAnswer, StoreError> {
        let publish = |state: &HostState, written: &mut StateCommit| written.publish(state, request.subscription);
        Ok(self.write(|tables| self.set_state_in(tables, &request), publish).await?.answer)
    }

    async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            let current = self.current(tenant, id)?;
            let changed = Arc::new(Subscription { failing_since_ms: since_ms, ..Subscription::clone(&current) });
            replace(tables, &changed);
            Ok(changed)
        };
        self.write(write, |state, changed| show(state, changed)).await.map(drop)
    }
}

#[async_trait]
impl EndingBackend for Memory {
    async fn end_pending(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        end: Option<(DeliveryState, Reason)>,
    ) -> Result<usize, StoreError> {
        let write = |tables: &mut MemoryTables| {
            let Some(default) = end_of(self.state.catalog.subscription(tenant, id).as_deref()) else { return Ok(0) };
            let (state, reason) = end.unwrap_or(default);
            Ok(end_pending(tables, tenant, id, state, &reason))
        };
        self.write(write, |_, _| {}).await
    }
}

impl Memory {
    /// Returns a subscription as the catalog shows it.
    fn current(&self, tenant: &TenantId, id: SubscriptionId) -> Result<Arc<Subscription>, StoreError> {
        self.state.catalog.subscription(tenant, id).ok_or(StoreError::NotFound("subscription"))
    }

    fn update_in(
        &self,
        tables: &mut MemoryTables,
        actor: &Actor,
        old: &Subscription,
        new: NewSubscription,
        edit: Edit,
    ) -> Result<Arc<Subscription>, StoreError> {
        let current = self.current(&old.tenant, old.id)?;
        if current.generation != old.generation {
            return Err(StoreError::Edited);
        }
        let NewSubscription { settings, signing } = new;
        let generation = current.generation + 1;
        let changed = Arc::new(Subscription { settings, signing, generation, ..Subscription::clone(&current) });
        require_versions(tables, &changed)?;
        share::within_share(tables, &old.tenant, self.limits.share, |tables| {
            replace(tables, &changed);
            Ok(())
        })?;
        judge_again(tables, &old.tenant, &Changed::Subscription(old.id), &[old.id]);
        let action = match edit {
            Edit::Settings => AuditAction::SubscriptionUpdate { before: &current, after: &changed },
            Edit::SigningKeys => AuditAction::SubscriptionRotateSecret(old.id),
        };
        share::record(tables, actor, Some(&old.tenant), &action, self.limits.share)?;
        Ok(changed)
    }

    /// Changes the state of a subscription, with the attempt that is the cause.
    fn set_state_in(&self, tables: &mut MemoryTables, request: &StateRequest) -> Result<StateCommit, StoreError> {
        let StateRequest { actor, tenant, subscription: id, change, cause, receivers } = request;
        let current = self.state.catalog.subscription(tenant, *id);
        let paused_at_ms = tables.subscriptions.get(id).and_then(|row| row.paused_at_ms);
        let effect = match &current {
            Some(current) => change.apply(current, paused_at_ms)?,
            None => None,
        };
        let is_host_event = effect.as_ref().is_some_and(|effect| effect.is_host_event);
        if is_host_event && !self.state.catalog.is_current(tenant, receivers) {
            return Ok(StateCommit::nothing(StateAnswer::Stale));
        }
        if let Some((delivery, record)) = cause {
            self.record_cause(tables, delivery, record);
        }
        let (Some(current), Some(effect)) = (current, effect) else {
            return Ok(StateCommit::nothing(StateAnswer::Done));
        };
        let StateEffect { changed, paused_at_ms, ends, is_host_event } = effect;
        if let Some(reason) = ends {
            end_pending(tables, tenant, *id, DeliveryState::Dead, &reason);
        }
        let changed = Arc::new(changed);
        tables.subscriptions.insert_mut(*id, SubscriptionRow { subscription: changed.clone(), paused_at_ms });
        let mut new_deliveries = NewDeliveries::default();
        if is_host_event && let Some(event) = host_events::state_event(&changed) {
            // The receiver of the subscription itself is failing.
            let receivers = resolve(tables, receivers.match_host_event(&event), tenant, &event);
            let others = receivers.iter().filter(|other| other.id != *id);
            accept_one(tables, &self.state.claims, tenant, event, others, &mut new_deliveries);
        }
        let action = AuditAction::SubscriptionState { id: *id, before: current.state, after: changed.state };
        share::record(tables, actor, Some(tenant), &action, self.limits.share)?;
        Ok(StateCommit { answer: StateAnswer::Done, changed: Some(changed), new_deliveries })
    }

    /// Records the attempt that disables a subscription, or what it means for a config that it was not made for.
    fn record_cause(&self, tables: &mut MemoryTables, delivery: &DueDelivery, record: &AttemptRecord) {
        let current = self.state.catalog.subscription_by_id(delivery.subscription);
        if current.is_some_and(|current| current.generation == record.attempt.config_generation) {
            record_one(tables, delivery, record);
        } else {
            record_one(tables, delivery, &record.of_earlier_config());
        }
    }
}

/// Shows a subscription in the catalog.
fn show(state: &HostState, subscription: &Arc<Subscription>) {
    state.catalog.put_subscriptions(vec![subscription.clone()]);
}

/// Replaces a stored subscription. Its pause goes on.
fn replace(tables: &mut MemoryTables, changed: &Arc<Subscription>) {
    if let Some(row) = tables.subscriptions.get_mut(&changed.id) {
        row.subscription = changed.clone();
    }
}

/// Ends at most [`ENDED_MAX`] pending deliveries of a subscription, and returns their number.
fn end_pending(
    tables: &mut MemoryTables,
    tenant: &TenantId,
    id: SubscriptionId,
    state: DeliveryState,
    reason: &Reason,
) -> usize {
    let ended = in_lane_order(tables, tenant, id).into_iter().take(ENDED_MAX);
    let ended: Vec<DeliveryId> = ended.map(|(delivery, _)| delivery).collect();
    let now_ms = now_ms();
    for delivery in &ended {
        if let Some(row) = tables.deliveries.get_mut(&(tenant.clone(), *delivery)) {
            row.state = state;
            row.awaiting_plugin = false;
            row.reason = Some(reason.bounded().into_owned());
            row.updated_at_ms = now_ms;
        }
    }
    ended.len()
}
