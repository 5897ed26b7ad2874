//! Intake of events, and their fan-out to subscriptions.

use super::deliveries::previous_of;
use super::tables::{AnswerRow, FanOutRow, MemoryTables, StoredDelivery, StoredEvent};
use super::{Memory, settling, share};
use crate::StoreError;
use crate::audit::AuditAction;
use crate::backend::intake::{
    Accepted, FanOutAnswer, FanOutBackend, IntakeAnswer, IntakeBackend, IntakeRequest, NewEvent, Repeatable, STEP,
    step_of,
};
use crate::caps::Caps;
use crate::catalog::Receivers;
use crate::claims::Claims;
use crate::commits::IntakeCommit;
use crate::host_state::HostState;
use crate::matching::EventReceivers;
use crate::store_event::NewDeliveries;
use crate::store_event::NewDelivery;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, TenantId};
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl IntakeBackend for Memory {
    async fn accept(&self, request: IntakeRequest) -> Result<IntakeAnswer, StoreError> {
        let tenant = request.tenant.clone();
        let write = |tables: &mut MemoryTables| accept(tables, &self.state, self.limits.share, request);
        Ok(self.write(write, |state, written| written.publish(state, &tenant)).await?.answer)
    }

    async fn answer(&self, tenant: TenantId, request: Repeatable) -> Result<Option<Vec<Accepted>>, StoreError> {
        self.read(|tables| earlier_answer(tables, &tenant, &request)).await
    }
}

#[async_trait]
impl FanOutBackend for Memory {
    async fn fan_outs(&self) -> Result<Vec<(TenantId, Uuid)>, StoreError> {
        self.read(|tables| Ok(tables.fan_outs.keys().cloned().collect())).await
    }

    async fn fan_out_step(
        &self,
        tenant: &TenantId,
        id: Uuid,
        receivers: Receivers,
    ) -> Result<FanOutAnswer, StoreError> {
        let write = |tables: &mut MemoryTables| Ok(fan_out_step(tables, &self.state, tenant, id, &receivers));
        let written = self.write(write, |state, written| {
            state.publish_deliveries(std::mem::take(&mut written.new_deliveries));
        });
        Ok(written.await?.answer)
    }
}

/// Stores events and their deliveries, or returns the answer to an earlier request. `share` is that of the log of changes.
fn accept(
    tables: &mut MemoryTables,
    state: &HostState,
    share: Caps,
    request: IntakeRequest,
) -> Result<IntakeCommit<IntakeAnswer>, StoreError> {
    if let Some(once) = &request.once
        && let Some(events) = earlier_answer(tables, &request.tenant, once)?
    {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Repetition(events)));
    }
    if !state.catalog.is_current(&request.tenant, &request.receivers.receivers) {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Stale(Box::new(request))));
    }
    let IntakeRequest { tenant, events, receivers, caps, once, steps, replaces } = request;
    if let Some((_, id)) = &replaces
        && !tables.rejected.remove_mut(&(tenant.clone(), *id))
    {
        return Err(StoreError::NotFound("rejected request"));
    }
    let before = tables.clone();
    let mut new_deliveries = NewDeliveries::default();
    let mut accepted = Vec::with_capacity(events.len());
    for (event, receivers) in events.into_iter().zip(receivers.events) {
        let receivers = resolve(tables, receivers, &tenant, &event);
        accepted.push(match steps {
            None => accept_one(tables, &state.claims, &tenant, event, receivers.iter(), &mut new_deliveries),
            Some(_) => {
                let deliveries = receivers.len();
                Accepted { event: write_event(tables, &tenant, event, deliveries).id, deliveries }
            }
        });
    }
    if let Some(Repeatable { key, body_sha256 }) = once {
        let row = AnswerRow { body_sha256, answer: accepted.clone(), received_at_ms: now_ms() };
        tables.answers.insert_mut((tenant.clone(), key), row);
    }
    share::require_share_for_events(&before, tables, &tenant, caps)?;
    if let Some(id) = steps {
        let events = accepted.iter().map(|one| one.event).collect();
        let lacks = accepted.iter().map(|one| one.deliveries).sum();
        tables.fan_outs.insert_mut((tenant.clone(), id), FanOutRow { events, after: None, made: 0, lacks });
    }
    if let Some((actor, id)) = replaces {
        share::record(tables, &actor, Some(&tenant), &AuditAction::RejectedRequestResubmit(id), share)?;
    }
    Ok(IntakeCommit { answer: IntakeAnswer::Accepted(accepted), new_deliveries })
}

/// Returns the answer to an earlier request with the same key, if there was one.
fn earlier_answer(
    tables: &MemoryTables,
    tenant: &TenantId,
    request: &Repeatable,
) -> Result<Option<Vec<Accepted>>, StoreError> {
    match tables.answers.get(&(tenant.clone(), request.key.clone())) {
        Some(row) if row.body_sha256 != request.body_sha256 => Err(StoreError::KeyReused),
        found => Ok(found.map(|row| row.answer.clone())),
    }
}

/// Returns the subscriptions that match a new event, after the conditions on the event before.
pub(super) fn resolve(
    tables: &MemoryTables,
    receivers: EventReceivers,
    tenant: &TenantId,
    new: &NewEvent,
) -> Arc<Vec<Arc<Subscription>>> {
    let previous = if receivers.needs_previous() { latest(tables, tenant, new) } else { None };
    receivers.resolve(&new.name, &new.payload, previous.map(|event| &**event))
}

/// Returns the last event of the contact or deal of a new event.
fn latest<'t>(tables: &'t MemoryTables, tenant: &TenantId, new: &NewEvent) -> Option<&'t Arc<Event>> {
    let entity_id = new.entity_id.as_ref()?;
    let rows = tables.events_of(tenant).map(|(_, row)| row);
    let of_entity =
        rows.filter(|row| row.event.module == new.module && row.event.entity_id.as_ref() == Some(entity_id));
    of_entity.max_by_key(|row| row.sequence).map(|row| &row.event)
}

/// Adds an event with a delivery to each of its receivers.
pub(super) fn accept_one<'r>(
    tables: &mut MemoryTables,
    claims: &Claims,
    tenant: &TenantId,
    new: NewEvent,
    receivers: impl Iterator<Item = &'r Arc<Subscription>> + Clone,
    new_deliveries: &mut NewDeliveries,
) -> Accepted {
    let deliveries = receivers.clone().count();
    let event = write_event(tables, tenant, new, deliveries);
    for subscription in receivers {
        write_usual_delivery(tables, claims, &event, subscription, new_deliveries);
    }
    Accepted { event: event.id, deliveries }
}

/// Adds an event, accepted now.
pub(super) fn write_event(tables: &mut MemoryTables, tenant: &TenantId, new: NewEvent, fan_out: usize) -> Arc<Event> {
    let (id, received_at_ms) = EventId::with_time();
    let NewEvent { name, module, entity_id, payload } = new;
    let event = Arc::new(Event { id, name, module, entity_id, received_at_ms, payload });
    let sequence = tables.next_sequence();
    tables.events.insert_mut((tenant.clone(), id), StoredEvent { event: event.clone(), fan_out, sequence });
    event
}

/// Adds the delivery of an accepted event to one of its receivers.
fn write_usual_delivery(
    tables: &mut MemoryTables,
    claims: &Claims,
    event: &Arc<Event>,
    subscription: &Subscription,
    new_deliveries: &mut NewDeliveries,
) {
    let mut new = NewDelivery::usual(event, subscription, claims, new_deliveries);
    let superseded_by = settling::supersede(tables, &mut new);
    let is_ordered = subscription.settings.ordering.is_some();
    let entity_id = event.entity_id.clone().filter(|_| is_ordered);
    let key = (new.delivery.tenant.clone(), new.delivery.id);
    let at_ms = new.delivery.age_from_ms;
    write_delivery(tables, new, entity_id.map(|entity_id| (event.module.as_str(), entity_id)));
    if let Some(by) = superseded_by {
        settling::end_superseded(tables, &key, by, at_ms);
    }
}

/// Adds a pending delivery.
pub(super) fn write_delivery(
    tables: &mut MemoryTables,
    new: NewDelivery,
    order_key: Option<(&'static str, String)>,
) -> DeliveryId {
    let NewDelivery { delivery, due_at_ms, settling } = new;
    let row = StoredDelivery {
        event: delivery.event,
        subscription: delivery.subscription,
        kind: delivery.kind,
        order_key,
        state: DeliveryState::Pending,
        due_at_ms,
        awaiting_plugin: false,
        attempts_made: 0,
        budget_spent: 0,
        reason: None,
        age_from_ms: delivery.age_from_ms,
        created_at_ms: delivery.age_from_ms,
        updated_at_ms: delivery.age_from_ms,
        settling,
        settled: delivery.settled,
        superseded_by: None,
    };
    tables.deliveries.insert_mut((delivery.tenant, delivery.id), row);
    delivery.id
}

/// Makes the next deliveries of a fan-out.
fn fan_out_step(
    tables: &mut MemoryTables,
    state: &HostState,
    tenant: &TenantId,
    id: Uuid,
    receivers: &Receivers,
) -> IntakeCommit<FanOutAnswer> {
    let position = (tenant.clone(), id);
    let Some(mut fan_out) = tables.fan_outs.get(&position).cloned() else {
        return IntakeCommit::nothing(FanOutAnswer::Complete);
    };
    if !state.catalog.is_current(tenant, receivers) {
        return IntakeCommit::nothing(FanOutAnswer::Stale);
    }
    let mut written = IntakeCommit::nothing(FanOutAnswer::More);
    let mut budget = STEP;
    while budget > 0
        && let Some(event) = fan_out.events.first().copied()
    {
        // None: the event was deleted with its tenant, or pruned.
        if let Some(row) = tables.events.get(&(tenant.clone(), event)).cloned() {
            budget = budget.min(step_of(receivers.of(row.event.module).len()));
            let looked_at = receivers.match_step(&row.event, fan_out.after, budget);
            let needs_previous = looked_at.matching.needs_previous();
            let previous = if needs_previous { previous_of(tables, tenant, &row.event) } else { None };
            let previous = previous.map(|event| &**event);
            let due = looked_at.matching.resolve(&row.event.name, &row.event.payload, previous);
            for subscription in due.iter() {
                write_usual_delivery(tables, &state.claims, &row.event, subscription, &mut written.new_deliveries);
            }
            budget -= due.len();
            fan_out.made += due.len();
            fan_out.lacks = fan_out.lacks.saturating_sub(due.len());
            if !looked_at.is_last {
                fan_out.after = looked_at.last.or(fan_out.after);
                break;
            }
            correct(tables, tenant, event, &mut fan_out);
        }
        fan_out.events.remove(0);
        fan_out.after = None;
        fan_out.made = 0;
    }
    if fan_out.events.is_empty() {
        tables.fan_outs.remove_mut(&position);
        written.answer = FanOutAnswer::Complete;
    } else {
        tables.fan_outs.insert_mut(position, fan_out);
    }
    written
}

/// Corrects the number of an event's deliveries, if it is another one than at acceptance.
fn correct(tables: &mut MemoryTables, tenant: &TenantId, event: EventId, fan_out: &mut FanOutRow) {
    if let Some(row) = tables.events.get_mut(&(tenant.clone(), event))
        && row.fan_out != fan_out.made
    {
        fan_out.lacks = (fan_out.lacks + fan_out.made).saturating_sub(row.fan_out);
        row.fan_out = fan_out.made;
    }
}
