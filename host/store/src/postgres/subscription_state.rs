//! State of a subscription in the database.

use super::Postgres;
use super::accept::accept_one;
use super::connection::Connection;
use super::endings::end_pending;
use super::new_events::NewRows;
use super::outcomes::{detail, record_one};
use super::previous_events::latest;
use super::rows::text;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::AuditAction;
use crate::backend::lanes::AttemptRecord;
use crate::backend::subscriptions::{StateAnswer, StateBackend, StateRequest};
use crate::catalog::Receivers;
use crate::commits::StateCommit;
use crate::fair_queue::Owner;
use crate::host_events;
use crate::state_change::StateEffect;
use crate::store_event::NewDeliveries;
use async_trait::async_trait;
use hookloom_model::delivery::{DeliveryState, DueDelivery};
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::sync::Arc;

#[async_trait]
impl StateBackend for Postgres {
    async fn set_subscription_state(&self, request: StateRequest) -> Result<StateAnswer, StoreError> {
        let id = request.subscription;
        let written = self.change_then(
            Owner::from(&request.tenant),
            move |tx| Box::pin(async move { write(tx, &request).await }),
            move |state, written: &mut StateCommit| written.publish(state, id),
        );
        Ok(written.await?.answer)
    }

    async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        let changed = self.change(
            Owner::from(&tenant),
            move |tx| {
                Box::pin(async move {
                    let current = tx.catalog().subscription(&tenant, id);
                    let current = current.ok_or(StoreError::NotFound("subscription"))?;
                    let sql = "UPDATE subscriptions SET failing_since_ms = $3 WHERE tenant = $1 AND id = $2";
                    tx.execute(sql, &[&&*tenant.0, &id.0, &since_ms]).await?;
                    Ok(Arc::new(Subscription { failing_since_ms: since_ms, ..Subscription::clone(&current) }))
                })
            },
            |catalog, changed| catalog.put_subscriptions(vec![changed.clone()]),
        );
        changed.await.map(drop)
    }
}

async fn write(tx: &WriteTx, request: &StateRequest) -> Result<StateCommit, StoreError> {
    let StateRequest { actor, tenant, subscription: id, change, cause, receivers } = request;
    let mut written = StateCommit::nothing(StateAnswer::Done);
    if !tx.catalog().is_current(tenant, receivers) {
        written.answer = StateAnswer::Stale;
        return Ok(written);
    }
    let current = tx.catalog().subscription(tenant, *id);
    if let Some((delivery, record)) = cause {
        record_cause(tx, current.as_deref(), delivery, record).await?;
    }
    let Some(current) = current else { return Ok(written) };
    let effect = change.apply(&current, paused_at_ms(tx, tenant, *id).await?)?;
    let Some(effect) = effect else { return Ok(written) };
    let action = AuditAction::SubscriptionState { id: *id, before: current.state, after: effect.changed.state };
    store(tx, &effect).await?;
    if effect.is_host_event {
        accept_host_event(tx, receivers, &effect.changed, &mut written.new_deliveries).await?;
    }
    tx.record(actor, Some(tenant), &action).await?;
    written.changed = Some(Arc::new(effect.changed));
    Ok(written)
}

/// Records the attempt that is the cause of a change, or the one of an earlier config.
async fn record_cause(
    tx: &WriteTx,
    current: Option<&Subscription>,
    delivery: &DueDelivery,
    record: &AttemptRecord,
) -> Result<(), StoreError> {
    let detail = detail(&record.attempt)?;
    if current.is_some_and(|current| current.generation == record.attempt.config_generation) {
        return record_one(tx, delivery, record, &detail).await;
    }
    record_one(tx, delivery, &record.of_earlier_config(), &detail).await
}

/// Accepts the host event about a change. The subscription itself does not get it.
async fn accept_host_event(
    tx: &WriteTx,
    receivers: &Receivers,
    changed: &Subscription,
    new_deliveries: &mut NewDeliveries,
) -> Result<(), StoreError> {
    let Some(event) = host_events::state_event(changed) else { return Ok(()) };
    let mut rows = NewRows::default();
    let claims = &tx.state().claims;
    let receivers = receivers.match_host_event(&event);
    let previous = if receivers.needs_previous() { latest(tx, &changed.tenant, &event).await? } else { None };
    let receivers = receivers.resolve(&event.name, &event.payload, previous.as_deref());
    accept_one(&mut rows, claims, &receivers, event, Some(changed.id), new_deliveries);
    rows.insert(tx, &changed.tenant).await
}

/// Stores the effect of a change, and ends the first pending deliveries of a disabled subscription.
async fn store(tx: &WriteTx, effect: &StateEffect) -> Result<(), StoreError> {
    let StateEffect { changed, paused_at_ms, ends, .. } = effect;
    if let Some(reason) = ends {
        end_pending(tx, &changed.tenant, changed.id, DeliveryState::Dead, reason).await?;
    }
    let sql =
        "UPDATE subscriptions SET state = $3, state_reason = $4, paused_at_ms = $5, failing_since_ms = $6, pauses = $7
               WHERE tenant = $1 AND id = $2";
    let Subscription { tenant, id, state, state_reason, failing_since_ms, pauses, .. } = changed;
    let pauses = serde_json::to_string(pauses)?;
    let state = *state as i16;
    let state_reason = state_reason.as_deref().map(|reason| text(reason).into_owned());
    tx.execute(sql, &[&&*tenant.0, &id.0, &state, &state_reason, paused_at_ms, failing_since_ms, &pauses]).await?;
    Ok(())
}

/// Returns the time at which the current pause began, if there is one.
async fn paused_at_ms(
    connection: &Connection,
    tenant: &TenantId,
    id: SubscriptionId,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT paused_at_ms FROM subscriptions WHERE tenant = $1 AND id = $2";
    Ok(connection.query_one(sql, &[&&*tenant.0, &id.0]).await?.try_get(0)?)
}
