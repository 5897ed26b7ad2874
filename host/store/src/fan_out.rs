//! Large fan-outs: the events become durable first, and their deliveries follow in steps.
//!
//! # Guarantees
//! - A step makes at most [`SCATTERED_STEP`] deliveries, or [`STEP`] if they are for few subscriptions. Other owners write between
//!   two steps, so a fan-out to thousands of subscriptions does not delay them.
//! - Every delivery is made exactly once: the position of the fan-out is written in the transaction of its deliveries, and the next
//!   start continues from there.
//! - The request is answered after the last step. So a later request of the same sender finds all deliveries made, and the order of
//!   an entity's events is the order of their answers.
//! - The conservation law holds in between: deliveries that have not been made count as pending.
//!
//! # Limits
//! A subscription that is deleted during the fan-out may get no delivery, and a subscription that is created meanwhile may get one;
//! `fan_out` of the event is corrected to the final number. A step may fail, on a full disk for example. The request is accepted
//! nevertheless, and the steps are repeated later.

use super::background::run_when_woken;
use super::batch::{IntakeStatement, IntakeTx};
use super::claims::Claims;
use super::event_cache::EventCache;
use super::fair_queue::Owner;
use super::new_events::{publish, write_usual_delivery};
use super::order_key::OrderKey;
use super::writer::Terms;
use super::{Catalog, NewDeliveries, Store, StoreError};
use hookloom_model::event::{Event, EventId};
use hookloom_model::ids;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of deliveries that a step makes for few subscriptions.
const STEP: usize = 512;

/// Maximum number of deliveries in a step for [`SCATTERED_MIN`] subscriptions or more. A delivery changes pages of its
/// subscription's indexes; with few subscriptions, each page is changed once for many deliveries.
const SCATTERED_STEP: usize = 64;

/// Number of matching subscriptions above which pages are rarely shared.
const SCATTERED_MIN: usize = 64;

/// Number of steps that fit into the transaction of the events.
const STEPS_AT_ONCE: usize = 4;

/// Returns the number of deliveries in a step for this number of matching subscriptions.
fn step_of(subscriptions: usize) -> usize {
    if subscriptions >= SCATTERED_MIN { SCATTERED_STEP } else { STEP }
}

/// Returns true if this number of deliveries is made in steps.
pub(super) fn takes_steps(deliveries: u64, subscriptions: usize) -> bool {
    deliveries > (STEPS_AT_ONCE * step_of(subscriptions)) as u64
}

/// Fan-outs whose requests make the steps, and the wake-up of the task that completes all others.
#[derive(Default)]
pub(super) struct FanOuts {
    under_way: Mutex<HashSet<Uuid>>,
    abandoned: tokio::sync::Notify,
}

/// Fan-out whose request makes the steps. If the request ends before the last step, the background task makes the others.
pub(super) struct FanOutGuard {
    fan_outs: Arc<FanOuts>,
    id: Uuid,
    completed: bool,
}

impl FanOuts {
    /// Begins a fan-out, with a new id.
    pub(super) fn begin(self: &Arc<Self>) -> FanOutGuard {
        let id = ids::new_uuid();
        self.under_way.lock().insert(id);
        FanOutGuard { fan_outs: self.clone(), id, completed: false }
    }

    fn is_under_way(&self, id: Uuid) -> bool {
        self.under_way.lock().contains(&id)
    }
}

impl FanOutGuard {
    pub(super) fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for FanOutGuard {
    fn drop(&mut self) {
        self.fan_outs.under_way.lock().remove(&self.id);
        if !self.completed {
            self.fan_outs.abandoned.notify_one();
        }
    }
}

/// Records events without deliveries, and the number of deliveries that they lack.
pub(super) fn note(
    tx: &IntakeTx<'_, '_>,
    tenant: &TenantId,
    id: Uuid,
    events: impl Iterator<Item = EventId>,
    lacks: usize,
) -> Result<(), StoreError> {
    let events: Vec<u8> = events.flat_map(|event| event.0.into_bytes()).collect();
    Ok(tx.execute(IntakeStatement::BeginFanOut, params![&*tenant.0, id, events, lacks])?)
}

/// Counts the deliveries of a tenant's events that have not been made.
pub(super) fn lacking(connection: &Connection, tenant: &TenantId) -> Result<u64, StoreError> {
    let sql = "SELECT COALESCE(SUM(lacks), 0) FROM fan_outs WHERE tenant = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([&*tenant.0], |row| row.get(0))?)
}

impl Store {
    /// Makes the deliveries of a request. A failure leaves the rest to [`Store::run_fan_outs`].
    pub(super) async fn fan_out(&self, tenant: &TenantId, mut guard: FanOutGuard) {
        match self.make_steps(tenant, guard.id).await {
            Ok(()) => guard.completed = true,
            Err(StoreError::Stopped) => {}
            Err(error) => {
                let error = hookloom_model::describe(&error);
                tracing::error!(%tenant, %error, "deliveries of accepted events could not be made; trying again");
            }
        }
    }

    /// Completes fan-outs whose requests ended early. Runs until the store stops.
    pub async fn run_fan_outs(&self) {
        run_when_woken(&self.fan_outs.abandoned, "deliveries of accepted events could not be made", || {
            self.complete_fan_outs()
        })
        .await;
    }

    async fn complete_fan_outs(&self) -> Result<(), StoreError> {
        let mut failed = None;
        for (tenant, id) in self.readers.read(Owner::Host, all).await? {
            if self.fan_outs.is_under_way(id) {
                continue;
            }
            // A failure does not stop the others.
            if let Err(error) = self.make_steps(&tenant, id).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn make_steps(&self, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
        let mut last = false;
        while !last {
            let catalog = self.catalog.clone();
            let claims = self.claims.clone();
            let owner = tenant.clone();
            let events = self.events.clone();
            let write = move |tx: &IntakeTx<'_, '_>| step(tx, (&catalog, &claims), &events, &owner, id);
            let store_events = self.store_events.clone();
            let publish = move |step: &mut FanOutStep| publish(&store_events, std::mem::take(&mut step.new_deliveries));
            let terms = Terms { owner: tenant.into(), rows: STEP as u64 };
            last = self.writer.intake(terms, write, publish).await?.last;
        }
        Ok(())
    }
}

/// Returns all fan-outs, by tenant and age.
fn all(connection: &Connection) -> Result<Vec<(TenantId, Uuid)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT tenant, id FROM fan_outs ORDER BY tenant, id")?;
    let found = statement.query_map([], |row| Ok((TenantId(row.get::<_, String>(0)?.into()), row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Outcome of a step.
struct FanOutStep {
    new_deliveries: NewDeliveries,
    /// True if every delivery has been made.
    last: bool,
}

/// Stored fan-out.
struct FanOut {
    events: Vec<EventId>,
    after: Option<SubscriptionId>,
    made: usize,
    lacks: usize,
}

fn fan_out_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FanOut> {
    let events: Vec<u8> = row.get(0)?;
    let (events, _) = events.as_chunks::<16>();
    let after: Vec<u8> = row.get(1)?;
    Ok(FanOut {
        events: events.iter().map(|id| EventId(Uuid::from_bytes(*id))).collect(),
        after: Uuid::from_slice(&after).ok().map(SubscriptionId),
        made: row.get(2)?,
        lacks: row.get(3)?,
    })
}

/// Returns the number of deliveries with which an event was accepted. 0: the event is gone.
fn promised(tx: &IntakeTx<'_, '_>, tenant: &TenantId, id: EventId) -> Result<usize, StoreError> {
    let found = tx.find(IntakeStatement::Promised, params![&*tenant.0, id.0], |row| row.get(0))?;
    Ok(found.unwrap_or_default())
}

/// Returns the event's subscriptions after this one, in the order of their ids.
fn left_after(matching: &[Arc<Subscription>], after: Option<SubscriptionId>) -> Vec<Arc<Subscription>> {
    let mut left: Vec<_> =
        matching.iter().filter(|one| after.is_none_or(|after| one.id.0 > after.0)).cloned().collect();
    left.sort_unstable_by_key(|one| one.id.0);
    left
}

/// Deliveries of a step, before anything is written.
#[derive(Default)]
struct Planned {
    due: Vec<(Arc<Event>, Vec<Arc<Subscription>>)>,
    /// Events with all their deliveries after the step, but with another number than at acceptance, and that number.
    corrected: Vec<(EventId, usize)>,
}

/// Plans the next deliveries, and advances the fan-out.
fn plan(
    tx: &IntakeTx<'_, '_>,
    catalog: &Catalog,
    cache: &EventCache,
    tenant: &TenantId,
    fan_out: &mut FanOut,
) -> Result<Planned, StoreError> {
    let mut planned = Planned::default();
    let mut budget = STEP;
    let mut events = std::mem::take(&mut fan_out.events).into_iter().peekable();
    while budget > 0
        && let Some(id) = events.peek()
    {
        // None: the event was deleted with its tenant, or pruned.
        if let Some(event) = cache.read_within(tx, tenant, *id)? {
            let matching = catalog.matching(tenant, event.module);
            budget = budget.min(step_of(matching.len()));
            let mut subscriptions = left_after(&matching, fan_out.after);
            let is_complete = subscriptions.len() <= budget;
            subscriptions.truncate(budget);
            budget -= subscriptions.len();
            fan_out.made += subscriptions.len();
            fan_out.lacks = fan_out.lacks.saturating_sub(subscriptions.len());
            let last = subscriptions.last().map(|subscription| subscription.id);
            planned.due.push((event, subscriptions));
            if !is_complete {
                fan_out.after = last.or(fan_out.after);
                break;
            }
            let expected = promised(tx, tenant, *id)?;
            if fan_out.made != expected {
                fan_out.lacks = (fan_out.lacks + fan_out.made).saturating_sub(expected);
                planned.corrected.push((*id, fan_out.made));
            }
        }
        events.next();
        fan_out.after = None;
        fan_out.made = 0;
    }
    fan_out.events = events.collect();
    Ok(planned)
}

/// Makes the next deliveries. Reads everything before the first change, as a write without a savepoint must.
fn step(
    tx: &IntakeTx<'_, '_>,
    (catalog, claims): (&Catalog, &Claims),
    cache: &EventCache,
    tenant: &TenantId,
    id: Uuid,
) -> Result<FanOutStep, StoreError> {
    let mut new_deliveries = NewDeliveries::default();
    let found = tx.find(IntakeStatement::FanOut, params![&*tenant.0, id], fan_out_row)?;
    let Some(mut fan_out) = found else { return Ok(FanOutStep { new_deliveries, last: true }) };
    tx.require_disk()?;
    let planned = plan(tx, catalog, cache, tenant, &mut fan_out)?;
    for (event, subscriptions) in planned.due {
        let order_key = LazyCell::new(|| OrderKey::of_event(&event));
        for subscription in subscriptions {
            write_usual_delivery(tx, &event, &subscription, &order_key, claims, &mut new_deliveries);
        }
    }
    for (event, made) in planned.corrected {
        tx.execute(IntakeStatement::Correct, params![&*tenant.0, event.0, made])?;
    }
    let last = fan_out.events.is_empty();
    write_position(tx, tenant, id, &fan_out)?;
    Ok(FanOutStep { new_deliveries, last })
}

fn write_position(tx: &IntakeTx<'_, '_>, tenant: &TenantId, id: Uuid, fan_out: &FanOut) -> Result<(), StoreError> {
    if fan_out.events.is_empty() {
        return Ok(tx.execute(IntakeStatement::EndFanOut, params![&*tenant.0, id])?);
    }
    let events: Vec<u8> = fan_out.events.iter().flat_map(|event| event.0.into_bytes()).collect();
    let after = fan_out.after.as_ref().map_or(&[][..], |after| after.0.as_bytes());
    let position = params![&*tenant.0, id, events, after, fan_out.made, fan_out.lacks];
    Ok(tx.execute(IntakeStatement::MoveFanOut, position)?)
}

#[cfg(test)]
mod tests;
