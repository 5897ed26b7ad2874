//! The store in a data folder, as the source of a move to another database.
//!
//! # Guarantees
//! - The folder is locked until the value is dropped, so that no host runs on it; with [`MoveSource::open_live`], from
//!   [`MoveSource::lock`] on, and until then the changes of the host are in a journal.
//! - Every row is checked like `hookloom check` does: types, UTF-8, ids, JSON. Damage is [`StoreError::Damaged`].
//! - The files are only renamed, after the last read ([`MoveSource::retire`]).
//!
//! # Limits
//! Brings the database to the newest schema first, as every start does. Beside a host, the schema must be the newest already.

use super::check::{without_events, wrong_components};
use super::data_folder::{self, DATABASE, DataFolder, LOG, MASTER_KEY, MOVED, MOVED_TO, folder_error};
use super::move_changes::{ChangeRound, LiveJournal, SourceTable, count, require_newest, stored};
use super::move_journal::{self, JournalLock};
use super::salvage::{Table, salvage};
use super::{schema, tune};
use crate::StoreError;
use crate::folder_fault::FolderFault;
use crate::table_rows::RowPage;
use crate::vault::Vault;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum number of rows in a page.
const PAGE_ROWS: usize = 1_000;

/// Size at which a page ends, in bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Maximum wait for the writes of a host, which can follow each other closely.
const WRITE_WAIT: Duration = Duration::from_secs(60);

/// Ending of the name of a log, after the name of its database.
const LOG_ENDING: &str = "-wal";

/// Data folder, with a snapshot of its store.
pub(crate) struct MoveSource {
    /// Dropped before the folder, which records that everything is closed.
    connection: Connection,
    /// None: a host runs on it.
    folder: Option<DataFolder>,
    path: PathBuf,
    /// Journal of the changes, if the copy began while a host was running.
    journal: Option<LiveJournal>,
    /// Fingerprint of the master key.
    pub(crate) master_key: [u8; 16],
}

/// Rows of a table that are read.
pub(crate) enum RowRange<'r> {
    /// All rows.
    Whole,
    /// Rows that are there and that a round of the journal names.
    Changed(&'r ChangeRound),
}

/// Checks the files of a folder before SQLite opens them.
fn require_store(path: &Path) -> Result<(), StoreError> {
    data_folder::inspect(path)?;
    std::fs::metadata(path.join(DATABASE)).map_err(folder_error(path))?;
    if path.join(MOVED).exists() {
        let what = format!("{} has a {MOVED} of an earlier move: move that file out of the folder", path.display());
        return Err(StoreError::Conflict(what));
    }
    Ok(())
}

impl MoveSource {
    /// Locks a folder, and opens its store.
    ///
    /// # Errors
    /// [`StoreError::Locked`]: a host runs on it. [`StoreError::Damaged`]: rows are known to be damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // Before the lock, which would create a folder that does not exist.
        require_store(path)?;
        let folder = DataFolder::lock(path)?;
        data_folder::inspect(path)?;
        folder.require_key()?;
        let opened = MoveSource::open_locked(folder, path);
        opened.map_err(|error| if error.is_damage() { error.at_start(path) } else { error })
    }

    fn open_locked(folder: DataFolder, path: &Path) -> Result<Self, StoreError> {
        let lock = JournalLock::take(path)?;
        let mut connection = folder.open_database()?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        tune(&connection)?;
        schema::migrate(&mut connection)?;
        move_journal::remove(&connection)?;
        lock.end(path);
        let master_key = folder.open_vault(&connection)?.fingerprint();
        let mut source =
            MoveSource { connection, folder: Some(folder), path: path.to_owned(), journal: None, master_key };
        source.take_snapshot()?;
        source.require_undamaged()?;
        Ok(source)
    }

    /// Opens the store of a folder on which a host runs, and begins a journal of its changes.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the host has another version, or another process moves the store. [`StoreError::Damaged`].
    pub(crate) fn open_live(path: &Path) -> Result<Self, StoreError> {
        require_store(path)?;
        let opened = MoveSource::open_beside_host(path);
        opened.map_err(|error| if error.is_damage() { error.at_start(path) } else { error })
    }

    fn open_beside_host(path: &Path) -> Result<Self, StoreError> {
        let lock = JournalLock::take(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path.join(DATABASE), flags)?;
        // If this connection is the last one, the log stays: the folder says that it is needed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        tune(&connection)?;
        connection.busy_timeout(WRITE_WAIT)?;
        require_newest(&connection)?;
        let folder = path.display().to_string();
        let vault = Vault::read(&path.join(MASTER_KEY))?;
        let vault = vault.ok_or_else(|| FolderFault::NoMasterKey { folder: folder.clone() })?;
        if data_folder::known_key(&connection)?.is_some_and(|known| known != vault.fingerprint()) {
            return Err(FolderFault::OtherMasterKey { folder }.into());
        }
        let journal = Some(LiveJournal::begin(&connection, lock)?);
        let master_key = vault.fingerprint();
        let mut source = MoveSource { connection, folder: None, path: path.to_owned(), journal, master_key };
        source.take_snapshot()?;
        source.require_undamaged()?;
        Ok(source)
    }

    /// Locks the folder, in which no host runs any more.
    ///
    /// # Errors
    /// [`StoreError::Locked`]: a host runs on it.
    pub(crate) fn lock(&mut self) -> Result<(), StoreError> {
        self.folder = Some(DataFolder::lock(&self.path)?);
        Ok(())
    }

    /// Returns true if a host may be running on the folder.
    pub(crate) fn is_live(&self) -> bool {
        self.folder.is_none()
    }

    /// Ends the current snapshot, and takes a new one.
    fn take_snapshot(&mut self) -> Result<(), StoreError> {
        self.end_snapshot()?;
        Ok(self.connection.execute_batch("BEGIN; SELECT 1 FROM tenants LIMIT 1")?)
    }

    fn end_snapshot(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    /// Returns an error if rows contradict each other, or are known to be damaged.
    fn require_undamaged(&self) -> Result<(), StoreError> {
        let known = "SELECT COUNT(*) FROM damage";
        let known: u64 = self.connection.query_row(known, [], |row| row.get(0))?;
        let known = (known > 0).then(|| format!("{known} damaged rows, tables or indexes are known"));
        let mut findings = known.into_iter().chain(wrong_components(&self.connection)?);
        let found = findings.next().or(without_events(&self.connection)?.into_iter().next());
        found.map_or(Ok(()), |found| Err(self.damaged(found)))
    }

    /// Returns the error of damage, with advice.
    fn damaged(&self, found: String) -> StoreError {
        StoreError::Conflict(found).at_start(&self.path)
    }

    /// Returns all tables, by name.
    pub(crate) fn tables(&self) -> Result<Vec<SourceTable>, StoreError> {
        let tables = Table::all(&self.connection)?.into_iter().map(|table| {
            let rows = count(&self.connection, &table.name)?;
            let columns = table.column_names().map(str::to_owned).collect();
            Ok(SourceTable { name: table.name, columns, rows, counted_to: 0 })
        });
        tables.collect()
    }

    /// Prepares to read a table. Beside a host, each table has a snapshot of its own, so that the log of the host can restart.
    pub(crate) fn begin_table(&mut self, table: &mut SourceTable) -> Result<(), StoreError> {
        if self.is_live() {
            self.take_snapshot()?;
            table.rows = count(&self.connection, &table.name)?;
            table.counted_to = LiveJournal::newest(&self.connection)?;
        }
        Ok(())
    }

    /// Reads rows of a table, and calls `take` with each page of them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a row cannot be read, maybe after pages with other rows. Errors of `take`.
    pub(crate) fn read(
        &self,
        name: &str,
        range: &RowRange<'_>,
        mut take: impl FnMut(RowPage) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let table = Table::all(&self.connection)?.into_iter().find(|table| table.name == name);
        let table = table.ok_or(StoreError::NotFound("table"))?;
        let mut page = RowPage::new();
        let mut bytes = 0;
        let each = |values: Vec<Value>| {
            bytes += values.iter().map(size).sum::<usize>();
            page.push(values.into_iter().map(stored).collect());
            if page.len() < PAGE_ROWS && bytes < PAGE_BYTES {
                return Ok(());
            }
            bytes = 0;
            take(std::mem::take(&mut page))
        };
        let (lost, failure) = match range {
            RowRange::Whole => {
                let salvaged = salvage(&self.connection, &table, each)?;
                (salvaged.lost.into_iter().next(), salvaged.failure)
            }
            RowRange::Changed(round) => (round.read(&self.connection, &table, each)?, None),
        };
        if let Some((key, reason)) = lost {
            return Err(self.damaged(format!("row of {name}: {key}: {reason}")));
        }
        if let Some(failure) = failure {
            return Err(self.damaged(format!("table {name}: {failure}")));
        }
        take(page)
    }

    /// Takes a new snapshot, and reads which entries of the journal precede it. Brings the numbers of rows of `tables` up to date.
    pub(crate) fn begin_round(&mut self, tables: &mut [SourceTable]) -> Result<ChangeRound, StoreError> {
        self.take_snapshot()?;
        self.journal.as_ref().ok_or(StoreError::NotFound("journal"))?.begin_round(&self.connection, tables)
    }

    /// Returns the keys of a table that a round names. None: any row of the table may have changed.
    pub(crate) fn changed_keys(&self, name: &str, round: &ChangeRound) -> Result<Option<RowPage>, StoreError> {
        round.keys(&self.connection, name)
    }

    /// Ends a round, and removes its entries while a host adds others.
    pub(crate) fn end_round(&mut self, round: &ChangeRound) -> Result<(), StoreError> {
        self.end_snapshot()?;
        let is_live = self.is_live();
        let journal = self.journal.as_mut().ok_or(StoreError::NotFound("journal"))?;
        Ok(journal.end_round(&self.connection, round, is_live)?)
    }

    /// Closes the database, and renames it so that no host uses it. `to` is the database to which the store was moved, and the time. The
    /// folder stays locked.
    pub(crate) fn retire(mut self, to: &str) -> Result<RetiredSource, StoreError> {
        self.end_snapshot()?;
        let MoveSource { connection, folder, path, journal, .. } = self;
        let folder = folder.ok_or(StoreError::Stopped)?;
        if let Some(journal) = journal {
            journal.end(&connection, &path)?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        connection.close().map_err(|(_, error)| error)?;
        folder.record_closed();
        let retired = RetiredSource { _folder: folder, path };
        std::fs::write(retired.path.join(MOVED_TO), format!("{to}\n")).map_err(folder_error(&retired.path))?;
        if let Err(error) = retired.rename(DATABASE, MOVED) {
            // Its log may have another name already.
            retired.restore().ok();
            return Err(error);
        }
        Ok(retired)
    }
}

/// Locked data folder whose database no host uses any more.
pub(crate) struct RetiredSource {
    _folder: DataFolder,
    path: PathBuf,
}

impl RetiredSource {
    /// Gives the database its name again, because the move has failed.
    pub(crate) fn restore(self) -> Result<(), StoreError> {
        self.rename(MOVED, DATABASE)?;
        // The file says nothing without a database of the other name.
        std::fs::remove_file(self.path.join(MOVED_TO)).ok();
        Ok(())
    }

    /// Renames the database with its log, which exists only while another program reads the database.
    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let log = (format!("{from}{LOG_ENDING}"), format!("{to}{LOG_ENDING}"));
        for (from, to) in [(from.to_owned(), to.to_owned()), log] {
            match std::fs::rename(self.path.join(from), self.path.join(to)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed.map_err(folder_error(&self.path))?,
            }
        }
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(folder_error(&self.path))
    }
}

const _: () = assert!(DATABASE.len() + LOG_ENDING.len() == LOG.len());

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        _ => size_of::<Value>(),
    }
}
