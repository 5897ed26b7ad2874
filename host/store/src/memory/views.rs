//! Views of the tables in memory, for the checks of a simulation: as a reader sees them at once, whatever faults operations meet.

use super::MemoryDisk;
use super::deliveries::{is_same_order, ledger};
use super::tables::{MemoryTables, StoredDelivery};
use crate::backend::deliveries::Ledger;
use crate::fleet::Registration;
use crate::ownership::shard_of;
use hookloom_model::clock;
use hookloom_model::delivery::{AttemptOutcome, DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::{EventId, Module};
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{SubscriptionId, SubscriptionState, TenantId};
use std::time::Duration;

/// Delivery as it is stored.
#[derive(Clone, Debug)]
pub struct StoredView {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Subscription that it belongs to.
    pub subscription: SubscriptionId,
    /// Kind of the delivery.
    pub kind: DeliveryKind,
    /// State of the delivery.
    pub state: DeliveryState,
    /// True if it waits for another version or config.
    pub awaiting_plugin: bool,
    /// Due time, in milliseconds since the epoch.
    pub due_at_ms: i64,
    /// Number of attempts in its budget.
    pub attempts_in_budget: u32,
    /// Events that it stands for, if its subscription settled them.
    pub settled: Option<SettledEvents>,
    /// True if a later event may supersede it.
    pub is_settling: bool,
    /// Delivery that supersedes it.
    pub superseded_by: Option<DeliveryId>,
    /// Outcome of the last attempt that counts.
    pub last_outcome: Option<AttemptOutcome>,
}

impl StoredView {
    fn of(tables: &MemoryTables, tenant: &TenantId, id: DeliveryId, row: &StoredDelivery) -> Self {
        let last = tables.attempts.get(&(tenant.clone(), id, row.attempts_made));
        StoredView {
            id,
            subscription: row.subscription,
            kind: row.kind,
            state: row.state,
            awaiting_plugin: row.awaiting_plugin,
            due_at_ms: row.due_at_ms,
            attempts_in_budget: row.budget_spent,
            settled: row.settled,
            is_settling: row.settling.is_some(),
            superseded_by: row.superseded_by,
            last_outcome: last.map(|attempt| attempt.outcome),
        }
    }
}

/// Host of a fleet, as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    host: i16,
    epoch: i64,
    /// Time until the end of its lease.
    pub lease_left: Duration,
}

impl MemoryDisk {
    /// Returns the host with an identity, if it is registered.
    pub fn member(&self, identity: u64) -> Option<MemberView> {
        let (Registration { host, epoch }, lease_until, _) = self.tables().fleet.member(identity)?;
        Some(MemberView { host, epoch, lease_left: lease_until.saturating_sub(clock::since_boot()) })
    }

    /// Returns true if a host registered again, left or was taken over since it was seen.
    pub fn is_fenced(&self, seen: &MemberView) -> bool {
        self.tables().fleet.is_fenced(Registration { host: seen.host, epoch: seen.epoch })
    }

    /// Returns true if the host with an identity owns a subscription.
    pub fn owns(&self, identity: u64, subscription: SubscriptionId) -> bool {
        self.tables().fleet.member(identity).is_some_and(|(.., shards)| shards.has(shard_of(subscription)))
    }

    /// Returns the number of shards of the host with an identity.
    pub fn shards_of(&self, identity: u64) -> usize {
        self.tables().fleet.member(identity).map_or(0, |(.., shards)| shards.len())
    }

    /// Returns the number of takeovers so far.
    pub fn takeovers(&self) -> u64 {
        self.tables().fleet.takeovers
    }

    /// Returns the number of transactions of hosts that were taken over, of which there must be none.
    pub fn fenced_writes(&self) -> u64 {
        self.tables().fleet.fenced_writes
    }

    /// Returns true if two hosts own a shard.
    pub fn has_two_owners(&self) -> bool {
        self.tables().fleet.has_two_owners()
    }

    /// Returns true if a shard is not at the host that an operator moved it to, although that host is registered.
    pub fn has_misplaced_shards(&self) -> bool {
        let shards = self.tables().fleet.view(0).shards;
        shards.iter().any(|one| one.pinned_to.is_some() && one.pinned_to != one.owner)
    }

    /// Returns the state of a subscription. None: it was deleted.
    pub fn subscription_state(&self, id: SubscriptionId) -> Option<SubscriptionState> {
        self.tables().subscriptions.get(&id).map(|row| row.subscription.state)
    }

    /// Returns a delivery.
    pub fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Option<StoredView> {
        let tables = self.tables();
        tables.deliveries.get(&(tenant.clone(), id)).map(|row| StoredView::of(&tables, tenant, id, row))
    }

    /// Returns all deliveries of a tenant, oldest first.
    pub fn deliveries(&self, tenant: &TenantId) -> Vec<StoredView> {
        let tables = self.tables();
        tables.deliveries_of(tenant).map(|(id, row)| StoredView::of(&tables, tenant, id, row)).collect()
    }

    /// Returns the earlier pending deliveries of the same order, each with the number of its attempts.
    pub fn earlier_pending(&self, tenant: &TenantId, id: DeliveryId) -> Vec<(DeliveryId, u32)> {
        let tables = self.tables();
        let row = tables.deliveries.get(&(tenant.clone(), id)).filter(|row| row.order_key.is_some());
        let Some(row) = row else { return Vec::new() };
        let earlier = tables.deliveries_of(tenant).filter(|(other, _)| *other < id);
        let blocking = earlier.filter(|(_, other)| other.state == DeliveryState::Pending && is_same_order(other, row));
        blocking.map(|(id, other)| (id, other.attempts_made)).collect()
    }

    /// Returns the number of an event's usual deliveries in all states. None: the event is not stored.
    pub fn deliveries_of(&self, tenant: &TenantId, event: EventId) -> Option<usize> {
        let tables = self.tables();
        tables.events.get(&(tenant.clone(), event))?;
        let of_event = tables.deliveries_of(tenant).filter(|(_, row)| row.event == event);
        Some(of_event.filter(|(_, row)| row.kind == DeliveryKind::Usual).count())
    }

    /// Returns the ledger of a tenant. None: the tenant does not exist.
    pub fn ledger(&self, tenant: &TenantId) -> Option<Ledger> {
        let tables = self.tables();
        tables.tenants.get(tenant)?;
        Some(ledger(&tables, tenant))
    }

    /// Returns true if events of a tenant were pruned.
    pub fn was_pruned(&self, tenant: &TenantId) -> bool {
        self.tables().tenants.get(tenant).is_some_and(|row| row.pruned.events > 0)
    }

    /// Returns the number of deliveries of events that the host itself has accepted.
    pub fn host_event_deliveries(&self, tenant: &TenantId) -> u64 {
        let tables = self.tables();
        let events = tables.events_of(tenant).filter(|(_, row)| row.event.module == Module::Subscription);
        events.map(|(_, row)| row.fan_out as u64).sum()
    }
}
