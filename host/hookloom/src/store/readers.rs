//! Connections that only read, beside the writer: WAL lets them see the last commit without waiting.
//!
//! # Guarantees
//! - Each read sees one commit, however many statements it has.
//! - A read ends: past its time limit SQLite stops the statement that runs, and the caller gets
//!   [`StoreError::QueryTooSlow`].
//! - Owners have shares of the connections ([`FairSemaphore`]): one that keeps all of its own busy leaves others some.
//!
//! # Limits
//! Time is looked at between instructions of SQLite's virtual machine, so that one which takes long (a function over a
//! large value) is waited for; and what a read does outside of SQLite is not measured. Reads run on tokio's blocking
//! threads, never on its workers. Migrations, backups and exports have connections of their own and no time limit.

use super::StoreError;
use super::damage::Damage;
use super::data_folder::OpenFiles;
use super::fair_queue::Owner;
use crate::fair_share::FairSemaphore;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// More readers than this only compete for two things that are shared anyway, the page cache and the disk.
const OPEN_MAX: u64 = 8;

/// Number of instructions of SQLite's virtual machine between two looks at the clock: some microseconds, or a few
/// milliseconds where each row is a large text that is searched.
const INSTRUCTIONS: i32 = 500;

/// A deadline that is never reached.
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

/// A connection, and when the read that it serves must end, in milliseconds of [`clock_ms`].
struct Reader {
    connection: Connection,
    deadline_ms: Arc<AtomicU64>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, files: OpenFiles, time_max: Duration, damage: Damage) -> Self {
        Readers { path, files, idle: Arc::default(), permits: FairSemaphore::new(OPEN_MAX, OPEN_MAX), time_max, damage }
    }

    /// Reads on an owner's account, in its turn.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permits.acquire(&owner.into(), 1).await;
        let readers = self.clone();
        let work = move || {
            let _permit = permit;
            let reader = readers.take()?;
            let value = reader.read(read, readers.time_max);
            // One whose transaction did not end would show an old state for ever.
            if reader.connection.is_autocommit() {
                readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            }
            value.inspect_err(|error| {
                readers.damage.note(error);
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
    }

    fn take(&self) -> Result<Reader, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(reader) = idle {
            return Ok(reader);
        }
        // What stands under the name now may be another database.
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
        // The end of the transaction must not be stopped: the next read begins one of its own.
        self.deadline_ms.store(NEVER, Ordering::Relaxed);
        // Nothing was written, and a commit after a damaged page was met fails.
        snapshot.rollback()?;
        value.map_err(|error| match error {
            StoreError::Database(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                StoreError::QueryTooSlow { ms: limit_ms }
            }
            error => error,
        })
    }
}

/// Milliseconds since some moment of this process.
fn clock_ms() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::TenantId;

    /// Counts for ever.
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
        assert_eq!(readers.idle.lock().expect("no panic").len(), 1);
        // The same connection, and not interrupted by the deadline of the one before.
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
            let wait = move |_: &Connection| Ok(stopped.lock().expect("no panic").recv().is_err());
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
