//! State of a subscription in the database.

use super::Sqlite;
use super::accept::accept_one;
use super::batch::AdminTx;
use super::endings::end_pending;
use super::outcomes::{detail, record_one};
use crate::StoreError;
use crate::audit::AuditAction;
use crate::backend::lanes::AttemptRecord;
use crate::backend::subscriptions::{StateAnswer, StateBackend, StateRequest};
use crate::catalog::Receivers;
use crate::commits::StateCommit;
use crate::host_events;
use crate::host_state::HostState;
use crate::state_change::StateEffect;
use crate::store_event::NewDeliveries;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::delivery::{DeliveryState, DueDelivery};
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::sync::Arc;

#[async_trait]
impl StateBackend for Sqlite {
    async fn set_subscription_state(&self, request: StateRequest) -> Result<StateAnswer, StoreError> {
        let id = request.subscription;
        let terms = Terms::small((&request.tenant).into());
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| write(tx, &request, &state);
        let state = self.state.clone();
        let then = move |written: &mut StateCommit| written.publish(&state, id);
        Ok(self.writer.change(terms, write, then).await?.answer)
    }

    async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let owner = tenant;
        let state = self.state.clone();
        let tenant = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let current = state.catalog.subscription(&tenant, id).ok_or(StoreError::NotFound("subscription"))?;
            let sql = "UPDATE subscriptions SET failing_since_ms = ?3 WHERE tenant = ?1 AND id = ?2";
            tx.execute(sql, params![&*tenant.0, id.0, since_ms])?;
            Ok(Arc::new(Subscription { failing_since_ms: since_ms, ..Subscription::clone(&current) }))
        };
        self.change(owner, write, |catalog, changed| catalog.put_subscriptions(vec![changed.clone()])).await.map(drop)
    }
}

fn write(tx: &AdminTx<'_, '_>, request: &StateRequest, state: &HostState) -> Result<StateCommit, StoreError> {
    let StateRequest { actor, tenant, subscription: id, change, cause, receivers } = request;
    let mut written = StateCommit::nothing(StateAnswer::Done);
    if !state.catalog.is_current(tenant, receivers) {
        written.answer = StateAnswer::Stale;
        return Ok(written);
    }
    let current = state.catalog.subscription(tenant, *id);
    if let Some((delivery, record)) = cause {
        record_cause(tx, current.as_deref(), delivery, record)?;
    }
    let Some(current) = current else { return Ok(written) };
    let effect = change.apply(&current, paused_at_ms(tx, tenant, *id)?)?;
    let Some(effect) = effect else { return Ok(written) };
    let action = AuditAction::SubscriptionState { id: *id, before: current.state, after: effect.changed.state };
    store(tx, &effect)?;
    if effect.is_host_event {
        accept_host_event(tx, state, receivers, &effect.changed, &mut written.new_deliveries)?;
    }
    tx.record(actor, Some(tenant), &action)?;
    written.changed = Some(Arc::new(effect.changed));
    Ok(written)
}

/// Records the attempt that is the cause of a change, or the one of an earlier config.
fn record_cause(
    tx: &AdminTx<'_, '_>,
    current: Option<&Subscription>,
    delivery: &DueDelivery,
    record: &AttemptRecord,
) -> Result<(), StoreError> {
    let detail = detail(&record.attempt)?;
    if current.is_some_and(|current| current.generation == record.attempt.config_generation) {
        return record_one(&tx.outcome(), delivery, record, Some(&detail));
    }
    record_one(&tx.outcome(), delivery, &record.of_earlier_config(), Some(&detail))
}

/// Accepts the host event about a change. The subscription itself does not get it.
fn accept_host_event(
    tx: &AdminTx<'_, '_>,
    state: &HostState,
    receivers: &Receivers,
    changed: &Subscription,
    new_deliveries: &mut NewDeliveries,
) -> Result<(), StoreError> {
    let Some(event) = host_events::state_event(changed) else { return Ok(()) };
    let receivers = receivers.match_host_event(&event);
    accept_one(&tx.intake(), state, receivers, &changed.tenant, event, Some(changed.id), new_deliveries).map(drop)
}

/// Stores the effect of a change, and ends the first pending deliveries of a disabled subscription.
fn store(tx: &AdminTx<'_, '_>, effect: &StateEffect) -> Result<(), StoreError> {
    let StateEffect { changed, paused_at_ms, ends, .. } = effect;
    if let Some(reason) = ends {
        end_pending(tx, &changed.tenant, changed.id, DeliveryState::Dead, reason)?;
    }
    let sql =
        "UPDATE subscriptions SET state = ?3, state_reason = ?4, paused_at_ms = ?5, failing_since_ms = ?6, pauses = ?7
               WHERE tenant = ?1 AND id = ?2";
    let Subscription { tenant, id, state, state_reason, failing_since_ms, pauses, .. } = changed;
    let pauses = serde_json::to_string(pauses)?;
    let row = params![&*tenant.0, id.0, *state as u8, state_reason, paused_at_ms, failing_since_ms, pauses];
    tx.execute(sql, row)?;
    Ok(())
}

/// Returns the time at which the current pause began, if there is one.
fn paused_at_ms(connection: &Connection, tenant: &TenantId, id: SubscriptionId) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT paused_at_ms FROM subscriptions WHERE tenant = ?1 AND id = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![&*tenant.0, id.0], |row| row.get(0))?)
}
