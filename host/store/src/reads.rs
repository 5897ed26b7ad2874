//! Reads of events, deliveries, ledgers and the log of changes, and the state of the machine, as the backend has them.

use crate::backend::changes::{Change, ChangeSearch};
use crate::backend::deliveries::{
    DeliveryFilter, DeliveryView, EventFilter, EventSummary, EventView, Ledger, NameCount,
};
use crate::backend::machine::DamageReport;
use crate::backend::milestones::Milestones;
use crate::{SettledChain, Store, StoreError};
use delegate::delegate;
use hookloom_model::delivery::{Attempt, DeliveryId};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

impl Store {
    /// Returns at most `limit` entries of the log of changes that are older than `before`, as [`search_changes`](Store::search_changes)
    /// does without conditions.
    pub async fn changes(
        &self,
        tenant: Option<TenantId>,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), StoreError> {
        self.search_changes(tenant, ChangeSearch::default(), before, limit).await
    }

    delegate! {
        to self.backend {
            /// Returns a delivery with its attempts.
            pub async fn delivery(
                &self,
                tenant: TenantId,
                id: DeliveryId,
            ) -> Result<(DeliveryView, Vec<Attempt>), StoreError>;

            /// Returns the attempts of each of an event's deliveries, in order.
            pub async fn attempts_of_event(
                &self,
                tenant: TenantId,
                event: EventId,
            ) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError>;

            /// Returns, for each pending ordered delivery of an event, the first earlier pending delivery of the same entity, and the
            /// number of its attempts.
            pub async fn earlier_ones(
                &self,
                tenant: TenantId,
                event: EventId,
            ) -> Result<HashMap<DeliveryId, (DeliveryId, u32)>, StoreError>;

            /// Returns the chain of each of these deliveries that is in one, because it is superseded or stands for several events.
            pub async fn settled_chains(
                &self,
                tenant: TenantId,
                deliveries: Vec<DeliveryId>,
            ) -> Result<HashMap<DeliveryId, SettledChain>, StoreError>;

            /// Returns deliveries, newest first.
            pub async fn deliveries(
                &self,
                tenant: TenantId,
                filter: DeliveryFilter,
            ) -> Result<Vec<DeliveryView>, StoreError>;

            /// Returns what has happened to a tenant at least once.
            pub async fn milestones(&self, tenant: TenantId) -> Result<Milestones, StoreError>;

            /// Returns an event with its deliveries.
            pub async fn event(&self, tenant: TenantId, id: EventId) -> Result<EventView, StoreError>;

            /// Returns events, newest first.
            pub async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError>;

            /// Returns events by their ids. Those that are not stored, or cannot be read, are left out.
            pub async fn event_summaries(
                &self,
                tenant: TenantId,
                ids: Vec<EventId>,
            ) -> Result<HashMap<EventId, EventSummary>, StoreError>;

            /// Returns the last events of these modules, newest first, without test events.
            pub async fn recent_events(
                &self,
                tenant: TenantId,
                modules: Vec<Module>,
                limit: usize,
            ) -> Result<Vec<Arc<Event>>, StoreError>;

            /// Returns the last events that were accepted for these subscriptions, newest first, each with its subscription, without
            /// test events.
            pub async fn last_events_of(
                &self,
                tenant: TenantId,
                subscriptions: Vec<SubscriptionId>,
                limit: usize,
            ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError>;

            /// Counts the newest `limit` events by name. The names are sorted.
            pub async fn name_counts(&self, tenant: TenantId, limit: usize) -> Result<Vec<NameCount>, StoreError>;

            /// Returns the numbers of pending deliveries of a tenant by subscription, without zeros. Does not read the database.
            pub fn pending(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64>;

            /// Returns the time at which the oldest pending delivery of each of these subscriptions was made, in milliseconds since
            /// the epoch. Subscriptions without a pending delivery are left out.
            pub async fn oldest_pending(
                &self,
                tenant: TenantId,
                subscriptions: Vec<SubscriptionId>,
            ) -> Result<HashMap<SubscriptionId, i64>, StoreError>;

            /// Returns the same for all subscriptions of a tenant, on the host's account, so that queries of tenants do not delay the
            /// metrics.
            pub async fn oldest_pending_for_host(&self, tenant: TenantId) -> Result<Option<i64>, StoreError>;

            /// Counts a tenant's events and deliveries in one snapshot.
            pub async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError>;

            /// Returns at most `limit` entries of a search of the log of changes that are older than `before`, newest first, and whether
            /// there are more. Returns at least one entry, of any size, if there is one. Without a tenant: the host's log.
            #[call(changes)]
            pub async fn search_changes(
                &self,
                tenant: Option<TenantId>,
                search: ChangeSearch,
                before: Option<Uuid>,
                limit: usize,
            ) -> Result<(Vec<Change>, bool), StoreError>;

            /// Verifies that the store can read and can accept the largest event.
            pub async fn check(&self) -> Result<(), StoreError>;

            /// Returns the number of commits that failed since the start. Any earlier check is void after a failed commit.
            pub fn failed_commits(&self) -> u64;

            /// Returns faults of the data folder's files that affect only the next start.
            pub fn folder_faults(&self) -> Vec<String>;

            /// Returns the known damage of one tenant, or of all.
            pub fn damage(&self, tenant: Option<&TenantId>) -> DamageReport;

            /// Returns the key that authenticates compiled plugins on disk.
            pub fn compiled_cache_key(&self) -> [u8; 32];

            /// Looks after the files of the database until the store stops.
            pub async fn run_upkeep(&self);
        }
    }
}
