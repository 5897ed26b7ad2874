//! Reads of events, deliveries and attempts.
//!
//! # Guarantees of every backend
//! - Lists are ordered by id, newest first, and a page before an id has only older rows.
//! - [`Ledger`] is one snapshot, and its law holds at any time.

use crate::StoreError;
use crate::backend::operator_actions::Span;
use async_trait::async_trait;
use hookloom_model::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState, Reason};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Delivery for display.
#[derive(Debug)]
pub struct DeliveryView {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Event that the delivery carries.
    pub event: EventId,
    /// Subscription of the delivery.
    pub subscription: SubscriptionId,
    /// Origin of the delivery.
    pub kind: DeliveryKind,
    /// Current state.
    pub state: DeliveryState,
    /// True if the delivery is pending and waits for another plugin version or config.
    pub awaiting_plugin: bool,
    /// Time of the next attempt, if the delivery is pending.
    pub due_at_ms: Option<i64>,
    /// Number of attempts so far.
    pub attempts_made: u32,
    /// Reason of the current state.
    pub reason: Option<Reason>,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Time of the last change, in milliseconds since the epoch.
    pub updated_at_ms: i64,
    /// Events that the delivery stands for, if its subscription settled them.
    pub settled: Option<SettledEvents>,
    /// True if the delivery is pending and a later event of its contact or deal may supersede it.
    pub is_settling: bool,
    /// Delivery that supersedes this one.
    pub superseded_by: Option<DeliveryId>,
}

/// Deliveries of one burst.
#[derive(Debug)]
pub struct SettledChain {
    /// The latest deliveries, in the order of their events. The last one is the survivor.
    pub deliveries: Vec<DeliveryView>,
    /// Number of the burst's other events.
    pub not_listed: u64,
}

/// Event for display.
#[derive(Debug)]
pub struct EventView {
    /// The event.
    pub event: Arc<Event>,
    /// Previous event of the same entity.
    pub previous: Option<EventId>,
    /// Number of deliveries at acceptance.
    pub fan_out: usize,
    /// Deliveries of the event.
    pub deliveries: Vec<DeliveryView>,
}

/// Filter of a listing of deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only deliveries of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries of this event.
    pub event: Option<EventId>,
    /// Only deliveries of these events.
    pub among: Option<Vec<EventId>>,
    /// Only deliveries that were made in this span.
    pub span: Option<Span>,
    /// Only deliveries older than this one.
    pub before: Option<DeliveryId>,
    /// Maximum number of deliveries.
    pub limit: usize,
}

/// Filter of a listing of events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events of this module.
    pub module: Option<Module>,
    /// Only events with this name.
    pub name: Option<String>,
    /// Only events of the entity with this id.
    pub entity_id: Option<String>,
    /// Only events that were accepted in this span.
    pub span: Option<Span>,
    /// Only events whose payload contains this text as it is written there, among the newest [`EVENTS_SEARCHED`] events of the other
    /// conditions.
    pub text: Option<String>,
    /// Only events older than this one.
    pub before: Option<EventId>,
    /// Maximum number of events.
    pub limit: usize,
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSummary {
    /// Id of the event.
    pub id: EventId,
    /// The `eventName` of the webhook.
    pub name: String,
    /// Module of the event name.
    pub module: Module,
    /// `eventData.id` as text.
    pub entity_id: Option<String>,
    /// Time of acceptance, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Number of deliveries at acceptance.
    pub fan_out: usize,
    /// Size of the payload, in bytes.
    pub bytes: u64,
}

/// Number of events with a name, among the newest ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCount {
    /// Event name.
    pub name: String,
    /// Number of events.
    pub events: u64,
    /// Time of acceptance of the newest one, in milliseconds since the epoch.
    pub last_received_at_ms: i64,
}

/// Numbers of pruned deliveries, by the state in which they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Pruned events.
    pub events: u64,
    /// Ended with a 2xx answer.
    pub delivered: u64,
    /// Ended by a plugin's decision.
    pub dropped: u64,
    /// Given up.
    pub dead: u64,
    /// Cancelled by an operator.
    pub cancelled: u64,
    /// Superseded by a later delivery of the same contact or deal.
    #[serde(default)]
    pub superseded: u64,
}

/// Numbers of the conservation law: `fan_out` + `replayed` + `tests` = `delivered` + `dropped` + `dead` + `cancelled` + `superseded` +
/// `pending` + the same states of `pruned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Stored events.
    pub events: u64,
    /// Size of the payloads of the stored events, in bytes.
    pub bytes: u64,
    /// Sum of the fan-outs of all events that were ever accepted, which is the number of promised deliveries.
    pub fan_out: u64,
    /// Deliveries made by replays.
    pub replayed: u64,
    /// Test deliveries.
    pub tests: u64,
    /// Ended with a 2xx answer.
    pub delivered: u64,
    /// Ended by a plugin's decision.
    pub dropped: u64,
    /// Given up.
    pub dead: u64,
    /// Cancelled by an operator.
    pub cancelled: u64,
    /// Superseded by a later delivery of the same contact or deal.
    #[serde(default)]
    pub superseded: u64,
    /// Not ended.
    pub pending: u64,
    /// Numbers of the pruned deliveries.
    pub pruned: Pruned,
}

/// Number of the newest events that [`EventBackend::recent_events`] searches, because one module may be rare, and that are searched for
/// a text.
pub const EVENTS_SEARCHED: usize = 5_000;

/// Reads of deliveries and attempts.
#[async_trait]
pub trait DeliveryBackend: Send + Sync {
    /// Returns a delivery with its attempts.
    async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<(DeliveryView, Vec<Attempt>), StoreError>;

    /// Returns the attempts of each of an event's deliveries, in order.
    async fn attempts_of_event(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError>;

    /// Returns, for each pending ordered delivery of an event, the first earlier pending delivery of the same entity, and the
    /// number of its attempts.
    async fn earlier_ones(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, (DeliveryId, u32)>, StoreError>;

    /// Returns the chain of each of these deliveries that is in one, because it is superseded or stands for several events.
    async fn settled_chains(
        &self,
        tenant: TenantId,
        deliveries: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, SettledChain>, StoreError>;

    /// Returns deliveries, newest first.
    async fn deliveries(&self, tenant: TenantId, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError>;

    /// Returns an event with its deliveries.
    async fn event(&self, tenant: TenantId, id: EventId) -> Result<EventView, StoreError>;
}

/// Lists of events.
#[async_trait]
pub trait EventBackend: Send + Sync {
    /// Returns events, newest first.
    async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError>;

    /// Returns events by their ids. Those that are not stored, or cannot be read, are left out.
    async fn event_summaries(
        &self,
        tenant: TenantId,
        ids: Vec<EventId>,
    ) -> Result<HashMap<EventId, EventSummary>, StoreError>;

    /// Returns the last events of these modules, newest first, without test events.
    async fn recent_events(
        &self,
        tenant: TenantId,
        modules: Vec<Module>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;

    /// Returns the last events that were accepted for these subscriptions, newest first, each with its subscription, without test
    /// events.
    async fn last_events_of(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError>;

    /// Counts the newest `limit` events by name. The names are sorted.
    async fn name_counts(&self, tenant: TenantId, limit: usize) -> Result<Vec<NameCount>, StoreError>;
}

/// Pending deliveries.
#[async_trait]
pub trait BacklogBackend: Send + Sync {
    /// Returns the numbers of pending deliveries by subscription, without a query.
    fn pending(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64>;

    /// Returns the time at which the oldest pending delivery of each subscription was made, in milliseconds since the epoch.
    async fn oldest_pending(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
    ) -> Result<HashMap<SubscriptionId, i64>, StoreError>;

    /// Returns the same for all subscriptions of a tenant, on the host's account, so that queries of tenants do not delay the
    /// metrics.
    async fn oldest_pending_for_host(&self, tenant: TenantId) -> Result<Option<i64>, StoreError>;
}

/// Ledgers of tenants.
#[async_trait]
pub trait LedgerBackend: Send + Sync {
    /// Counts a tenant's events and deliveries in one snapshot.
    async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError>;
}
