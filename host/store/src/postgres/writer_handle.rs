//! Handle of the writer: queues writes, and returns their results after the commit.

use super::job::{Job, SharedLocks, WriteJob};
use super::together::{Member, MemberJob};
use super::transaction::{SqlFuture, WriteTx};
use crate::StoreError;
use crate::fair_queue::Owner;
use crate::host_state::HostState;
use crate::write_queue::{QueuedWrite, Terms, WriteMode, queue_permits};
use hookloom_fair_share::FairSemaphore;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Handle of the writer's task.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<QueuedWrite<Box<dyn Job>>>,
    permits: FairSemaphore<Owner>,
    failed_commits: Arc<AtomicU64>,
}

/// Queue of the writer's task, and its counter of failed transactions.
pub(super) struct QueuedJobs {
    pub(super) jobs: mpsc::UnboundedReceiver<QueuedWrite<Box<dyn Job>>>,
    pub(super) failed_commits: Arc<AtomicU64>,
}

impl Writer {
    /// Returns a handle, and what the writer's task needs of it.
    pub(super) fn new() -> (Self, QueuedJobs) {
        let (jobs, queued) = mpsc::unbounded_channel();
        let failed_commits = Arc::new(AtomicU64::new(0));
        let writer = Writer { jobs, permits: queue_permits(), failed_commits: failed_commits.clone() };
        (writer, QueuedJobs { jobs: queued, failed_commits })
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
        self.queue(mode, terms, WriteJob::new(write, publish, SharedLocks::default())).await
    }

    /// Queues a write of intake that may lock a row which another host may lock as well, and returns its result after the commit.
    pub(super) async fn run_intake<T: Send + 'static>(
        &self,
        terms: Terms,
        shared_row: Option<String>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        publish: impl FnOnce(&HostState, &mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = SharedLocks { row: shared_row, settling: Vec::new() };
        self.run_sharing(WriteMode::Intake, terms, shared, write, publish).await
    }

    /// Queues a write of intake or of a lane that takes locks which another host may take as well, and returns its result after the commit.
    pub(super) async fn run_sharing<T: Send + 'static>(
        &self,
        mode: WriteMode,
        terms: Terms,
        shared: SharedLocks,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        publish: impl FnOnce(&HostState, &mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(mode, terms, WriteJob::new(write, publish, shared)).await
    }

    /// Runs a write on the account of the host, alone in the fleet.
    pub(super) async fn write_as_host<T: Send + 'static>(
        &self,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(WriteMode::Shared, Terms::small(Owner::Host), write, |_, _| {}).await
    }

    /// Begins a transaction, which loads what other hosts changed.
    pub(super) fn look_for_changes(&self) {
        let (job, _) = WriteJob::new(write_nothing, |_: &HostState, (): &mut ()| {}, SharedLocks::default());
        let queued = QueuedWrite::without_permit(Terms::small(Owner::Host), Box::new(job) as Box<dyn Job>);
        // The writer is gone: so is the membership.
        let _ = self.jobs.send(queued);
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

fn write_nothing(_: &WriteTx) -> SqlFuture<'_, ()> {
    Box::pin(async { Ok(()) })
}
