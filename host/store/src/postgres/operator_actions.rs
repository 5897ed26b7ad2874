//! Operator actions on deliveries in the database: retry, cancel, redrive, replay, test.
//!
//! # Guarantees
//! - As those of every backend. A reader selects the rows of a step, so that the writer reads only rows that it changes.
//!
//! # Theory of operation
//! No action changes the catalog, so it shares its transaction with other writes. The lane hears of it after the commit.

use super::Postgres;
use super::ledger;
use super::new_events::NewRows;
use super::rows::{int, number, state};
use super::share::{ShareCheck, require_room};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::intake::NewEvent;
use crate::backend::operator_actions::{
    EndedDeliveries, OperatorBackend, ROWS_READ_MAX, ReplayableEvents, Selected, Span, StepEntry, accepts_deliveries,
    cancel_reason, not_pending, require_retriable,
};
use crate::fair_queue::Owner;
use crate::store_event::NewDelivery;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::HashSet;
use tokio_postgres::Row;
use uuid::Uuid;

/// Condition of deliveries that ended in one of the states $5 and are not tests.
const ENDED_AS: &str = "(state = ANY ($5) AND state <> 0 AND kind <> 2)";

#[async_trait]
impl OperatorBackend for Postgres {
    async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let written = self.write_then(
            Owner::from(&tenant),
            move |tx| Box::pin(async move { retry(tx, &actor, &tenant, id).await }),
            |state, subscription| state.publish_change(*subscription),
        );
        written.await.map(drop)
    }

    async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let written = self.write_then(
            Owner::from(&tenant),
            move |tx| Box::pin(async move { cancel(tx, &actor, &tenant, id).await }),
            |state, subscription| state.publish_change(*subscription),
        );
        written.await.map(drop)
    }

    async fn count_ended(&self, of: EndedDeliveries, span: Span) -> Result<u64, StoreError> {
        let read = self.readers.read_one(Owner::from(&of.tenant), move |connection| {
            Box::pin(async move {
                let EndedDeliveries { tenant, subscription, states } = of;
                let (from, to) = span.ids();
                let sql = format!(
                    "SELECT COUNT(*) FROM deliveries
                     WHERE tenant = $1 AND subscription = $2 AND id >= $3 AND id < $4 AND {ENDED_AS}"
                );
                let states = numbers(&states);
                number(&connection.query_one(&sql, &[&&*tenant.0, &subscription.0, &from, &to, &states]).await?, 0)
            })
        });
        read.await
    }

    async fn select_ended(
        &self,
        of: EndedDeliveries,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<DeliveryId>, StoreError> {
        let read = self.readers.read_one(Owner::from(&of.tenant), move |connection| {
            Box::pin(async move {
                let EndedDeliveries { tenant, subscription, states } = of;
                let sql = format!(
                    "SELECT id, {ENDED_AS} FROM deliveries
                     WHERE tenant = $1 AND subscription = $2 AND id >= $3 AND id < $4 AND state > 0 ORDER BY id LIMIT $6"
                );
                let states = numbers(&states);
                let most = int(ROWS_READ_MAX);
                let rows = connection.query(&sql, &[&&*tenant.0, &subscription.0, &from, &to, &states, &most]).await?;
                selected(&rows, DeliveryId)
            })
        });
        read.await
    }

    async fn redrive(
        &self,
        of: EndedDeliveries,
        ids: Vec<DeliveryId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        let id = of.subscription;
        self.write_then(
            Owner::from(&of.tenant),
            move |tx| Box::pin(async move { redrive(tx, of, ids, entry).await }),
            move |state, _| state.publish_change(id),
        )
        .await
    }

    async fn count_replayable(&self, of: ReplayableEvents, span: Span) -> Result<u64, StoreError> {
        let read = self.readers.read_one(Owner::from(&of.tenant), move |connection| {
            Box::pin(async move {
                let (from, to) = span.ids();
                let sql =
                    "SELECT COUNT(*) FROM events WHERE tenant = $1 AND id >= $2 AND id < $3 AND module = ANY ($4)";
                let modules = names(&of.modules);
                number(&connection.query_one(sql, &[&&*of.tenant.0, &from, &to, &modules]).await?, 0)
            })
        });
        read.await
    }

    async fn select_replayable(
        &self,
        of: ReplayableEvents,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<EventId>, StoreError> {
        let read = self.readers.read_one(Owner::from(&of.tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT id, module = ANY ($4) FROM events
                           WHERE tenant = $1 AND id >= $2 AND id < $3 ORDER BY id LIMIT $5";
                let modules = names(&of.modules);
                let most = int(ROWS_READ_MAX);
                let rows = connection.query(sql, &[&&*of.tenant.0, &from, &to, &modules, &most]).await?;
                selected(&rows, EventId)
            })
        });
        read.await
    }

    async fn replay(
        &self,
        of: ReplayableEvents,
        ids: Vec<EventId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        let id = of.subscription;
        self.write_then(
            Owner::from(&of.tenant),
            move |tx| Box::pin(async move { replay(tx, &of, ids, entry).await }),
            move |state, _| state.publish_change(id),
        )
        .await
    }

    async fn test(
        &self,
        actor: Actor,
        tenant: TenantId,
        subscription: SubscriptionId,
        new: NewEvent,
    ) -> Result<DeliveryId, StoreError> {
        self.write_then(
            Owner::from(&tenant),
            move |tx| Box::pin(async move { test(tx, &actor, &tenant, subscription, new).await }),
            move |state, _| state.publish_change(subscription),
        )
        .await
    }
}

/// Makes a delivery due now, and pending if it had ended. Returns its subscription.
async fn retry(tx: &WriteTx, actor: &Actor, tenant: &TenantId, id: DeliveryId) -> Result<SubscriptionId, StoreError> {
    let sql = "SELECT subscription, state FROM deliveries WHERE tenant = $1 AND id = $2";
    let found = tx.query_opt(sql, &[&&*tenant.0, &id.0]).await?.ok_or(StoreError::NotFound("delivery"))?;
    let subscription = SubscriptionId(found.try_get(0)?);
    let had_ended = state(found.try_get(1)?) != DeliveryState::Pending;
    if had_ended {
        require_room(tx, tenant, tx.share()).await?;
    }
    require_retriable(tx.catalog(), tenant, subscription)?;
    let sql = "UPDATE deliveries SET due_at_ms = $3, awaiting_plugin = false, updated_at_ms = $3,
                      budget_spent = CASE state WHEN 0 THEN budget_spent ELSE 0 END,
                      age_from_ms = CASE state WHEN 0 THEN age_from_ms ELSE $3 END,
                      settles_key = NULL, superseded_by = NULL, state = 0
               WHERE tenant = $1 AND id = $2";
    tx.execute(sql, &[&&*tenant.0, &id.0, &now_ms()]).await?;
    tx.count_pending(tenant, subscription, i64::from(had_ended));
    tx.note_lane(tenant, subscription).await?;
    tx.record(actor, Some(tenant), &AuditAction::DeliveryRetry(id)).await?;
    Ok(subscription)
}

/// Cancels a pending delivery. Returns its subscription.
async fn cancel(tx: &WriteTx, actor: &Actor, tenant: &TenantId, id: DeliveryId) -> Result<SubscriptionId, StoreError> {
    let sql = "UPDATE deliveries SET state = $3, awaiting_plugin = false, updated_at_ms = $4, reason = $5
               WHERE tenant = $1 AND id = $2 AND state = 0 RETURNING subscription";
    let cancelled = DeliveryState::Cancelled as i16;
    let reason = cancel_reason().to_bounded_json()?;
    let changed = tx.query_opt(sql, &[&&*tenant.0, &id.0, &cancelled, &now_ms(), &reason]).await?;
    let Some(changed) = changed else { return Err(not_cancelled(tx, tenant, id).await?) };
    let subscription = SubscriptionId(changed.try_get(0)?);
    tx.count_pending(tenant, subscription, -1);
    tx.note_lane(tenant, subscription).await?;
    tx.record(actor, Some(tenant), &AuditAction::DeliveryCancel(id)).await?;
    Ok(subscription)
}

/// Returns the error about a delivery that is not pending.
async fn not_cancelled(tx: &WriteTx, tenant: &TenantId, id: DeliveryId) -> Result<StoreError, StoreError> {
    let sql = "SELECT 1 FROM deliveries WHERE tenant = $1 AND id = $2";
    let exists = tx.exists(sql, &[&&*tenant.0, &id.0]).await?;
    Ok(if exists { not_pending() } else { StoreError::NotFound("delivery") })
}

/// Makes deliveries pending again that are still ended as the selection says. Returns their number.
async fn redrive(
    tx: &WriteTx,
    of: EndedDeliveries,
    ids: Vec<DeliveryId>,
    entry: Option<StepEntry>,
) -> Result<u64, StoreError> {
    let EndedDeliveries { tenant, subscription, states } = of;
    accepts_deliveries(tx.catalog(), &tenant, subscription)?;
    require_room(tx, &tenant, tx.share()).await?;
    let ids: Vec<Uuid> = ids.into_iter().map(|id| id.0).collect();
    let sql = format!(
        "UPDATE deliveries SET state = 0, due_at_ms = $4, awaiting_plugin = false, age_from_ms = $4, updated_at_ms = $4, budget_spent = 0,
                settles_key = NULL, superseded_by = NULL
         WHERE tenant = $1 AND id = ANY ($2) AND subscription = $3 AND {ENDED_AS}"
    );
    let again = tx.execute(&sql, &[&&*tenant.0, &ids, &subscription.0, &now_ms(), &numbers(&states)]).await?;
    tx.count_pending(&tenant, subscription, int(again));
    tx.note_lane(&tenant, subscription).await?;
    if let Some(entry) = entry {
        let selection = entry.selection(Some(states), again);
        let action = AuditAction::SubscriptionRedrive { id: subscription, selection };
        tx.record(&entry.actor, Some(&tenant), &action).await?;
    }
    Ok(again)
}

/// Makes a delivery for each of these events that still exists: some may have been pruned since the reader found them. Returns their
/// number.
async fn replay(
    tx: &WriteTx,
    of: &ReplayableEvents,
    events: Vec<EventId>,
    entry: Option<StepEntry>,
) -> Result<u64, StoreError> {
    let ReplayableEvents { tenant, subscription, modules: _ } = of;
    accepts_deliveries(tx.catalog(), tenant, *subscription)?;
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    let kept = kept(tx, tenant, &events).await?;
    let mut rows = NewRows::default();
    let mut made = 0;
    for event in events.into_iter().filter(|event| kept.contains(event)) {
        add(&mut rows, tenant, event, *subscription, DeliveryKind::Replay);
        made += 1;
    }
    rows.insert(tx, tenant).await?;
    ledger::add(tx, tenant, "replayed", int(made)).await?;
    tx.note_lane(tenant, *subscription).await?;
    check.end(tx).await?;
    if let Some(entry) = entry {
        let action = AuditAction::SubscriptionReplay { id: *subscription, selection: entry.selection(None, made) };
        tx.record(&entry.actor, Some(tenant), &action).await?;
    }
    Ok(made)
}

/// Returns those of these events that exist.
async fn kept(tx: &WriteTx, tenant: &TenantId, events: &[EventId]) -> Result<HashSet<EventId>, StoreError> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.0).collect();
    let rows = tx.query("SELECT id FROM events WHERE tenant = $1 AND id = ANY ($2)", &[&&*tenant.0, &ids]).await?;
    rows.iter().map(|row| Ok(EventId(row.try_get(0)?))).collect()
}

/// Makes a test event with one delivery. Returns the delivery.
async fn test(
    tx: &WriteTx,
    actor: &Actor,
    tenant: &TenantId,
    subscription: SubscriptionId,
    new: NewEvent,
) -> Result<DeliveryId, StoreError> {
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    let mut rows = NewRows::default();
    let event = rows.add_event(new, 0);
    let delivery = add(&mut rows, tenant, event.id, subscription, DeliveryKind::Test);
    rows.insert(tx, tenant).await?;
    ledger::add(tx, tenant, "tests", 1).await?;
    tx.note_lane(tenant, subscription).await?;
    check.end(tx).await?;
    tx.record(actor, Some(tenant), &AuditAction::SubscriptionTest(subscription)).await?;
    Ok(delivery)
}

/// Adds a delivery that is due now. Replayed events are a selection and not a sequence: they have no order key.
fn add(
    rows: &mut NewRows,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
) -> DeliveryId {
    let new = NewDelivery::after(tenant, event, subscription, kind, 0);
    let id = new.delivery.id;
    rows.add_delivery(new, None);
    id
}

/// Collects ids from rows that are an id and whether it is selected.
fn selected<T>(rows: &[Row], id: impl Fn(Uuid) -> T) -> Result<Selected<T>, StoreError> {
    Selected::of(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))), id)
}

/// Returns states as the database keeps them.
fn numbers(states: &[DeliveryState]) -> Vec<i16> {
    states.iter().map(|state| *state as i16).collect()
}

/// Returns the names of modules.
fn names(modules: &[Module]) -> Vec<&'static str> {
    modules.iter().map(|module| module.as_str()).collect()
}
