//! The backend on SQLite: one file, one writer thread.
//!
//! # Guarantees
//! - As those of every [`backend`](crate::backend). A write that returned `Ok` was committed with `synchronous=FULL` (see [`writer`]).
//! - One host uses a data folder. A second host gets an error with the process id of the first ([`data_folder`]).
//! - Nothing is accepted into a file that has been removed, and files that do not belong together are refused at the start.
//! - Secrets are sealed before they are stored ([`vault`](crate::vault)).

mod accept;
mod alerts;
mod backlog;
mod backup;
mod batch;
mod bins;
mod changes;
mod check;
mod checkpoint;
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
mod error;
mod event_cache;
mod events;
mod fan_out;
mod figures;
mod history;
mod ledger;
mod load_catalog;
mod log_check;
mod machine;
mod milestones;
#[cfg(any(test, feature = "postgres"))]
mod move_changes;
mod move_journal;
#[cfg(any(test, feature = "postgres"))]
mod move_source;
mod new_events;
mod operator_actions;
mod outcomes;
mod outcomes_beside_damage;
mod partial_read;
mod plugins;
mod portal;
mod pruning;
mod pruning_beside_damage;
mod quarantine;
mod readers;
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
mod subscription_state;
mod subscriptions;
mod sweeps;
mod tenant_plugins;
mod tenants;
mod tuning;
mod usage;
mod writer;
mod writes;

pub use backup::{BackedUp, back_up};
pub use check::{CheckReport, DamagedKey, TableReport, check_store};
pub use data_folder::{DATABASE as SQLITE_FILE, MASTER_KEY};
#[cfg(any(test, feature = "postgres"))]
pub(crate) use move_changes::{ChangeRound, SourceTable};
#[cfg(any(test, feature = "postgres"))]
pub(crate) use move_journal::JOURNALED;
#[cfg(test)]
pub(crate) use move_journal::lose_token;
#[cfg(any(test, feature = "postgres"))]
pub(crate) use move_source::{MoveSource, RowRange};
pub use repair::damaged_parts;
pub use rescue::{RescueReport, rescue};

use crate::host_state::HostState;
use crate::pending_counts::PendingCounts;
use crate::vault::Vault;
use crate::{StoreError, StoreLimits};
use data_folder::DataFolder;
use disk_room::DiskRoom;
use readers::Readers;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tuning::tune;
use writer::{Writer, WriterContext};

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

/// Backend on SQLite.
pub struct Sqlite {
    readers: Readers,
    /// Separate readers for lanes, so that queries of tenants do not delay deliveries.
    lane_readers: Readers,
    /// Dropped after the readers, because the last connection that can write deletes the log.
    writer: Writer,
    state: Arc<HostState>,
    vault: Vault,
    events: event_cache::EventCache,
    pending: Arc<PendingCounts>,
    damage: damage::Damage,
    path: PathBuf,
    limits: StoreLimits,
    room: Arc<DiskRoom>,
    /// Dropped last, because it records that everything is closed.
    folder: DataFolder,
}

impl Sqlite {
    /// Opens the database in a folder, creating it if there is none, and fills the catalog from it.
    pub(crate) fn open(folder: &Path, limits: StoreLimits, state: Arc<HostState>) -> Result<Self, StoreError> {
        let opened = Sqlite::open_whole(folder, limits, state);
        opened.map_err(|error| if error.is_damage() { error.at_start(folder) } else { error })
    }

    fn open_whole(folder: &Path, limits: StoreLimits, state: Arc<HostState>) -> Result<Self, StoreError> {
        let in_folder = |source| StoreError::Folder { folder: folder.display().to_string(), source };
        let path_of_folder = folder;
        let folder = DataFolder::lock(path_of_folder)?;
        data_folder::inspect(path_of_folder)?;
        folder.require_key()?;
        let path = folder.file(data_folder::DATABASE);
        let mut connection = open_for_writes(&folder)?;
        move_journal::remove_abandoned(&connection, path_of_folder)?;
        let vault = folder.open_vault(&connection)?;
        clock_steps::follow_newest(&connection)?;
        load_catalog::load(&connection, &vault, &state.catalog)?;
        let files = folder.begin_run(&connection, &vault)?;
        let room = DiskRoom::reserve(path.parent().unwrap_or(&path), limits.disk_reserve_bytes, limits.event_bytes_max);
        let room = Arc::new(room.map_err(in_folder)?);
        // Truncates a log that has grown because it could not restart for a long time.
        connection.pragma_update(None, "journal_size_limit", room.log_bytes_kept())?;
        checkpoint::keep_log_short(&mut connection, &path, room.clone())?;
        let damage = damage::Damage::load(&connection);
        let pending = Arc::new(backlog::count_pending(&connection, &damage));
        let context = WriterContext {
            files: files.clone(),
            room: room.clone(),
            pending: pending.clone(),
            damage: damage.clone(),
            share: limits.share,
        };
        let writer = Writer::start(connection, context).map_err(in_folder)?;
        Ok(Sqlite {
            writer,
            readers: Readers::new(path.clone(), files.clone(), limits.query_time_max, damage.clone()),
            // A lane cannot narrow its query, and its page size bounds the read.
            lane_readers: Readers::new(path.clone(), files, limits.query_time_max.max(LANE_TIME_MAX), damage.clone()),
            limits,
            room,
            state,
            vault,
            events: event_cache::EventCache::default(),
            pending,
            damage,
            path,
            folder,
        })
    }
}

#[cfg(test)]
impl Sqlite {
    /// Runs statements, for a test of another module.
    pub(crate) async fn execute_batch(&self, sql: &'static str) {
        self.write(crate::fair_queue::Owner::Host, |tx| Ok(tx.execute_batch(sql)?)).await.expect(sql);
    }

    /// Reads rows, for a test of another module.
    pub(crate) async fn read_rows<T: Send + 'static>(&self, read: fn(&Connection) -> Result<T, StoreError>) -> T {
        self.readers.read(crate::fair_queue::Owner::Host, read).await.expect("rows")
    }
}
