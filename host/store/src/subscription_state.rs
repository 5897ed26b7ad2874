//! State of a subscription: active, paused or disabled, and since when its receiver fails.
//!
//! The reason of a pause or a disabling is part of the subscription. Deliveries of a disabled subscription end in steps
//! ([`endings`](super::endings)).

use super::audit::{Actor, AuditAction};
use super::batch::AdminTx;
use super::endings::end_pending;
use super::new_events::publish;
use super::state_change::StateChange;
use super::writer::Terms;
use super::writes::publish_change;
use super::{NewDeliveries, Store, StoreError, host_events};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, params};
use std::sync::Arc;

impl Store {
    /// Pauses, resumes or disables a subscription.
    pub async fn set_subscription_state(
        &self,
        actor: Actor,
        tenant: &TenantId,
        id: SubscriptionId,
        change: StateChange,
    ) -> Result<Arc<Subscription>, StoreError> {
        self.set_state_after(|_| Ok(()), actor, tenant, id, change).await?;
        self.catalog().subscription(tenant, id).ok_or(StoreError::NotFound("subscription"))
    }

    /// Runs `first` and changes a subscription's state in one transaction. If the subscription does not exist any more, `first` is
    /// committed nevertheless.
    pub(super) async fn set_state_after(
        &self,
        first: impl FnOnce(&AdminTx<'_, '_>) -> Result<(), StoreError> + Send + 'static,
        actor: Actor,
        tenant: &TenantId,
        id: SubscriptionId,
        change: StateChange,
    ) -> Result<(), StoreError> {
        let rest = match &change {
            StateChange::Disable { reason, .. } => Some((DeliveryState::Dead, reason.clone())),
            StateChange::Pause { .. } | StateChange::Resume => None,
        };
        let owner = tenant;
        let tenant = tenant.clone();
        let catalog = self.catalog.clone();
        let claims = self.claims.clone();
        let store_events = self.store_events.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            first(tx)?;
            let Some(current) = catalog.subscription(&tenant, id) else { return Ok((None, NewDeliveries::default())) };
            let changed = set_state(tx, &current, &change)?;
            let by_host = matches!(change, StateChange::Disable { .. } | StateChange::Pause { by_host: true, .. });
            let new_deliveries = if by_host && current.state != changed.state {
                host_events::accept_state_change(tx, (&catalog, &claims), &changed)?
            } else {
                NewDeliveries::default()
            };
            let action = AuditAction::SubscriptionState { id, before: current.state, after: changed.state };
            tx.record(&actor, Some(&tenant), &action)?;
            Ok((Some(changed), new_deliveries))
        };
        let catalog = self.catalog.clone();
        let then = move |(changed, new_deliveries): &mut (Option<Arc<Subscription>>, NewDeliveries)| {
            catalog.put_subscriptions(changed.iter().cloned().collect());
            publish(&store_events, std::mem::take(new_deliveries));
            publish_change(&store_events, id);
        };
        self.writer.change(Terms::small(owner.into()), write, then).await?;
        if rest.is_some() {
            self.end_rest(owner, id, rest).await?;
        }
        Ok(())
    }

    /// Records since when the receiver of a subscription fails, or that it no longer fails.
    pub async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let owner = tenant;
        let catalog = self.catalog.clone();
        let tenant = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let current = catalog.subscription(&tenant, id).ok_or(StoreError::NotFound("subscription"))?;
            let sql = "UPDATE subscriptions SET failing_since_ms = ?3 WHERE tenant = ?1 AND id = ?2";
            tx.execute(sql, params![&*tenant.0, id.0, since_ms])?;
            Ok(Arc::new(Subscription { failing_since_ms: since_ms, ..Subscription::clone(&current) }))
        };
        self.change(owner, write, |catalog, changed| catalog.put_subscriptions(vec![changed.clone()])).await.map(drop)
    }
}

fn set_state(
    tx: &AdminTx<'_, '_>,
    current: &Arc<Subscription>,
    change: &StateChange,
) -> Result<Arc<Subscription>, StoreError> {
    let mut changed = Subscription::clone(current);
    let tenant = &current.tenant;
    let id = current.id;
    let now_ms = now_ms();
    let paused_at_ms = match change {
        StateChange::Resume => {
            if let Some(paused_at_ms) = paused_at_ms(tx, tenant, id)? {
                changed.pauses.add(paused_at_ms, now_ms);
            }
            (changed.state, changed.state_reason, changed.failing_since_ms) = (SubscriptionState::Active, None, None);
            None
        }
        StateChange::Pause { .. } if current.state == SubscriptionState::Disabled => {
            return Err(StoreError::Conflict("a disabled subscription cannot be paused; resume it first".into()));
        }
        StateChange::Pause { reason, .. } => {
            changed.state_reason = Some(shortened(reason, REASON_BYTES_MAX));
            let was_active = changed.state == SubscriptionState::Active;
            changed.state = SubscriptionState::Paused;
            was_active.then_some(now_ms)
        }
        StateChange::Disable { generation, .. } if generation.is_some_and(|seen| seen != current.generation) => {
            return Ok(current.clone());
        }
        StateChange::Disable { reason, .. } => {
            end_pending(tx, tenant, id, DeliveryState::Dead, reason)?;
            (changed.state, changed.state_reason) =
                (SubscriptionState::Disabled, Some(reason.bounded().message.clone()));
            None
        }
    };
    let sql = "UPDATE subscriptions SET state = ?3, state_reason = ?4,
                      paused_at_ms = CASE WHEN ?3 = 1 THEN COALESCE(?5, paused_at_ms) END, failing_since_ms = ?6, pauses = ?7
               WHERE tenant = ?1 AND id = ?2";
    let Subscription { state_reason, failing_since_ms, pauses, .. } = &changed;
    let pauses = serde_json::to_string(pauses)?;
    let row = params![&*tenant.0, id.0, changed.state as u8, state_reason, paused_at_ms, failing_since_ms, pauses];
    tx.execute(sql, row)?;
    Ok(Arc::new(changed))
}

/// Returns the time at which the current pause began, if there is one.
fn paused_at_ms(connection: &Connection, tenant: &TenantId, id: SubscriptionId) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT paused_at_ms FROM subscriptions WHERE tenant = ?1 AND id = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![&*tenant.0, id.0], |row| row.get(0))?)
}
