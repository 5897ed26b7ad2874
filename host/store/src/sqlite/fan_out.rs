//! Fan-outs in steps: their position, and the deliveries of a step.

use super::Sqlite;
use super::batch::{IntakeStatement, IntakeTx};
use super::event_cache::EventCache;
use super::new_events::{before, write_usual_delivery};
use crate::StoreError;
use crate::backend::intake::{FanOutAnswer, FanOutBackend, STEP, step_of};
use crate::catalog::Receivers;
use crate::claims::Claims;
use crate::fair_queue::Owner;
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::cell::LazyCell;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl FanOutBackend for Sqlite {
    async fn fan_outs(&self) -> Result<Vec<(TenantId, Uuid)>, StoreError> {
        self.readers.read(Owner::Host, all).await
    }

    async fn fan_out_step(
        &self,
        tenant: &TenantId,
        id: Uuid,
        receivers: Receivers,
    ) -> Result<FanOutAnswer, StoreError> {
        let state = self.state.clone();
        let owner = tenant.clone();
        let events = self.events.clone();
        let write = move |tx: &IntakeTx<'_, '_>| {
            if !state.catalog.is_current(&owner, &receivers) {
                return Ok(FanOutStep { new_deliveries: NewDeliveries::default(), answer: FanOutAnswer::Stale });
            }
            step(tx, &receivers, &state.claims, &events, &owner, id)
        };
        let state = self.state.clone();
        let publish = move |step: &mut FanOutStep| state.publish_deliveries(std::mem::take(&mut step.new_deliveries));
        let terms = Terms { owner: tenant.into(), rows: STEP as u64 };
        Ok(self.writer.intake(terms, write, publish).await?.answer)
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

/// Returns all fan-outs, by tenant and age.
fn all(connection: &Connection) -> Result<Vec<(TenantId, Uuid)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT tenant, id FROM fan_outs ORDER BY tenant, id")?;
    let found = statement.query_map([], |row| Ok((TenantId(row.get::<_, String>(0)?.into()), row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Outcome of a step.
struct FanOutStep {
    new_deliveries: NewDeliveries,
    answer: FanOutAnswer,
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

/// Event with the subscriptions that get it.
type Addressed = (Arc<Event>, Arc<Vec<Arc<Subscription>>>);

/// Deliveries of a step, before anything is written.
#[derive(Default)]
struct Planned {
    due: Vec<Addressed>,
    /// Events with all their deliveries after the step, but with another number than at acceptance, and that number.
    corrected: Vec<(EventId, usize)>,
}

/// Plans the next deliveries, and advances the fan-out.
fn plan(
    tx: &IntakeTx<'_, '_>,
    receivers: &Receivers,
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
            budget = budget.min(step_of(receivers.of(event.module).len()));
            let looked_at = receivers.match_step(&event, fan_out.after, budget);
            let previous = if looked_at.matching.needs_previous() { before(tx, tenant, &event)? } else { None };
            let subscriptions = looked_at.matching.resolve(&event.name, &event.payload, previous.as_deref());
            budget -= subscriptions.len();
            fan_out.made += subscriptions.len();
            fan_out.lacks = fan_out.lacks.saturating_sub(subscriptions.len());
            planned.due.push((event, subscriptions));
            if !looked_at.is_last {
                fan_out.after = looked_at.last.or(fan_out.after);
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
    receivers: &Receivers,
    claims: &Claims,
    cache: &EventCache,
    tenant: &TenantId,
    id: Uuid,
) -> Result<FanOutStep, StoreError> {
    let mut new_deliveries = NewDeliveries::default();
    let found = tx.find(IntakeStatement::FanOut, params![&*tenant.0, id], fan_out_row)?;
    let Some(mut fan_out) = found else { return Ok(FanOutStep { new_deliveries, answer: FanOutAnswer::Complete }) };
    tx.require_disk()?;
    let planned = plan(tx, receivers, cache, tenant, &mut fan_out)?;
    for (event, subscriptions) in planned.due {
        let order_key = LazyCell::new(|| OrderKey::of_event(&event));
        for subscription in subscriptions.iter() {
            write_usual_delivery(tx, &event, subscription, &order_key, claims, &mut new_deliveries);
        }
    }
    for (event, made) in planned.corrected {
        tx.execute(IntakeStatement::Correct, params![&*tenant.0, event.0, made])?;
    }
    let answer = if fan_out.events.is_empty() { FanOutAnswer::Complete } else { FanOutAnswer::More };
    write_position(tx, tenant, id, &fan_out)?;
    Ok(FanOutStep { new_deliveries, answer })
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
