//! Steps of background work: retention, sweeps, and steps of the clock.

use super::Memory;
use super::deliveries::is_same_entity;
use super::lanes::{class_of, in_lane_order};
use super::tables::{MemoryTables, StoredDelivery, StoredEvent};
use crate::StoreError;
use crate::backend::lanes::AttemptClass;
use crate::backend::tenants::WorkStep;
use crate::backend::upkeep::{
    Changed, ClockBackend, ClockStep, DuePosition, EVENTS_READ_MAX, KEYS_DELETED_MAX, PruneStep, RetentionBackend,
    STEP, Sweep, SweepBackend,
};
use crate::host_state::HostState;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::event::EventId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of subscriptions that the transaction of a change reads.
const SUBSCRIPTIONS_READ_MAX: usize = 64;

#[async_trait]
impl RetentionBackend for Memory {
    async fn prune_events(
        &self,
        tenant: &TenantId,
        after: Option<EventId>,
        before_ms: i64,
    ) -> Result<PruneStep, StoreError> {
        self.write(|tables| Ok(prune_events(tables, tenant, after, before_ms)), |_, _| {}).await
    }

    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<WorkStep, StoreError> {
        let write = |tables: &mut MemoryTables| {
            let begun = clock::instant();
            let expired = tables.answers.iter().filter(|(_, row)| row.received_at_ms < before_ms);
            let expired: Vec<_> = expired.map(|(key, _)| key.clone()).take(KEYS_DELETED_MAX).collect();
            for key in &expired {
                tables.answers.remove_mut(key);
            }
            Ok(WorkStep { done: expired.len() < KEYS_DELETED_MAX, took: clock::since(begun) })
        };
        self.write(write, |_, _| {}).await
    }
}

#[async_trait]
impl SweepBackend for Memory {
    async fn next_sweep(&self) -> Result<Option<Sweep>, StoreError> {
        self.read(next_sweep).await
    }

    async fn waiting(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        after: Option<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let read = |tables: &MemoryTables| {
            let waiting = waiting(tables, tenant, id).filter(|id| after.is_none_or(|after| *id > after));
            Ok(waiting.take(STEP).collect())
        };
        self.read(read).await
    }

    async fn make_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        deliveries: Vec<DeliveryId>,
        at_ms: i64,
    ) -> Result<Duration, StoreError> {
        let write = |tables: &mut MemoryTables| {
            let begun = clock::instant();
            for delivery in deliveries {
                make_due(tables, tenant, delivery, at_ms);
            }
            tables.changed_lanes.push(id);
            Ok(clock::since(begun))
        };
        // The lane must read retries too: these deliveries have been attempted before.
        self.write(write, |state: &HostState, _| state.publish_change(id)).await
    }

    async fn end_sweep(&self, sweep: Sweep) -> Result<(), StoreError> {
        let Sweep { tenant, changed, at_ms } = sweep;
        let key = sweep_key(&tenant, &changed);
        let write = |tables: &mut MemoryTables| {
            if tables.sweeps.get(&key) == Some(&at_ms) {
                tables.sweeps.remove_mut(&key);
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }
}

#[async_trait]
impl ClockBackend for Memory {
    async fn move_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        class: AttemptClass,
        step: ClockStep,
        after: DuePosition,
    ) -> Result<Option<(DuePosition, Duration)>, StoreError> {
        self.write(|tables| Ok(move_due(tables, tenant, id, class, step, after)), |_, _| {}).await
    }
}

/// Key of a sweep in its table.
type SweepKey = (TenantId, String, Option<SubscriptionId>);

fn sweep_key(tenant: &TenantId, changed: &Changed) -> SweepKey {
    match changed {
        Changed::Plugin(name) => (tenant.clone(), name.clone(), None),
        Changed::Subscription(id) => (tenant.clone(), String::new(), Some(*id)),
    }
}

/// Makes the deliveries of some subscriptions that wait for a change due, in the transaction of the change. If there may be too many,
/// records a sweep.
pub(super) fn judge_again(tables: &mut MemoryTables, tenant: &TenantId, changed: &Changed, users: &[SubscriptionId]) {
    let at_ms = now_ms();
    let mut left = STEP;
    for id in users.iter().take(SUBSCRIPTIONS_READ_MAX) {
        let due: Vec<DeliveryId> = waiting(tables, tenant, *id).take(left).collect();
        for delivery in &due {
            if let Some(row) = tables.deliveries.get_mut(&(tenant.clone(), *delivery)) {
                row.due_at_ms = at_ms;
                row.awaiting_plugin = false;
            }
        }
        left -= due.len();
        if left == 0 {
            break;
        }
    }
    if left == 0 || users.len() > SUBSCRIPTIONS_READ_MAX {
        tables.sweeps.insert_mut(sweep_key(tenant, changed), at_ms);
    }
}

/// Returns the deliveries of a subscription that wait for a change, by id.
fn waiting<'t>(
    tables: &'t MemoryTables,
    tenant: &TenantId,
    id: SubscriptionId,
) -> impl Iterator<Item = DeliveryId> + use<'t> {
    let is_waiting = move |row: &StoredDelivery| {
        row.subscription == id && row.state == DeliveryState::Pending && row.attempts_made > 0 && row.awaiting_plugin
    };
    tables.deliveries_of(tenant).filter(move |(_, row)| is_waiting(row)).map(|(id, _)| id)
}

/// Makes a delivery due if it waits for a change that was made at this time.
fn make_due(tables: &mut MemoryTables, tenant: &TenantId, id: DeliveryId, at_ms: i64) {
    let now_ms = now_ms();
    if let Some(row) = tables.deliveries.get_mut(&(tenant.clone(), id))
        && row.state == DeliveryState::Pending
        && row.awaiting_plugin
        && (row.updated_at_ms <= at_ms || row.updated_at_ms > now_ms)
    {
        row.due_at_ms = now_ms;
        row.awaiting_plugin = false;
    }
}

/// Deletes old events, of which each is judged after the deletion of the ones before.
fn prune_events(tables: &mut MemoryTables, tenant: &TenantId, after: Option<EventId>, before_ms: i64) -> PruneStep {
    let begun = clock::instant();
    let old = tables.events_of(tenant).filter(|(id, _)| after.is_none_or(|after| *id > after));
    let old = old.filter(|(_, row)| row.event.received_at_ms < before_ms);
    let old: Vec<(EventId, StoredEvent)> = old.take(EVENTS_READ_MAX).map(|(id, row)| (id, row.clone())).collect();
    let mut step = PruneStep { pruned: 0, took: Duration::ZERO, after: None };
    for (id, row) in old {
        step.after = Some(id);
        if !is_needed(tables, tenant, &row) {
            prune_one(tables, tenant, &row);
            step.pruned += 1;
        }
    }
    step.took = clock::since(begun);
    step
}

/// Returns true if an event or its entity's next event has a pending delivery, or if the entity has an earlier event: the history of
/// the next event has no gap. Deliveries that a fan-out has not made yet are pending.
fn is_needed(tables: &MemoryTables, tenant: &TenantId, row: &StoredEvent) -> bool {
    let has_pending = |event: EventId| {
        let mut deliveries = tables.deliveries_of(tenant);
        let mut fan_outs = tables.fan_outs.iter();
        deliveries.any(|(_, delivery)| delivery.event == event && delivery.state == DeliveryState::Pending)
            || fan_outs.any(|((owner, _), fan_out)| owner == tenant && fan_out.events.contains(&event))
    };
    let of_entity = || {
        let events = tables.events_of(tenant).map(|(_, other)| other);
        events.filter(|other| is_same_entity(&other.event, &row.event))
    };
    let next = of_entity().filter(|other| other.sequence > row.sequence).min_by_key(|other| other.sequence);
    has_pending(row.event.id)
        || next.is_some_and(|next| has_pending(next.event.id))
        || of_entity().any(|other| other.sequence < row.sequence)
}

/// Deletes an event with its deliveries and attempts, and adds their numbers to the ledger.
fn prune_one(tables: &mut MemoryTables, tenant: &TenantId, row: &StoredEvent) {
    let event = row.event.id;
    let deliveries = tables.deliveries_of(tenant).filter(|(_, delivery)| delivery.event == event);
    let deliveries: Vec<(DeliveryId, DeliveryState)> = deliveries.map(|(id, delivery)| (id, delivery.state)).collect();
    for (id, _) in &deliveries {
        let numbers: Vec<u32> = tables.attempts_of(tenant, *id).map(|(number, _)| number).collect();
        for number in numbers {
            tables.attempts.remove_mut(&(tenant.clone(), *id, number));
        }
        tables.deliveries.remove_mut(&(tenant.clone(), *id));
    }
    tables.events.remove_mut(&(tenant.clone(), event));
    let Some(ledger) = tables.tenants.get_mut(tenant) else { return };
    ledger.fan_out_pruned += row.fan_out as u64;
    ledger.pruned.events += 1;
    for (_, state) in deliveries {
        match state {
            DeliveryState::Pending => {}
            DeliveryState::Delivered => ledger.pruned.delivered += 1,
            DeliveryState::Dropped => ledger.pruned.dropped += 1,
            DeliveryState::Dead => ledger.pruned.dead += 1,
            DeliveryState::Cancelled => ledger.pruned.cancelled += 1,
            DeliveryState::Superseded => ledger.pruned.superseded += 1,
        }
    }
}

/// Moves the next due times of a lane with the clock. Moved deliveries come before the returned position.
fn move_due(
    tables: &mut MemoryTables,
    tenant: &TenantId,
    id: SubscriptionId,
    class: AttemptClass,
    step: ClockStep,
    after: DuePosition,
) -> Option<(DuePosition, Duration)> {
    let begun = clock::instant();
    let lane = in_lane_order(tables, tenant, id).into_iter().filter(|(_, row)| class_of(row) == class);
    let positions = lane.map(|(id, row)| (row.due_at_ms, id.0)).filter(|found| *found > after);
    let positions: Vec<DuePosition> = positions.take(STEP).collect();
    let last = *positions.last()?;
    for (_, delivery) in positions {
        move_one(tables, tenant, delivery, step);
    }
    Some((last, clock::since(begun)))
}

/// Moves the due time of a delivery with the clock. Rows that were written since the step have times of the corrected clock.
fn move_one(tables: &mut MemoryTables, tenant: &TenantId, delivery: Uuid, step: ClockStep) {
    let ClockStep { now_ms, back_ms } = step;
    if let Some(row) = tables.deliveries.get_mut(&(tenant.clone(), DeliveryId(delivery)))
        && row.state == DeliveryState::Pending
        && row.due_at_ms > now_ms
        && !(now_ms..=clock::now_ms()).contains(&row.updated_at_ms)
    {
        row.due_at_ms = now_ms.max(row.due_at_ms.saturating_sub(back_ms));
        row.age_from_ms = row.age_from_ms.min(now_ms);
        if let Some(settling) = &mut row.settling {
            settling.until_ms = now_ms.max(settling.until_ms.saturating_sub(back_ms));
        }
    }
}

/// Returns the oldest sweep.
fn next_sweep(tables: &MemoryTables) -> Result<Option<Sweep>, StoreError> {
    let oldest = tables.sweeps.iter().min_by_key(|(_, at_ms)| **at_ms);
    Ok(oldest.map(|((tenant, plugin, subscription), at_ms)| {
        let changed = match subscription {
            Some(id) => Changed::Subscription(*id),
            None => Changed::Plugin(plugin.clone()),
        };
        Sweep { tenant: tenant.clone(), changed, at_ms: *at_ms }
    }))
}
