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
//! - Writes of one owner (a tenant or the host) run in the order in which they were queued. Outcomes have a separate queue, which is
//!   served first, because lanes wait for them.
//! - The owner that wrote the fewest rows lately is served first ([`FairQueue`]). A commit has at most [`ROWS_MAX`] rows, fewer if
//!   rows take long ([`RowBudget`]); a larger write is committed alone. So a tenant that writes little waits for the commit under
//!   way and is part of the next one.
//! - A write that changes the catalog ([`Writer::change`]) is committed alone, and the catalog shows it before the next
//!   write of any owner runs.
//! - A write that needs a damaged page fails the commit that it shares. For [`DAMAGE_PAUSE`] after it, writes are committed alone, so
//!   that only writes to damaged pages fail.
//!
//! # Limits
//! Queued writes are bounded, with a share for each owner ([`FairSemaphore`]), so that a tenant whose share is full delays no other.
//! The size of one write is not bounded here. The writer stops when the last handle is dropped, after all queued writes.

mod budget;

use super::batch::{AdminTx, IntakeTx, OutcomeTx, Transaction, execute};
use super::damage::Damage;
use super::data_folder::OpenFiles;
use super::disk_room::DiskRoom;
use super::fair_queue::{FairQueue, Owner};
use crate::caps::Caps;
use crate::error::{DatabaseError, DatabaseFault, StoreError};
use crate::pending_counts::PendingCounts;
use budget::RowBudget;
use hookloom_fair_share::{FairPermit, FairSemaphore};
use hookloom_model::clock;
use rusqlite::Connection;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of outcomes in one commit, and of other writes. Enough to share the cost of the flush, few enough for short waits.
const BATCH_MAX: usize = 512;

/// Approximate maximum number of rows of outcomes in one commit, and of other writes. 4 KiB of payload count as one row.
pub(super) const ROWS_MAX: u64 = 1_024;

/// Maximum number of queued writes, without outcomes. One owner may have half of them while no other owner waits. When the queue
/// is full, callers wait; this is the back-pressure that intake passes on.
const QUEUE_MAX: u64 = 8_192;

/// Cost of a flush in rows, which a write that is committed alone is charged.
const COMMIT_ROWS: u64 = 256;

/// Half-life of an owner's written rows.
const HALF_LIFE: Duration = Duration::from_millis(100);

/// Duration after an error of a damaged page in which every write is committed alone.
const DAMAGE_PAUSE: Duration = Duration::from_secs(10);

type Finish = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;
type Write = Box<dyn FnOnce(&Transaction<'_>) -> Finish + Send>;

/// Rule by which a write shares a transaction with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMode {
    /// In a transaction with others, within a savepoint: an error undoes only this write.
    Shared,
    /// As `Shared`, without a savepoint, for accepting events. The write must refuse before its first change. An error after that
    /// (the disk, or a fault of the host) undoes the whole transaction, and every caller gets an error.
    Intake,
    /// As `Intake`, before other queued writes, for outcomes of attempts, which free permits of their lanes.
    Outcome,
    /// In a transaction without others, committed before the next write runs.
    Exclusive,
}

/// Owner and cost of a write.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) owner: Owner,
    /// Approximate number of rows.
    pub(super) rows: u64,
}

impl Terms {
    /// Returns the terms of a write of few rows.
    pub(super) fn small(owner: Owner) -> Self {
        Terms { owner, rows: 2 }
    }
}

/// Returns the cost of payloads of this size, in rows.
pub(super) fn payload_rows(bytes: usize) -> u64 {
    (bytes / 4_096) as u64
}

struct WriteJob {
    write: Write,
    mode: WriteMode,
    terms: Terms,
    /// Permit of the queue. Outcomes need none: they are bounded by the attempts under way.
    _queue_permit: Option<FairPermit<Owner>>,
}

impl WriteJob {
    /// Returns true if the write is committed alone, because of its mode, or because it is so large that others would wait for it.
    fn is_alone(&self) -> bool {
        self.mode == WriteMode::Exclusive || self.terms.rows > ROWS_MAX
    }

    fn cost(&self) -> u64 {
        if self.is_alone() { self.terms.rows.max(COMMIT_ROWS) } else { self.terms.rows.max(1) }
    }
}

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
    queue: Option<mpsc::UnboundedSender<WriteJob>>,
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
        Ok(Writer {
            queue: Some(queue),
            permits: FairSemaphore::new(QUEUE_MAX, QUEUE_MAX),
            damage,
            thread: Some(thread),
        })
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
        let permit = if mode == WriteMode::Outcome { None } else { Some(self.permits.acquire(&terms.owner, 1).await) };
        queue.send(WriteJob { write, mode, terms, _queue_permit: permit }).map_err(|_| StoreError::Stopped)?;
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

fn run(connection: &Connection, context: &WriterContext, jobs: mpsc::UnboundedReceiver<WriteJob>) {
    let mut waiting = WriteQueue::new(jobs);
    let mut budget = RowBudget::NONE_KNOWN;
    let mut alone_until: Option<Instant> = None;
    while let Some(batch) = waiting.next_batch(budget.rows()) {
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
        waiting.batch_max = if alone_until.is_some() { 1 } else { BATCH_MAX };
    }
}

/// Queued jobs, outcomes apart.
struct WriteQueue {
    jobs: mpsc::UnboundedReceiver<WriteJob>,
    outcomes: FairQueue<WriteJob>,
    others: FairQueue<WriteJob>,
    /// True if the next job of `others` must be committed alone and has waited for one commit.
    alone_is_next: bool,
    /// Maximum number of outcomes in a commit, and of other jobs.
    batch_max: usize,
    aged: Instant,
}

impl WriteQueue {
    fn new(jobs: mpsc::UnboundedReceiver<WriteJob>) -> Self {
        WriteQueue {
            jobs,
            outcomes: FairQueue::default(),
            others: FairQueue::default(),
            alone_is_next: false,
            batch_max: BATCH_MAX,
            aged: clock::instant(),
        }
    }

    /// Waits for the jobs of the next commit, about `rows_max` rows of outcomes and of others. None: there are no more jobs.
    fn next_batch(&mut self, rows_max: u64) -> Option<Vec<WriteJob>> {
        if self.outcomes.is_empty() && self.others.is_empty() {
            let job = self.jobs.blocking_recv()?;
            self.sort(job);
        }
        while let Ok(job) = self.jobs.try_recv() {
            self.sort(job);
        }
        self.age();
        if std::mem::take(&mut self.alone_is_next) {
            return self.others.pop().map(|job| vec![job]);
        }
        let mut batch = Vec::new();
        let mut rows = 0;
        while batch.len() < self.batch_max
            && rows < rows_max
            && let Some(job) = self.outcomes.pop()
        {
            rows += job.cost();
            batch.push(job);
        }
        if self.batch_max > 1 || batch.is_empty() {
            self.add_others(&mut batch, rows_max);
        }
        Some(batch)
    }

    fn add_others(&mut self, batch: &mut Vec<WriteJob>, rows_max: u64) {
        let mut others = 0;
        let mut rows = 0;
        while others < self.batch_max
            && rows < rows_max
            && let Some((cost, job)) = self.others.front()
        {
            let is_alone = job.is_alone();
            if is_alone && !batch.is_empty() {
                self.alone_is_next = true;
                return;
            }
            batch.extend(self.others.pop());
            if is_alone {
                return;
            }
            others += 1;
            rows += cost;
        }
    }

    fn sort(&mut self, job: WriteJob) {
        let queue = if job.mode == WriteMode::Outcome { &mut self.outcomes } else { &mut self.others };
        queue.push(job.terms.owner.clone(), job.cost(), job);
    }

    fn age(&mut self) {
        let passed = clock::since(self.aged);
        let half_lives = passed.as_millis() / HALF_LIFE.as_millis();
        if half_lives > 0 {
            let half_lives = u32::try_from(half_lives).unwrap_or(u32::MAX);
            self.outcomes.age(half_lives);
            self.others.age(half_lives);
            self.aged = clock::instant();
        }
    }
}

/// Runs jobs in one transaction, and answers the callers.
fn commit(connection: &Connection, context: &WriterContext, jobs: Vec<WriteJob>) -> Result<(), DatabaseError> {
    let WriterContext { files, room, pending, share, .. } = context;
    let mut finishes = Vec::with_capacity(jobs.len());
    let begun = files.check().and_then(|()| execute(connection, "BEGIN IMMEDIATE"));
    let tx = Transaction::on(connection, room, *share);
    for job in jobs {
        finishes.push((job.write)(&tx));
    }
    let settled = begun.and_then(|()| tx.settle());
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
