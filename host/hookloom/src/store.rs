//! The store: everything that must survive a crash, and the only home of SQL.
//!
//! # What it promises
//! - A write that returned `Ok` is durable: it was committed with `synchronous=FULL` (see [`writer`]).
//! - An event and its deliveries are accepted in one transaction, or not at all. The deliveries of a large fan-out follow in further
//!   transactions, before the answer; a crash in between loses none of them ([`fan_out`]).
//! - Conservation: per tenant, Σ `fan_out` of its events + replayed + tests = its deliveries, over all states
//!   ([`Ledger`]).
//! - One host per data folder: a second one is told the first's process id ([`data_folder`]).
//! - Nothing is accepted into a file that is gone, and files that do not belong together are refused at the start.
//! - Secrets and keys are sealed or hashed before they arrive here ([`vault`]).
//!
//! # What it does not do
//! It decides nothing: who gets an event is `route`'s rule, what follows an attempt is `retry`'s.
//!
//! Small things that every request needs (tenants, keys, subscriptions) are also kept in memory, in the [`catalog`].
//! A change is committed alone and enters the catalog before the next write runs, so the writer's view of it is exact:
//! no delivery is ever made for a subscription that was disabled before the event.

mod accept;
mod background;
mod backlog;
mod backup;
mod batch;
mod bins;
mod caps;
mod careful;
mod catalog;
mod changes;
mod check;
mod checkpoint;
mod clock;
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
mod hands;
mod history;
mod ledger;
mod limits;
mod load_catalog;
mod log_check;
mod news;
mod notices;
mod operations;
mod order_key;
mod outcomes_beside_damage;
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
mod subscriptions;
mod sweeps;
mod tenants;
mod tuning;
mod usage;
pub mod vault;
mod wall_clock;
mod writer;

pub use accept::{Accepted, AcceptedOnce, NewEvent, Repeatable};
pub use backup::{BackedUp, back_up};
use batch::Batch;
pub use bins::{BIN_BYTES_MAX, BINS_MAX, BinFilter, BinPage};
pub use caps::Caps;
use catalog::Catalog;
pub use changes::Change;
pub use check::{CheckReport, DamagedKey, TableReport, check_store};
pub use damage::{DamageReport, DamagedObject, DamagedRow, RowKind};
use data_folder::DataFolder;
pub use data_folder::FolderFault;
pub use deletion::TenantContents;
pub use deliveries::{AttemptRecord, DeliveryFilter, DeliveryView, EventView};
pub use due::{AttemptClass, DuePage};
pub use events::{EventFilter, EventSummary};
pub use figures::SpanFigures;
pub use hands::Span;
pub use ledger::Ledger;
pub use limits::StoreLimits;
pub use news::{Due, NewDeliveries, News};
pub use notices::Notice;
pub use plugins::{ActiveVersion, PluginVersion, StoredPlugin};
pub use quarantine::Quarantine;
pub use readiness::MachineFault;
pub use rejected::{RejectedEntry, RejectedRequest};
pub use repair::damaged_parts;
pub use rescue::{RescueReport, rescue};
pub use rollouts::{RolloutKind, StoredRollout};
pub use sessions::SESSION_LASTS;
pub use subscriptions::{NewSubscription, StateChange};
pub use tenants::TenantChange;
pub use usage::{KindUsage, Usage, UsageKind, grouped};

use crate::plural::counted;
use crate::subscription::SubscriptionId;
use disk_room::DiskRoom;
use fair_queue::Owner;
use readers::Readers;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tuning::tune;
use vault::{Vault, VaultError};
pub use wall_clock::now_ms;
use writer::{Terms, WriteMode, Writer, WriterContext};

/// Error of a store operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused a statement.
    #[error("the database refused a statement")]
    Database(#[from] rusqlite::Error),
    /// The commit failed: nothing of the batch is durable.
    #[error("the database could not commit")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// An earlier write of the same batch ended the transaction (a full disk, as a rule).
    #[error("the database gave up the transaction that this write was part of")]
    BatchFailed,
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
    /// A file of the data folder.
    #[error("the data folder {folder} cannot be used")]
    Folder {
        /// Path of the data folder.
        folder: String,
        /// Failure of the file system.
        source: std::io::Error,
    },
    /// The master key or what it sealed.
    #[error("secrets cannot be sealed or opened")]
    Vault(#[from] VaultError),
    /// A stored JSON text does not read back.
    #[error("a stored text cannot be read")]
    Corrupt(#[from] serde_json::Error),
    /// The bytes of a component are not those that were uploaded.
    #[error("the component {sha256} is damaged in the store")]
    DamagedComponent {
        /// The sha256 of what was uploaded.
        sha256: String,
    },
    /// A part that every start needs is damaged.
    #[error(
        "the database in {folder} is damaged: `hookloom check` says where, and `hookloom rescue` writes what is whole into a new folder"
    )]
    Damaged {
        /// Path of the data folder.
        folder: String,
        /// First error that was met while reading.
        source: Box<StoreError>,
    },
    /// A key that came with another body before.
    #[error("the Idempotency-Key was used for another body before")]
    KeyReused,
    /// A tenant's share is used up.
    #[error(
        "the tenant's share would be exceeded: {} of {} bytes and {} of {} events are kept ({})",
        grouped(.0.bytes), grouped(.0.bytes_max), grouped(.0.events), grouped(.0.events_max), .0.largest()
    )]
    TenantFull(Box<Usage>),
    /// More deliveries than one request may make.
    #[error("these {events} events would make {deliveries} deliveries; this host makes at most {most} for one request")]
    TooManyDeliveries {
        /// Number of events in the request.
        events: usize,
        /// Number of deliveries that they would make now.
        deliveries: u64,
        /// The cap.
        most: u64,
    },
    /// A query that took too long.
    #[error("the query took more than {ms} ms and was stopped")]
    QueryTooSlow {
        /// The limit, in milliseconds.
        ms: u64,
    },
    /// No such thing, in this tenant.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Somebody else's edit came first.
    #[error("it was edited by somebody else at the same time")]
    Edited,
    /// Subscriptions use what is to be deleted.
    #[error("{what} is used by {}", counted(by.len() as u64, "subscription", "subscriptions"))]
    InUse {
        /// Name of the thing in use, as the message shows it.
        what: String,
        /// By which subscriptions.
        by: Vec<SubscriptionId>,
    },
    /// It is there already, or is not in the state for it.
    #[error("{0}")]
    Conflict(String),
}

/// Time that a read of a lane may take at least.
const LANE_TIME_MAX: Duration = Duration::from_secs(60);

/// The store.
pub struct Store {
    readers: Readers,
    /// Readers of the lanes' own: no query of a tenant holds up deliveries.
    lane_readers: Readers,
    /// After the readers: the last connection to be closed leaves no log behind, if it can write.
    writer: Writer,
    catalog: Arc<Catalog>,
    vault: Vault,
    /// Wakes what deletes the rest of tenants, plugins and versions.
    deletions: tokio::sync::Notify,
    /// Wakes what completes changes.
    sweeps: tokio::sync::Notify,
    fan_outs: Arc<fan_out::FanOuts>,
    events: event_cache::EventCache,
    pending: Arc<backlog::PendingCounts>,
    damage: damage::Damage,
    path: PathBuf,
    news: mpsc::UnboundedSender<News>,
    gathered: figures::Gathered,
    notices: notices::Notices,
    limits: StoreLimits,
    room: Arc<DiskRoom>,
    /// The last one: what it notes is that everything is closed.
    folder: DataFolder,
}

impl Store {
    /// Opens the store in a folder, makes it if there is none, and returns the channel of its news. With default limits.
    pub fn open(folder: &Path) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<News>), StoreError> {
        Store::open_with(folder, StoreLimits::default())
    }

    /// The same with limits.
    pub fn open_with(
        folder: &Path,
        limits: StoreLimits,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<News>), StoreError> {
        let opened = Store::open_whole(folder, limits);
        opened.map_err(|error| if error.is_damage() { error.at_start(folder) } else { error })
    }

    fn open_whole(
        folder: &Path,
        limits: StoreLimits,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<News>), StoreError> {
        let in_folder = |source| StoreError::Folder { folder: folder.display().to_string(), source };
        let path = folder;
        let folder = DataFolder::lock(path)?;
        data_folder::inspect(path)?;
        folder.require_key()?;
        let path = folder.file(data_folder::DATABASE);
        let mut connection = folder.open_database()?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL flushes the log at every commit: the promise behind `202`.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What a log that could not begin anew for long has grown to is given back when it does.
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        tune(&connection)?;
        schema::migrate(&mut connection)?;
        usage::install(&mut connection)?;
        let vault = folder.open_vault(&connection)?;
        clock::follow_newest(&connection)?;
        let catalog = Arc::new(Catalog::load(&connection, &vault)?);
        let files = folder.begin_run(&connection, &vault)?;
        let room = DiskRoom::reserve(path.parent().unwrap_or(&path), limits.disk_reserve_bytes, limits.event_bytes_max);
        let room = Arc::new(room.map_err(in_folder)?);
        checkpoint::keep_log_short(&mut connection, &path, room.log_pages_max())?;
        let damage = damage::Damage::load(&connection);
        let pending = Arc::new(backlog::PendingCounts::load(&connection, &damage));
        let context = WriterContext {
            files: files.clone(),
            room: room.clone(),
            pending: pending.clone(),
            damage: damage.clone(),
        };
        let writer = Writer::start(connection, context).map_err(in_folder)?;
        let (news, listener) = mpsc::unbounded_channel();
        let store = Store {
            writer,
            readers: Readers::new(path.clone(), files.clone(), limits.query_time_max, damage.clone()),
            // A lane has nothing to narrow; what it reads is bounded by its page.
            lane_readers: Readers::new(path.clone(), files, limits.query_time_max.max(LANE_TIME_MAX), damage.clone()),
            limits,
            room,
            catalog,
            vault,
            deletions: tokio::sync::Notify::new(),
            sweeps: tokio::sync::Notify::new(),
            fan_outs: Arc::default(),
            events: event_cache::EventCache::default(),
            pending,
            damage,
            path,
            news,
            gathered: figures::Gathered::default(),
            notices: notices::Notices::default(),
            folder,
        };
        Ok((Arc::new(store), listener))
    }

    /// Tenants, keys and subscriptions, as of the last commit.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The key that authenticates compiled plugins on disk.
    pub fn compiled_cache_key(&self) -> [u8; 32] {
        self.vault.cache_key()
    }

    /// A write of few rows that shares its commit with others.
    async fn write<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(Terms::small(owner.into(), WriteMode::Shared), write, |_| {}).await
    }

    /// A write that changes the catalog: committed alone, then shown to everybody.
    async fn change<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_of(owner, Vec::new(), write, show).await
    }

    /// The same, and the scheduler looks at these subscriptions again. It is told on the writer's thread: whoever asked
    /// for the change may have hung up by then.
    async fn change_of<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        subscriptions: Vec<SubscriptionId>,
        write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let catalog = self.catalog.clone();
        let news = self.news.clone();
        let then = move |value: &mut T| {
            show(&catalog, value);
            for id in subscriptions {
                // The scheduler is gone only while the host stops; what is due is found again at the next start.
                let _ = news.send(News::Changed(id));
            }
        };
        self.writer.write(Terms::small(owner.into(), WriteMode::Exclusive), write, then).await
    }
}
