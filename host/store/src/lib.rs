//! Store: all durable state, and the policies that every database shares.
//!
//! # Guarantees
//! - A write that returned `Ok` is durable.
//! - An event and its deliveries are accepted in one transaction, or not at all. The deliveries of a large fan-out follow in
//!   further transactions, before the answer; a crash in between loses none of them ([`fan_out`]).
//! - Conservation, for each tenant: the sum of `fan_out` of its events, plus replayed and test deliveries, equals the number of its
//!   deliveries in all states ([`Ledger`]).
//! - A delivery is attempted by the owner of its claim only ([`claims`]).
//! - No delivery is made for a subscription that was disabled before the event ([`catalog`]).
//!
//! # Structure
//! [`Store`] holds the policies and calls a [`backend`], which stores: [`sqlite`], `postgres`, or `memory` for tests and the simulation.
//! Only `sqlite` and `postgres` have SQL.
//!
//! # Limits
//! The store takes no decisions about attempts: `retry` decides what follows one.

mod accept;
mod access;
mod activity;
mod alerts;
mod audit;
pub mod backend;
mod background;
mod caps;
pub mod catalog;
mod claims;
mod clock_steps;
mod commits;
#[cfg(test)]
mod conformance;
mod counted_tables;
mod deletion;
mod endings;
mod error;
mod fair_queue;
mod fan_out;
mod figures;
mod first_key;
mod fleet;
mod folder_fault;
mod folder_lock;
mod host_events;
pub mod host_state;
mod inspector;
mod lanes;
mod limits;
mod live_updates;
mod matching;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod new_event;
mod operator_actions;
mod order_key;
mod ownership;
mod pending_counts;
mod plugins;
mod portal;
#[cfg(any(test, feature = "postgres"))]
pub mod postgres;
mod reads;
mod retention;
mod sealed_secrets;
mod settled_chain;
mod settling;
pub mod sqlite;
mod state_change;
mod store_event;
mod subscriptions;
mod sweeps;
#[cfg(any(test, feature = "postgres"))]
mod table_rows;
mod tenants;
#[cfg(any(test, feature = "postgres"))]
mod transfer;
#[cfg(test)]
mod twins;
mod usage;
#[cfg(test)]
mod usage_world;
pub mod vault;
mod write_queue;

pub use activity::{AttemptLoad, AttemptUnderWay};
pub use audit::Actor;
pub use backend::access::SESSION_LASTS;
pub use backend::alerts::{AlertEmail, AlertTerms};
pub use backend::changes::{Change, ChangeSearch};
pub use backend::deliveries::{
    DeliveryFilter, DeliveryView, EVENTS_SEARCHED, EventFilter, EventSummary, EventView, Ledger, NameCount,
    SettledChain,
};
pub use backend::figures::SpanFigures;
pub use backend::fleet::{FleetView, LostHost, PluginChange, SharedShard, SharingHost};
pub use backend::inspector::{BIN_BYTES_MAX, BINS_MAX, BinFilter, BinPage, RejectedEntry, RejectedRequest};
pub use backend::intake::{Accepted, AcceptedOnce, NewEvent, Repeatable};
pub use backend::lanes::{AttemptClass, AttemptRecord};
pub use backend::machine::{DamageReport, DamagedObject, DamagedRow, RowKind};
pub use backend::milestones::Milestones;
pub use backend::operator_actions::Span;
pub use backend::plugins::{ActiveVersion, PluginVersion, StoredPlugin};
pub use backend::rollouts::{
    ANOTHER_ACTIVATED, CountsElsewhere, Quarantine, RolloutId, RolloutKind, StoredRollout, TAKEN_BACK,
};
pub use backend::subscriptions::NewSubscription;
pub use backend::tenant_plugins::{Halt, HaltedVersion, TenantPlugins};
pub use backend::tenants::{EventTypesChange, TenantChange};
pub use caps::Caps;
use catalog::Catalog;
pub use claims::Claim;
pub use error::{DatabaseError, DatabaseFault, MachineFault, StoreError};
pub use fleet::{FleetReport, HostReport, ShardReport};
pub use folder_fault::FolderFault;
pub use folder_lock::FolderLock;
pub use host_events::state_event;
pub use lanes::{ClaimedPage, Unfinished};
pub use limits::StoreLimits;
pub use live_updates::LiveUpdate;
pub use portal::PortalTerms;
#[cfg(any(test, feature = "postgres"))]
pub use postgres::{Migrated, MigrationStep, SchemaState, migrate_postgres, schema_of_postgres};
pub use sqlite::{
    BackedUp, CheckReport, DamagedKey, MASTER_KEY, RescueReport, SQLITE_FILE, TableReport, back_up, check_store,
    damaged_parts, rescue,
};
pub use state_change::StateChange;
pub use store_event::{Due, NewDeliveries, StoreEvent};
#[cfg(any(test, feature = "postgres"))]
pub use transfer::{MoveReport, MoveRequest, MoveStep, MovedTable, move_to_postgres};
pub use usage::{KindUsage, TenantContents, Usage, UsageKind, grouped};

use backend::Backend;
use host_state::HostState;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The store.
pub struct Store {
    backend: Arc<dyn Backend>,
    state: Arc<HostState>,
    /// Wakes the deletion of the remains of tenants, plugins and versions.
    deletions: tokio::sync::Notify,
    /// Wakes the completion of sweeps.
    sweeps: tokio::sync::Notify,
    fan_outs: Arc<fan_out::FanOuts>,
    /// Held for a change of the catalog, and exclusively by a write whose receivers have changed too often.
    changes: tokio::sync::RwLock<()>,
    /// Order of the changes of each tenant's plugins.
    plugin_order: plugins::PluginOrder,
    gathered: figures::Gathered,
    live_updates: live_updates::LiveUpdates,
    limits: StoreLimits,
}

impl Store {
    /// Opens the store in a folder, creating it if there is none, with default limits. Returns the channel of its events as well.
    pub fn open(folder: &Path) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        Store::open_with(folder, StoreLimits::default())
    }

    /// Opens the store with limits: see [`Store::open`].
    pub fn open_with(
        folder: &Path,
        limits: StoreLimits,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        Store::on(limits, |state| Ok(Arc::new(sqlite::Sqlite::open(folder, limits, state)?)))
    }

    /// Opens a store in memory, with what its disk has, and with faults if a source of them is given.
    #[cfg(any(test, feature = "memory"))]
    pub fn open_in_memory(
        disk: memory::MemoryDisk,
        limits: StoreLimits,
        faults: Option<Arc<memory::Faults>>,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        Store::on(limits, |state| Ok(Arc::new(memory::Memory::open(disk, state, limits, faults))))
    }

    /// Opens a store in memory whose disk is shared by several hosts. `identity` is what a restart of a host keeps.
    #[cfg(any(test, feature = "memory"))]
    pub async fn open_in_shared_memory(
        disk: memory::MemoryDisk,
        limits: StoreLimits,
        faults: Arc<memory::Faults>,
        identity: u64,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        let (state, listener) = HostState::new();
        let state = Arc::new(state);
        let backend = memory::Memory::open_as_member(disk, state.clone(), limits, faults, identity).await?;
        Ok((Store::of(Arc::new(backend), state, limits), listener))
    }

    /// Opens the store in a database of PostgreSQL, creating the tables if there are none. `url` is such as
    /// `postgresql://user@host/database?sslmode=verify-full&sslrootcert=/etc/ca.pem`; `master_key` is the path of the file of the key
    /// that seals secrets.
    #[cfg(any(test, feature = "postgres"))]
    pub async fn open_postgres(
        url: &str,
        master_key: &Path,
        limits: StoreLimits,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        let (state, listener) = HostState::new();
        let state = Arc::new(state);
        let backend = postgres::Postgres::open(url, master_key, limits, state.clone()).await?;
        Ok((Store::of(Arc::new(backend), state, limits), listener))
    }

    /// Opens the store on a backend.
    fn on(
        limits: StoreLimits,
        open: impl FnOnce(Arc<HostState>) -> Result<Arc<dyn Backend>, StoreError>,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        let (state, listener) = HostState::new();
        let state = Arc::new(state);
        Ok((Store::of(open(state.clone())?, state, limits), listener))
    }

    /// Returns the store on an open backend.
    fn of(backend: Arc<dyn Backend>, state: Arc<HostState>, limits: StoreLimits) -> Arc<Self> {
        Arc::new(Store {
            backend,
            state,
            deletions: tokio::sync::Notify::new(),
            sweeps: tokio::sync::Notify::new(),
            fan_outs: Arc::default(),
            changes: tokio::sync::RwLock::default(),
            plugin_order: plugins::PluginOrder::default(),
            gathered: figures::Gathered::default(),
            live_updates: live_updates::LiveUpdates::default(),
            limits,
        })
    }

    /// Returns tenants, keys and subscriptions, as of the last commit.
    pub fn catalog(&self) -> &Catalog {
        &self.state.catalog
    }
}

#[cfg(test)]
impl Store {
    /// Returns the backend on SQLite, for tests that look at its rows.
    pub(crate) fn sqlite(&self) -> &sqlite::Sqlite {
        let backend: &dyn std::any::Any = &*self.backend;
        backend.downcast_ref().expect("a store on SQLite")
    }
}
