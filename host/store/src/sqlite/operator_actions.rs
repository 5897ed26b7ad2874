//! Operator actions on deliveries: retry, cancel, redrive, replay, test. A reader selects the rows of a step, so that the writer reads
//! only rows that it changes.

use super::Sqlite;
use super::batch::AdminTx;
use super::new_events::write_event;
use super::rows::DeliveryRow;
use super::share::{require_room, within_share};
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
use rusqlite::{Connection, OptionalExtension as _, Params, params};
use uuid::Uuid;

#[async_trait]
impl OperatorBackend for Sqlite {
    async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let state = self.state.clone();
        let owner = tenant.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "SELECT 1 FROM deliveries WHERE tenant = ?1 AND id = ?2 AND state != 0";
            let had_ended = tx.prepare_cached(sql)?.exists(params![&*tenant.0, id.0])?;
            if had_ended {
                require_room(tx, &tenant, share)?;
            }
            require_retriable(&state.catalog, &tenant, subscription)?;
            let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0, updated_at_ms = ?3,
                              budget_spent = CASE state WHEN 0 THEN budget_spent ELSE 0 END,
                              age_from_ms = CASE state WHEN 0 THEN age_from_ms ELSE ?3 END,
                              settles_key = NULL, superseded_by = NULL, state = 0
                       WHERE tenant = ?1 AND id = ?2";
            tx.prepare_cached(sql)?.execute(params![&*tenant.0, id.0, now_ms()])?;
            tx.count_pending(&tenant, subscription, i64::from(had_ended));
            tx.record(&actor, Some(&tenant), &AuditAction::DeliveryRetry(id))
        };
        self.change_of(&owner, vec![subscription], write, |_, ()| {}).await
    }

    async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE deliveries SET state = ?3, awaiting_plugin = 0, updated_at_ms = ?4,
                              reason = ?5
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let cancelled = DeliveryState::Cancelled as u8;
            let reason = cancel_reason().to_bounded_json()?;
            match tx.execute(sql, params![&*tenant.0, id.0, cancelled, now_ms(), reason])? {
                0 => Err(not_pending()),
                _ => {
                    tx.count_pending(&tenant, subscription, -1);
                    tx.record(&actor, Some(&tenant), &AuditAction::DeliveryCancel(id))
                }
            }
        };
        self.change_of(&owner, vec![subscription], write, |_, ()| {}).await
    }

    async fn count_ended(&self, of: EndedDeliveries, span: Span) -> Result<u64, StoreError> {
        let (from, to) = span.ids();
        let owner = Owner::from(&of.tenant);
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT COUNT(*) FROM deliveries INDEXED BY deliveries_of_subscription
                 WHERE tenant = ?1 AND subscription = ?2 AND id >= ?3 AND id < ?4 AND {}",
                ended_as(&of.states)
            );
            let selected = params![&*of.tenant.0, of.subscription.0, from, to];
            Ok(connection.query_row(&sql, selected, |row| row.get(0))?)
        };
        self.readers.read(owner, read).await
    }

    async fn select_ended(
        &self,
        of: EndedDeliveries,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<DeliveryId>, StoreError> {
        let owner = Owner::from(&of.tenant);
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT id, {} FROM deliveries INDEXED BY deliveries_of_subscription
                 WHERE tenant = ?1 AND subscription = ?2 AND id >= ?3 AND id < ?4 ORDER BY id LIMIT ?5",
                ended_as(&of.states)
            );
            select(connection, &sql, params![&*of.tenant.0, of.subscription.0, from, to, ROWS_READ_MAX], DeliveryId)
        };
        self.readers.read(owner, read).await
    }

    async fn redrive(
        &self,
        of: EndedDeliveries,
        ids: Vec<DeliveryId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        let share = self.limits.share;
        let state = self.state.clone();
        let tenant = of.tenant.clone();
        let id = of.subscription;
        let write = move |tx: &AdminTx<'_, '_>| {
            let EndedDeliveries { tenant, subscription, states } = of;
            accepts_deliveries(&state.catalog, &tenant, subscription)?;
            require_room(tx, &tenant, share)?;
            let again = make_pending(tx, &tenant, &states, &ids)?;
            tx.count_pending(&tenant, subscription, again as i64);
            if let Some(entry) = entry {
                let selection = entry.selection(Some(states), again as u64);
                let action = AuditAction::SubscriptionRedrive { id: subscription, selection };
                tx.record(&entry.actor, Some(&tenant), &action)?;
            }
            Ok(again as u64)
        };
        self.change_of(&tenant, vec![id], write, |_, _| {}).await
    }

    async fn count_replayable(&self, of: ReplayableEvents, span: Span) -> Result<u64, StoreError> {
        let (from, to) = span.ids();
        let owner = Owner::from(&of.tenant);
        let read = move |connection: &Connection| {
            let condition = of_modules(&of.modules);
            let sql = format!("SELECT COUNT(*) FROM events WHERE tenant = ?1 AND id >= ?2 AND id < ?3 AND {condition}");
            Ok(connection.query_row(&sql, params![&*of.tenant.0, from, to], |row| row.get(0))?)
        };
        self.readers.read(owner, read).await
    }

    async fn select_replayable(
        &self,
        of: ReplayableEvents,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<EventId>, StoreError> {
        let owner = Owner::from(&of.tenant);
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT id, {} FROM events WHERE tenant = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?4",
                of_modules(&of.modules)
            );
            select(connection, &sql, params![&*of.tenant.0, from, to, ROWS_READ_MAX], EventId)
        };
        self.readers.read(owner, read).await
    }

    async fn replay(
        &self,
        of: ReplayableEvents,
        ids: Vec<EventId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        let share = self.limits.share;
        let state = self.state.clone();
        let tenant = of.tenant.clone();
        let id = of.subscription;
        let write = move |tx: &AdminTx<'_, '_>| {
            let ReplayableEvents { tenant, subscription, .. } = of;
            accepts_deliveries(&state.catalog, &tenant, subscription)?;
            let made = within_share(tx, &tenant, share, |tx| make_replays(tx, &tenant, subscription, ids))?;
            if let Some(entry) = entry {
                let action =
                    AuditAction::SubscriptionReplay { id: subscription, selection: entry.selection(None, made) };
                tx.record(&entry.actor, Some(&tenant), &action)?;
            }
            Ok(made)
        };
        self.change_of(&tenant, vec![id], write, |_, _| {}).await
    }

    async fn test(
        &self,
        actor: Actor,
        tenant: TenantId,
        subscription: SubscriptionId,
        new: NewEvent,
    ) -> Result<DeliveryId, StoreError> {
        let share = self.limits.share;
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let delivery = within_share(tx, &tenant, share, |tx| {
                let event = write_event(&tx.intake(), &tenant, new, 0);
                count_in_ledger(tx, &tenant, "tests", 1)?;
                Ok(make(tx, &tenant, event.id, subscription, DeliveryKind::Test))
            })?;
            tx.record(&actor, Some(&tenant), &AuditAction::SubscriptionTest(subscription))?;
            Ok(delivery)
        };
        self.change_of(&owner, vec![subscription], write, |_, _| {}).await
    }
}

impl Sqlite {
    async fn subscription_of(&self, tenant: TenantId, id: DeliveryId) -> Result<SubscriptionId, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT subscription FROM deliveries WHERE tenant = ?1 AND id = ?2";
            let found = connection.query_row(sql, params![&*tenant.0, id.0], |row| row.get(0).map(SubscriptionId));
            found.optional()?.ok_or(StoreError::NotFound("delivery"))
        };
        self.readers.read(owner, read).await
    }
}

/// Selects ids by a statement whose rows are an id and whether it is selected.
fn select<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    id: impl Fn(Uuid) -> T,
) -> Result<Selected<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Selected::of(rows.map(|row| row.map_err(StoreError::from)), id)
}

/// Makes deliveries pending again that ended in one of these states. Returns their number.
fn make_pending(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    states: &[DeliveryState],
    ids: &[DeliveryId],
) -> Result<usize, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET state = 0, due_at_ms = ?3, awaiting_plugin = 0, age_from_ms = ?3, updated_at_ms = ?3, budget_spent = 0,
                settles_key = NULL, superseded_by = NULL
         WHERE tenant = ?1 AND id = ?2 AND {}",
        ended_as(states)
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let mut again = 0;
    for id in ids {
        again += statement.execute(params![&*tenant.0, id.0, now_ms()])?;
    }
    Ok(again)
}

/// Makes a delivery for each of these events that still exists: some may have been pruned since the reader found them. Returns their
/// number.
fn make_replays(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    subscription: SubscriptionId,
    events: Vec<EventId>,
) -> Result<u64, StoreError> {
    let mut made = 0;
    for event in events {
        let sql = "SELECT 1 FROM events WHERE tenant = ?1 AND id = ?2";
        if tx.prepare_cached(sql)?.exists(params![&*tenant.0, event.0])? {
            make(tx, tenant, event, subscription, DeliveryKind::Replay);
            made += 1;
        }
    }
    count_in_ledger(tx, tenant, "replayed", made)?;
    Ok(made as u64)
}

/// SQL condition of deliveries that ended in one of these states and are not tests.
fn ended_as(states: &[DeliveryState]) -> String {
    let states: Vec<String> = states.iter().map(|state| (*state as u8).to_string()).collect();
    format!("(state IN ({}) AND state != 0 AND kind != 2)", states.join(", "))
}

/// SQL condition of events of these modules.
fn of_modules(modules: &[Module]) -> String {
    let modules: Vec<String> = modules.iter().map(|module| format!("'{}'", module.as_str())).collect();
    format!("(module IN ({}))", modules.join(", "))
}

fn make(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
) -> DeliveryId {
    // Replayed events are a selection and not a sequence: they have no order key.
    let NewDelivery { delivery, due_at_ms, settling: _ } = NewDelivery::after(tenant, event, subscription, kind, 0);
    let id = delivery.id;
    tx.intake().add_delivery(DeliveryRow { delivery, due_at_ms, order_key: None });
    id
}

/// Adds to a column of the tenant's ledger.
fn count_in_ledger(connection: &Connection, tenant: &TenantId, what: &str, many: usize) -> Result<(), StoreError> {
    let sql =
        format!("INSERT INTO ledgers (tenant, {what}) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET {what} = {what} + ?2");
    connection.prepare_cached(&sql)?.execute(params![&*tenant.0, many])?;
    Ok(())
}
