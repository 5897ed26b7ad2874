//! Operator actions on deliveries: retry, cancel, redrive, replay, test.

use super::intake::{write_delivery, write_event};
use super::tables::{MemoryTables, StoredDelivery, TenantRow};
use super::{Memory, share};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::intake::NewEvent;
use crate::backend::operator_actions::{
    EndedDeliveries, OperatorBackend, ROWS_READ_MAX, ReplayableEvents, Selected, Span, StepEntry, accepts_deliveries,
    cancel_reason, not_pending, require_retriable,
};
use crate::host_state::HostState;
use crate::store_event::NewDelivery;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::EventId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use uuid::Uuid;

#[async_trait]
impl OperatorBackend for Memory {
    async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            let subscription = self.retry_in(tables, &tenant, id)?;
            tables.changed_lanes.push(subscription);
            share::record(tables, &actor, Some(&tenant), &AuditAction::DeliveryRetry(id), self.limits.share)?;
            Ok(subscription)
        };
        self.write(write, |state, subscription| state.publish_change(*subscription)).await.map(drop)
    }

    async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            let subscription = cancel_in(tables, &tenant, id)?;
            tables.changed_lanes.push(subscription);
            share::record(tables, &actor, Some(&tenant), &AuditAction::DeliveryCancel(id), self.limits.share)?;
            Ok(subscription)
        };
        self.write(write, |state, subscription| state.publish_change(*subscription)).await.map(drop)
    }

    async fn count_ended(&self, of: EndedDeliveries, span: Span) -> Result<u64, StoreError> {
        let (from, to) = span.ids();
        let read = |tables: &MemoryTables| {
            let found = tables.deliveries_of(&of.tenant).filter(|(id, _)| from <= id.0 && id.0 < to);
            Ok(found.filter(|(_, row)| row.subscription == of.subscription && is_ended(&of, row)).count() as u64)
        };
        self.read(read).await
    }

    async fn select_ended(
        &self,
        of: EndedDeliveries,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<DeliveryId>, StoreError> {
        let read = |tables: &MemoryTables| {
            let rows = tables.deliveries_of(&of.tenant).filter(|(id, _)| from <= id.0 && id.0 < to);
            let rows = rows.filter(|(_, row)| row.subscription == of.subscription).take(ROWS_READ_MAX);
            Selected::of(rows.map(|(id, row)| Ok((id.0, is_ended(&of, row)))), DeliveryId)
        };
        self.read(read).await
    }

    async fn redrive(
        &self,
        of: EndedDeliveries,
        ids: Vec<DeliveryId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        let id = of.subscription;
        let write = |tables: &mut MemoryTables| {
            accepts_deliveries(&self.state.catalog, &of.tenant, id)?;
            share::require_room(tables, &of.tenant, self.limits.share)?;
            let again = redrive_in(tables, &of, ids);
            tables.changed_lanes.push(id);
            if let Some(entry) = entry {
                let selection = entry.selection(Some(of.states.clone()), again);
                let action = AuditAction::SubscriptionRedrive { id, selection };
                share::record(tables, &entry.actor, Some(&of.tenant), &action, self.limits.share)?;
            }
            Ok(again)
        };
        self.write(write, |state: &HostState, _| state.publish_change(id)).await
    }

    async fn count_replayable(&self, of: ReplayableEvents, span: Span) -> Result<u64, StoreError> {
        let (from, to) = span.ids();
        let read = |tables: &MemoryTables| {
            let found = tables.events_of(&of.tenant).filter(|(id, _)| from <= id.0 && id.0 < to);
            Ok(found.filter(|(_, row)| of.modules.contains(&row.event.module)).count() as u64)
        };
        self.read(read).await
    }

    async fn select_replayable(
        &self,
        of: ReplayableEvents,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<EventId>, StoreError> {
        let read = |tables: &MemoryTables| {
            let rows = tables.events_of(&of.tenant).filter(|(id, _)| from <= id.0 && id.0 < to).take(ROWS_READ_MAX);
            Selected::of(rows.map(|(id, row)| Ok((id.0, of.modules.contains(&row.event.module)))), EventId)
        };
        self.read(read).await
    }

    async fn replay(
        &self,
        of: ReplayableEvents,
        ids: Vec<EventId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        let ReplayableEvents { tenant, subscription: id, modules: _ } = of;
        let write = |tables: &mut MemoryTables| {
            accepts_deliveries(&self.state.catalog, &tenant, id)?;
            let replay = |tables: &mut MemoryTables| Ok(replay_in(tables, &tenant, id, ids));
            let made = share::within_share(tables, &tenant, self.limits.share, replay)?;
            tables.changed_lanes.push(id);
            if let Some(entry) = entry {
                let selection = entry.selection(None, made);
                let action = AuditAction::SubscriptionReplay { id, selection };
                share::record(tables, &entry.actor, Some(&tenant), &action, self.limits.share)?;
            }
            Ok(made)
        };
        self.write(write, |state: &HostState, _| state.publish_change(id)).await
    }

    async fn test(
        &self,
        actor: Actor,
        tenant: TenantId,
        subscription: SubscriptionId,
        new: NewEvent,
    ) -> Result<DeliveryId, StoreError> {
        let share = self.limits.share;
        let write = |tables: &mut MemoryTables| {
            let delivery = share::within_share(tables, &tenant, share, |tables| {
                let event = write_event(tables, &tenant, new, 0);
                count(tables, &tenant, |row| row.tests += 1);
                tables.changed_lanes.push(subscription);
                Ok(make(tables, &tenant, event.id, subscription, DeliveryKind::Test))
            })?;
            share::record(tables, &actor, Some(&tenant), &AuditAction::SubscriptionTest(subscription), share)?;
            Ok(delivery)
        };
        self.write(write, |state: &HostState, _| state.publish_change(subscription)).await
    }
}

impl Memory {
    /// Makes a delivery due now, and pending if it had ended. Returns its subscription.
    fn retry_in(
        &self,
        tables: &mut MemoryTables,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<SubscriptionId, StoreError> {
        let key = (tenant.clone(), id);
        let row = tables.deliveries.get(&key).ok_or(StoreError::NotFound("delivery"))?;
        let subscription = row.subscription;
        if row.state != DeliveryState::Pending {
            share::require_room(tables, tenant, self.limits.share)?;
        }
        require_retriable(&self.state.catalog, tenant, subscription)?;
        let row = tables.deliveries.get_mut(&key).ok_or(StoreError::NotFound("delivery"))?;
        let now_ms = now_ms();
        if row.state != DeliveryState::Pending {
            begin_again(row, now_ms);
        }
        row.settling = None;
        row.due_at_ms = now_ms;
        row.awaiting_plugin = false;
        row.updated_at_ms = now_ms;
        Ok(subscription)
    }
}

/// Makes an ended delivery pending, with a new budget of attempts and a new age.
fn begin_again(row: &mut StoredDelivery, now_ms: i64) {
    row.state = DeliveryState::Pending;
    row.settling = None;
    row.superseded_by = None;
    row.budget_spent = 0;
    row.age_from_ms = now_ms;
}

/// Cancels a pending delivery. Returns its subscription.
fn cancel_in(tables: &mut MemoryTables, tenant: &TenantId, id: DeliveryId) -> Result<SubscriptionId, StoreError> {
    let row = tables.deliveries.get_mut(&(tenant.clone(), id)).ok_or(StoreError::NotFound("delivery"))?;
    if row.state != DeliveryState::Pending {
        return Err(not_pending());
    }
    row.state = DeliveryState::Cancelled;
    row.awaiting_plugin = false;
    row.updated_at_ms = now_ms();
    row.reason = Some(cancel_reason());
    Ok(row.subscription)
}

/// Returns true if a delivery ended in one of the states and is not a test.
fn is_ended(of: &EndedDeliveries, row: &StoredDelivery) -> bool {
    row.state != DeliveryState::Pending && row.kind != DeliveryKind::Test && of.states.contains(&row.state)
}

/// Makes those of these deliveries pending that are still ended. Returns their number.
fn redrive_in(tables: &mut MemoryTables, of: &EndedDeliveries, ids: Vec<DeliveryId>) -> u64 {
    let mut again = 0;
    for id in ids {
        if let Some(row) = tables.deliveries.get_mut(&(of.tenant.clone(), id))
            && is_ended(of, row)
        {
            let now_ms = now_ms();
            begin_again(row, now_ms);
            row.due_at_ms = now_ms;
            row.updated_at_ms = now_ms;
            again += 1;
        }
    }
    again
}

/// Makes a delivery of each of these events that still exists. Returns their number.
fn replay_in(tables: &mut MemoryTables, tenant: &TenantId, subscription: SubscriptionId, ids: Vec<EventId>) -> u64 {
    let mut made = 0;
    for event in ids {
        if tables.events.contains_key(&(tenant.clone(), event)) {
            make(tables, tenant, event, subscription, DeliveryKind::Replay);
            made += 1;
        }
    }
    count(tables, tenant, |row| row.replayed += made);
    made
}

/// Adds a delivery that is due now. Replayed events are a selection and not a sequence: they have no order.
fn make(
    tables: &mut MemoryTables,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
) -> DeliveryId {
    write_delivery(tables, NewDelivery::after(tenant, event, subscription, kind, 0), None)
}

/// Changes the ledger of a tenant.
fn count(tables: &mut MemoryTables, tenant: &TenantId, change: impl FnOnce(&mut TenantRow)) {
    if let Some(row) = tables.tenants.get_mut(tenant) {
        change(row);
    }
}
