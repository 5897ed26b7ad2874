//! Store: all durable state, and the only crate with SQL.
//!
//! # Guarantees
//! - A write that returned `Ok` is durable: it was committed with `synchronous=FULL` (see [`writer`]).
//! - An event and its deliveries are accepted in one transaction, or not at all. The deliveries of a large fan-out follow in
//!   further transactions, before the answer; a crash in between loses none of them ([`fan_out`]).
//! - Conservation, for each tenant: the sum of `fan_out` of its events, plus replayed and test deliveries, equals the number of its
//!   deliveries in all states ([`Ledger`]).
//! - One host uses a data folder. A second host gets an error with the process id of the first ([`data_folder`]).
//! - Nothing is accepted into a file that has been removed, and files that do not belong together are refused at the start.
//! - Secrets and keys are sealed or hashed before they are stored ([`vault`]).
//! - A change of the catalog ([`catalog`]: tenants, keys and subscriptions in memory) is committed alone and is visible before the
//!   next write runs. So no delivery is made for a subscription that was disabled before the event.
//!
//! # Limits
//! The store takes no decisions: `route` decides the receivers of an event, `retry` what follows an attempt.

mod accept;
mod audit;
mod background;
mod backlog;
mod backup;
mod batch;
mod bins;
mod caps;
mod catalog;
mod changes;
mod check;
mod checkpoint;
mod claims;
mod clock_steps;
mod contents;
mod credentials;
mod damage;
mod data_folder;
mod deletion;
mod deliveries;
mod disk_room;
mod due;
mod endings;
mod event_cache;
mod events;
mod fair_queue;
mod fan_out;
mod figures;
mod first_key;
mod history;
mod host_events;
mod ledger;
mod limits;
mod live_updates;
mod load_catalog;
mod log_check;
mod new_events;
mod operator_actions;
mod order_key;
mod outcomes;
mod outcomes_beside_damage;
mod partial_read;
mod plugins;
mod pruning;
mod pruning_beside_damage;
mod quarantine;
mod readers;
mod readiness;
mod recent;
mod rejected;
mod repair;
mod rescue;
mod retention;
mod rollouts;
mod rows;
mod salvage;
mod schema;
mod sessions;
mod set_apart;
mod share;
mod state_change;
mod store_event;
mod subscription_state;
mod subscriptions;
mod sweeps;
mod tenants;
mod tuning;
mod usage;
pub mod vault;
mod writer;
mod writes;

pub use accept::{Accepted, AcceptedOnce, Repeatable};
pub use audit::Actor;
pub use backup::{BackedUp, back_up};
pub use bins::{BIN_BYTES_MAX, BINS_MAX, BinFilter, BinPage};
pub use caps::Caps;
use catalog::Catalog;
pub use changes::Change;
pub use check::{CheckReport, DamagedKey, TableReport, check_store};
pub use claims::Claim;
pub use contents::TenantContents;
pub use damage::{DamageReport, DamagedObject, DamagedRow, RowKind};
use data_folder::DataFolder;
pub use data_folder::FolderFault;
pub use deliveries::{DeliveryFilter, DeliveryView, EventView};
pub use due::{AttemptClass, ClaimedPage};
pub use events::{EventFilter, EventSummary};
pub use figures::SpanFigures;
pub use ledger::Ledger;
pub use limits::StoreLimits;
pub use live_updates::LiveUpdate;
pub use new_events::NewEvent;
pub use operator_actions::Span;
pub use outcomes::{AttemptRecord, Unfinished};
pub use plugins::{ActiveVersion, PluginVersion, StoredPlugin};
pub use quarantine::Quarantine;
pub use readiness::MachineFault;
pub use rejected::{RejectedEntry, RejectedRequest};
pub use repair::damaged_parts;
pub use rescue::{RescueReport, rescue};
pub use rollouts::{RolloutKind, StoredRollout};
pub use sessions::SESSION_LASTS;
pub use state_change::StateChange;
pub use store_event::{Due, NewDeliveries, StoreEvent};
pub use subscriptions::NewSubscription;
pub use tenants::TenantChange;
pub use usage::{KindUsage, Usage, UsageKind, grouped};

use disk_room::DiskRoom;
use hookloom_model::plural::counted;
use hookloom_model::subscription::SubscriptionId;
use readers::Readers;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tuning::tune;
use vault::{Vault, VaultError};
use writer::{Writer, WriterContext};

/// Error of a store operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused a statement.
    #[error("the database refused a statement")]
    Database(#[from] rusqlite::Error),
    /// The commit failed: nothing of the transaction is durable.
    #[error("the database could not commit")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// An earlier write of the same transaction ended it, usually because the disk is full.
    #[error("the database ended the transaction that this write was part of")]
    TransactionEnded,
    /// The disk is full, and the write would make the store larger.
    #[error("the disk of the data folder is full")]
    DiskFull,
    /// The host's own code panicked; the write was undone.
    #[error("a write panicked and was undone")]
    Panicked,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
    /// The database was written by a newer host.
    #[error("the database has schema {found}, and this host knows up to {known}: use the newer host")]
    NewerSchema {
        /// Schema version of the database.
        found: usize,
        /// Newest schema version that this host supports.
        known: usize,
    },
    /// Another host uses the folder.
    #[error("the data folder {folder} is in use by the process {pid}; stop it, or name another folder with --data-dir")]
    Locked {
        /// Path of the data folder.
        folder: String,
        /// Process id of the host that holds the lock.
        pid: String,
    },
    /// Files of the data folder do not belong together.
    #[error(transparent)]
    Files(#[from] FolderFault),
    /// A file of the data folder cannot be used.
    #[error("the data folder {folder} cannot be used")]
    Folder {
        /// Path of the data folder.
        folder: String,
        /// Failure of the file system.
        source: std::io::Error,
    },
    /// The master key, or a secret that it sealed, cannot be used.
    #[error("secrets cannot be sealed or opened")]
    Vault(#[from] VaultError),
    /// A stored JSON text cannot be parsed.
    #[error("a stored text cannot be read")]
    Corrupt(#[from] serde_json::Error),
    /// The bytes of a component are not those that were uploaded.
    #[error("the component {sha256} is damaged in the store")]
    DamagedComponent {
        /// The sha256 of the uploaded component.
        sha256: String,
    },
    /// Data that every start needs is damaged.
    #[error(
        "the database in {folder} is damaged: `hookloom check` says where, and `hookloom rescue` writes the undamaged data into a new folder"
    )]
    Damaged {
        /// Path of the data folder.
        folder: String,
        /// First error of the read.
        source: Box<StoreError>,
    },
    /// The idempotency key was used with another body.
    #[error("the Idempotency-Key was used for another body before")]
    KeyReused,
    /// The tenant's share is used up.
    #[error(
        "the tenant's share would be exceeded: {} of {} bytes and {} of {} events are kept ({})",
        grouped(.0.bytes), grouped(.0.bytes_max), grouped(.0.events), grouped(.0.events_max), .0.largest()
    )]
    TenantFull(Box<Usage>),
    /// The request would make more deliveries than one request may.
    #[error("these {events} events would make {deliveries} deliveries; this host makes at most {most} for one request")]
    TooManyDeliveries {
        /// Number of events in the request.
        events: usize,
        /// Number of deliveries that the events would make now.
        deliveries: u64,
        /// Maximum number of deliveries.
        most: u64,
    },
    /// The query exceeded its time limit.
    #[error("the query took more than {ms} ms and was stopped")]
    QueryTooSlow {
        /// Time limit, in milliseconds.
        ms: u64,
    },
    /// The thing does not exist in this tenant.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Another edit came first.
    #[error("another edit was made at the same time")]
    Edited,
    /// Subscriptions use the thing that should be deleted.
    #[error("{what} is used by {}", counted(by.len() as u64, "subscription", "subscriptions"))]
    InUse {
        /// Description of the thing in use, for the message.
        what: String,
        /// Subscriptions that use it.
        by: Vec<SubscriptionId>,
    },
    /// The thing exists already, or is in a state that does not allow the operation.
    #[error("{0}")]
    Conflict(String),
}

/// Minimum time limit of a read by a lane.
const LANE_TIME_MAX: Duration = Duration::from_secs(60);

/// Opens the connection of the writer, and brings the database to the newest schema.
fn open_for_writes(folder: &DataFolder) -> Result<Connection, StoreError> {
    let mut connection = folder.open_database()?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL flushes the log at every commit, as `202` promises.
    connection.pragma_update(None, "synchronous", "FULL")?;
    tune(&connection)?;
    schema::migrate(&mut connection)?;
    usage::install(&mut connection)?;
    Ok(connection)
}

/// The store.
pub struct Store {
    readers: Readers,
    /// Separate readers for lanes, so that queries of tenants do not delay deliveries.
    lane_readers: Readers,
    /// Dropped after the readers, because the last connection that can write deletes the log.
    writer: Writer,
    catalog: Arc<Catalog>,
    claims: Arc<claims::Claims>,
    vault: Vault,
    /// Wakes the deletion of the remains of tenants, plugins and versions.
    deletions: tokio::sync::Notify,
    /// Wakes the completion of sweeps.
    sweeps: tokio::sync::Notify,
    fan_outs: Arc<fan_out::FanOuts>,
    events: event_cache::EventCache,
    pending: Arc<backlog::PendingCounts>,
    damage: damage::Damage,
    path: PathBuf,
    store_events: mpsc::UnboundedSender<StoreEvent>,
    gathered: figures::Gathered,
    live_updates: live_updates::LiveUpdates,
    limits: StoreLimits,
    room: Arc<DiskRoom>,
    /// Dropped last, because it records that everything is closed.
    folder: DataFolder,
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
        let opened = Store::open_whole(folder, limits);
        opened.map_err(|error| if error.is_damage() { error.at_start(folder) } else { error })
    }

    fn open_whole(
        folder: &Path,
        limits: StoreLimits,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<StoreEvent>), StoreError> {
        let in_folder = |source| StoreError::Folder { folder: folder.display().to_string(), source };
        let path = folder;
        let folder = DataFolder::lock(path)?;
        data_folder::inspect(path)?;
        folder.require_key()?;
        let path = folder.file(data_folder::DATABASE);
        let mut connection = open_for_writes(&folder)?;
        let vault = folder.open_vault(&connection)?;
        clock_steps::follow_newest(&connection)?;
        let catalog = Arc::new(Catalog::load(&connection, &vault)?);
        let files = folder.begin_run(&connection, &vault)?;
        let room = DiskRoom::reserve(path.parent().unwrap_or(&path), limits.disk_reserve_bytes, limits.event_bytes_max);
        let room = Arc::new(room.map_err(in_folder)?);
        // Truncates a log that has grown because it could not restart for a long time.
        connection.pragma_update(None, "journal_size_limit", room.log_bytes_kept())?;
        checkpoint::keep_log_short(&mut connection, &path, room.clone())?;
        let damage = damage::Damage::load(&connection);
        let pending = Arc::new(backlog::PendingCounts::load(&connection, &damage));
        let context = WriterContext {
            files: files.clone(),
            room: room.clone(),
            pending: pending.clone(),
            damage: damage.clone(),
            share: limits.share,
        };
        let writer = Writer::start(connection, context).map_err(in_folder)?;
        let (store_events, listener) = mpsc::unbounded_channel();
        let store = Store {
            writer,
            readers: Readers::new(path.clone(), files.clone(), limits.query_time_max, damage.clone()),
            // A lane cannot narrow its query, and its page size bounds the read.
            lane_readers: Readers::new(path.clone(), files, limits.query_time_max.max(LANE_TIME_MAX), damage.clone()),
            limits,
            room,
            catalog,
            claims: Arc::default(),
            vault,
            deletions: tokio::sync::Notify::new(),
            sweeps: tokio::sync::Notify::new(),
            fan_outs: Arc::default(),
            events: event_cache::EventCache::default(),
            pending,
            damage,
            path,
            store_events,
            gathered: figures::Gathered::default(),
            live_updates: live_updates::LiveUpdates::default(),
            folder,
        };
        Ok((Arc::new(store), listener))
    }

    /// Returns tenants, keys and subscriptions, as of the last commit.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the key that authenticates compiled plugins on disk.
    pub fn compiled_cache_key(&self) -> [u8; 32] {
        self.vault.cache_key()
    }
}
