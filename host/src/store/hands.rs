//! What people do to deliveries by hand: retry, cancel, redrive, replay, test.
//!
//! Promises: whatever is made is counted in the ledger in the same transaction; a long work goes in steps, so that nobody
//! waits for it; a step that was done stays done.

use super::accept::{keep, write_delivery, write_event};
use super::batch::Batch;
use super::{NewEvent, Store, StoreError, now_ms};
use crate::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use crate::event::{EventId, Module};
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

/// How many deliveries one transaction makes or moves.
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
    fn ids(self) -> (Uuid, Uuid) {
        let first = |ms: i64| {
            let ms = u128::try_from(ms.clamp(0, (1 << 48) - 1)).unwrap_or(0);
            Uuid::from_u128(ms << 80)
        };
        (first(self.from_ms), first(self.to_ms))
    }
}

impl Store {
    /// Makes a delivery due now: a pending one at once, one that ended with a new budget of attempts.
    pub async fn retry(&self, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let catalog = self.catalog.clone();
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let write = move |batch: &Batch<'_>| {
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
            Ok(())
        };
        self.change_of(vec![subscription], write, |_, ()| {}).await
    }

    /// Stops a pending delivery. An attempt that is under way ends as it ends.
    pub async fn cancel(&self, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let subscription = self.subscription_of(tenant.clone(), id).await?;
        let write = move |batch: &Batch<'_>| {
            let sql = "UPDATE deliveries SET state = ?3, awaiting_plugin = 0, updated_at_ms = ?4,
                              reason = '{\"code\":\"cancelled\",\"message\":\"cancelled by hand\"}'
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let cancelled = DeliveryState::Cancelled as u8;
            match batch.execute(sql, params![&*tenant.0, id.0, cancelled, now_ms()])? {
                0 => Err(StoreError::Conflict("it is not pending any more".into())),
                _ => Ok(()),
            }
        };
        self.change_of(vec![subscription], write, |_, ()| {}).await
    }

    async fn subscription_of(&self, tenant: TenantId, id: DeliveryId) -> Result<SubscriptionId, StoreError> {
        let read = move |connection: &Connection| {
            let sql = "SELECT subscription FROM deliveries WHERE tenant = ?1 AND id = ?2";
            let found = connection.query_row(sql, params![&*tenant.0, id.0], |row| row.get(0).map(SubscriptionId));
            found.optional()?.ok_or(StoreError::NotFound("delivery"))
        };
        self.readers.read(read).await
    }

    /// How many deliveries of a subscription ended like this, and were made in this span.
    pub async fn count_ended(
        &self,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        let (tenant, id) = (subscription.tenant.clone(), subscription.id);
        let sql =
            format!("SELECT COUNT(*) FROM deliveries INDEXED BY deliveries_of_subscription WHERE {}", of_span(&states));
        let (from, to) = span.ids();
        let read = move |connection: &Connection| {
            Ok(connection.query_row(&sql, params![&*tenant.0, id.0, from, to], |row| row.get(0))?)
        };
        self.readers.read(read).await
    }

    /// Makes them pending again, each with a new budget of attempts. Returns how many.
    pub async fn redrive(
        &self,
        subscription: &Subscription,
        states: Vec<DeliveryState>,
        span: Span,
    ) -> Result<u64, StoreError> {
        let (mut redriven, (mut from, to)) = (0, span.ids());
        loop {
            let (tenant, id, condition) = (subscription.tenant.clone(), subscription.id, of_span(&states));
            let write = move |batch: &Batch<'_>| {
                let sql = format!(
                    "UPDATE deliveries SET state = 0, due_at_ms = ?5, age_from_ms = ?5, updated_at_ms = ?5, budget_spent = 0
                     WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries INDEXED BY deliveries_of_subscription
                                                      WHERE {condition} ORDER BY id LIMIT {STEP})
                     RETURNING id"
                );
                let mut statement = batch.prepare_cached(&sql)?;
                let ids = statement.query_map(params![&*tenant.0, id.0, from, to, now_ms()], |row| row.get(0))?;
                Ok(ids.collect::<Result<Vec<Uuid>, _>>()?)
            };
            let ids = self.change_of(vec![id], write, |_, _| {}).await?;
            redriven += ids.len() as u64;
            match ids.iter().max() {
                Some(last) if ids.len() == STEP => from = next_id(*last),
                _ => return Ok(redriven),
            }
        }
    }

    /// How many events of a span a replay would deliver to a subscription.
    pub async fn count_replayable(&self, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        let (tenant, sql) =
            (subscription.tenant.clone(), format!("SELECT COUNT(*) FROM events WHERE {}", replayable(subscription)));
        let (from, to) = span.ids();
        let read = move |connection: &Connection| {
            Ok(connection.query_row(&sql, params![&*tenant.0, from, to], |row| row.get(0))?)
        };
        self.readers.read(read).await
    }

    /// Makes a new delivery of every event of a span for a subscription. Returns how many.
    pub async fn replay(&self, subscription: &Subscription, span: Span) -> Result<u64, StoreError> {
        let (mut replayed, (mut from, to)) = (0, span.ids());
        loop {
            let (tenant, id, condition) = (subscription.tenant.clone(), subscription.id, replayable(subscription));
            let write = move |batch: &Batch<'_>| {
                let sql = format!("SELECT id FROM events WHERE {condition} ORDER BY id LIMIT {STEP}");
                let mut statement = batch.prepare_cached(&sql)?;
                let ids = statement.query_map(params![&*tenant.0, from, to], |row| row.get(0))?;
                let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
                for event in &ids {
                    make(batch, &tenant, EventId(*event), id, DeliveryKind::Replay);
                }
                count_in_ledger(batch, &tenant, "replayed", ids.len())?;
                Ok(ids)
            };
            let ids = self.change_of(vec![id], write, |_, _| {}).await?;
            replayed += ids.len() as u64;
            match ids.last() {
                Some(last) if ids.len() == STEP => from = next_id(*last),
                _ => return Ok(replayed),
            }
        }
    }

    /// Makes an event that goes to one subscription only, to test it.
    pub async fn test(&self, subscription: &Subscription, new: NewEvent) -> Result<DeliveryId, StoreError> {
        let (tenant, id) = (subscription.tenant.clone(), subscription.id);
        let write = move |batch: &Batch<'_>| {
            keep(batch, &tenant, &new)?;
            let event = write_event(batch, &tenant, new, 0);
            count_in_ledger(batch, &tenant, "tests", 1)?;
            Ok(make(batch, &tenant, event.id, id, DeliveryKind::Test))
        };
        self.change_of(vec![id], write, |_, _| {}).await
    }
}

/// Ended deliveries of a subscription (?2) of a tenant (?1) whose ids are in a span (?3, ?4).
fn of_span(states: &[DeliveryState]) -> String {
    let states: Vec<String> = states.iter().map(|state| (*state as u8).to_string()).collect();
    let states = states.join(", ");
    format!(
        "tenant = ?1 AND subscription = ?2 AND id >= ?3 AND id < ?4 AND state IN ({states}) AND state != 0 AND kind != 2"
    )
}

/// Events of a tenant (?1) in a span (?2, ?3) that a subscription is for.
fn replayable(subscription: &Subscription) -> String {
    let quoted = |module: &Module| format!("'{}'", module.as_str());
    let modules: Vec<String> = subscription.settings.modules.iter().map(quoted).collect();
    format!("tenant = ?1 AND id >= ?2 AND id < ?3 AND module IN ({})", modules.join(", "))
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
