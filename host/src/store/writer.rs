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
//!   [`ROWS_MAX`]. A larger write has a commit of its own. So whatever the others send, a tenant that writes little waits
//!   for the commit that is under way and then has the next one.
//! - A write that changes the catalog ([`WriteMode::Exclusive`]) has a commit of its own, and the catalog shows it before
//!   anything else runs, of whichever owner.
//!
//! # Limits
//! Writes that wait are bounded, and each owner has a share of the room ([`FairSemaphore`]): a tenant that fills its own
//! holds up nobody else. How large one write may be is its caller's business.
//!
//! Does not know what is written. Stops when the last handle is gone, after everything queued has been written.

use super::StoreError;
use super::batch::Batch;
use super::fair_queue::{FairQueue, Owner};
use crate::fair_share::{FairPermit, FairSemaphore};
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
const ROWS_MAX: u64 = 1_024;

/// How many writes other than outcomes may wait. One owner may have half of them while nobody else waits. Past it, callers
/// wait for room, which is the back-pressure that intake passes on.
const QUEUE_MAX: u64 = 8_192;

/// Rows that the flush of a commit costs as much as: what a write is charged that has a commit of its own.
const COMMIT_ROWS: u64 = 256;

/// How long it takes until what an owner wrote counts half.
const HALF_LIFE: Duration = Duration::from_millis(100);

type Finish = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
type Write = Box<dyn FnOnce(&Batch<'_>) -> Finish + Send>;

/// How a write shares a commit with others.
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

struct Job {
    write: Write,
    terms: Terms,
    /// The room that it takes while it waits; outcomes are bounded by the attempts under way and take none.
    _room: Option<FairPermit<Owner>>,
}

impl Job {
    /// Whether nothing shares its commit: it asks for that, or it is so large that the others would wait for it.
    fn is_alone(&self) -> bool {
        self.terms.mode == WriteMode::Exclusive || self.terms.rows > ROWS_MAX
    }

    fn cost(&self) -> u64 {
        if self.is_alone() { self.terms.rows.max(COMMIT_ROWS) } else { self.terms.rows.max(1) }
    }
}

/// The handle by which everybody writes.
pub(super) struct Writer {
    queue: Option<mpsc::UnboundedSender<Job>>,
    room: FairSemaphore<Owner>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Takes the connection over into a thread of its own.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(connection, jobs))?;
        Ok(Writer { queue: Some(queue), room: FairSemaphore::new(QUEUE_MAX, QUEUE_MAX), thread: Some(thread) })
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
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => Err(StoreError::Commit(error)),
                };
                // The caller may have gone away (a client that hung up); what was written stays.
                let _ = answer.send(written);
            })
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        let room = if mode == WriteMode::Outcome { None } else { Some(self.room.acquire(&terms.owner, 1).await) };
        queue.send(Job { write, terms, _room: room }).map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
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

fn run(connection: Connection, jobs: mpsc::UnboundedReceiver<Job>) {
    let mut waiting = Waiting::new(jobs);
    while let Some(batch) = waiting.next_batch() {
        commit(&connection, batch);
    }
}

/// The jobs that wait, outcomes apart.
struct Waiting {
    jobs: mpsc::UnboundedReceiver<Job>,
    outcomes: FairQueue<Job>,
    others: FairQueue<Job>,
    /// Whether the next of the others wants to be alone and has waited for one commit.
    alone_is_next: bool,
    aged: Instant,
}

impl Waiting {
    fn new(jobs: mpsc::UnboundedReceiver<Job>) -> Self {
        Waiting {
            jobs,
            outcomes: FairQueue::default(),
            others: FairQueue::default(),
            alone_is_next: false,
            aged: Instant::now(),
        }
    }

    /// Returns the jobs of the next commit; none when there will be no more.
    fn next_batch(&mut self) -> Option<Vec<Job>> {
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
        let (mut outcomes, mut rows) = (0, 0);
        while outcomes < BATCH_MAX
            && rows < ROWS_MAX
            && let Some(job) = self.outcomes.pop()
        {
            outcomes += 1;
            rows += job.cost();
            batch.push(job);
        }
        self.add_others(&mut batch);
        Some(batch)
    }

    fn add_others(&mut self, batch: &mut Vec<Job>) {
        let (mut others, mut rows) = (0, 0);
        while others < BATCH_MAX
            && rows < ROWS_MAX
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

    fn sort(&mut self, job: Job) {
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

fn commit(connection: &Connection, jobs: Vec<Job>) {
    let mut finishes = Vec::with_capacity(jobs.len());
    let begun = execute(connection, "BEGIN IMMEDIATE");
    let batch = Batch::on(connection);
    for job in jobs {
        finishes.push((job.write)(&batch));
    }
    let settled = begun.and_then(|()| batch.settle());
    drop(batch);
    let committed = settled.and_then(|()| execute(connection, "COMMIT")).map_err(Arc::new);
    if let Err(error) = &committed {
        tracing::error!(%error, "the store could not commit; nothing of this batch was accepted");
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    for finish in finishes {
        finish(committed.clone());
    }
}

/// Runs one write that undoes the whole batch if it fails after its first change.
fn in_batch<T>(batch: &Batch<'_>, write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let (before, mark) = (batch.total_changes(), batch.mark());
    let written = write(batch);
    if written.is_err() {
        batch.back_to(mark);
        if batch.total_changes() != before {
            let what = "a write failed after its first change".to_owned();
            batch.give_up(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(what)));
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
mod tests {
    use super::*;
    use crate::event::{Event, EventId, Module};
    use crate::ids::TenantId;
    use crate::store::rows::EventRow;

    /// Sorts jobs and returns the commits that they would share. `f` is an outcome, `o` another write, `e` one that is
    /// exclusive, a digit so many hundred rows, all of tenant `a`; a capital letter before one of them names its tenant.
    fn batches(written: &str) -> String {
        let (queue, jobs) = mpsc::unbounded_channel();
        let mut owner = Owner::Tenant(TenantId("A".into()));
        for letter in written.chars() {
            let (mode, rows) = match letter {
                'A'..='Z' => {
                    owner = Owner::Tenant(TenantId(letter.to_string().into()));
                    continue;
                }
                'f' => (WriteMode::Outcome, 2),
                'o' => (WriteMode::Shared, 2),
                'e' => (WriteMode::Exclusive, 2),
                digit => (WriteMode::Intake, u64::from(digit.to_digit(36).expect("a digit")) * 100),
            };
            let write: Write = Box::new(|_| Box::new(|_| ()));
            let terms = Terms { owner: owner.clone(), mode, rows };
            assert!(queue.send(Job { write, terms, _room: None }).is_ok());
        }
        drop(queue);
        let mut waiting = Waiting::new(jobs);
        let letter = |job: &Job| {
            let kind = match job.terms.mode {
                WriteMode::Outcome => "f".to_owned(),
                WriteMode::Shared => "o".to_owned(),
                WriteMode::Exclusive => "e".to_owned(),
                WriteMode::Intake => std::char::from_digit((job.terms.rows / 100) as u32, 36).into_iter().collect(),
            };
            match &job.terms.owner {
                Owner::Tenant(tenant) if &*tenant.0 != "A" => format!("{tenant}{kind}"),
                _ => kind,
            }
        };
        let all = std::iter::from_fn(|| waiting.next_batch());
        let all: Vec<String> = all.map(|batch| batch.iter().map(letter).collect()).collect();
        all.join(" ")
    }

    #[test]
    fn outcomes_go_first_and_others_of_a_tenant_keep_their_order() {
        assert_eq!(batches("ofof"), "ffoo");
        assert_eq!(batches("12f3"), "f123");
        assert_eq!(batches("kffk"), "ff k k");
        assert_eq!(batches("4444f"), "f444 4");
        assert_eq!(batches("oeoef"), "fo e o e");
        assert_eq!(batches("eef"), "f e e");
        assert_eq!(batches("eof"), "f e o");
        assert_eq!(batches(&"f".repeat(600)), ["f".repeat(512), "f".repeat(88)].join(" "));
        let both = "o".repeat(600) + &"f".repeat(512);
        assert_eq!(batches(&both), ["f".repeat(512) + &"o".repeat(512), "o".repeat(88)].join(" "));
    }

    #[test]
    fn a_tenant_with_little_does_not_wait_behind_what_another_has_queued() {
        // Without turns it would be in the third commit.
        assert_eq!(batches("999999Bo"), "9Bo9 99 99");
        // Large writes of several tenants: the small one is in the second commit, not behind all of them.
        assert_eq!(batches("kkCkkDkkBo"), "k Bo Ck Dk k Ck Dk");
    }

    #[tokio::test]
    async fn who_left_rows_that_cannot_be_written_is_told_so() {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch("CREATE TABLE marks (mark)").expect("a table, and none of events");
        let writer = Writer::start(connection).expect("a thread");
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let event = Arc::new(Event {
            id: EventId::new(),
            name: String::new(),
            module: Module::Contact,
            entity_id: None,
            received_at_ms: 0,
            payload: bytes::Bytes::new(),
        });
        let row = EventRow { tenant: TenantId::parse("t").expect("a name"), event, fan_out: 0 };
        let add = move |batch: &Batch<'_>| {
            batch.add_event(row);
            Ok(())
        };
        let mark = |batch: &Batch<'_>| Ok(batch.execute("INSERT INTO marks VALUES (1)", [])?);
        let terms = |mode| Terms::small(Owner::Host, mode);
        // While the first waits, the others gather in one batch.
        let (first, hot, shared, _) = tokio::join!(
            writer.write(terms(WriteMode::Exclusive), move |_| Ok(gone.recv().is_ok()), |_| {}),
            writer.write(terms(WriteMode::Intake), add, |_| {}),
            writer.write(terms(WriteMode::Shared), mark, |_| {}),
            async { go.send(()) },
        );
        assert!(first.is_ok_and(|waited| waited));
        assert!(matches!(&hot, Err(StoreError::Commit(cause)) if cause.to_string().contains("events")), "{hot:?}");
        assert!(matches!(shared, Err(StoreError::BatchFailed)), "{shared:?}");
        let count =
            |batch: &Batch<'_>| Ok(batch.query_row("SELECT COUNT(*) FROM marks", [], |row| row.get::<_, i64>(0))?);
        assert!(
            matches!(writer.write(terms(WriteMode::Shared), count, |_| {}).await, Ok(0)),
            "it goes on, and nothing was written"
        );
    }
}
