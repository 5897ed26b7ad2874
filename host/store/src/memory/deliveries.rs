//! Reads of events, deliveries and attempts.

mod settled_chains;

use super::Memory;
use super::tables::{MemoryTables, StoredDelivery, StoredEvent};
use crate::StoreError;
use crate::backend::deliveries::{
    BacklogBackend, DeliveryBackend, DeliveryFilter, DeliveryView, EVENTS_SEARCHED, EventBackend, EventFilter,
    EventSummary, EventView, Ledger, LedgerBackend, NameCount, SettledChain,
};
use async_trait::async_trait;
use hookloom_model::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use settled_chains::chain_of;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[async_trait]
impl DeliveryBackend for Memory {
    async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<(DeliveryView, Vec<Attempt>), StoreError> {
        let read = |tables: &MemoryTables| {
            let row = tables.deliveries.get(&(tenant.clone(), id)).ok_or(StoreError::NotFound("delivery"))?;
            Ok((view(id, row), attempts(tables, &tenant, id)))
        };
        self.read(read).await
    }

    async fn attempts_of_event(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError> {
        let read = |tables: &MemoryTables| {
            let deliveries = tables.deliveries_of(&tenant).filter(|(_, row)| row.event == event);
            let attempts = deliveries.map(|(id, _)| (id, attempts(tables, &tenant, id)));
            Ok(attempts.filter(|(_, attempts)| !attempts.is_empty()).collect())
        };
        self.read(read).await
    }

    async fn earlier_ones(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, (DeliveryId, u32)>, StoreError> {
        self.read(|tables| Ok(earlier_ones(tables, &tenant, event))).await
    }

    async fn settled_chains(
        &self,
        tenant: TenantId,
        deliveries: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, SettledChain>, StoreError> {
        let read = |tables: &MemoryTables| {
            Ok(deliveries.into_iter().filter_map(|id| Some((id, chain_of(tables, &tenant, id)?))).collect())
        };
        self.read(read).await
    }

    async fn deliveries(&self, tenant: TenantId, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        self.read(|tables| Ok(list(tables, &tenant, &filter))).await
    }

    async fn event(&self, tenant: TenantId, id: EventId) -> Result<EventView, StoreError> {
        let read = |tables: &MemoryTables| {
            let row = tables.events.get(&(tenant.clone(), id)).ok_or(StoreError::NotFound("event"))?;
            let previous = previous_of(tables, &tenant, &row.event).map(|event| event.id);
            let filter = DeliveryFilter { event: Some(id), limit: usize::MAX, ..DeliveryFilter::default() };
            let deliveries = list(tables, &tenant, &filter);
            Ok(EventView { event: row.event.clone(), previous, fan_out: row.fan_out, deliveries })
        };
        self.read(read).await
    }
}

#[async_trait]
impl EventBackend for Memory {
    async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        let read = |tables: &MemoryTables| {
            let found = tables.events_of(&tenant).rev().filter(|(_, row)| is_listed(&filter, &row.event));
            let searched = if filter.text.is_some() { EVENTS_SEARCHED } else { usize::MAX };
            let found = found.take(searched).filter(|(_, row)| has_text(&filter, &row.event));
            Ok(found.take(filter.limit).map(|(_, row)| summary(row)).collect())
        };
        self.read(read).await
    }

    async fn event_summaries(
        &self,
        tenant: TenantId,
        ids: Vec<EventId>,
    ) -> Result<HashMap<EventId, EventSummary>, StoreError> {
        let read = |tables: &MemoryTables| {
            let found = ids.iter().filter_map(|id| Some((*id, summary(tables.events.get(&(tenant.clone(), *id))?))));
            Ok(found.collect())
        };
        self.read(read).await
    }

    async fn recent_events(
        &self,
        tenant: TenantId,
        modules: Vec<Module>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let read = |tables: &MemoryTables| {
            let tests: Vec<EventId> = tables
                .deliveries_of(&tenant)
                .filter(|(_, row)| row.kind == DeliveryKind::Test)
                .map(|(_, row)| row.event)
                .collect();
            let newest = tables.events_of(&tenant).rev().take(EVENTS_SEARCHED);
            let found = newest.filter(|(id, row)| modules.contains(&row.event.module) && !tests.contains(id));
            Ok(found.take(limit).map(|(_, row)| row.event.clone()).collect())
        };
        self.read(read).await
    }

    async fn name_counts(&self, tenant: TenantId, limit: usize) -> Result<Vec<NameCount>, StoreError> {
        let read = |tables: &MemoryTables| {
            let mut counts: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
            for (_, row) in tables.events_of(&tenant).rev().take(limit) {
                let (events, last) = counts.entry(&row.event.name).or_insert((0, i64::MIN));
                *events += 1;
                *last = row.event.received_at_ms.max(*last);
            }
            let counted = counts.into_iter().map(|(name, (events, last_received_at_ms))| NameCount {
                name: name.to_owned(),
                events,
                last_received_at_ms,
            });
            Ok(counted.collect())
        };
        self.read(read).await
    }

    async fn last_events_of(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError> {
        self.read(|tables| Ok(last_events_of(tables, &tenant, &subscriptions, limit))).await
    }
}

#[async_trait]
impl BacklogBackend for Memory {
    fn pending(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64> {
        let mut pending = HashMap::new();
        for (_, row) in pending_of(&self.disk.tables(), tenant) {
            *pending.entry(row.subscription).or_default() += 1;
        }
        pending
    }

    async fn oldest_pending(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
    ) -> Result<HashMap<SubscriptionId, i64>, StoreError> {
        let read = |tables: &MemoryTables| {
            let mut oldest = HashMap::new();
            let rows = tables.deliveries_of(&tenant).filter(|(_, row)| row.state == DeliveryState::Pending);
            for (id, row) in rows.filter(|(_, row)| subscriptions.contains(&row.subscription)) {
                oldest.entry(row.subscription).or_insert_with(|| id.made_at_ms());
            }
            Ok(oldest)
        };
        self.read(read).await
    }

    async fn oldest_pending_for_host(&self, tenant: TenantId) -> Result<Option<i64>, StoreError> {
        self.read(|tables| Ok(pending_of(tables, &tenant).next().map(|(id, _)| id.made_at_ms()))).await
    }
}

#[async_trait]
impl LedgerBackend for Memory {
    async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError> {
        self.read(|tables| Ok(ledger(tables, &tenant))).await
    }
}

/// Returns the last event of the same entity that was accepted before another one, which must exist.
pub(super) fn previous_of<'t>(tables: &'t MemoryTables, tenant: &TenantId, event: &Event) -> Option<&'t Arc<Event>> {
    let this = tables.events.get(&(tenant.clone(), event.id))?.sequence;
    let earlier = tables.events_of(tenant).map(|(_, row)| row).filter(|row| row.sequence < this);
    let earlier = earlier.filter(|row| is_same_entity(&row.event, event));
    earlier.max_by_key(|row| row.sequence).map(|row| &row.event)
}

/// Returns true if two events have an entity, and the same one.
pub(super) fn is_same_entity(one: &Event, other: &Event) -> bool {
    one.entity_id.is_some() && one.entity_id == other.entity_id && one.module == other.module
}

/// Returns the pending deliveries of a tenant, oldest first. A tenant that is being deleted has none.
fn pending_of<'t>(
    tables: &'t MemoryTables,
    tenant: &TenantId,
) -> impl Iterator<Item = (DeliveryId, &'t StoredDelivery)> + use<'t> {
    let is_there = tables.tenants.get(tenant).is_some_and(|row| row.deleting_since_ms.is_none());
    tables.deliveries_of(tenant).filter(move |(_, row)| is_there && row.state == DeliveryState::Pending)
}

pub(super) fn view(id: DeliveryId, row: &StoredDelivery) -> DeliveryView {
    DeliveryView {
        id,
        event: row.event,
        subscription: row.subscription,
        kind: row.kind,
        state: row.state,
        awaiting_plugin: row.awaiting_plugin,
        due_at_ms: (row.state == DeliveryState::Pending).then_some(row.due_at_ms),
        attempts_made: row.attempts_made,
        reason: row.reason.clone(),
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        settled: row.settled,
        is_settling: row.state == DeliveryState::Pending && row.settling.is_some(),
        superseded_by: row.superseded_by,
    }
}

fn attempts(tables: &MemoryTables, tenant: &TenantId, id: DeliveryId) -> Vec<Attempt> {
    tables.attempts_of(tenant, id).map(|(_, attempt)| Attempt::clone(attempt)).collect()
}

fn list(tables: &MemoryTables, tenant: &TenantId, filter: &DeliveryFilter) -> Vec<DeliveryView> {
    let DeliveryFilter { subscription, state, event, among, span, before, limit } = filter;
    let found = tables.deliveries_of(tenant).rev().filter(|(id, row)| {
        subscription.is_none_or(|subscription| row.subscription == subscription)
            && state.is_none_or(|state| row.state == state)
            && event.is_none_or(|event| row.event == event)
            && among.as_ref().is_none_or(|among| among.contains(&row.event))
            && span.is_none_or(|span| span.contains(id.0))
            && before.is_none_or(|before| *id < before)
    });
    found.take(*limit).map(|(id, row)| view(id, row)).collect()
}

/// Returns the first earlier pending delivery of the same entity for each pending ordered delivery of an event.
fn earlier_ones(tables: &MemoryTables, tenant: &TenantId, event: EventId) -> HashMap<DeliveryId, (DeliveryId, u32)> {
    let pending = tables.deliveries_of(tenant).filter(|(_, row)| row.state == DeliveryState::Pending);
    let waiting: Vec<_> = pending.filter(|(_, row)| row.order_key.is_some()).collect();
    let of_event = waiting.iter().filter(|(_, row)| row.event == event);
    let found = of_event.filter_map(|(id, row)| {
        let mut same = waiting.iter().filter(|(_, other)| is_same_order(other, row));
        let (first, other) = same.next().filter(|(first, _)| first < id)?;
        Some((*id, (*first, other.attempts_made)))
    });
    found.collect()
}

pub(super) fn is_same_order(one: &StoredDelivery, other: &StoredDelivery) -> bool {
    one.subscription == other.subscription && one.order_key == other.order_key
}

fn is_listed(filter: &EventFilter, event: &Event) -> bool {
    let EventFilter { module, name, entity_id, span, text: _, before, limit: _ } = filter;
    module.is_none_or(|module| event.module == module)
        && name.as_ref().is_none_or(|name| event.name == *name)
        && entity_id.as_ref().is_none_or(|id| event.entity_id.as_ref() == Some(id))
        && span.is_none_or(|span| span.contains(event.id.0))
        && before.is_none_or(|before| event.id < before)
}

fn has_text(filter: &EventFilter, event: &Event) -> bool {
    filter.text.as_ref().is_none_or(|text| event.payload.windows(text.len().max(1)).any(|part| part == text.as_bytes()))
}

fn summary(row: &StoredEvent) -> EventSummary {
    let StoredEvent { event, fan_out, sequence: _ } = row;
    EventSummary {
        id: event.id,
        name: event.name.clone(),
        module: event.module,
        entity_id: event.entity_id.clone(),
        received_at_ms: event.received_at_ms,
        fan_out: *fan_out,
        bytes: event.payload.len() as u64,
    }
}

/// Event of a delivery, for a list of the last ones.
struct Last {
    delivery: DeliveryId,
    event: Arc<Event>,
    subscription: SubscriptionId,
}

fn last_events_of(
    tables: &MemoryTables,
    tenant: &TenantId,
    subscriptions: &[SubscriptionId],
    limit: usize,
) -> Vec<(Arc<Event>, SubscriptionId)> {
    let mut found: Vec<Last> = Vec::new();
    for subscription in subscriptions.iter().copied() {
        let is_listed = |row: &StoredDelivery| row.subscription == subscription && row.kind != DeliveryKind::Test;
        let rows = tables.deliveries_of(tenant).rev().filter(|(_, row)| is_listed(row));
        let last = rows.filter_map(|(delivery, row)| {
            let event = tables.events.get(&(tenant.clone(), row.event))?.event.clone();
            Some(Last { delivery, event, subscription })
        });
        found.extend(last.take(limit));
        found.sort_by_key(|last| Reverse(last.delivery));
        found.truncate(limit);
    }
    found.into_iter().map(|last| (last.event, last.subscription)).collect()
}

pub(super) fn ledger(tables: &MemoryTables, tenant: &TenantId) -> Ledger {
    let mut ledger = Ledger::default();
    for (_, row) in tables.events_of(tenant) {
        ledger.events += 1;
        ledger.bytes += row.event.payload.len() as u64;
        ledger.fan_out += row.fan_out as u64;
    }
    for (_, row) in tables.deliveries_of(tenant) {
        let count = match row.state {
            DeliveryState::Pending => &mut ledger.pending,
            DeliveryState::Delivered => &mut ledger.delivered,
            DeliveryState::Dropped => &mut ledger.dropped,
            DeliveryState::Dead => &mut ledger.dead,
            DeliveryState::Cancelled => &mut ledger.cancelled,
            DeliveryState::Superseded => &mut ledger.superseded,
        };
        *count += 1;
    }
    // Deliveries that a fan-out has not made yet are pending.
    let fan_outs = tables.fan_outs.iter().filter(|((owner, _), _)| owner == tenant);
    ledger.pending += fan_outs.map(|(_, row)| row.lacks as u64).sum::<u64>();
    if let Some(row) = tables.tenants.get(tenant) {
        ledger.replayed = row.replayed;
        ledger.tests = row.tests;
        ledger.fan_out += row.fan_out_pruned;
        ledger.pruned = row.pruned;
    }
    ledger
}
