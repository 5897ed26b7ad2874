//! Writer of the backend: one task with one connection, and group commit.
//!
//! # Guarantees
//! - `Ok` means durable: the server has answered the commit, or this host has found the transaction in the database after the answer
//!   was lost.
//! - The error of a write undoes only that write, by a savepoint.
//! - Tenants are served in turns, and outcomes before other writes: see [`write_queue`](crate::write_queue). Writes that can
//!   run [`together`] run before the others of their transaction, and those that lock rows which another host may lock as well run last.
//! - A write that changes the catalog ([`WriteMode::Exclusive`](crate::write_queue::WriteMode::Exclusive)) is committed alone, and is published before any later write runs.
//! - A transaction with anything else than intake and outcomes runs alone in the fleet: see [`begin`](super::begin).
//! - What a write publishes follows its commit, even if the caller has gone.
//! - After a commit whose answer was lost, no other write runs until the host knows whether it was committed. Its callers get
//!   [`StoreError::Unknown`] if that takes long. Other writes are refused while the server cannot be reached.
//!
//! # Limits
//! The writer stops when the last handle is dropped, after all queued writes.

use super::begin::{WriterContext, begin};
use super::connection::{Connection, ConnectionConfig};
use super::job::{self, CommitOutcome, Job};
use super::settling_lock;
use super::together::{self};
use super::transaction::WriteTx;
use super::writer_handle::{QueuedJobs, Writer};
use crate::StoreError;
use crate::fleet::Registration;
use crate::write_queue::{QueuedWrite, ROWS_MAX, WriteQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Maximum number of outcomes in one commit, and of other writes.
const BATCH_MAX: usize = 256;

/// Time between two tries to reach a server whose answer was lost.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Number of tries after which the callers of a transaction are told that its outcome is unknown: some seconds.
const TRIES_MAX: u32 = 25;

/// Registration under which the catalog was loaded, and the last change that it shows.
type Loaded = (Registration, i64);

/// Starts the task of the writer, which owns the connection.
pub(super) fn start(config: ConnectionConfig, connection: Connection, context: WriterContext) -> Writer {
    let (writer, QueuedJobs { jobs, failed_commits }) = Writer::new();
    let connection = Some(Arc::new(connection));
    let task = WriterTask { config, connection, context, jobs, waiting: WriteQueue::new(), failed_commits };
    tokio::spawn(task.run());
    writer
}

/// Transaction that did not commit.
enum Uncommitted {
    /// Nothing was written.
    Undone(StoreError),
    /// The answer to the commit was lost.
    Lost,
}

impl From<StoreError> for Uncommitted {
    fn from(error: StoreError) -> Self {
        Uncommitted::Undone(error)
    }
}

struct WriterTask {
    config: ConnectionConfig,
    /// None: the connection was lost.
    connection: Option<Arc<Connection>>,
    context: WriterContext,
    jobs: mpsc::UnboundedReceiver<QueuedWrite<Box<dyn Job>>>,
    waiting: WriteQueue<Box<dyn Job>>,
    failed_commits: Arc<AtomicU64>,
}

impl WriterTask {
    async fn run(mut self) {
        while let Some((mut batch, is_alone)) = self.next_batch().await {
            let (outcome, shown) = self.commit(&mut batch, is_alone).await;
            if !matches!(outcome, CommitOutcome::Committed) {
                self.failed_commits.fetch_add(1, Ordering::Relaxed);
            }
            if let Some((registration, generation)) = shown {
                self.context.membership.note_loaded(registration, generation);
            }
            self.finish(&mut batch, &outcome);
        }
    }

    /// Waits for the writes of the next commit, and returns them and whether the commit must be alone in the fleet. None: there are no
    /// more writes.
    async fn next_batch(&mut self) -> Option<(Vec<Box<dyn Job>>, bool)> {
        if self.waiting.is_empty() {
            self.waiting.push(self.jobs.recv().await?);
        }
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push(job);
        }
        let batch = self.waiting.next_batch(ROWS_MAX, BATCH_MAX);
        let is_alone = batch.iter().any(|queued| !queued.runs_beside_other_hosts());
        Some((batch.into_iter().map(|queued| queued.write).collect(), is_alone))
    }

    fn finish(&self, batch: &mut [Box<dyn Job>], outcome: &CommitOutcome) {
        batch.iter_mut().for_each(|job| job.finish(&self.context.state, outcome));
    }

    /// Runs writes in one transaction. Returns the last change that the catalog shows when the writes are published, if that is known.
    async fn commit(&mut self, batch: &mut [Box<dyn Job>], is_alone: bool) -> (CommitOutcome, Option<Loaded>) {
        let Ok(connection) = self.connected().await else { return (CommitOutcome::Unavailable, None) };
        let WriterContext { state, pending, share, .. } = &self.context;
        let id = Uuid::new_v4();
        let registration = match begin(&connection, &self.context, is_alone, id).await {
            Ok(registration) => registration,
            Err(error) => {
                self.connection = None;
                return (undone(error), None);
            }
        };
        let tx = WriteTx::new(connection, state.clone(), *share);
        match transact(&tx, batch, is_alone).await {
            Ok(None) => (CommitOutcome::Committed, None),
            Ok(Some(generation)) => {
                pending.apply(id, tx.take_pending());
                (CommitOutcome::Committed, generation.map(|generation| (registration, generation)))
            }
            Err(Uncommitted::Undone(error)) => {
                // The state of the connection is unknown.
                self.connection = None;
                (undone(error), None)
            }
            Err(Uncommitted::Lost) => {
                self.connection = None;
                let outcome = self.find_out(batch, registration, id).await;
                if matches!(outcome, CommitOutcome::Committed) {
                    self.context.pending.apply(id, tx.take_pending());
                }
                (outcome, None)
            }
        }
    }

    /// Returns the connection, or a new one if it was lost.
    async fn connected(&mut self) -> Result<Arc<Connection>, StoreError> {
        if let Some(connection) = self.connection.clone().filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        self.connection = None;
        let opened = Connection::open(&self.config).await;
        let connection = Arc::new(opened.inspect_err(|error| {
            tracing::debug!(error = %hookloom_model::describe(error), "the writer cannot connect; writes are refused");
        })?);
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Finds out whether a transaction was committed whose answer was lost. The callers are told after some seconds that it is unknown.
    async fn find_out(&mut self, batch: &mut [Box<dyn Job>], by: Registration, id: Uuid) -> CommitOutcome {
        for tries in 0_u32.. {
            let found = match self.connected().await {
                Ok(connection) => was_committed(&connection, by, id).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(true)) => return CommitOutcome::Committed,
                Ok(Some(false)) => return CommitOutcome::Unavailable,
                Ok(None) => return CommitOutcome::Unknown,
                Err(_) => {
                    self.connection = None;
                    self.refuse_waiting();
                }
            }
            if tries == TRIES_MAX {
                self.finish(batch, &CommitOutcome::Unknown);
            }
            if self.jobs.is_closed() {
                break;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        CommitOutcome::Unknown
    }

    /// Refuses all writes that wait.
    fn refuse_waiting(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push(job);
        }
        while !self.waiting.is_empty() {
            let refused = self.waiting.next_batch(ROWS_MAX, BATCH_MAX);
            let mut refused: Vec<_> = refused.into_iter().map(|queued| queued.write).collect();
            self.finish(&mut refused, &CommitOutcome::Unavailable);
        }
    }
}

/// Finds out whether a transaction of a registration was committed, when the one under way has ended. None: another process may have
/// written with the number of the host since.
async fn was_committed(connection: &Connection, by: Registration, id: Uuid) -> Result<Option<bool>, StoreError> {
    let sql = "SELECT transaction, epoch FROM fences WHERE host = $1 FOR UPDATE";
    let row = connection.query_one(sql, &[&by.host]).await?;
    let is_last = row.try_get::<_, Option<Uuid>>(0)? == Some(id);
    // A takeover raises the epoch by one and writes nothing in the host's name; a registration raises it again.
    let may_be_of_another = row.try_get::<_, i64>(1)? > by.epoch + 1;
    Ok(if may_be_of_another && !is_last { None } else { Some(is_last) })
}

/// Returns the outcome of a transaction that failed with an error.
fn undone(error: StoreError) -> CommitOutcome {
    match error {
        StoreError::Database(error) => CommitOutcome::Refused(error),
        _ => CommitOutcome::Unavailable,
    }
}

/// Runs writes in a transaction that has begun and commits it. None: all of them failed, so that there was nothing to commit. Otherwise the
/// last change of the fleet, if the transaction was alone.
async fn transact(
    tx: &WriteTx,
    batch: &mut [Box<dyn Job>],
    is_alone: bool,
) -> Result<Option<Option<i64>>, Uncommitted> {
    job::sort_by_shared_row(batch);
    if !is_alone {
        let locks = batch.iter().flat_map(|job| job.settling_locks()).copied().collect();
        settling_lock::lock(tx, &locks).await?;
    }
    let is_single = batch.len() == 1;
    let mut kept = if is_single { 0 } else { together::run_together(tx, batch).await? };
    for job in batch.iter_mut().filter(|job| job.result().is_none()) {
        if !is_single {
            tx.batch_execute("SAVEPOINT write").await?;
        }
        let before = tx.pending_len();
        if job.run(tx).await {
            kept += 1;
        } else {
            tx.undo_pending(before);
            if !is_single {
                tx.batch_execute("ROLLBACK TO SAVEPOINT write").await?;
            }
        }
        if !is_single {
            tx.batch_execute("RELEASE SAVEPOINT write").await?;
        }
    }
    if kept == 0 {
        tx.batch_execute("ROLLBACK").await?;
        return Ok(None);
    }
    let commit = if is_alone { "SELECT max(generation) FROM fleet_changes; COMMIT" } else { "COMMIT" };
    match tx.last_row(commit).await {
        Ok(row) => Ok(Some(row.first().and_then(|generation| generation.as_ref()?.parse().ok()))),
        // The server has answered.
        Err(StoreError::Database(error)) if super::error::is_answer(&error) => {
            Err(Uncommitted::Undone(StoreError::Database(error)))
        }
        Err(_) => Err(Uncommitted::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_server::TestDatabase;
    use super::*;

    #[tokio::test]
    async fn nobody_knows_the_last_transaction_of_a_host_whose_number_another_one_has() {
        let database = TestDatabase::new().await;
        let connection = database.connect().await;
        let [ours, other] = [Uuid::new_v4(), Uuid::new_v4()];
        let by = Registration { host: 3, epoch: 6 };
        // The row of the number, and whether our transaction was committed.
        for (epoch, last, expected) in [
            (6, Some(ours), Some(true)),
            (6, Some(other), Some(false)),
            (6, None, Some(false)),
            // It was taken over, by a host that writes with another number.
            (7, Some(other), Some(false)),
            (8, Some(other), None),
            (8, Some(ours), Some(true)),
        ] {
            let sql = "INSERT INTO fences (host, epoch, transaction) VALUES (3, $1, $2)
                       ON CONFLICT (host) DO UPDATE SET epoch = EXCLUDED.epoch, transaction = EXCLUDED.transaction";
            connection.execute(sql, &[&i64::from(epoch), &last]).await.expect("a row");
            let found = was_committed(&connection, by, ours).await.expect("found out");
            assert_eq!(found, expected, "{epoch} {last:?}");
        }
    }
}
