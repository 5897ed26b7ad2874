//! The one thread that writes, with group commit.
//!
//! Every write is a closure over the transaction ([`Batch`]). The thread takes what waits, some hundred writes, runs each
//! inside one transaction, commits once, and only then answers each caller. So an answer `Ok` means durable: with
//! `synchronous=FULL` the commit has been flushed to the disk. One closure's error undoes that closure alone, by a
//! savepoint; only those of the hot path do without, because each savepoint copies every page that is touched after it,
//! and so must refuse before they write ([`WriteMode::Intake`]). An error of the commit is everybody's, and so is that of a
//! row which others left to be written ([`Batch`]).
//!
//! # Order
//! - Writes of one owner, a tenant or the host, run in the order in which they were queued; outcomes are a queue of their
//!   own, which goes first, because lanes wait for them.
//! - Owners are served by the rows that they wrote lately, the least first ([`FairQueue`]), and a commit has at most
//!   [`ROWS_MAX`], fewer where rows take long ([`RowBudget`]). A larger write has a commit of its own. So whatever the others
//!   send, a tenant that writes little waits for the commit that is under way and then has the next one.
//! - A write that changes the catalog ([`WriteMode::Exclusive`]) has a commit of its own, and the catalog shows it before
//!   anything else runs, of whichever owner.
//!
//! # Damage
//! A write that needs a damaged page takes down the commit that it shares. For [`APART`] after that each write has a commit of its
//! own, so that only those fail that must.
//!
//! # Limits
//! Writes that wait are bounded, and each owner has a share of the room ([`FairSemaphore`]): a tenant that fills its own
//! holds up nobody else. How large one write may be is its caller's business.
//!
//! Does not know what is written. Stops when the last handle is gone, after everything queued has been written.

mod budget;

use super::StoreError;
use super::backlog::PendingCounts;
use super::batch::Batch;
use super::damage::{Damage, is_damage};
use super::data_folder::OpenFiles;
use super::disk_room::DiskRoom;
use super::fair_queue::{FairQueue, Owner};
use crate::fair_share::{FairPermit, FairSemaphore};
use budget::RowBudget;
use rusqlite::{Connection, ffi};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of outcomes that share one commit, and of other writes: enough to make the flush cheap, few enough to
/// keep waits short.
const BATCH_MAX: usize = 512;

/// About how many rows of outcomes share one commit, and of other writes. A row is one of an event or a delivery, or
/// 4 KiB of payload: some milliseconds together.
pub(super) const ROWS_MAX: u64 = 1_024;

/// Maximum number of writes, outcomes aside, that wait. One owner may have half of them while nobody else waits. Past it,
/// callers wait for room, which is the back-pressure that intake passes on.
const QUEUE_MAX: u64 = 8_192;

/// Rows that the flush of a commit costs as much as: what a write is charged that has a commit of its own.
const COMMIT_ROWS: u64 = 256;

/// Half-life of an owner's written rows.
const HALF_LIFE: Duration = Duration::from_millis(100);

/// Time after a damaged page was met in which every write has a commit of its own.
const APART: Duration = Duration::from_secs(10);

type Finish = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
type Write = Box<dyn FnOnce(&Batch<'_>) -> Finish + Send>;

/// Way in which a write shares a commit with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteMode {
    /// In one commit with others. If it fails, it alone is undone.
    Shared,
    /// The same without a savepoint, for accepting events. It refuses before its first change; if it fails after that
    /// (the disk, or a fault of ours), the whole batch is undone and every caller gets an error.
    Intake,
    /// As `Intake`, and before what waits: the outcome of an attempt, which frees a permit of its lane.
    Outcome,
    /// Committed before anything else runs.
    Exclusive,
}

/// On whose account a write runs, how, and what it costs.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) owner: Owner,
    pub(super) mode: WriteMode,
    /// About how many rows it writes.
    pub(super) rows: u64,
}

impl Terms {
    /// Terms of a write of few rows.
    pub(super) fn small(owner: Owner, mode: WriteMode) -> Self {
        Terms { owner, mode, rows: 2 }
    }
}

/// Rows that payloads of so many bytes cost as much as.
pub(super) fn payload_rows(bytes: usize) -> u64 {
    (bytes / 4_096) as u64
}

struct WriteJob {
    write: Write,
    terms: Terms,
    /// The room that it takes while it waits; outcomes are bounded by the attempts under way and take none.
    _room: Option<FairPermit<Owner>>,
}

impl WriteJob {
    /// Returns true if nothing shares its commit: it asks for that, or it is so large that the others would wait for it.
    fn is_alone(&self) -> bool {
        self.terms.mode == WriteMode::Exclusive || self.terms.rows > ROWS_MAX
    }

    fn cost(&self) -> u64 {
        if self.is_alone() { self.terms.rows.max(COMMIT_ROWS) } else { self.terms.rows.max(1) }
    }
}

/// Parts of the store that the writer maintains besides its transactions.
pub(super) struct WriterContext {
    /// The files of the database, which must stay the ones that are opened.
    pub(super) files: OpenFiles,
    pub(super) room: Arc<DiskRoom>,
    /// Pending deliveries by subscription, which each commit changes.
    pub(super) pending: Arc<PendingCounts>,
    pub(super) damage: Damage,
}

/// The handle by which everybody writes.
pub(super) struct Writer {
    queue: Option<mpsc::UnboundedSender<WriteJob>>,
    room: FairSemaphore<Owner>,
    damage: Damage,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Takes the connection over into a thread of its own.
    pub(super) fn start(connection: Connection, context: WriterContext) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::unbounded_channel();
        let damage = context.damage.clone();
        let thread = std::thread::Builder::new().name("store-writer".into());
        let thread = thread.spawn(move || run(&connection, &context, jobs))?;
        Ok(Writer { queue: Some(queue), room: FairSemaphore::new(QUEUE_MAX, QUEUE_MAX), damage, thread: Some(thread) })
    }

    /// Runs `write` and returns what it returned, once it is durable. `then` runs on the writer's thread after the
    /// commit and before any later write begins a new transaction.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        terms: Terms,
        write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let mode = terms.mode;
        let write: Write = Box::new(move |batch| {
            let write = |batch: &Batch<'_>| {
                catch_unwind(AssertUnwindSafe(|| write(batch))).unwrap_or(Err(StoreError::Panicked))
            };
            let written = match mode {
                _ if batch.is_over() => Err(StoreError::BatchFailed),
                WriteMode::Intake | WriteMode::Outcome => in_batch(batch, write),
                WriteMode::Shared | WriteMode::Exclusive => in_savepoint(batch, write),
            };
            Box::new(move |committed| {
                let written = match (written, committed) {
                    (Ok(mut value), Ok(())) => {
                        then(&mut value);
                        Ok(value)
                    }
                    // It could not begin: the cause says more.
                    (Err(StoreError::BatchFailed), Err(cause)) => Err(StoreError::Commit(cause)),
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => Err(StoreError::Commit(error)),
                };
                // The caller may have gone away (a client that hung up); what was written stays.
                let _ = answer.send(written);
            })
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        let room = if mode == WriteMode::Outcome { None } else { Some(self.room.acquire(&terms.owner, 1).await) };
        queue.send(WriteJob { write, terms, _room: room }).map_err(|_| StoreError::Stopped)?;
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
    // Until when each job has a commit of its own.
    let mut apart: Option<Instant> = None;
    while let Some(batch) = waiting.next_batch(budget.rows()) {
        context.room.look_again(connection);
        let rows = batch.iter().map(|job| job.terms.rows).sum();
        let begun = Instant::now();
        match commit(connection, context, batch) {
            Err(error) if is_damage(&error) => {
                apart = Some(Instant::now() + APART);
                context.damage.note_write(true);
            }
            Ok(()) if apart.is_some_and(|until| Instant::now() >= until) => {
                apart = None;
                context.damage.note_write(false);
            }
            _ => {}
        }
        budget.observe(rows, begun.elapsed());
        waiting.batch_max = if apart.is_some() { 1 } else { BATCH_MAX };
    }
}

/// The jobs that wait, outcomes apart.
struct WriteQueue {
    jobs: mpsc::UnboundedReceiver<WriteJob>,
    outcomes: FairQueue<WriteJob>,
    others: FairQueue<WriteJob>,
    /// True if the next of the others wants a commit of its own and has waited for one commit.
    alone_is_next: bool,
    /// Maximum number of outcomes in a commit, and of others.
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
            aged: Instant::now(),
        }
    }

    /// Returns the jobs of the next commit, about `rows_max` rows of outcomes and of others; none when there will be no more.
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
        let queue = if job.terms.mode == WriteMode::Outcome { &mut self.outcomes } else { &mut self.others };
        queue.push(job.terms.owner.clone(), job.cost(), job);
    }

    fn age(&mut self) {
        let passed = self.aged.elapsed();
        let half_lives = passed.as_millis() / HALF_LIFE.as_millis();
        if half_lives > 0 {
            let half_lives = u32::try_from(half_lives).unwrap_or(u32::MAX);
            self.outcomes.age(half_lives);
            self.others.age(half_lives);
            self.aged = Instant::now();
        }
    }
}

/// Runs jobs in one transaction, and answers their callers.
fn commit(connection: &Connection, context: &WriterContext, jobs: Vec<WriteJob>) -> Result<(), Arc<rusqlite::Error>> {
    let WriterContext { files, room, pending, .. } = context;
    let mut finishes = Vec::with_capacity(jobs.len());
    let begun = files.check().and_then(|()| execute(connection, "BEGIN IMMEDIATE"));
    let batch = Batch::on(connection, room);
    for job in jobs {
        finishes.push((job.write)(&batch));
    }
    let settled = begun.and_then(|()| batch.settle());
    let changes = batch.take_pending();
    drop(batch);
    let committed = settled.and_then(|()| execute(connection, "COMMIT"));
    // Durable is only what is in a file that the next start finds.
    let committed = committed.and_then(|()| files.check()).map_err(Arc::new);
    match &committed {
        Ok(()) => pending.apply(changes),
        Err(error) => {
            tracing::error!(%error, "the store could not commit; nothing of this batch was accepted");
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

/// Runs one write that undoes the whole batch if it fails after its first change.
fn in_batch<T>(batch: &Batch<'_>, write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let before = batch.total_changes();
    let mark = batch.mark();
    let written = write(batch);
    if let Err(error) = &written {
        batch.back_to(mark);
        if batch.total_changes() != before {
            let code = if error.is_damage() { ffi::SQLITE_CORRUPT } else { ffi::SQLITE_ABORT };
            let what = "a write failed after its first change".to_owned();
            batch.give_up(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(what)));
        }
    }
    written
}

/// Runs one write so that its failure undoes nothing but itself.
fn in_savepoint<T>(
    batch: &Batch<'_>,
    write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // The rows of those before it are not its own to undo: without them there is no batch.
    if let Err(error) = batch.write_rows() {
        batch.give_up(error);
        return Err(StoreError::BatchFailed);
    }
    let mark = batch.mark();
    execute(batch, "SAVEPOINT one")?;
    match write(batch).and_then(|value| Ok(batch.write_rows().map(|()| value)?)) {
        Ok(value) => {
            execute(batch, "RELEASE one")?;
            Ok(value)
        }
        Err(error) => {
            batch.back_to(mark);
            if !batch.is_autocommit() {
                batch.execute_batch("ROLLBACK TO one; RELEASE one")?;
            }
            Err(error)
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests;
