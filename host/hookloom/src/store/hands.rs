//! Operator actions on deliveries: retry, cancel, redrive, replay, test.
//!
//! Promises: whatever is made is counted in the ledger in the same transaction; a long work goes in steps, so that nobody
//! waits for it; a step that was done stays done.

use super::accept::{write_delivery, write_event};
use super::batch::Batch;
use super::fair_queue::Owner;
use super::usage::{require_room, within_share};
use super::{Catalog, NewEvent, Store, StoreError, now_ms};
use crate::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use crate::event::EventId;
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, OptionalExtension as _, Rows, params};
use uuid::Uuid;

/// Maximum number of deliveries that one transaction makes or moves.
const STEP: usize = 500;

/// A span of time, in milliseconds since the epoch; the end does not belong to it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its beginning.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
}

impl Span {
    /// The smallest id that was made in it, and the smallest that was made after it: ids begin with their time.
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
    /// Makes a delivery due now: a pending one at once, one that ended with a new budget of attempts.
    pub async fn retry(&self, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let catalog = self.catalog.clone();
        let owner = tenant.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let share = self.limits.share;
        let write = move |batch: &Batch<'_>| {
            let sql = "SELECT 1 FROM deliveries WHERE tenant = ?1 AND id = ?2 AND state != 0";
            let had_ended = batch.prepare_cached(sql)?.exists(params![&*tenant.0, id.0])?;
            if had_ended {
                require_room(batch, &tenant, share)?;
            }
            let own = catalog.subscription(&tenant, subscription);
            let own = own.ok_or_else(|| StoreError::Conflict("its subscription was deleted".into()))?;
            if own.state == SubscriptionState::Disabled {
                return Err(StoreError::Conflict("its subscription is disabled; resume it first".into()));
            }
            let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0, updated_at_ms = ?3,
                              budget_spent = CASE state WHEN 0 THEN budget_spent ELSE 0 END,
                              age_from_ms = CASE state WHEN 0 THEN age_from_ms ELSE ?3 END, state = 0
                       WHERE tenant = ?1 AND id = ?2";
            batch.prepare_cached(sql)?.execute(params![&*tenant.0, id.0, now_ms()])?;
            batch.count_pending(&tenant, subscription, i64::from(had_ended));
            Ok(())
        };
        self.change_of(&owner, vec![subscription], write, |_, ()| {}).await
    }

    /// Stops a pending delivery. An attempt that is under way ends as it ends.
    pub async fn cancel(&self, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let write = move |batch: &Batch<'_>| {
            let sql = "UPDATE deliveries SET state = ?3, awaiting_plugin = 0, updated_at_ms = ?4,
                              reason = '{\"code\":\"cancelled\",\"message\":\"cancelled by hand\"}'
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let cancelled = DeliveryState::Cancelled as u8;
            match batch.execute(sql, params![&*tenant.0, id.0, cancelled, now_ms()])? {
                0 => Err(StoreError::Conflict("it is no longer pending".into())),
                _ => {
                    batch.count_pending(&tenant, subscription, -1);
                    Ok(())
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

    /// Makes them pending again, each with a new budget of attempts. Returns how many.
    pub async fn redrive(
        &self,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        let mut redriven = 0;
        let (mut from, to) = span.ids();
        let share = self.limits.share;
        loop {
            let tenant = subscription.tenant.clone();
            let id = subscription.id;
            let sql = format!(
                "SELECT id, {} FROM deliveries INDEXED BY deliveries_of_subscription
                 WHERE tenant = ?1 AND subscription = ?5 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?4",
                ended_as(&states)
            );
            let look = move |connection: &Connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                step_of(statement.query(params![&*tenant.0, from, to, LOOK, id.0])?)
            };
            let step = self.readers.read(&subscription.tenant, look).await?;
            let tenant = subscription.tenant.clone();
            let catalog = self.catalog.clone();
            let condition = ended_as(&states);
            let write = move |batch: &Batch<'_>| {
                accepts_deliveries(&catalog, &tenant, id)?;
                require_room(batch, &tenant, share)?;
                let sql = format!(
                    "UPDATE deliveries SET state = 0, due_at_ms = ?3, age_from_ms = ?3, updated_at_ms = ?3, budget_spent = 0
                     WHERE tenant = ?1 AND id = ?2 AND {condition}"
                );
                let mut statement = batch.prepare_cached(&sql)?;
                let mut again = 0;
                for delivery in step.ids {
                    again += statement.execute(params![&*tenant.0, delivery, now_ms()])?;
                }
                batch.count_pending(&tenant, id, again as i64);
                Ok(again as u64)
            };
            redriven += self.change_of(&subscription.tenant, vec![id], write, |_, _| {}).await?;
            match step.next {
                Some(next) => from = next,
                None => return Ok(redriven),
            }
        }
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

    /// Makes a new delivery of every event of a span for a subscription. Returns how many.
    pub async fn replay(&self, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        let mut replayed = 0;
        let (mut from, to) = span.ids();
        let share = self.limits.share;
        loop {
            let tenant = subscription.tenant.clone();
            let id = subscription.id;
            let sql = format!(
                "SELECT id, {} FROM events WHERE tenant = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?4",
                of_modules(subscription)
            );
            let look = move |connection: &Connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                step_of(statement.query(params![&*tenant.0, from, to, LOOK])?)
            };
            let step = self.readers.read(&subscription.tenant, look).await?;
            let tenant = subscription.tenant.clone();
            let catalog = self.catalog.clone();
            let write = move |batch: &Batch<'_>| {
                accepts_deliveries(&catalog, &tenant, id)?;
                within_share(batch, &tenant, share, |batch| {
                    let mut made = 0;
                    for event in step.ids {
                        // It may have been pruned since it was found.
                        let sql = "SELECT 1 FROM events WHERE tenant = ?1 AND id = ?2";
                        if batch.prepare_cached(sql)?.exists(params![&*tenant.0, event])? {
                            make(batch, &tenant, EventId(event), id, DeliveryKind::Replay);
                            made += 1;
                        }
                    }
                    count_in_ledger(batch, &tenant, "replayed", made)?;
                    Ok(made as u64)
                })
            };
            replayed += self.change_of(&subscription.tenant, vec![id], write, |_, _| {}).await?;
            match step.next {
                Some(next) => from = next,
                None => return Ok(replayed),
            }
        }
    }

    /// Makes an event that goes to one subscription only, to test it.
    pub async fn test(&self, subscription: &Subscription, new: NewEvent) -> Result<DeliveryId, StoreError> {
        let tenant = subscription.tenant.clone();
        let id = subscription.id;
        let share = self.limits.share;
        let write = move |batch: &Batch<'_>| {
            within_share(batch, &tenant, share, |batch| {
                let event = write_event(batch, &tenant, new, 0);
                count_in_ledger(batch, &tenant, "tests", 1)?;
                Ok(make(batch, &tenant, event.id, id, DeliveryKind::Test))
            })
        };
        self.change_of(&subscription.tenant, vec![id], write, |_, _| {}).await
    }
}

/// Rows of which one step looks at so many, and takes at most [`STEP`].
const LOOK: usize = 5_000;

/// Work list of one step: a reader finds the rows, so that the writer looks at no row that it does not change.
struct ActionStep {
    ids: Vec<Uuid>,
    /// First id of the next step; none if there is nothing left.
    next: Option<Uuid>,
}

/// Takes the ids of rows whose second column is true.
fn step_of(mut rows: Rows<'_>) -> Result<ActionStep, StoreError> {
    let mut step = ActionStep { ids: Vec::new(), next: None };
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        if step.ids.len() == STEP {
            step.next = Some(id);
            return Ok(step);
        }
        if row.get(1)? {
            step.ids.push(id);
        }
        looked_at += 1;
        step.next = (looked_at == LOOK).then(|| next_id(id));
    }
    Ok(step)
}

/// Refuses deliveries for a subscription that is gone or disabled by now.
fn accepts_deliveries(catalog: &Catalog, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
    let own = catalog.subscription(tenant, id);
    let own = own.ok_or_else(|| StoreError::Conflict("the subscription was deleted".into()))?;
    if own.state == SubscriptionState::Disabled {
        return Err(StoreError::Conflict("the subscription is disabled; resume it first".into()));
    }
    Ok(())
}

/// The condition of deliveries that ended in one of these states, and are no tests.
fn ended_as(states: &[DeliveryState]) -> String {
    let states: Vec<String> = states.iter().map(|state| (*state as u8).to_string()).collect();
    format!("(state IN ({}) AND state != 0 AND kind != 2)", states.join(", "))
}

/// The condition of events that a subscription is for.
fn of_modules(subscription: &Subscription) -> String {
    let modules = subscription.settings.modules.iter();
    let modules: Vec<String> = modules.map(|module| format!("'{}'", module.as_str())).collect();
    format!("(module IN ({}))", modules.join(", "))
}

fn next_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

fn make(
    batch: &Batch<'_>,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
) -> DeliveryId {
    // A replay is a choice of events, not a stream of them: it keeps no order.
    write_delivery(batch, tenant, event, subscription, kind, 0, None).id
}

/// Adds to one of the ledger's own numbers.
fn count_in_ledger(connection: &Connection, tenant: &TenantId, what: &str, many: usize) -> Result<(), StoreError> {
    let sql =
        format!("INSERT INTO ledgers (tenant, {what}) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET {what} = {what} + ?2");
    connection.prepare_cached(&sql)?.execute(params![&*tenant.0, many])?;
    Ok(())
}
