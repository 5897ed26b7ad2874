//! The store in a data folder, as the source of a move to another database.
//!
//! # Guarantees
//! - The folder is locked until the value is dropped, so that no host runs on it. All rows are read in one snapshot.
//! - Every row is checked like `hookloom check` does: types, UTF-8, ids, JSON. Damage is [`StoreError::Damaged`].
//! - The files are only renamed, after the last read ([`MoveSource::retire`]).
//!
//! # Limits
//! Brings the database to the newest schema first, as every start does.

use super::check::{without_events, wrong_components};
use super::data_folder::{self, DATABASE, DataFolder, LOG, MOVED, folder_error};
use super::salvage::{Table, salvage};
use super::{schema, tune};
use crate::StoreError;
use crate::table_rows::{RowPage, StoredValue};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Maximum number of rows in a page.
const PAGE_ROWS: usize = 1_000;

/// Size at which a page ends, in bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Ending of the name of a log, after the name of its database.
const LOG_ENDING: &str = "-wal";

/// Locked data folder, with a snapshot of its store.
pub(crate) struct MoveSource {
    /// Dropped before the folder, which records that everything is closed.
    connection: Connection,
    folder: DataFolder,
    path: PathBuf,
    /// Fingerprint of the master key.
    pub(crate) master_key: [u8; 16],
}

/// Table of the source.
pub(crate) struct SourceTable {
    pub(crate) name: String,
    /// Names of the columns in each row. The first is `rowid`, if the table has one.
    pub(crate) columns: Vec<String>,
    /// Number of rows.
    pub(crate) rows: u64,
}

impl MoveSource {
    /// Locks a folder, and opens its store.
    ///
    /// # Errors
    /// [`StoreError::Locked`]: a host runs on it. [`StoreError::Damaged`]: rows are known to be damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // Before the lock, which would create a folder that does not exist.
        data_folder::inspect(path)?;
        std::fs::metadata(path.join(DATABASE)).map_err(folder_error(path))?;
        if path.join(MOVED).exists() {
            let what = format!("{} has a {MOVED} of an earlier move: move that file out of the folder", path.display());
            return Err(StoreError::Conflict(what));
        }
        let folder = DataFolder::lock(path)?;
        data_folder::inspect(path)?;
        folder.require_key()?;
        let opened = MoveSource::open_locked(folder, path);
        opened.map_err(|error| if error.is_damage() { error.at_start(path) } else { error })
    }

    fn open_locked(folder: DataFolder, path: &Path) -> Result<Self, StoreError> {
        let mut connection = folder.open_database()?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        tune(&connection)?;
        schema::migrate(&mut connection)?;
        let master_key = folder.open_vault(&connection)?.fingerprint();
        connection.execute_batch("BEGIN; SELECT 1 FROM tenants LIMIT 1")?;
        let source = MoveSource { connection, folder, path: path.to_owned(), master_key };
        source.require_undamaged()?;
        Ok(source)
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
            let sql = format!("SELECT COUNT(*) FROM {}", table.name);
            let rows = self.connection.query_row(&sql, [], |row| row.get(0))?;
            let columns = table.column_names().map(str::to_owned).collect();
            Ok(SourceTable { name: table.name, columns, rows })
        });
        tables.collect()
    }

    /// Reads a table, and calls `take` with each page of rows.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a row cannot be read, maybe after pages with other rows. Errors of `take`.
    pub(crate) fn read(
        &self,
        name: &str,
        mut take: impl FnMut(RowPage) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let table = Table::all(&self.connection)?.into_iter().find(|table| table.name == name);
        let table = table.ok_or(StoreError::NotFound("table"))?;
        let mut page = RowPage::new();
        let mut bytes = 0;
        let salvaged = salvage(&self.connection, &table, |values| {
            bytes += values.iter().map(size).sum::<usize>();
            page.push(values.into_iter().map(stored).collect());
            if page.len() < PAGE_ROWS && bytes < PAGE_BYTES {
                return Ok(());
            }
            bytes = 0;
            take(std::mem::take(&mut page))
        })?;
        if let Some((key, reason)) = salvaged.lost.first() {
            return Err(self.damaged(format!("row of {name}: {key}: {reason}")));
        }
        if let Some(failure) = salvaged.failure {
            return Err(self.damaged(format!("table {name}: {failure}")));
        }
        take(page)
    }

    /// Closes the database, and renames it so that no host uses it. The folder stays locked.
    pub(crate) fn retire(self) -> Result<RetiredSource, StoreError> {
        let MoveSource { connection, folder, path, .. } = self;
        connection.execute_batch("COMMIT")?;
        connection.close().map_err(|(_, error)| error)?;
        folder.record_closed();
        let retired = RetiredSource { _folder: folder, path };
        if let Err(error) = retired.rename(DATABASE, MOVED) {
            // Its log may have another name already.
            retired.rename(MOVED, DATABASE).ok();
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
        self.rename(MOVED, DATABASE)
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

fn stored(value: Value) -> StoredValue {
    match value {
        Value::Null => StoredValue::Null,
        Value::Integer(number) => StoredValue::Integer(number),
        Value::Real(number) => StoredValue::Real(number),
        Value::Text(text) => StoredValue::Text(text),
        Value::Blob(bytes) => StoredValue::Bytes(bytes),
    }
}
