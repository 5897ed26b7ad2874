//! The one thread that writes, with group commit.
//!
//! Every write is a closure over the transaction ([`Batch`]). The thread takes what waits, some hundred writes, runs each
//! inside one transaction, commits once, and only then answers each caller. So an answer `Ok` means durable: with
//! `synchronous=FULL` the commit has been flushed to the disk. The usual outcomes go first, because lanes wait for them; the
//! others keep their order, and some of them are in every commit. One closure's error undoes that closure alone, by a
//! savepoint; only those of the hot path do without, because each savepoint copies every page that is touched after it,
//! and so must refuse before they write ([`Manner::Hot`]). An error of the commit is everybody's, and so is that of a row
//! which others left to be written ([`Batch`]).
//!
//! Does not know what is written. Stops when the last handle is gone, after everything queued has been written.

use super::StoreError;
use super::batch::Batch;
use rusqlite::{Connection, ffi};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// How many outcomes share one commit at the most, how many other writes, and about how many events: enough to make the flush
/// cheap, few enough to keep waits short.
const BATCH_MAX: usize = 512;
const EVENTS_MAX: usize = 512;

/// How many writes may wait, in the channel and sorted each. Past it, callers wait for room, which is the back-pressure that
/// intake passes on.
const QUEUE_MAX: usize = 4_096;

type Finish = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
type Write = Box<dyn FnOnce(&Batch<'_>) -> Finish + Send>;

/// How a write goes with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// In one commit with others. If it fails, it alone is undone.
    Shared,
    /// The same without a savepoint, for accepting so many events. It refuses before its first change; if it fails
    /// after that (the disk, or a fault of ours), the whole batch is undone and every caller gets an error.
    Hot {
        /// How many events.
        events: usize,
    },
    /// As `Hot`, and before what waits: an outcome, which frees a place in its lane.
    First,
    /// Committed before anything queued behind it runs, but for `First`.
    Alone,
}

struct Job {
    write: Write,
    manner: Manner,
}

impl Job {
    /// Whether nothing shares its commit: it asks for that, or it is so large that the others would wait for it.
    fn is_alone(&self) -> bool {
        match self.manner {
            Manner::Alone => true,
            Manner::Hot { events } => events > EVENTS_MAX,
            Manner::Shared | Manner::First => false,
        }
    }
}

/// The handle by which everybody writes.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Takes the connection over into a thread of its own.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(connection, jobs))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `write` and returns what it returned, once it is durable. `then` runs on the writer's thread after the
    /// commit and before any later write begins a new transaction.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        manner: Manner,
        write: impl FnOnce(&Batch<'_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |batch| {
            let write = |batch: &Batch<'_>| {
                catch_unwind(AssertUnwindSafe(|| write(batch))).unwrap_or(Err(StoreError::Panicked))
            };
            let written = match manner {
                _ if batch.is_over() => Err(StoreError::BatchFailed),
                Manner::Hot { .. } | Manner::First => in_batch(batch, write),
                Manner::Shared | Manner::Alone => in_savepoint(batch, write),
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
        queue.send(Job { write, manner }).await.map_err(|_| StoreError::Stopped)?;
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

fn run(connection: Connection, jobs: mpsc::Receiver<Job>) {
    let mut waiting = Waiting { jobs, first: VecDeque::new(), others: VecDeque::new(), alone_is_next: false };
    while let Some(batch) = waiting.next_batch() {
        commit(&connection, batch);
    }
}

/// The jobs that wait, outcomes apart.
struct Waiting {
    jobs: mpsc::Receiver<Job>,
    first: VecDeque<Job>,
    others: VecDeque<Job>,
    /// Whether the next of the others wants to be alone and has waited for one commit.
    alone_is_next: bool,
}

impl Waiting {
    /// What shares the next commit; none when there will be no more.
    fn next_batch(&mut self) -> Option<Vec<Job>> {
        if self.first.is_empty() && self.others.is_empty() {
            let job = self.jobs.blocking_recv()?;
            self.sort(job);
        }
        while self.first.len() + self.others.len() < QUEUE_MAX {
            let Ok(job) = self.jobs.try_recv() else { break };
            self.sort(job);
        }
        if std::mem::take(&mut self.alone_is_next) {
            return self.others.pop_front().map(|job| vec![job]);
        }
        let mut batch: Vec<Job> = self.first.drain(..self.first.len().min(BATCH_MAX)).collect();
        let (mut others, mut events) = (0, 0);
        while others < BATCH_MAX && events < EVENTS_MAX {
            let Some(job) = self.others.pop_front() else { break };
            if job.is_alone() {
                if batch.is_empty() {
                    return Some(vec![job]);
                }
                self.others.push_front(job);
                self.alone_is_next = true;
                break;
            }
            others += 1;
            events += if let Manner::Hot { events } = job.manner { events } else { 1 };
            batch.push(job);
        }
        Some(batch)
    }

    fn sort(&mut self, job: Job) {
        match job.manner {
            Manner::First => self.first.push_back(job),
            _ => self.others.push_back(job),
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

    /// `f`: an outcome, `o`: another write, `a`: one that is alone, a digit: so many hundred events. Batches are apart.
    #[track_caller]
    fn check(written: &str, batches: &str) {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        for letter in written.chars() {
            let manner = match letter {
                'f' => Manner::First,
                'o' => Manner::Shared,
                'a' => Manner::Alone,
                digit => Manner::Hot { events: digit.to_digit(10).expect("a digit") as usize * 100 },
            };
            let write: Write = Box::new(|_| Box::new(|_| ()));
            assert!(queue.try_send(Job { write, manner }).is_ok());
        }
        drop(queue);
        let mut waiting = Waiting { jobs, first: VecDeque::new(), others: VecDeque::new(), alone_is_next: false };
        let letter = |job: &Job| match job.manner {
            Manner::First => "f".to_owned(),
            Manner::Shared => "o".to_owned(),
            Manner::Alone => "a".to_owned(),
            Manner::Hot { events } => (events / 100).to_string(),
        };
        let all = std::iter::from_fn(|| waiting.next_batch());
        let told: Vec<String> = all.map(|batch| batch.iter().map(letter).collect()).collect();
        assert_eq!(told.join(" "), batches);
    }

    #[test]
    fn outcomes_go_first_and_others_keep_their_order() {
        check("ofof", "ffoo");
        check("12f3", "f123");
        check("9ff9", "ff 9 9");
        check("2222f", "f222 2");
        check("oaoaf", "fo a o a");
        check("aaf", "f a a");
        check("aof", "f a o");
        check(&"f".repeat(600), &["f".repeat(512), "f".repeat(88)].join(" "));
        check(&("o".repeat(600) + &"f".repeat(512)), &["f".repeat(512) + &"o".repeat(512), "o".repeat(88)].join(" "));
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
        // While the first waits, the others gather in one batch.
        let (first, hot, shared, _) = tokio::join!(
            writer.write(Manner::Alone, move |_| Ok(gone.recv().is_ok()), |_| {}),
            writer.write(Manner::Hot { events: 1 }, add, |_| {}),
            writer.write(Manner::Shared, mark, |_| {}),
            async { go.send(()) },
        );
        assert!(first.is_ok_and(|waited| waited));
        assert!(matches!(&hot, Err(StoreError::Commit(cause)) if cause.to_string().contains("events")), "{hot:?}");
        assert!(matches!(shared, Err(StoreError::BatchFailed)), "{shared:?}");
        let count =
            |batch: &Batch<'_>| Ok(batch.query_row("SELECT COUNT(*) FROM marks", [], |row| row.get::<_, i64>(0))?);
        assert!(
            matches!(writer.write(Manner::Shared, count, |_| {}).await, Ok(0)),
            "it goes on, and nothing was written"
        );
    }
}
