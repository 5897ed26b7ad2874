//! Keeps the write-ahead log short without making writes wait.
//!
//! SQLite would copy the log into the database in the commit that makes it too long, and everybody would wait for some
//! thousand pages. Here a thread of its own copies them while commits go on, and a later commit copies only what was added
//! meanwhile and flushes the database, after which the log begins anew (<https://www.sqlite.org/wal.html#ckpt>). Copying
//! takes nothing away: whatever is interrupted or fails, a full disk too, is done again by a later commit. Where the thread
//! cannot keep up with what is written, commits copy the rest and so wait for the disk, as they would have from the beginning.

use super::StoreError;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Number of pages (16 MiB) from which on the log is copied: a page that many commits write is copied once.
const PAGES: i32 = 4_000;

/// Maximum number of rounds in which the thread copies pages that were added meanwhile, before commits copy them themselves.
const ROUNDS: u32 = 4;

/// Says instead of a number of pages that the thread is at work.
const COPYING: i32 = -1;

/// State of the hook that runs after every commit of the writer's connection.
struct AfterCommit {
    requests: Option<SyncSender<()>>,
    copier: Option<JoinHandle<()>>,
    /// Number of pages from which on the log is copied.
    pages_max: i32,
    /// True if the copier was asked since the log has passed `pages_max`. Then `reached` is the number of pages that it had
    /// copied when last seen, and `rounds` the number of times that this number has grown.
    asked: bool,
    reached: i32,
    rounds: u32,
    /// Number of pages of the log that the copier has copied, or [`COPYING`].
    copied: Arc<AtomicI32>,
}

/// Has the log of the writer's connection copied from now on, before it has more pages than [`PAGES`] and than `pages_max`.
pub(super) fn keep_log_short(writer: &mut Connection, path: &Path, pages_max: i32) -> Result<(), StoreError> {
    keep_shorter(writer, path, PAGES.min(pages_max))
}

fn keep_shorter(writer: &mut Connection, path: &Path, pages_max: i32) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    super::tune(&connection)?;
    let (requests, requested) = sync_channel(1);
    let copied = Arc::new(AtomicI32::new(0));
    let copier = std::thread::Builder::new().name("store-log".into());
    let copier = copier.spawn({
        let copied = copied.clone();
        move || copy_when_asked(&connection, &requested, &copied)
    });
    let copier = copier.map_err(|source| StoreError::Folder { folder: path.display().to_string(), source })?;
    let mut after = AfterCommit {
        requests: Some(requests),
        copier: Some(copier),
        pages_max,
        asked: false,
        reached: 0,
        rounds: 0,
        copied,
    };
    writer.wal_hook(Some(move |log: &mut Wal, pages| {
        after.commit(log, pages);
        Ok(())
    }))?;
    Ok(())
}

fn copy_when_asked(connection: &Connection, requested: &Receiver<()>, copied: &AtomicI32) {
    for () in requested {
        let pages = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get("checkpointed"));
        // A full disk, as a rule: nothing is copied, and what the commits that follow do says so to everybody.
        let pages = pages.inspect_err(|error| tracing::debug!(%error, "the log could not be copied"));
        copied.store(pages.unwrap_or(0).max(0), Ordering::Release);
    }
}

impl AfterCommit {
    fn commit(&mut self, log: &mut Wal, pages: i32) {
        if pages < self.pages_max {
            (self.asked, self.reached, self.rounds) = (false, 0, 0);
            return;
        }
        if !self.asked {
            self.asked = true;
            if self.ask() {
                return;
            }
        }
        let copied = self.copied.load(Ordering::Acquire);
        if copied == COPYING {
            return;
        }
        // A reader of an older state keeps it where it was: that is no round.
        self.rounds += u32::from(copied > self.reached);
        self.reached = copied;
        let much_was_added = pages - copied >= self.pages_max;
        if !(much_was_added && self.rounds < ROUNDS && self.ask()) {
            // If it does not suffice for the log to begin anew, the next commit tries again.
            let _ = log.checkpoint();
        }
    }

    /// Asks for the log to be copied; false if nobody is there to do it.
    fn ask(&self) -> bool {
        self.copied.store(COPYING, Ordering::Relaxed);
        let asked = self.requests.as_ref().is_some_and(|requests| requests.try_send(()).is_ok());
        if !asked {
            self.copied.store(0, Ordering::Relaxed);
        }
        asked
    }
}

impl Drop for AfterCommit {
    /// The writer's connection is closed after the copier's: the last one that can write leaves no log behind.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(copier) = self.copier.take() {
            let _ = copier.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn commit(connection: &Connection) {
        connection.execute("INSERT INTO rows VALUES (zeroblob(3000))", []).expect("a commit");
    }

    /// Returns the number of times that the log has begun anew, from its header
    /// (<https://www.sqlite.org/fileformat2.html#walformat>).
    fn times_begun(log: &Path) -> u32 {
        let header = std::fs::read(log).expect("a log");
        u32::from_be_bytes(header[12..16].try_into().expect("four bytes"))
    }

    #[test]
    fn the_log_begins_anew_unless_a_reader_needs_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let log = folder.path().join("a.db-wal");
        let mut writer = Connection::open(&path).expect("a database");
        writer.pragma_update(None, "journal_mode", "WAL").expect("a log");
        writer.pragma_update(None, "synchronous", "OFF").expect("no flushes");
        writer.execute_batch("CREATE TABLE rows (row BLOB)").expect("a table");
        keep_shorter(&mut writer, &path, 50).expect("a copier");
        let reader = Connection::open(&path).expect("a reader");
        reader.execute_batch("BEGIN; SELECT * FROM rows").expect("a snapshot");
        (0..500).for_each(|_| commit(&writer));
        assert_eq!(times_begun(&log), 0);
        reader.execute_batch("COMMIT").expect("the reader's end");
        let mut rows = 500;
        let begun = Instant::now();
        while times_begun(&log) < 3 {
            assert!(begun.elapsed() < Duration::from_secs(60), "the log has begun anew {} times", times_begun(&log));
            (0..20).for_each(|_| commit(&writer));
            rows += 20;
            // The copier has a disk to wait for.
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(reader);
        drop(writer);
        assert!(!log.exists(), "the writer is the last one, and leaves no log behind");
        let kept: i64 = Connection::open(&path)
            .expect("it")
            .query_row("SELECT COUNT(*) FROM rows", [], |row| row.get(0))
            .expect("rows");
        assert_eq!(kept, rows);
    }

    #[tokio::test]
    async fn a_store_that_is_closed_leaves_no_log_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _news) = crate::store::Store::open(folder.path()).expect("a store");
        // It has a connection that reads, and keeps it.
        store.check().await.expect("a write and a read");
        assert!(folder.path().join("hookloom.db-wal").exists());
        drop(store);
        assert!(!folder.path().join("hookloom.db-wal").exists());
    }
}
