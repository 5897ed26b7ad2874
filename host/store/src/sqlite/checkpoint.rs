//! Checkpoints in the background: keep the write-ahead log short without delaying writes.
//!
//! By default, SQLite copies the log into the database in the commit that makes the log too long, and every write waits for some
//! thousand pages. Here, a separate thread copies the pages while commits go on. A later commit copies only the pages added since
//! then and flushes the database, after which the log restarts (<https://www.sqlite.org/wal.html#ckpt>). SQLite flushes only when all
//! pages are copied, so the thread flushes what it has copied: otherwise that commit would wait for the disk to write all of it (up to
//! 77 ms for 16 MiB, measured beside other writes). A copy that is interrupted or fails, on a full disk for example, is repeated by a
//! later commit. If the thread cannot keep up with the writes, commits copy the remaining pages themselves and wait for the disk.
//!
//! # Cost and gain
//! Cost: this file, a thread, and a descriptor that is never closed. Gain: the row *batch* of the bench takes 0.93 to 0.97 of the
//! time, and no commit waits for the copy of a whole log (8 ms instead of 77). Remove it, and let SQLite copy in a commit
//! (`wal_autocheckpoint`), when the gain of *batch* is below 3 % and p99 of an accepted event beside another tenant's batches stays.

use super::disk_room::DiskRoom;
use crate::StoreError;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Number of pages in the log (16 MiB) at which the copy begins. A page that many commits write is copied once.
const PAGES: i32 = 4_000;

/// Maximum number of rounds in which the thread copies pages added in the meantime, before commits copy them.
const ROUNDS: u32 = 4;

/// Value instead of a number of pages while the thread copies.
const COPYING: i32 = -1;

/// State of the hook that runs after every commit of the writer's connection.
struct AfterCommit {
    requests: Option<SyncSender<()>>,
    copier: Option<JoinHandle<()>>,
    /// Number of pages in the log at which the copy begins.
    pages_max: i32,
    /// True if the copier was asked since the log exceeded `pages_max`. Then `reached` is the last known number of copied pages,
    /// and `rounds` counts how often it has grown.
    asked: bool,
    reached: i32,
    rounds: u32,
    /// Number of pages of the log that the copier has copied, or [`COPYING`].
    copied: Arc<AtomicI32>,
}

/// Database file, opened to flush it. Never closed: closing any descriptor of a file releases the locks that the process holds
/// on it (fcntl(2)), including those of SQLite.
struct FlushedFile(ManuallyDrop<File>);

impl FlushedFile {
    fn open(path: &Path) -> std::io::Result<Self> {
        Ok(FlushedFile(ManuallyDrop::new(File::options().write(true).open(path)?)))
    }

    /// Waits until the written pages are on the disk. A failure is harmless: the commit that ends the copying flushes again.
    fn flush(&self) {
        if let Err(error) = self.0.sync_data() {
            tracing::debug!(%error, "copied pages could not be flushed");
        }
    }
}

/// Starts copying the log of the writer's connection whenever the log has more pages than [`PAGES`], or than the disk reserve
/// allows.
pub(super) fn keep_log_short(writer: &mut Connection, path: &Path, room: Arc<DiskRoom>) -> Result<(), StoreError> {
    let pages_max = PAGES.min(room.log_pages_max());
    keep_shorter(writer, path, pages_max, room)
}

fn keep_shorter(writer: &mut Connection, path: &Path, pages_max: i32, room: Arc<DiskRoom>) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    super::tune(&connection)?;
    let file = FlushedFile::open(path);
    let file = file.map_err(|source| StoreError::Folder { folder: path.display().to_string(), source })?;
    let (requests, requested) = sync_channel(1);
    let copied = Arc::new(AtomicI32::new(0));
    let copier = std::thread::Builder::new().name("store-log".into());
    let copier = copier.spawn({
        let copied = copied.clone();
        move || copy_when_asked(&connection, &file, &requested, &copied)
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
        room.note_log(pages);
        after.commit(log, pages);
        Ok(())
    }))?;
    Ok(())
}

fn copy_when_asked(connection: &Connection, file: &FlushedFile, requested: &Receiver<()>, copied: &AtomicI32) {
    for () in requested {
        let pages = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get("checkpointed"));
        // Usually a full disk. Nothing is copied, and the next commits return the error.
        let pages = pages.inspect_err(|error| tracing::debug!(%error, "the log could not be copied"));
        file.flush();
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
        // A reader of an older state has prevented progress: that is no round.
        self.rounds += u32::from(copied > self.reached);
        self.reached = copied;
        let much_was_added = pages - copied >= self.pages_max;
        if !(much_was_added && self.rounds < ROUNDS && self.ask()) {
            // If the copy is not sufficient for a restart of the log, the next commit tries again.
            let _ = log.checkpoint();
        }
    }

    /// Asks the thread to copy the log. Returns false if the thread has ended.
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
    /// Closes the writer's connection after the copier's: the last connection that can write deletes the log.
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
    use hookloom_model::clock;
    use std::time::Duration;

    fn commit(connection: &Connection) {
        connection.execute("INSERT INTO rows VALUES (zeroblob(3000))", []).expect("a commit");
    }

    /// Returns the number of times that the log has restarted, from its header
    /// (<https://www.sqlite.org/fileformat2.html#walformat>).
    fn times_begun(log: &Path) -> u32 {
        let header = std::fs::read(log).expect("a log");
        u32::from_be_bytes(header[12..16].try_into().expect("four bytes"))
    }

    #[test]
    fn the_log_restarts_unless_a_reader_needs_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let log = folder.path().join("a.db-wal");
        let mut writer = Connection::open(&path).expect("a database");
        writer.pragma_update(None, "journal_mode", "WAL").expect("a log");
        writer.pragma_update(None, "synchronous", "OFF").expect("no flushes");
        writer.execute_batch("CREATE TABLE rows (row BLOB)").expect("a table");
        keep_shorter(&mut writer, &path, 50, Arc::new(DiskRoom::unbounded())).expect("a copier");
        let reader = Connection::open(&path).expect("a reader");
        reader.execute_batch("BEGIN; SELECT * FROM rows").expect("a snapshot");
        (0..500).for_each(|_| commit(&writer));
        assert_eq!(times_begun(&log), 0);
        reader.execute_batch("COMMIT").expect("the reader's end");
        let mut rows = 500;
        let begun = clock::instant();
        while times_begun(&log) < 3 {
            assert!(clock::since(begun) < Duration::from_secs(60), "the log has restarted {} times", times_begun(&log));
            (0..20).for_each(|_| commit(&writer));
            rows += 20;
            // The copier waits for the disk.
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
        let (store, _store_events) = crate::Store::open(folder.path()).expect("a store");
        // Opens a connection that reads, and keeps it open.
        store.check().await.expect("a write and a read");
        assert!(folder.path().join("hookloom.db-wal").exists());
        drop(store);
        assert!(!folder.path().join("hookloom.db-wal").exists());
    }
}
