//! Files of a data folder, which belong together: `hookloom.db` with its log, `master.key`, and the lock.
//!
//! # Guarantees
//! - One host per folder ([`FolderLock`]).
//! - Files that do not belong together are refused before SQLite opens them ([`inspect`]): a missing or empty database with a key,
//!   a log of another database, a missing log after a host was killed, another master key.
//! - A file that is removed or replaced while the host runs is detected at the next commit ([`OpenFiles::check`]), which fails.
//!
//! # Theory of operation
//! SQLite's log does not identify its database. So each start gives the database a new number (its `application_id`), copies the
//! number out of the log, and writes it to the file `hookloom.db-run`. A log that is found later belongs to the database with this
//! number; a backup has another number. The same file records whether the log is needed: from the first commit of a start until the
//! database is closed. The database identifies its master key by a value derived from the key.
//!
//! # Limits
//! Two copies of one database from the same run have the same number. A truncated log is not detected here.

mod header;
mod run;

use crate::StoreError;
use crate::folder_fault::FolderFault;
use crate::folder_lock::FolderLock;
use crate::vault::Vault;
use header::{Found, Header};
use hookloom_model::clock;
use run::Run;
use rusqlite::{Connection, OptionalExtension as _};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of the database's file in a data folder.
pub const DATABASE: &str = "hookloom.db";
/// Name of the database's file after a move to another database, under which no host uses it.
pub(super) const MOVED: &str = "hookloom.db.moved";
/// File that says where and when the store was moved.
pub(super) const MOVED_TO: &str = "hookloom.db.moved-to";
pub(super) const LOG: &str = "hookloom.db-wal";
const LOG_INDEX: &str = "hookloom.db-shm";
const RUN: &str = "hookloom.db-run";
/// Name of the master key's file in a data folder.
pub const MASTER_KEY: &str = "master.key";

/// Device and inode of a file, which stay when the file is renamed.
type FileId = (u64, u64);

fn file_id(path: &Path) -> Option<FileId> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Data folder that is locked by this process.
pub(super) struct DataFolder {
    lock: FolderLock,
    /// True once SQLite may open the files. A start that is refused earlier changes nothing.
    is_opened: AtomicBool,
}

impl DataFolder {
    /// Creates the folder if it does not exist, and locks it. The lock ends with the process.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        Ok(DataFolder { lock: FolderLock::take(path)?, is_opened: AtomicBool::new(false) })
    }

    /// Opens the database.
    pub(super) fn open_database(&self) -> rusqlite::Result<Connection> {
        self.is_opened.store(true, Ordering::Relaxed);
        Connection::open(self.file(DATABASE))
    }

    /// Returns the path of a file in the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.lock.path().join(name)
    }

    fn shown(&self) -> String {
        self.lock.path().display().to_string()
    }

    /// Returns an error if the folder has a database and no master key, before SQLite opens the database.
    pub(super) fn require_key(&self) -> Result<(), StoreError> {
        let is_known = self.file(RUN).exists() && self.file(DATABASE).exists();
        if Vault::read(&self.file(MASTER_KEY))?.is_none() && is_known {
            return Err(FolderFault::NoMasterKey { folder: self.shown() }.into());
        }
        Ok(())
    }

    /// Reads the master key, or creates one for a database in which no other key has sealed a secret.
    pub(super) fn open_vault(&self, connection: &Connection) -> Result<Vault, StoreError> {
        let path = self.file(MASTER_KEY);
        let known = known_key(connection)?;
        let Some(vault) = Vault::read(&path)? else {
            let sealed = connection.prepare("SELECT 1 FROM subscriptions LIMIT 1")?.exists([])?;
            if known.is_some() || sealed {
                return Err(FolderFault::NoMasterKey { folder: self.shown() }.into());
            }
            return Ok(Vault::open(&path)?);
        };
        if known.is_some_and(|known| known != vault.fingerprint()) {
            return Err(FolderFault::OtherMasterKey { folder: self.shown() }.into());
        }
        Ok(vault)
    }

    /// Records the master key's fingerprint and the number of this start in the database. If they cannot be written (a full disk),
    /// the previous number stays.
    pub(super) fn begin_run(&self, connection: &Connection, vault: &Vault) -> Result<OpenFiles, StoreError> {
        if let Err(error) = self.renumber(connection, vault) {
            tracing::warn!(%error, "the database could not be given the number of this start");
        }
        let files = [DATABASE, LOG, LOG_INDEX].map(|name| (name, self.file(name)));
        let files = files.into_iter().filter_map(|(name, path)| Some((name, file_id(&path)?, path)));
        Ok(OpenFiles(files.map(|(name, id, path)| OpenFile { name, path, id }).collect()))
    }

    fn renumber(&self, connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
        if known_key(connection)?.is_none() {
            let sql = "INSERT INTO identity (only_row, master_key) VALUES (1, ?1)";
            connection.execute(sql, [vault.fingerprint()])?;
        }
        let before: u32 =
            connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0))?.cast_unsigned();
        let now = new_number(before);
        // A crash between two of these steps leaves the database with one of the two numbers.
        let needs_log = Presence::of(&self.file(LOG)).is_ok_and(|log| log == Presence::Filled);
        self.write_run(Run { databases: [before, now], needs_log });
        connection.pragma_update(None, "application_id", now.cast_signed())?;
        let copied = connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
            let [busy, pages, copied]: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
            Ok(busy == 0 && pages == copied)
        })?;
        // From here on, the log is needed.
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (1, ?1)";
        connection.execute(sql, [clock::now_ms()])?;
        self.write_run(Run { databases: [if copied { now } else { before }, now], needs_log: true });
        Ok(())
    }

    fn write_run(&self, run: Run) {
        // The start goes on without the file.
        if let Err(error) = run.write(&self.file(RUN)) {
            tracing::warn!(%error, "hookloom.db-run could not be written; a log that does not belong to its database would not be noticed");
        }
    }

    /// Records that the log is not needed, if it is gone. The connections of this process are closed.
    pub(super) fn record_closed(&self) {
        let Ok(Some(run)) = Run::read(&self.file(RUN)) else { return };
        if Presence::of(&self.file(LOG)).is_ok_and(|log| log != Presence::Filled) && self.file(DATABASE).exists() {
            self.write_run(Run { needs_log: false, ..run });
        }
    }

    /// Returns faults that affect only the next start.
    pub(super) fn faults(&self, vault: &Vault) -> Vec<String> {
        let key = Vault::read(&self.file(MASTER_KEY));
        let key = match key {
            Ok(Some(key)) if key.fingerprint() == vault.fingerprint() => None,
            Ok(Some(_)) => {
                Some("master.key was replaced by another key: put the previous one back before the host stops")
            }
            Ok(None) => {
                Some("master.key was removed: put it back before the host stops, or nothing opens its secrets again")
            }
            Err(_) => Some("master.key cannot be read: without it the host does not start again"),
        };
        let lock = (!self.lock.is_in_place())
            .then_some("the file lock was removed or replaced: restart the host, so that every other one knows of it");
        lock.into_iter().chain(key).map(str::to_owned).collect()
    }
}

/// Checks the files of a folder before SQLite opens them. SQLite would create a missing database, delete a log without a database,
/// and copy any log into any database.
pub(super) fn inspect(path: &Path) -> Result<(), StoreError> {
    let folder = path.display().to_string();
    let in_folder = |source| StoreError::Folder { folder: folder.clone(), source };
    let header = Header::read(&path.join(DATABASE)).map_err(in_folder)?;
    let log = Presence::of(&path.join(LOG)).map_err(in_folder)?;
    let has_log = log == Presence::Filled;
    let database = match &header {
        Found::Missing => Presence::Missing,
        Found::Empty => Presence::Empty,
        // Everything that was written to the database is in its log.
        Found::Header(header) if header.schema == 0 && !has_log => Presence::Empty,
        Found::Header(_) => Presence::Filled,
    };
    if database != Presence::Filled {
        if database == Presence::Missing && path.join(MOVED).exists() {
            let to = std::fs::read_to_string(path.join(MOVED_TO)).unwrap_or_default();
            let to = to.lines().next().filter(|to| !to.is_empty()).unwrap_or("PostgreSQL").to_owned();
            return Err(FolderFault::Moved { folder, to }.into());
        }
        if has_log || path.join(MASTER_KEY).exists() {
            return Err(FolderFault::NoDatabase { folder, what: database.shown() }.into());
        }
        return Ok(());
    }
    let Found::Header(header) = header else { return Ok(()) };
    let Some(run) = Run::read(&path.join(RUN)).map_err(in_folder)? else { return Ok(()) };
    if !run.databases.contains(&header.database) {
        // The database was put there from elsewhere. Without a log, nothing can be confused.
        return if has_log { Err(FolderFault::ForeignLog { folder }.into()) } else { Ok(()) };
    }
    if run.needs_log && !has_log {
        return Err(FolderFault::NoLog { folder, what: log.shown() }.into());
    }
    Ok(())
}

impl Drop for DataFolder {
    /// Runs last: the connections of the store are closed.
    fn drop(&mut self) {
        if self.is_opened.load(Ordering::Relaxed) {
            self.record_closed();
        }
    }
}

/// Returns a number that no other copy of the database has.
fn new_number(before: u32) -> u32 {
    loop {
        let number = rand::random();
        if number != before && number != 0 {
            return number;
        }
    }
}

/// Gives a copy of a database a new number, so that the log of the original is not used for the copy.
pub(super) fn number_copy(copy: &Connection) -> rusqlite::Result<()> {
    let before: u32 = copy.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0))?.cast_unsigned();
    copy.pragma_update(None, "application_id", new_number(before).cast_signed())
}

/// Returns the fingerprint of the master key in the database. None: the database was last used by a version without fingerprints.
pub(super) fn known_key(connection: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    let exists = connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'identity'")?.exists([])?;
    if !exists {
        return Ok(None);
    }
    connection.query_row("SELECT master_key FROM identity", [], |row| row.get(0)).optional()
}

/// Wraps an I/O error with the folder in which it happened.
pub(super) fn folder_error(folder: &Path) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
    let folder = folder.display().to_string();
    move |source| StoreError::Folder { folder, source }
}

/// Files that SQLite has open, by name, device and inode.
#[derive(Clone)]
pub(super) struct OpenFiles(Arc<[OpenFile]>);

struct OpenFile {
    name: &'static str,
    path: PathBuf,
    id: FileId,
}

impl OpenFiles {
    /// Returns a check of no files, for a database in memory.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        OpenFiles(Arc::new([]))
    }

    /// Returns an error if a name leads to another file than the open one. The open file is gone then, with everything written to
    /// it.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        let Some(moved) = self.0.iter().find(|file| file_id(&file.path) != Some(file.id)) else { return Ok(()) };
        let what = format!("{} was removed or replaced while this host uses it", moved.name);
        let moved = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
        Err(rusqlite::Error::SqliteFailure(moved, Some(what)))
    }
}

/// Presence and content of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Missing,
    Empty,
    Filled,
}

impl Presence {
    fn of(path: &Path) -> std::io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() == 0 => Ok(Presence::Empty),
            Ok(_) => Ok(Presence::Filled),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Presence::Missing),
            Err(error) => Err(error),
        }
    }

    fn shown(self) -> &'static str {
        if self == Presence::Missing { "missing" } else { "empty" }
    }
}
