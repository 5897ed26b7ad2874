//! Disk reserve, which keeps deletions possible when the disk is full.
//!
//! # Theory of operation
//! The file `reserve` occupies `disk_reserve_bytes` of the disk. When a commit fails for lack of space, the file is emptied, and
//! writes that make the store larger are refused. The freed space is for outcomes, deletions, pruning and settings. Deleted rows
//! leave free pages in the database, whose file does not shrink. So the store leaves this state when the file can be filled again,
//! or when file and free pages together are half of it, and the log has room for the largest event.
//!
//! The pages of the log that are not copied yet need room in the database, because the log can restart only after all of them are
//! copied. Usually the log has at most half of the reserve. While it is longer, because a reader of an older state prevents a
//! restart or the disk is slow, every write that makes the store larger requires that the disk, the reserve and free pages together
//! have room for these pages and half of the reserve.
//!
//! # Limits
//! Other programs may use the freed reserve. Compression and quotas that fallocate(2) does not respect are not detected before a
//! commit fails. On a small disk the reserve is at most a quarter of the disk. Outcomes and deletions are written while a reader
//! prevents a restart of the log, which then may become larger than the reserve.

use crate::StoreError;
use hookloom_model::clock;
use parking_lot::Mutex;
use rusqlite::{Connection, ffi};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Divisor of the disk's size that bounds the reserve.
const DISK_DIVISOR: u64 = 4;

/// Minimum size of a reserve, in bytes. If less is possible, there is none.
const BYTES_MIN: u64 = 1 << 20;

/// Size of a page, in bytes: SQLite's default.
const PAGE_BYTES: u64 = 4_096;

/// Maximum size to which the log's file is truncated, in bytes.
const LOG_BYTES_KEPT: u64 = 64 << 20;

/// Size of an event in the log besides its payload, in bytes: its rows, its deliveries and the pages of their indexes.
const EVENT_ROWS_BYTES: u64 = 64 << 10;

/// Minimum pause between two checks of a full disk. A check that takes long is repeated later, so that checks take at most a fifth
/// of the writer's time.
const CHECK_PAUSE_MIN: Duration = Duration::from_millis(5);

/// States, stored in an atomic.
const AMPLE: u8 = 0;
const THIN: u8 = 1;
const FULL: u8 = 2;

/// State of the disk, as the writer knows it.
pub(super) struct DiskRoom {
    /// None if no reserve is configured.
    reserve: Option<Reserve>,
    /// Size of the largest event with its rows, in bytes.
    event_bytes: u64,
    /// [`AMPLE`]: the reserve is complete. [`THIN`]: free pages replace a part of it. [`FULL`]: the store does not grow.
    state: AtomicU8,
    failed_commits: AtomicU64,
    /// Number of pages in the log after the last commit.
    log_pages: AtomicI32,
    /// Time of the next check of a full disk.
    again: Mutex<Instant>,
}

impl DiskRoom {
    /// Creates the reserve in a folder.
    pub(super) fn reserve(folder: &Path, bytes: u64, event_bytes_max: u64) -> std::io::Result<Self> {
        let reserve = Reserve::in_folder(folder, bytes)?;
        let state = match &reserve {
            Some(reserve) if reserve.fill() < reserve.bytes => {
                tracing::warn!(
                    bytes = reserve.bytes,
                    "the disk of the data folder has no room for the whole reserve (disk_reserve_bytes)"
                );
                THIN
            }
            _ => AMPLE,
        };
        Ok(DiskRoom {
            reserve,
            event_bytes: event_bytes_max.saturating_add(EVENT_ROWS_BYTES),
            state: AtomicU8::new(state),
            failed_commits: AtomicU64::new(0),
            log_pages: AtomicI32::new(0),
            again: Mutex::new(clock::instant()),
        })
    }

    /// Returns a state without a reserve, for databases in memory.
    #[cfg(test)]
    pub(super) fn unbounded() -> Self {
        DiskRoom {
            reserve: None,
            event_bytes: 0,
            state: AtomicU8::new(AMPLE),
            failed_commits: AtomicU64::new(0),
            log_pages: AtomicI32::new(0),
            again: Mutex::new(clock::instant()),
        }
    }

    /// Returns true if the store does not grow.
    pub(super) fn is_full(&self) -> bool {
        self.state.load(Ordering::Relaxed) == FULL
    }

    /// Returns the number of commits that failed since the start.
    pub(super) fn failed_commits(&self) -> u64 {
        self.failed_commits.load(Ordering::Relaxed)
    }

    /// Returns the maximum number of pages in the log before it is copied: half of the reserve, so that the log can be copied and
    /// restarts on a full disk.
    pub(super) fn log_pages_max(&self) -> i32 {
        let pages = self.reserve.as_ref().map(|reserve| reserve.bytes / 2 / PAGE_BYTES);
        pages.and_then(|pages| i32::try_from(pages).ok()).unwrap_or(i32::MAX)
    }

    /// Returns the size to which the log's file is truncated when the log restarts, in bytes.
    pub(super) fn log_bytes_kept(&self) -> u64 {
        self.reserve.as_ref().map_or(LOG_BYTES_KEPT, |reserve| reserve.bytes.min(LOG_BYTES_KEPT))
    }

    /// Records the number of pages in the log. Called after each commit.
    pub(super) fn note_log(&self, pages: i32) {
        self.log_pages.store(pages, Ordering::Relaxed);
    }

    /// Returns an error if the disk is full, before a write that makes the store larger.
    pub(super) fn require(&self, connection: &Connection) -> Result<(), StoreError> {
        let Some(reserve) = &self.reserve else { return Ok(()) };
        if self.is_full() {
            return Err(StoreError::DiskFull);
        }
        let is_thin = self.state.load(Ordering::Relaxed) == THIN;
        let is_log_long = self.log_pages.load(Ordering::Relaxed) > self.log_pages_max();
        if (!is_thin || reserve.suffices(reserve.held(), connection)?)
            && (!is_log_long || reserve.has_room_for_log(connection)?)
        {
            return Ok(());
        }
        self.become_full(reserve);
        Err(StoreError::DiskFull)
    }

    /// Writes as much as the largest event needs. The caller must roll back the transaction or savepoint.
    pub(super) fn try_event(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (2, zeroblob(?1))";
        connection.prepare_cached(sql)?.execute([self.event_bytes])?;
        // Otherwise the pages would only be in memory.
        connection.cache_flush()
    }

    /// Frees the reserve if a commit failed for lack of space. Called between two transactions.
    pub(super) fn after_failed_commit(&self, connection: &Connection) {
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
        let Some(reserve) = self.reserve.as_ref().filter(|_| !self.is_full()) else { return };
        if self.try_alone(connection).is_err_and(|error| is_full_disk(&error)) {
            self.become_full(reserve);
            // While there is space: the copy makes the database larger, and the log restarts after it.
            copy_log(connection);
        }
    }

    /// Checks a full disk again. Called between two transactions.
    pub(super) fn check_again(&self, connection: &Connection) {
        let Some(reserve) = self.reserve.as_ref().filter(|_| self.is_full()) else { return };
        let begun = clock::instant();
        let mut again = self.again.lock();
        if begun < *again {
            return;
        }
        copy_log(connection);
        let held = reserve.fill();
        if reserve.suffices(held, connection).unwrap_or(false) && self.try_alone(connection).is_ok() {
            self.state.store(if held < reserve.bytes { THIN } else { AMPLE }, Ordering::Relaxed);
            tracing::info!(reserve = held, "the disk of the data folder has room again: events are accepted");
        } else {
            reserve.release();
        }
        *again = clock::instant() + CHECK_PAUSE_MIN.max(clock::since(begun) * 4);
    }

    fn try_alone(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let tried = self.try_event(connection);
        let undone = if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") };
        tried.and(undone)
    }

    fn become_full(&self, reserve: &Reserve) {
        self.state.store(FULL, Ordering::Relaxed);
        reserve.release();
        tracing::error!(
            reserve = reserve.bytes,
            "the disk of the data folder is full: events and uploads are refused; the reserve is free for outcomes, deletions and pruning"
        );
    }
}

/// Copies the log into the database as far as readers allow. Errors are left to the next commit.
fn copy_log(connection: &Connection) {
    let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = copied {
        tracing::debug!(%error, "the log could not be copied");
    }
}

/// Returns true if an error comes from a lack of space: a full disk, a quota, or a limit on the size of files.
pub(super) fn is_full_disk(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE))
}

/// File that occupies a part of the disk.
struct Reserve {
    path: PathBuf,
    /// Intended size, in bytes.
    bytes: u64,
}

impl Reserve {
    /// Opens the reserve. None: no reserve is configured, or the disk is too small.
    fn in_folder(folder: &Path, bytes: u64) -> std::io::Result<Option<Self>> {
        let path = folder.join("reserve");
        let disk = statvfs(folder)?;
        let bytes = bytes.min(disk.f_blocks.saturating_mul(disk.f_frsize) / DISK_DIVISOR);
        if bytes < BYTES_MIN {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(None),
            };
        }
        Ok(Some(Reserve { path, bytes }))
    }

    fn held(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Returns true if the reserve file and free pages are sufficient for the store to grow.
    fn suffices(&self, held: u64, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(held.saturating_add(page_bytes(connection, "PRAGMA freelist_count")?) >= self.bytes / 2)
    }

    /// Returns true if the disk, the reserve and free pages have room for the pages that the log will add to the database's file,
    /// and half of the reserve.
    fn has_room_for_log(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let database = connection.path().map(std::fs::metadata);
        let (Some(Ok(database)), Ok(disk)) = (database, statvfs(&self.path)) else { return Ok(true) };
        let added = page_bytes(connection, "PRAGMA page_count")?.saturating_sub(database.len());
        let available = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(self.held());
        let available = available.saturating_add(page_bytes(connection, "PRAGMA freelist_count")?);
        Ok(available >= added.saturating_add(self.bytes / 2))
    }

    /// Fills the file as far as possible, and returns its size in bytes.
    fn fill(&self) -> u64 {
        let filled = File::options().write(true).create(true).truncate(false).open(&self.path);
        let filled = filled.and_then(|mut file| {
            // A write beyond the limit for the size of files raises a signal that ends the process (setrlimit(2)).
            let (limit, _) = rlimit::Resource::FSIZE.get()?;
            let mut bytes = self.bytes.min(limit);
            while bytes >= BYTES_MIN {
                if file.metadata()?.len() > bytes {
                    file.set_len(bytes)?;
                }
                if set_aside(&mut file, bytes).is_ok() {
                    return Ok(bytes);
                }
                file.set_len(0)?;
                bytes /= 2;
            }
            file.set_len(0)?;
            Ok(0)
        });
        filled.unwrap_or_else(|error| {
            tracing::warn!(%error, "the file reserve of the data folder cannot be written");
            0
        })
    }

    fn release(&self) {
        let file = File::options().write(true).open(&self.path);
        if let Err(error) = file.and_then(|file| file.set_len(0)) {
            tracing::error!(%error, "the file reserve of the data folder could not be emptied; delete it");
        }
    }
}

/// Returns the size of the pages that a pragma counts, in bytes.
fn page_bytes(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0));
    Ok(number(pragma)?.saturating_mul(number("PRAGMA page_size")?))
}

/// Allocates bytes of the disk to a file.
fn set_aside(file: &mut File, bytes: u64) -> std::io::Result<()> {
    match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.rewind()?;
            std::io::copy(&mut std::io::repeat(0).take(bytes), file).map(drop)
        }
        held => Ok(held?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(bytes: u64) -> (tempfile::TempDir, Reserve) {
        let folder = tempfile::tempdir().expect("a folder");
        let reserve = Reserve::in_folder(folder.path(), bytes).expect("a look").expect("a reserve");
        (folder, reserve)
    }

    #[test]
    fn a_reserve_holds_what_it_says() {
        use std::os::unix::fs::MetadataExt as _;
        let (_folder, reserve) = reserve(3 << 20);
        assert_eq!((reserve.held(), reserve.fill(), reserve.held()), (0, 3 << 20, 3 << 20));
        let blocks = std::fs::metadata(&reserve.path).expect("there").blocks();
        assert!(blocks * 512 >= 3 << 20, "{blocks} blocks: it is a hole");
        reserve.release();
        assert_eq!((reserve.held(), reserve.fill()), (0, 3 << 20));
        let smaller = Reserve { bytes: 2 << 20, ..reserve };
        assert_eq!((smaller.fill(), smaller.held()), (2 << 20, 2 << 20));
    }

    #[test]
    fn none_is_kept_where_none_is_wanted() {
        let (folder, reserve) = reserve(2 << 20);
        reserve.fill();
        assert!(Reserve::in_folder(folder.path(), 0).expect("a look").is_none() && !reserve.path.exists());
        // More than the size of the disk.
        let largest = Reserve::in_folder(folder.path(), u64::MAX).expect("a look").expect("a reserve");
        let disk = statvfs(folder.path()).expect("a look");
        assert_eq!(largest.bytes, disk.f_blocks * disk.f_frsize / DISK_DIVISOR);
    }

    #[test]
    fn free_pages_stand_for_a_reserve() {
        let (_folder, reserve) = reserve(4 << 20);
        let database = Connection::open_in_memory().expect("a database");
        let suffices = |held: u64| reserve.suffices(held, &database).expect("a look");
        assert!(suffices(2 << 20) && !suffices((2 << 20) - 1));
        database
            .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(3000000)); DELETE FROM t")
            .expect("rows");
        assert!(suffices(0));
    }
}
