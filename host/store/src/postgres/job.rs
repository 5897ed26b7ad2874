//! Queued write: it runs in a transaction, publishes its result after the commit, and answers its caller.

use super::settling_lock::SettlingLock;
use super::transaction::{SqlFuture, WriteTx};
use crate::StoreError;
use crate::error::DatabaseError;
use crate::host_state::HostState;
use async_trait::async_trait;
use hookloom_model::clock::{self, Clock};
use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::oneshot;

/// Outcome of a transaction.
#[derive(Clone, Debug)]
pub(super) enum CommitOutcome {
    /// Everything is durable, except writes that were undone.
    Committed,
    /// Nothing was written, because the server cannot be reached.
    Unavailable,
    /// Nothing was written, because the server refused the transaction.
    Refused(DatabaseError),
    /// The answer was lost, and the server cannot be asked again for now.
    Unknown,
}

/// Function that runs jobs of one type together. Returns an error if it has to be undone; each is run by itself then.
pub(super) type RunTogether = for<'t> fn(&'t WriteTx, Vec<&'t mut (dyn Any + Send)>) -> SqlFuture<'t, ()>;

/// Queued write.
#[async_trait]
pub(super) trait Job: Send {
    /// Returns the function that runs this job and others that return the same one together. None: it is run by itself.
    fn together(&self) -> Option<RunTogether> {
        None
    }

    /// Returns the job for [`Job::together`].
    fn as_any(&mut self) -> &mut (dyn Any + Send);

    /// Returns the name of a row that a transaction of another host may lock as well. None: the write locks no such row.
    fn shared_row(&self) -> Option<&str> {
        None
    }

    /// Returns the locks of the contacts and deals that the write settles, which its transaction takes first.
    fn settling_locks(&self) -> &[SettlingLock] {
        &[]
    }

    /// Returns true if the write has run and succeeded. None: it has not run.
    fn result(&self) -> Option<bool>;

    /// Runs the write. Returns false if it failed, so that its changes must be undone.
    async fn run(&mut self, tx: &WriteTx) -> bool;

    /// Publishes and answers. After [`CommitOutcome::Unknown`], it is called once more when the outcome is known.
    fn finish(&mut self, state: &HostState, outcome: &CommitOutcome);
}

/// Sorts the writes of a transaction: those that lock rows which another host may lock as well come last, in the order of their rows. So
/// two hosts that lock the same rows do not wait for each other in a circle.
pub(super) fn sort_by_shared_row(batch: &mut [Box<dyn Job>]) {
    batch.sort_by(|one, other| one.shared_row().cmp(&other.shared_row()));
}

/// Result of a write, and its caller.
pub(super) struct Written<T> {
    result: Option<Result<T, StoreError>>,
    answer: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T> Written<T> {
    /// Returns a write that has not run, and the receiver of its answer.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (Written { result: None, answer: Some(answer) }, answered)
    }

    /// Sets the result of the write.
    pub(super) fn set(&mut self, result: Result<T, StoreError>) {
        self.result = Some(result);
    }

    /// Returns true if the write succeeded. None: it has not run.
    pub(super) fn result(&self) -> Option<bool> {
        self.result.as_ref().map(Result::is_ok)
    }

    /// Publishes and answers, as [`Job::finish`] does.
    pub(super) fn finish(&mut self, outcome: &CommitOutcome, publish: impl FnOnce(&mut T)) {
        let error = match outcome {
            CommitOutcome::Committed => {
                let Some(mut result) = self.result.take() else { return };
                if let Ok(value) = &mut result {
                    publish(value);
                }
                return self.answer(result);
            }
            // What was written is published if the commit turns out to have happened.
            CommitOutcome::Unknown if matches!(self.result, Some(Ok(_))) => {
                return self.answer(Err(StoreError::Unknown));
            }
            CommitOutcome::Unknown => StoreError::Unknown,
            CommitOutcome::Unavailable => StoreError::Unavailable,
            CommitOutcome::Refused(error) => StoreError::Commit(error.clone()),
        };
        let answer = match self.result.take() {
            Some(Err(error)) => Err(error),
            _ => Err(error),
        };
        self.answer(answer);
    }

    fn answer(&mut self, answer: Result<T, StoreError>) {
        if let Some(caller) = self.answer.take() {
            // The caller is gone if its client has disconnected. The write stays.
            let _ = caller.send(answer);
        }
    }
}

/// Locks of a write that another host may take as well.
#[derive(Default)]
pub(super) struct SharedLocks {
    /// Name of a row, for [`Job::shared_row`].
    pub(super) row: Option<String>,
    /// Those of [`Job::settling_locks`].
    pub(super) settling: Vec<SettlingLock>,
}

/// Write that runs by itself.
pub(super) struct WriteJob<T, W, P> {
    write: Option<W>,
    publish: Option<P>,
    written: Written<T>,
    shared_row: Option<String>,
    settling_locks: Vec<SettlingLock>,
    /// Clock of the caller, which the write sees.
    clock: Option<Arc<dyn Clock>>,
}

impl<T, W, P> WriteJob<T, W, P> {
    /// Returns a write, and the receiver of its answer. `shared` is what another host may lock as well.
    pub(super) fn new(write: W, publish: P, shared: SharedLocks) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (written, answered) = Written::new();
        let clock = clock::current();
        let SharedLocks { row: shared_row, settling: settling_locks } = shared;
        (WriteJob { write: Some(write), publish: Some(publish), written, shared_row, settling_locks, clock }, answered)
    }
}

#[async_trait]
impl<T, W, P> Job for WriteJob<T, W, P>
where
    T: Send + 'static,
    W: for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
    P: FnOnce(&HostState, &mut T) + Send + 'static,
{
    fn as_any(&mut self) -> &mut (dyn Any + Send) {
        self
    }

    fn shared_row(&self) -> Option<&str> {
        self.shared_row.as_deref()
    }

    fn settling_locks(&self) -> &[SettlingLock] {
        &self.settling_locks
    }

    fn result(&self) -> Option<bool> {
        self.written.result()
    }

    async fn run(&mut self, tx: &WriteTx) -> bool {
        let Some(write) = self.write.take() else { return false };
        let clock = self.clock.clone();
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let _entered = clock::enter(clock.clone());
            write(tx)
        }));
        let written = match begun {
            Ok(future) => guarded(clock, future).await,
            Err(_) => Err(StoreError::Panicked),
        };
        let is_ok = written.is_ok();
        self.written.set(written);
        is_ok
    }

    fn finish(&mut self, state: &HostState, outcome: &CommitOutcome) {
        let WriteJob { publish, written, clock, .. } = self;
        written.finish(outcome, |value| {
            if let Some(publish) = publish.take() {
                let _entered = clock::enter(clock.clone());
                publish(state, value);
            }
        });
    }
}

/// Runs a write within the clock of its caller. A panic is an error of the write.
pub(super) async fn guarded<T>(clock: Option<Arc<dyn Clock>>, mut write: SqlFuture<'_, T>) -> Result<T, StoreError> {
    poll_fn(move |context| {
        let _entered = clock::enter(clock.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| write.as_mut().poll(context)));
        polled.unwrap_or(Poll::Ready(Err(StoreError::Panicked)))
    })
    .await
}
