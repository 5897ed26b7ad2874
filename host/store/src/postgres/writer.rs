//! Writer of the backend: one task with one connection, and group commit.
//!
//! # Guarantees
//! - `Ok` means durable: the server has answered the commit, or this host has found the transaction in the database after the answer
//!   was lost.
//! - The error of a write undoes only that write, by a savepoint.
//! - Tenants are served in turns, and outcomes before other writes: see [`write_queue`](crate::write_queue). Writes that can
//!   run [`together`] run before the others of their transaction, and those that lock rows which another host may lock as well run last.
//! - A write that changes the catalog ([`WriteMode::Exclusive`]) is committed alone, and is published before any later write runs.
//! - What a write publishes follows its commit, even if the caller has gone.
//! - After a commit whose answer was lost, no other write runs until the host knows whether it was committed. Its callers get
//!   [`StoreError::Unknown`] if that takes long.
//!
//! # Limits
//! The writer stops when the last handle is dropped, after all queued writes.

use super::connection::Connection;
use super::host_lock::HostLock;
use super::job::{self, CommitOutcome, Job, WriteJob};
use super::recount::PendingNumbers;
use super::together::{self, Member, MemberJob};
use super::transaction::{SqlFuture, WriteTx};
use crate::StoreError;
use crate::caps::Caps;
use crate::fair_queue::Owner;
use crate::host_state::HostState;
use crate::write_queue::{QueuedWrite, ROWS_MAX, Terms, WriteMode, WriteQueue, queue_permits};
use hookloom_fair_share::FairSemaphore;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Maximum number of outcomes in one commit, and of other writes.
const BATCH_MAX: usize = 256;

/// Begins a transaction whose statements keep to indexes. The server plans a statement once, perhaps while a table is almost empty, and
/// keeps the plan when the table has grown. Measured over 98,304 events without statistics: 35 µs of the server for each event in every
/// round with these settings, and from 35 to 56 µs without them. Compilation is off because the cost of a forbidden plan starts it, for
/// every statement on a table that has no index to use: that took 167 µs.
///
/// A statement sees what other hosts have committed before it, whatever the level of isolation that the server is set to.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

/// Time between two tries to reach a server whose answer was lost.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Number of tries after which the callers of a transaction are told that its outcome is unknown: some seconds.
const TRIES_MAX: u32 = 25;

/// Handle of the writer's task.
pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<QueuedWrite<Box<dyn Job>>>,
    permits: FairSemaphore<Owner>,
    failed_commits: Arc<AtomicU64>,
}

/// Parts of the backend that the writer maintains besides its transactions.
pub(super) struct WriterContext {
    pub(super) state: Arc<HostState>,
    /// Numbers of pending deliveries by subscription, updated after each commit.
    pub(super) pending: Arc<PendingNumbers>,
    /// Share of each tenant.
    pub(super) share: Caps,
}

impl Writer {
    /// Starts the task, which owns the connection and the lock of the database.
    pub(super) fn start(lock: HostLock, connection: Connection, context: WriterContext) -> Self {
        let (queue, queued) = mpsc::unbounded_channel();
        let failed_commits = Arc::new(AtomicU64::new(0));
        let counter = failed_commits.clone();
        let connection = Some(Arc::new(connection));
        let task =
            WriterTask { lock, connection, context, jobs: queued, waiting: WriteQueue::new(), failed_commits: counter };
        tokio::spawn(task.run());
        Writer { jobs: queue, permits: queue_permits(), failed_commits }
    }

    /// Returns the number of transactions that failed since the start.
    pub(super) fn failed_commits(&self) -> u64 {
        self.failed_commits.load(Ordering::Relaxed)
    }

    /// Queues a write, and returns its result after the commit. `publish` runs after the commit and before the next transaction.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        mode: WriteMode,
        terms: Terms,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        publish: impl FnOnce(&HostState, &mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(mode, terms, WriteJob::new(write, publish, None)).await
    }

    /// Queues a write of intake that may lock a row which another host may lock as well, and returns its result after the commit.
    pub(super) async fn run_intake<T: Send + 'static>(
        &self,
        terms: Terms,
        shared_row: Option<String>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        publish: impl FnOnce(&HostState, &mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(WriteMode::Intake, terms, WriteJob::new(write, publish, shared_row)).await
    }

    /// Queues a write that runs together with others of its type, and returns its result after the commit.
    pub(super) async fn run_together<M: Member>(
        &self,
        mode: WriteMode,
        terms: Terms,
        member: M,
    ) -> Result<M::Value, StoreError> {
        self.queue(mode, terms, MemberJob::new(member)).await
    }

    /// Queues a job, and waits for its answer.
    async fn queue<T>(
        &self,
        mode: WriteMode,
        terms: Terms,
        (job, answered): (impl Job + 'static, oneshot::Receiver<Result<T, StoreError>>),
    ) -> Result<T, StoreError> {
        let job: Box<dyn Job> = Box::new(job);
        let queued = QueuedWrite::new(&self.permits, mode, terms, job).await;
        self.jobs.send(queued).map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
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
    lock: HostLock,
    /// None: the connection was lost.
    connection: Option<Arc<Connection>>,
    context: WriterContext,
    jobs: mpsc::UnboundedReceiver<QueuedWrite<Box<dyn Job>>>,
    waiting: WriteQueue<Box<dyn Job>>,
    failed_commits: Arc<AtomicU64>,
}

impl WriterTask {
    async fn run(mut self) {
        while let Some(mut batch) = self.next_batch().await {
            let outcome = self.commit(&mut batch).await;
            if !matches!(outcome, CommitOutcome::Committed) {
                self.failed_commits.fetch_add(1, Ordering::Relaxed);
            }
            self.finish(&mut batch, &outcome);
        }
    }

    /// Waits for the writes of the next commit. None: there are no more writes.
    async fn next_batch(&mut self) -> Option<Vec<Box<dyn Job>>> {
        if self.waiting.is_empty() {
            self.waiting.push(self.jobs.recv().await?);
        }
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push(job);
        }
        let batch = self.waiting.next_batch(ROWS_MAX, BATCH_MAX);
        Some(batch.into_iter().map(|queued| queued.write).collect())
    }

    fn finish(&self, batch: &mut [Box<dyn Job>], outcome: &CommitOutcome) {
        batch.iter_mut().for_each(|job| job.finish(&self.context.state, outcome));
    }

    /// Runs writes in one transaction.
    async fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> CommitOutcome {
        let connection = match self.connected().await {
            Ok(connection) => connection,
            Err(StoreError::Stopped) => return CommitOutcome::Stopped,
            Err(_) => return CommitOutcome::Unavailable,
        };
        let WriterContext { state, pending, share } = &self.context;
        let tx = WriteTx::new(connection, state.clone(), *share);
        let id = Uuid::new_v4();
        match transact(&tx, batch, id).await {
            Ok(is_committed) => {
                if is_committed {
                    pending.apply(id, tx.take_pending());
                }
                CommitOutcome::Committed
            }
            Err(Uncommitted::Undone(error)) => {
                // The state of the connection is unknown.
                self.connection = None;
                match error {
                    StoreError::Database(error) => CommitOutcome::Refused(error),
                    _ => CommitOutcome::Unavailable,
                }
            }
            Err(Uncommitted::Lost) => {
                self.connection = None;
                let outcome = self.find_out(batch, id).await;
                if matches!(outcome, CommitOutcome::Committed) {
                    self.context.pending.apply(id, tx.take_pending());
                }
                outcome
            }
        }
    }

    /// Returns the connection, or a new one if it was lost.
    async fn connected(&mut self) -> Result<Arc<Connection>, StoreError> {
        if let Some(connection) = self.connection.clone().filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        self.connection = None;
        let connection = Arc::new(self.lock.take_again().await.inspect_err(|error| {
            tracing::error!(error = %hookloom_model::describe(error), "writes are refused");
        })?);
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Finds out whether a transaction was committed whose answer was lost. The callers are told after some seconds that it is unknown.
    async fn find_out(&mut self, batch: &mut [Box<dyn Job>], id: Uuid) -> CommitOutcome {
        for tries in 0_u32.. {
            let found = match self.connected().await {
                Ok(connection) => last_transaction(&connection).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(last) if last == Some(id) => return CommitOutcome::Committed,
                Ok(_) => return CommitOutcome::Unavailable,
                Err(StoreError::Stopped) => break,
                Err(_) => self.connection = None,
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
}

async fn last_transaction(connection: &Connection) -> Result<Option<Uuid>, StoreError> {
    let row = connection.query_one("SELECT transaction FROM host", &[]).await?;
    Ok(row.try_get(0)?)
}

/// Runs writes in a transaction and commits it. Returns false if all of them failed, so that there was nothing to commit.
async fn transact(tx: &WriteTx, batch: &mut [Box<dyn Job>], id: Uuid) -> Result<bool, Uncommitted> {
    tx.batch_execute(BEGIN).await?;
    job::sort_by_shared_row(batch);
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
        return Ok(false);
    }
    tx.execute("UPDATE host SET transaction = $1", &[&id]).await?;
    match tx.batch_execute("COMMIT").await {
        Ok(()) => Ok(true),
        // The server has answered.
        Err(StoreError::Database(error)) if super::error::is_answer(&error) => {
            Err(Uncommitted::Undone(StoreError::Database(error)))
        }
        Err(_) => Err(Uncommitted::Lost),
    }
}
