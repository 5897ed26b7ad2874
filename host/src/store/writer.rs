//! The one thread that writes, with group commit.
//!
//! Every write is a closure over the connection. The thread takes all that wait (up to 512), runs each inside one
//! transaction, commits once, and only then answers each caller. So an answer `Ok` means durable: with
//! `synchronous=FULL` the commit has been flushed to the disk. One closure's error undoes that closure alone, by a
//! savepoint; only those of the hot path do without, because each savepoint copies every page that is touched after it,
//! and so must refuse before they write ([`Manner::Hot`]). An error of the commit is everybody's.
//!
//! Does not know what is written. Stops when the last handle is gone, after everything queued has been written.

use super::StoreError;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// How many writes share one commit at the most: enough to make the flush cheap, few enough to keep waits short.
const BATCH_MAX: usize = 512;

/// How many writes may wait. Past it, callers wait for room, which is the back-pressure that intake passes on.
const QUEUE_MAX: usize = 4_096;

type Finish = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
type Write = Box<dyn FnOnce(&Connection) -> Finish + Send>;

/// How a write goes with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// In one commit with others. If it fails, it alone is undone.
    Shared,
    /// The same without a savepoint, for the writes of every event. It refuses before its first change; if it fails
    /// after that (the disk, or a fault of ours), the whole batch is undone and every caller gets an error.
    Hot,
    /// Committed before anything queued behind it runs.
    Alone,
}

struct Job {
    write: Write,
    manner: Manner,
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
        write: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let write = |connection: &Connection| {
                catch_unwind(AssertUnwindSafe(|| write(connection))).unwrap_or(Err(StoreError::Panicked))
            };
            let written = match manner {
                // SQLite itself rolls the whole transaction back on a full disk and the like: nothing may follow it
                // outside one.
                _ if connection.is_autocommit() => Err(StoreError::BatchFailed),
                Manner::Hot => in_batch(connection, write),
                Manner::Shared | Manner::Alone => in_savepoint(connection, write),
            };
            Box::new(move |committed| {
                let written = match (written, committed) {
                    (Ok(value), Ok(())) => {
                        then(&value);
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

fn run(connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut held: Option<Job> = None;
    loop {
        let Some(first) = held.take().or_else(|| jobs.blocking_recv()) else { break };
        let mut batch = vec![first];
        while batch[0].manner != Manner::Alone && batch.len() < BATCH_MAX {
            match jobs.try_recv() {
                Ok(job) if job.manner == Manner::Alone => {
                    held = Some(job);
                    break;
                }
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        commit(&connection, batch);
    }
}

fn commit(connection: &Connection, batch: Vec<Job>) {
    let mut finishes = Vec::with_capacity(batch.len());
    let begun = execute(connection, "BEGIN IMMEDIATE");
    for job in batch {
        finishes.push((job.write)(connection));
    }
    let committed = begun.and_then(|()| execute(connection, "COMMIT")).map_err(Arc::new);
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
fn in_batch<T>(
    connection: &Connection,
    write: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let before = connection.total_changes();
    let written = write(connection);
    if written.is_err() && connection.total_changes() != before && !connection.is_autocommit() {
        // What follows finds no transaction, and neither does the commit.
        execute(connection, "ROLLBACK")?;
    }
    written
}

/// Runs one write so that its failure undoes nothing but itself.
fn in_savepoint<T>(
    connection: &Connection,
    write: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "SAVEPOINT one")?;
    match write(connection) {
        Ok(value) => {
            execute(connection, "RELEASE one")?;
            Ok(value)
        }
        Err(error) => {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK TO one; RELEASE one")?;
            }
            Err(error)
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
