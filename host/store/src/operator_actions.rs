//! Operator actions on deliveries: retry, cancel, redrive, replay, test.
//!
//! # Guarantees
//! - New deliveries are counted in the ledger in the transaction that makes them.
//! - A redrive or replay of many deliveries runs in steps of [`STEP`], between which other writes run. A step that has been committed
//!   stays, even if a later one fails. The entry in the log of changes is committed with the first step.

use super::audit::{Actor, AuditAction, SelectionAudit};
use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::new_events::{write_delivery, write_event};
use super::share::{require_room, within_share};
use super::{Catalog, NewEvent, Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::EventId;
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, OptionalExtension as _, Rows, ToSql, params};
use uuid::Uuid;

/// Maximum number of deliveries that one transaction makes or redrives.
const STEP: usize = 500;

/// Span of time, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Beginning, inclusive.
    pub from_ms: i64,
    /// End, exclusive.
    pub to_ms: i64,
}

impl Span {
    /// Returns the smallest possible id of the span, and the smallest after it.
    pub(super) fn ids(self) -> (Uuid, Uuid) {
        (first_id(self.from_ms), first_id(self.to_ms))
    }
}

/// Smallest id of a millisecond: ids begin with their time.
fn first_id(ms: i64) -> Uuid {
    let ms = u128::try_from(ms.clamp(0, (1 << 48) - 1)).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

impl Store {
    /// Makes a delivery due now. A delivery that had ended becomes pending again, with a new budget of attempts.
    pub async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let catalog = self.catalog.clone();
        let owner = tenant.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "SELECT 1 FROM deliveries WHERE tenant = ?1 AND id = ?2 AND state != 0";
            let had_ended = tx.prepare_cached(sql)?.exists(params![&*tenant.0, id.0])?;
            if had_ended {
                require_room(tx, &tenant, share)?;
            }
            let current = catalog.subscription(&tenant, subscription);
            let current = current.ok_or_else(|| StoreError::Conflict("its subscription was deleted".into()))?;
            if current.state == SubscriptionState::Disabled {
                return Err(StoreError::Conflict("its subscription is disabled; resume it first".into()));
            }
            let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0, updated_at_ms = ?3,
                              budget_spent = CASE state WHEN 0 THEN budget_spent ELSE 0 END,
                              age_from_ms = CASE state WHEN 0 THEN age_from_ms ELSE ?3 END, state = 0
                       WHERE tenant = ?1 AND id = ?2";
            tx.prepare_cached(sql)?.execute(params![&*tenant.0, id.0, now_ms()])?;
            tx.count_pending(&tenant, subscription, i64::from(had_ended));
            tx.record(&actor, Some(&tenant), &AuditAction::DeliveryRetry(id))
        };
        self.change_of(&owner, vec![subscription], write, |_, ()| {}).await
    }

    /// Cancels a pending delivery. An attempt that is under way is completed and recorded.
    pub async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE deliveries SET state = ?3, awaiting_plugin = 0, updated_at_ms = ?4,
                              reason = '{\"code\":\"cancelled\",\"message\":\"cancelled by an operator\"}'
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let cancelled = DeliveryState::Cancelled as u8;
            match tx.execute(sql, params![&*tenant.0, id.0, cancelled, now_ms()])? {
                0 => Err(StoreError::Conflict("it is no longer pending".into())),
                _ => {
                    tx.count_pending(&tenant, subscription, -1);
                    tx.record(&actor, Some(&tenant), &AuditAction::DeliveryCancel(id))
                }
            }
        };
        self.change_of(&owner, vec![subscription], write, |_, ()| {}).await
    }

    async fn subscription_of(&self, tenant: TenantId, id: DeliveryId) -> Result<SubscriptionId, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT subscription FROM deliveries WHERE tenant = ?1 AND id = ?2";
            let found = connection.query_row(sql, params![&*tenant.0, id.0], |row| row.get(0).map(SubscriptionId));
            found.optional()?.ok_or(StoreError::NotFound("delivery"))
        };
        self.readers.read(owner, read).await
    }

    /// Returns the number of a subscription's deliveries that were made in a span and ended in one of these states.
    pub async fn count_ended(
        &self,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        let tenant = subscription.tenant.clone();
        let id = subscription.id;
        let sql = format!(
            "SELECT COUNT(*) FROM deliveries INDEXED BY deliveries_of_subscription
             WHERE tenant = ?1 AND subscription = ?2 AND id >= ?3 AND id < ?4 AND {}",
            ended_as(&states)
        );
        let (from, to) = span.ids();
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            Ok(connection.query_row(&sql, params![&*tenant.0, id.0, from, to], |row| row.get(0))?)
        };
        self.readers.read(owner, read).await
    }

    /// Makes the deliveries of [`Store::count_ended`] pending again, each with a new budget of attempts. Returns their number.
    pub async fn redrive(
        &self,
        actor: Actor,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        let id = subscription.id;
        let share = self.limits.share;
        let catalog = self.catalog.clone();
        let condition = ended_as(&states);
        let select = format!(
            "SELECT id, {condition} FROM deliveries INDEXED BY deliveries_of_subscription
             WHERE tenant = ?1 AND subscription = ?5 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?4"
        );
        let write = move |tx: &AdminTx<'_, '_>, tenant: &TenantId, deliveries: Vec<Uuid>| {
            accepts_deliveries(&catalog, tenant, id)?;
            require_room(tx, tenant, share)?;
            let sql = format!(
                "UPDATE deliveries SET state = 0, due_at_ms = ?3, age_from_ms = ?3, updated_at_ms = ?3, budget_spent = 0
                 WHERE tenant = ?1 AND id = ?2 AND {condition}"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let mut again = 0;
            for delivery in deliveries {
                again += statement.execute(params![&*tenant.0, delivery, now_ms()])?;
            }
            tx.count_pending(tenant, id, again as i64);
            Ok(again as u64)
        };
        let selected = SelectionAudit { states: Some(states), ..span.into() };
        let entry =
            StepsEntry { actor, selected, action: |id, selection| AuditAction::SubscriptionRedrive { id, selection } };
        let selection = Selection { sql: select, subscription: Some(id.0) };
        self.act_in_steps(entry, subscription, span, selection, write).await
    }

    /// Returns the number of events of a span that a replay would deliver to a subscription.
    pub async fn count_replayable(&self, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        let tenant = subscription.tenant.clone();
        let condition = of_modules(subscription);
        let sql = format!("SELECT COUNT(*) FROM events WHERE tenant = ?1 AND id >= ?2 AND id < ?3 AND {condition}");
        let (from, to) = span.ids();
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            Ok(connection.query_row(&sql, params![&*tenant.0, from, to], |row| row.get(0))?)
        };
        self.readers.read(owner, read).await
    }

    /// Makes a new delivery for every event of [`Store::count_replayable`]. Returns their number.
    pub async fn replay(&self, actor: Actor, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        let id = subscription.id;
        let share = self.limits.share;
        let catalog = self.catalog.clone();
        let select = format!(
            "SELECT id, {} FROM events WHERE tenant = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?4",
            of_modules(subscription)
        );
        let write = move |tx: &AdminTx<'_, '_>, tenant: &TenantId, events: Vec<Uuid>| {
            accepts_deliveries(&catalog, tenant, id)?;
            within_share(tx, tenant, share, |tx| {
                let mut made = 0;
                for event in events {
                    // The event may have been pruned since the reader found it.
                    let sql = "SELECT 1 FROM events WHERE tenant = ?1 AND id = ?2";
                    if tx.prepare_cached(sql)?.exists(params![&*tenant.0, event])? {
                        make(tx, tenant, EventId(event), id, DeliveryKind::Replay);
                        made += 1;
                    }
                }
                count_in_ledger(tx, tenant, "replayed", made)?;
                Ok(made as u64)
            })
        };
        let selected = span.into();
        let entry =
            StepsEntry { actor, selected, action: |id, selection| AuditAction::SubscriptionReplay { id, selection } };
        self.act_in_steps(entry, subscription, span, Selection { sql: select, subscription: None }, write).await
    }

    /// Selects rows of a span in steps, and writes each step in a transaction, the first one with the entry. Returns the sum of the
    /// returned numbers.
    async fn act_in_steps(
        &self,
        entry: StepsEntry,
        subscription: &Subscription,
        span: Span,
        selection: Selection,
        write: impl Fn(&AdminTx<'_, '_>, &TenantId, Vec<Uuid>) -> Result<u64, StoreError> + Clone + Send + 'static,
    ) -> Result<u64, StoreError> {
        let mut sum = 0;
        let mut entry = Some(entry);
        let (mut from, to) = span.ids();
        loop {
            let tenant = subscription.tenant.clone();
            let Selection { sql, subscription: also } = selection.clone();
            let read = move |connection: &Connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                let mut parameters: Vec<&dyn ToSql> = vec![&tenant.0, &from, &to, &ROWS_READ_MAX];
                parameters.extend(also.as_ref().map(|id| id as &dyn ToSql));
                step_of(statement.query(&*parameters)?)
            };
            let ActionStep { ids, next } = self.readers.read(&subscription.tenant, read).await?;
            let tenant = subscription.tenant.clone();
            let id = subscription.id;
            let write = write.clone();
            let entry_of_step = entry.take();
            let write = move |tx: &AdminTx<'_, '_>| {
                let deliveries = write(tx, &tenant, ids)?;
                if let Some(StepsEntry { actor, selected, action }) = entry_of_step {
                    let selected = SelectionAudit { deliveries: next.is_none().then_some(deliveries), ..selected };
                    tx.record(&actor, Some(&tenant), &action(id, selected))?;
                }
                Ok(deliveries)
            };
            sum += self.change_of(&subscription.tenant, vec![id], write, |_, _| {}).await?;
            match next {
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
        let tenant = subscription.tenant.clone();
        let id = subscription.id;
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let delivery = within_share(tx, &tenant, share, |tx| {
                let event = write_event(&tx.intake(), &tenant, new, 0);
                count_in_ledger(tx, &tenant, "tests", 1)?;
                Ok(make(tx, &tenant, event.id, id, DeliveryKind::Test))
            })?;
            tx.record(&actor, Some(&tenant), &AuditAction::SubscriptionTest(id))?;
            Ok(delivery)
        };
        self.change_of(&subscription.tenant, vec![id], write, |_, _| {}).await
    }
}

/// Entry of an action that takes several steps.
struct StepsEntry {
    actor: Actor,
    selected: SelectionAudit,
    action: fn(SubscriptionId, SelectionAudit) -> AuditAction<'static>,
}

impl From<Span> for SelectionAudit {
    fn from(span: Span) -> Self {
        let Span { from_ms, to_ms } = span;
        SelectionAudit { states: None, from_ms, to_ms: (to_ms < i64::MAX).then_some(to_ms), deliveries: None }
    }
}

/// Maximum number of rows that one step reads, to find at most [`STEP`] of them.
const ROWS_READ_MAX: usize = 5_000;

/// Rows that one step changes. A reader finds them, so that the writer reads only rows that it changes.
struct ActionStep {
    ids: Vec<Uuid>,
    /// First id of the next step. None: this step is the last.
    next: Option<Uuid>,
}

/// Rows that an action may change: id and whether it is one of them, from `?2` on and before `?3`, at most `?4`, of the tenant `?1`.
#[derive(Clone)]
struct Selection {
    sql: String,
    /// Parameter `?5`, if the statement has it.
    subscription: Option<Uuid>,
}

/// Collects the ids of the rows whose second column is true.
fn step_of(mut rows: Rows<'_>) -> Result<ActionStep, StoreError> {
    let mut step = ActionStep { ids: Vec::new(), next: None };
    let mut rows_read = 0;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        if step.ids.len() == STEP {
            step.next = Some(id);
            return Ok(step);
        }
        if row.get(1)? {
            step.ids.push(id);
        }
        rows_read += 1;
        step.next = (rows_read == ROWS_READ_MAX).then(|| next_id(id));
    }
    Ok(step)
}

/// Returns an error if the subscription has been deleted or disabled.
fn accepts_deliveries(catalog: &Catalog, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
    let current = catalog.subscription(tenant, id);
    let current = current.ok_or_else(|| StoreError::Conflict("the subscription was deleted".into()))?;
    if current.state == SubscriptionState::Disabled {
        return Err(StoreError::Conflict("the subscription is disabled; resume it first".into()));
    }
    Ok(())
}

/// SQL condition of deliveries that ended in one of these states and are not tests.
fn ended_as(states: &[DeliveryState]) -> String {
    let states: Vec<String> = states.iter().map(|state| (*state as u8).to_string()).collect();
    format!("(state IN ({}) AND state != 0 AND kind != 2)", states.join(", "))
}

/// SQL condition of events of the subscription's modules.
fn of_modules(subscription: &Subscription) -> String {
    let modules = subscription.settings.modules.iter();
    let modules: Vec<String> = modules.map(|module| format!("'{}'", module.as_str())).collect();
    format!("(module IN ({}))", modules.join(", "))
}

fn next_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

fn make(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
) -> DeliveryId {
    // Replayed events are a selection and not a sequence: they have no order key.
    write_delivery(&tx.intake(), tenant, event, subscription, kind, 0, None).id
}

/// Adds to a column of the tenant's ledger.
fn count_in_ledger(connection: &Connection, tenant: &TenantId, what: &str, many: usize) -> Result<(), StoreError> {
    let sql =
        format!("INSERT INTO ledgers (tenant, {what}) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET {what} = {what} + ?2");
    connection.prepare_cached(&sql)?.execute(params![&*tenant.0, many])?;
    Ok(())
}
