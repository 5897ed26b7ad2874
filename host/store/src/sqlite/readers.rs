//! Read-only connections. With WAL they see the last commit without waiting for the writer.
//!
//! # Guarantees
//! - A read sees one commit, even if it has several statements.
//! - A read ends: after its time limit, SQLite stops the running statement, and the caller gets [`StoreError::QueryTooSlow`].
//! - Owners have shares of the connections ([`FairSemaphore`]), so that an owner whose share is busy leaves connections to others.
//!
//! # Limits
//! The time is checked between instructions of SQLite's virtual machine, so a long instruction (a function over a large value) is
//! not interrupted, and time outside of SQLite is not measured. Reads run on tokio's blocking threads, never on its workers.
//! Migrations, backups and exports have separate connections without a time limit.

use super::damage::Damage;
use super::data_folder::OpenFiles;
use crate::error::{DatabaseError, StoreError};
use crate::fair_queue::Owner;
use hookloom_fair_share::FairSemaphore;
use hookloom_model::clock;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Maximum number of open connections. More would only compete for the page cache and the disk.
const OPEN_MAX: u64 = 8;

/// Number of instructions of SQLite's virtual machine between two checks of the time: some microseconds, or a few milliseconds if
/// each row is a large text that is searched.
const INSTRUCTIONS: i32 = 500;

/// Deadline that is never reached.
const NEVER: u64 = u64::MAX;

#[derive(Clone)]
pub(super) struct Readers {
    path: PathBuf,
    files: OpenFiles,
    idle: Arc<Mutex<Vec<Reader>>>,
    permits: FairSemaphore<Owner>,
    time_max: Duration,
    damage: Damage,
}

/// Connection, with the deadline of its current read in milliseconds of [`clock_ms`].
struct Reader {
    connection: Connection,
    deadline_ms: Arc<AtomicU64>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, files: OpenFiles, time_max: Duration, damage: Damage) -> Self {
        Readers { path, files, idle: Arc::default(), permits: FairSemaphore::new(OPEN_MAX, OPEN_MAX), time_max, damage }
    }

    /// Runs a read on an owner's account, when its turn comes.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permits.acquire(&owner.into(), 1).await;
        let readers = self.clone();
        let clock = clock::current();
        let work = move || {
            let _permit = permit;
            let _clock = clock::enter(clock);
            let reader = readers.take()?;
            let value = reader.read(read, readers.time_max);
            // A connection whose transaction did not end would show an old state for ever.
            if reader.connection.is_autocommit() {
                readers.idle.lock().push(reader);
            }
            value.inspect_err(|error| {
                readers.damage.note(error);
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
    }

    fn take(&self) -> Result<Reader, StoreError> {
        let idle = self.idle.lock().pop();
        if let Some(reader) = idle {
            return Ok(reader);
        }
        // The name may lead to another database now.
        self.files.check()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        super::tune(&connection)?;
        let deadline_ms = Arc::new(AtomicU64::new(NEVER));
        let deadline = deadline_ms.clone();
        connection.progress_handler(INSTRUCTIONS, Some(move || clock_ms() > deadline.load(Ordering::Relaxed)))?;
        Ok(Reader { connection, deadline_ms })
    }
}

impl Reader {
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
        time_max: Duration,
    ) -> Result<T, StoreError> {
        let snapshot = self.connection.unchecked_transaction()?;
        let limit_ms = u64::try_from(time_max.as_millis()).unwrap_or(NEVER);
        self.deadline_ms.store(clock_ms().saturating_add(limit_ms), Ordering::Relaxed);
        let value = read(&snapshot);
        // The end of the transaction must not be interrupted, because the next read begins another.
        self.deadline_ms.store(NEVER, Ordering::Relaxed);
        // A rollback, because a commit fails after a damaged page was read, and nothing was written.
        snapshot.rollback()?;
        value.map_err(|error| match error {
            StoreError::Database(error) if is_interrupted(&error) => StoreError::QueryTooSlow { ms: limit_ms },
            error => error,
        })
    }
}

fn is_interrupted(error: &DatabaseError) -> bool {
    let code = error.cause().and_then(rusqlite::Error::sqlite_error_code);
    code == Some(ErrorCode::OperationInterrupted)
}

/// Returns milliseconds since a fixed moment of this process.
fn clock_ms() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(clock::instant);
    u64::try_from(clock::since(*BEGAN).as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::subscription::TenantId;

    /// Counts without end.
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n WHERE i < 0";

    fn readers(time_max: Duration) -> (tempfile::TempDir, Readers) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        Connection::open(&path).expect("a database").execute_batch("CREATE TABLE t (x)").expect("a table");
        (folder, Readers::new(path, OpenFiles::none(), time_max, Damage::default()))
    }

    fn count(connection: &Connection) -> Result<u64, StoreError> {
        Ok(connection.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))?)
    }

    fn endless(connection: &Connection) -> Result<u64, StoreError> {
        Ok(connection.query_row(ENDLESS, [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn a_query_without_an_end_is_stopped_and_its_connection_serves_the_next() {
        let (_folder, readers) = readers(Duration::from_millis(50));
        let stopped = readers.read(Owner::Host, endless).await;
        assert!(matches!(stopped, Err(StoreError::QueryTooSlow { ms: 50 })), "{stopped:?}");
        assert_eq!(readers.idle.lock().len(), 1);
        // Uses the same connection, without the previous deadline.
        let longer = Readers { time_max: Duration::from_secs(600), ..readers };
        assert_eq!(longer.read(Owner::Host, count).await.expect("a count"), 0);
    }

    #[tokio::test]
    async fn a_tenant_that_keeps_its_readers_busy_leaves_others_some() {
        let (_folder, readers) = readers(Duration::from_secs(600));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stopped = Arc::new(Mutex::new(stopped));
        let greedy = Owner::Tenant(TenantId("greedy".into()));
        let mut busy = tokio::task::JoinSet::new();
        for _ in 0..OPEN_MAX {
            let readers = readers.clone();
            let greedy = greedy.clone();
            let stopped = stopped.clone();
            let wait = move |_: &Connection| Ok(stopped.lock().recv().is_err());
            busy.spawn(async move { readers.read(greedy, wait).await });
        }
        while readers.permits.held(&greedy) < OPEN_MAX / 2 {
            tokio::task::yield_now().await;
        }
        let other = readers.read(&TenantId("other".into()), count).await;
        assert_eq!(other.expect("a count"), 0);
        drop(stop);
        while let Some(done) = busy.join_next().await {
            assert!(done.expect("no panic").expect("read"));
        }
    }
}
