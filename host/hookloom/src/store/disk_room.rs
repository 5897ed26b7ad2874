//! Room on the disk of the data folder: a reserve that keeps deletions possible when the disk is full.
//!
//! # Theory of operation
//! A file `reserve` holds `disk_reserve_bytes` of the disk. When a commit fails for want of room, the file is emptied, and writes
//! that make the store larger are refused: what is left is for outcomes, deletions, pruning and settings. Rows that are deleted
//! leave free pages in the database, whose file does not shrink. So the store leaves this state when the file can be filled again,
//! or when file and free pages together are half of it, and the largest event has room in the log.
//!
//! # Limits
//! Others who write to the same disk may take the reserve once it is free. Compression and quotas that fallocate(2) does not know
//! of are not seen; what a commit says counts. On a small disk the reserve is a quarter of the disk at the most. A log that a reader
//! keeps from beginning anew may have become larger than the reserve.

use super::StoreError;
use rusqlite::{Connection, ffi};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Part of the disk that a reserve takes at the most.
const OF_DISK_MAX: u64 = 4;

/// A smaller reserve is none.
const BYTES_MIN: u64 = 1 << 20;

/// Size of a page: SQLite's default.
const PAGE_BYTES: u64 = 4_096;

/// Bytes that an event takes in the log beside its payload: its rows, its deliveries and the pages of their indexes.
const BESIDE_PAYLOAD: u64 = 64 << 10;

/// Shortest time between two looks at a full disk. A look that takes long is repeated later, so that looking takes a fifth of the
/// writer's time at the most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// States, as they are kept in an atomic.
const AMPLE: u8 = 0;
const THIN: u8 = 1;
const FULL: u8 = 2;

/// Room on the disk, as the writer knows it.
pub(super) struct DiskRoom {
    /// None: no reserve is wanted.
    reserve: Option<Reserve>,
    /// Bytes of the largest event with its rows.
    event_bytes: u64,
    /// [`AMPLE`]: the reserve is whole. [`THIN`]: free pages stand for a part of it. [`FULL`]: the store does not grow.
    state: AtomicU8,
    failed_commits: AtomicU64,
    /// Time of the next check of a full disk.
    again: Mutex<Instant>,
}

impl DiskRoom {
    /// Sets room aside in a folder.
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
            event_bytes: event_bytes_max.saturating_add(BESIDE_PAYLOAD),
            state: AtomicU8::new(state),
            failed_commits: AtomicU64::new(0),
            again: Mutex::new(Instant::now()),
        })
    }

    /// No reserve: for databases in memory.
    #[cfg(test)]
    pub(super) fn unbounded() -> Self {
        DiskRoom {
            reserve: None,
            event_bytes: 0,
            state: AtomicU8::new(AMPLE),
            failed_commits: AtomicU64::new(0),
            again: Mutex::new(Instant::now()),
        }
    }

    /// Returns true if the store does not grow.
    pub(super) fn is_full(&self) -> bool {
        self.state.load(Ordering::Relaxed) == FULL
    }

    /// Number of commits that failed since the start.
    pub(super) fn failed_commits(&self) -> u64 {
        self.failed_commits.load(Ordering::Relaxed)
    }

    /// Maximum number of pages in the log before it is copied: as many as fit into half of the reserve, so that on a full disk a log can
    /// be copied and begins anew.
    pub(super) fn log_pages_max(&self) -> i32 {
        let pages = self.reserve.as_ref().map(|reserve| reserve.bytes / 2 / PAGE_BYTES);
        pages.and_then(|pages| i32::try_from(pages).ok()).unwrap_or(i32::MAX)
    }

    /// Refuses a write that makes the store larger, if the disk is full.
    pub(super) fn require(&self, connection: &Connection) -> Result<(), StoreError> {
        let Some(reserve) = &self.reserve else { return Ok(()) };
        if self.state.load(Ordering::Relaxed) == THIN && !reserve.suffices(reserve.held(), connection)? {
            self.become_full(reserve);
        }
        if self.is_full() { Err(StoreError::DiskFull) } else { Ok(()) }
    }

    /// Writes as much as the largest event takes, and takes it back. Must be called in a transaction of its own or in a savepoint
    /// that is rolled back.
    pub(super) fn try_event(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (2, zeroblob(?1))";
        connection.prepare_cached(sql)?.execute([self.event_bytes])?;
        // Otherwise it would only be in memory.
        connection.cache_flush()
    }

    /// Looks, between two transactions, whether a commit failed for want of room, and frees the reserve if so.
    pub(super) fn after_failed_commit(&self, connection: &Connection) {
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
        let Some(reserve) = self.reserve.as_ref().filter(|_| !self.is_full()) else { return };
        if self.try_alone(connection).is_err_and(|error| is_full_disk(&error)) {
            self.become_full(reserve);
            // While there is room for it: what is in the log makes the database larger, and after that the log begins anew.
            copy_log(connection);
        }
    }

    /// Looks at a full disk again, between two transactions.
    pub(super) fn look_again(&self, connection: &Connection) {
        let Some(reserve) = self.reserve.as_ref().filter(|_| self.is_full()) else { return };
        let begun = Instant::now();
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
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
        *again = Instant::now() + LOOK_AGAIN.max(begun.elapsed() * 4);
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

/// Copies the log into the database as far as readers allow. What goes wrong is the next commit's affair.
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

/// The file that holds a part of the disk.
struct Reserve {
    path: PathBuf,
    /// Bytes that it is meant to hold.
    bytes: u64,
}

impl Reserve {
    /// None: no reserve is wanted, or the disk is too small for one.
    fn in_folder(folder: &Path, bytes: u64) -> std::io::Result<Option<Self>> {
        let path = folder.join("reserve");
        let disk = statvfs(folder)?;
        let bytes = bytes.min(disk.f_blocks.saturating_mul(disk.f_frsize) / OF_DISK_MAX);
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

    /// Returns true if the reserve file and free pages are enough to let the store grow.
    fn suffices(&self, held: u64, connection: &Connection) -> rusqlite::Result<bool> {
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0));
        let free = number("PRAGMA freelist_count")?.saturating_mul(number("PRAGMA page_size")?);
        Ok(held.saturating_add(free) >= self.bytes / 2)
    }

    /// Fills the file, or as much of it as there is room for. Returns the bytes that it holds then.
    fn fill(&self) -> u64 {
        let filled = File::options().write(true).create(true).truncate(false).open(&self.path);
        let filled = filled.and_then(|mut file| {
            // Beyond the limit for the size of files is a signal that ends the process (setrlimit(2)).
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

/// Lets a file hold so many bytes of the disk.
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
        // More than the disk has.
        let largest = Reserve::in_folder(folder.path(), u64::MAX).expect("a look").expect("a reserve");
        let disk = statvfs(folder.path()).expect("a look");
        assert_eq!(largest.bytes, disk.f_blocks * disk.f_frsize / OF_DISK_MAX);
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
