//! Fan-outs in steps: their position, and the deliveries of a step.

use super::Postgres;
use super::new_events::NewRows;
use super::previous_events::before;
use super::rows::{self, EVENT, event_row, int, number};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::intake::{Accepted, FanOutAnswer, FanOutBackend, STEP, step_of};
use crate::catalog::Receivers;
use crate::fair_queue::Owner;
use crate::matching::StepReceivers;
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Outcome of a step.
struct FanOutStep {
    new_deliveries: NewDeliveries,
    answer: FanOutAnswer,
}

#[async_trait]
impl FanOutBackend for Postgres {
    async fn fan_outs(&self) -> Result<Vec<(TenantId, Uuid)>, StoreError> {
        let read = self.readers.read_one(Owner::Host, |connection| {
            Box::pin(async move {
                let found = connection.query("SELECT tenant, id FROM fan_outs ORDER BY tenant, id", &[]).await?;
                found.iter().map(|row| Ok((rows::tenant(row, 0)?, row.try_get(1)?))).collect()
            })
        });
        read.await
    }

    async fn fan_out_step(
        &self,
        tenant: &TenantId,
        id: Uuid,
        receivers: Receivers,
    ) -> Result<FanOutAnswer, StoreError> {
        let tenant = tenant.clone();
        let written = self.write_then(
            Terms { owner: Owner::from(&tenant), rows: STEP as u64 },
            move |tx| Box::pin(async move { step(tx, &tenant, id, &receivers).await }),
            |state, step: &mut FanOutStep| state.publish_deliveries(std::mem::take(&mut step.new_deliveries)),
        );
        Ok(written.await?.answer)
    }
}

/// Records events without deliveries, and the number of deliveries that they lack.
pub(super) async fn begin(tx: &WriteTx, tenant: &TenantId, id: Uuid, accepted: &[Accepted]) -> Result<(), StoreError> {
    let events: Vec<Uuid> = accepted.iter().map(|one| one.event.0).collect();
    let lacks = int(accepted.iter().map(|one| one.deliveries).sum::<usize>());
    let sql = "INSERT INTO fan_outs (tenant, id, events, after, made, lacks) VALUES ($1, $2, $3, NULL, 0, $4)";
    tx.execute(sql, &[&&*tenant.0, &id, &events, &lacks]).await.map(drop)
}

/// Stored fan-out.
struct FanOut {
    events: Vec<EventId>,
    after: Option<SubscriptionId>,
    made: usize,
    lacks: usize,
}

fn fan_out_row(row: &Row) -> Result<FanOut, StoreError> {
    let events: Vec<Uuid> = row.try_get(0)?;
    Ok(FanOut {
        events: events.into_iter().map(EventId).collect(),
        after: row.try_get::<_, Option<Uuid>>(1)?.map(SubscriptionId),
        made: number(row, 2)?,
        lacks: number(row, 3)?,
    })
}

/// Event of a fan-out, and the number of deliveries with which it was accepted.
struct Promised {
    event: Arc<Event>,
    fan_out: usize,
}

async fn promised(tx: &WriteTx, tenant: &TenantId, id: EventId) -> Result<Option<Promised>, StoreError> {
    let sql = format!("SELECT {EVENT}, fan_out FROM events WHERE tenant = $1 AND id = $2");
    let Some(row) = tx.query_opt(&sql, &[&&*tenant.0, &id.0]).await? else { return Ok(None) };
    Ok(Some(Promised { event: Arc::new(event_row(&row)?), fan_out: number(&row, 6)? }))
}

/// Makes the next deliveries.
async fn step(tx: &WriteTx, tenant: &TenantId, id: Uuid, receivers: &Receivers) -> Result<FanOutStep, StoreError> {
    let mut step = FanOutStep { new_deliveries: NewDeliveries::default(), answer: FanOutAnswer::Complete };
    if !tx.catalog().is_current(tenant, receivers) {
        step.answer = FanOutAnswer::Stale;
        return Ok(step);
    }
    let sql = "SELECT events, after, made, lacks FROM fan_outs WHERE tenant = $1 AND id = $2";
    let Some(row) = tx.query_opt(sql, &[&&*tenant.0, &id]).await? else { return Ok(step) };
    let mut fan_out = fan_out_row(&row)?;
    let mut rows = NewRows::default();
    let mut budget = STEP;
    while budget > 0
        && let Some(event) = fan_out.events.first().copied()
    {
        // None: the event was deleted with its tenant, or pruned.
        if let Some(promised) = promised(tx, tenant, event).await? {
            let due = fan_out.advance(tx, tenant, receivers, &promised, &mut budget).await?;
            let order_key = OrderKey::of_event(&promised.event);
            for subscription in due.subscriptions.iter() {
                let claims = &tx.state().claims;
                rows.add_usual_delivery(&promised.event, subscription, order_key, claims, &mut step.new_deliveries);
            }
            if !due.is_last {
                break;
            }
            fan_out.correct(tx, tenant, &promised).await?;
        }
        fan_out.events.remove(0);
        fan_out.after = None;
        fan_out.made = 0;
    }
    rows.insert(tx, tenant).await?;
    if !fan_out.events.is_empty() {
        step.answer = FanOutAnswer::More;
    }
    write_position(tx, tenant, id, &fan_out).await?;
    Ok(step)
}

/// Receivers of an event that a step makes deliveries for.
struct DueReceivers {
    subscriptions: Arc<Vec<Arc<Subscription>>>,
    /// True if no others follow.
    is_last: bool,
}

impl FanOut {
    /// Returns the next receivers of the first event.
    async fn advance(
        &mut self,
        tx: &WriteTx,
        tenant: &TenantId,
        receivers: &Receivers,
        promised: &Promised,
        budget: &mut usize,
    ) -> Result<DueReceivers, StoreError> {
        let event = &promised.event;
        *budget = (*budget).min(step_of(receivers.of(event.module).len()));
        let StepReceivers { matching, last, is_last } = receivers.match_step(event, self.after, *budget);
        let previous = if matching.needs_previous() { before(tx, tenant, event).await? } else { None };
        let subscriptions = matching.resolve(&event.name, &event.payload, previous.as_ref());
        *budget -= subscriptions.len();
        self.made += subscriptions.len();
        self.lacks = self.lacks.saturating_sub(subscriptions.len());
        if !is_last {
            self.after = last.or(self.after);
        }
        Ok(DueReceivers { subscriptions, is_last })
    }

    /// Corrects the number of the first event's deliveries, which are complete, if it is another one than at acceptance.
    async fn correct(&mut self, tx: &WriteTx, tenant: &TenantId, promised: &Promised) -> Result<(), StoreError> {
        if promised.fan_out == self.made {
            return Ok(());
        }
        self.lacks = (self.lacks + self.made).saturating_sub(promised.fan_out);
        let sql = "UPDATE events SET fan_out = $3 WHERE tenant = $1 AND id = $2";
        tx.execute(sql, &[&&*tenant.0, &promised.event.id.0, &int(self.made)]).await.map(drop)
    }
}

async fn write_position(tx: &WriteTx, tenant: &TenantId, id: Uuid, fan_out: &FanOut) -> Result<(), StoreError> {
    let FanOut { events, after, made, lacks } = fan_out;
    if events.is_empty() {
        let sql = "DELETE FROM fan_outs WHERE tenant = $1 AND id = $2";
        return tx.execute(sql, &[&&*tenant.0, &id]).await.map(drop);
    }
    let events: Vec<Uuid> = events.iter().map(|event| event.0).collect();
    let after = after.map(|after| after.0);
    let sql = "UPDATE fan_outs SET events = $3, after = $4, made = $5, lacks = $6 WHERE tenant = $1 AND id = $2";
    tx.execute(sql, &[&&*tenant.0, &id, &events, &after, &int(*made), &int(*lacks)]).await.map(drop)
}
