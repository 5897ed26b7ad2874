//! Writer thread of the store, with group commit.
//!
//! A write is a closure over a part of a [`Transaction`]: [`IntakeTx`], [`OutcomeTx`] or [`AdminTx`]. The thread runs up to [`BATCH_MAX`] queued writes, commits once, and answers the callers.
//!
//! # Guarantees
//! - `Ok` means durable: with `synchronous=FULL`, the commit has been flushed to the disk.
//! - The error of one closure undoes only that closure, by a savepoint. Closures of the hot path ([`Writer::intake`] and
//!   [`Writer::outcome`]) have no savepoint, which would copy every page touched after it; they must refuse before their first
//!   change, and their types let them do little else. An error of the commit,
//!   or of a row that was left to be written with others, is returned to every caller of the transaction.
//! - Tenants are served in turns, and outcomes before other writes: see [`write_queue`](crate::write_queue). A commit has fewer rows
//!   than a transaction may have if rows take long ([`RowBudget`]).
//! - A write that changes the catalog ([`Writer::change`]) is committed alone, and the catalog shows it before the next
//!   write of any owner runs.
//! - A write that needs a damaged page fails the commit that it shares. For [`DAMAGE_PAUSE`] after it, writes are committed alone, so
//!   that only writes to damaged pages fail.
//!
//! # Limits
//! The writer stops when the last handle is dropped, after all queued writes.

mod budget;

use super::batch::{AdminTx, IntakeTx, OutcomeTx, Transaction, execute};
use super::damage::Damage;
use super::data_folder::OpenFiles;
use super::disk_room::DiskRoom;
use crate::caps::Caps;
use crate::error::{DatabaseError, DatabaseFault, StoreError};
use crate::fair_queue::Owner;
use crate::pending_counts::PendingCounts;
use crate::write_queue::{QueuedWrite, Terms, WriteMode, WriteQueue, queue_permits};
use budget::RowBudget;
use hookloom_fair_share::FairSemaphore;
use hookloom_model::clock;
use rusqlite::Connection;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of outcomes in one commit, and of other writes. Enough to share the cost of the flush, few enough for short waits.
const BATCH_MAX: usize = 512;

/// Duration after an error of a damaged page in which every write is committed alone.
const DAMAGE_PAUSE: Duration = Duration::from_secs(10);

type Finish = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;
type Write = Box<dyn FnOnce(&Transaction<'_>) -> Finish + Send>;

/// Parts of the store that the writer maintains besides its transactions.
pub(super) struct WriterContext {
    /// Files of the database, checked before and after each commit.
    pub(super) files: OpenFiles,
    pub(super) room: Arc<DiskRoom>,
    /// Numbers of pending deliveries by subscription, updated after each commit.
    pub(super) pending: Arc<PendingCounts>,
    pub(super) damage: Damage,
    /// Share of each tenant.
    pub(super) share: Caps,
}

/// Handle of the writer thread.
pub(super) struct Writer {
    queue: Option<mpsc::UnboundedSender<QueuedWrite<Write>>>,
    permits: FairSemaphore<Owner>,
    damage: Damage,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which owns the connection.
    pub(super) fn start(connection: Connection, context: WriterContext) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::unbounded_channel();
        let damage = context.damage.clone();
        let thread = Builder::new().name("store-writer".into()).spawn(move || run(&connection, &context, jobs))?;
        Ok(Writer { queue: Some(queue), permits: queue_permits(), damage, thread: Some(thread) })
    }

    /// Runs a write that accepts events. It must refuse before its first change.
    pub(super) async fn intake<T: Send + 'static>(
        &self,
        terms: Terms,
        write: impl FnOnce(&IntakeTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(WriteMode::Intake, terms, move |tx| tx.intake(write), then).await
    }

    /// Runs a write that records an outcome, before other queued writes.
    pub(super) async fn outcome<T: Send + 'static>(
        &self,
        terms: Terms,
        write: impl FnOnce(&OutcomeTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(WriteMode::Outcome, terms, move |tx| tx.outcome(write), |_| {}).await
    }

    /// Runs any other write in a transaction with others.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        terms: Terms,
        write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(WriteMode::Shared, terms, move |tx| tx.admin(write), then).await
    }

    /// Runs any other write in a transaction without others.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        terms: Terms,
        write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(WriteMode::Exclusive, terms, move |tx| tx.admin(write), then).await
    }

    /// Runs `write` on the writer's thread and returns its result after the commit. `then` runs on the writer's thread as well, after
    /// the commit and before the next transaction begins.
    async fn run<T: Send + 'static>(
        &self,
        mode: WriteMode,
        terms: Terms,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let clock = clock::current();
        let write: Write = Box::new(move |tx| {
            let entered = clock::enter(clock.clone());
            let written = write(tx);
            drop(entered);
            Box::new(move |committed| {
                let _clock = clock::enter(clock);
                let written = match (written, committed) {
                    (Ok(mut value), Ok(())) => {
                        then(&mut value);
                        Ok(value)
                    }
                    // The error of the commit is the cause of this one.
                    (Err(StoreError::TransactionEnded), Err(cause)) => Err(StoreError::Commit(cause)),
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => Err(StoreError::Commit(error)),
                };
                // The caller is gone if its client has disconnected. The write stays.
                let _ = answer.send(written);
            })
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        let write = QueuedWrite::new(&self.permits, mode, terms, write).await;
        queue.send(write).map_err(|_| StoreError::Stopped)?;
        let answer = answered.await.map_err(|_| StoreError::Stopped)?;
        answer.inspect_err(|error| {
            self.damage.note(error);
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, context: &WriterContext, mut jobs: mpsc::UnboundedReceiver<QueuedWrite<Write>>) {
    let mut waiting = WriteQueue::new();
    let mut batch_max = BATCH_MAX;
    let mut budget = RowBudget::NONE_KNOWN;
    let mut alone_until: Option<Instant> = None;
    while let Some(batch) = next_batch(&mut jobs, &mut waiting, budget.rows(), batch_max) {
        context.room.check_again(connection);
        let rows = batch.iter().map(|job| job.terms.rows).sum();
        let begun = clock::instant();
        match commit(connection, context, batch) {
            Err(error) if error.fault() == DatabaseFault::Damage => {
                alone_until = Some(clock::instant() + DAMAGE_PAUSE);
                context.damage.note_write(true);
            }
            Ok(()) if alone_until.is_some_and(|until| clock::instant() >= until) => {
                alone_until = None;
                context.damage.note_write(false);
            }
            _ => {}
        }
        budget.observe(rows, clock::since(begun));
        batch_max = if alone_until.is_some() { 1 } else { BATCH_MAX };
    }
}

/// Waits for the writes of the next commit, about `rows_max` rows of outcomes and of others. None: there are no more writes.
fn next_batch(
    jobs: &mut mpsc::UnboundedReceiver<QueuedWrite<Write>>,
    waiting: &mut WriteQueue<Write>,
    rows_max: u64,
    batch_max: usize,
) -> Option<Vec<QueuedWrite<Write>>> {
    if waiting.is_empty() {
        waiting.push(jobs.blocking_recv()?);
    }
    while let Ok(job) = jobs.try_recv() {
        waiting.push(job);
    }
    Some(waiting.next_batch(rows_max, batch_max))
}

/// Runs jobs in one transaction, and answers the callers.
fn commit(
    connection: &Connection,
    context: &WriterContext,
    jobs: Vec<QueuedWrite<Write>>,
) -> Result<(), DatabaseError> {
    let WriterContext { files, room, pending, share, .. } = context;
    let mut finishes = Vec::with_capacity(jobs.len());
    let begun = files.check().and_then(|()| execute(connection, "BEGIN IMMEDIATE"));
    let tx = Transaction::on(connection, room, *share);
    for job in jobs {
        finishes.push((job.write)(&tx));
    }
    let settled = begun.and_then(|()| tx.complete());
    let changes = tx.take_pending();
    drop(tx);
    let committed = settled.and_then(|()| execute(connection, "COMMIT"));
    // A commit is durable only if the next start finds the file.
    let committed = committed.and_then(|()| files.check()).map_err(DatabaseError::from);
    match &committed {
        Ok(()) => pending.apply(changes),
        Err(error) => {
            tracing::error!(%error, "the store could not commit; nothing of this transaction was accepted");
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            room.after_failed_commit(connection);
        }
    }
    for finish in finishes {
        finish(committed.clone());
    }
    committed
}

#[cfg(test)]
mod tests;
