//! Writes of one type that run together: their rows are written by the same statements.
//!
//! # Guarantees
//! - Writes of a type run in their order, before the other writes of their transaction.
//! - If a statement fails, everything of the type is undone, and each of its writes runs by itself. So the error of one is no error
//!   of another.
//!
//! # Limits
//! A write must not depend on another one of its transaction.

use super::job::{CommitOutcome, Job, RunTogether, Written, guarded};
use super::settling_lock::SettlingLock;
use super::transaction::{SqlFuture, WriteTx};
use crate::StoreError;
use crate::host_state::HostState;
use async_trait::async_trait;
use hookloom_model::clock::{self, Clock, Entered};
use std::any::Any;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Write that can run together with others of its type.
#[async_trait]
pub(super) trait Member: Sized + Send + 'static {
    /// Result of a write.
    type Value: Send + 'static;

    /// Runs writes, and returns the result of each. An error undoes all of them. A write may run again after that.
    async fn run_all(
        tx: &WriteTx,
        members: &mut [Entry<'_, Self>],
    ) -> Result<Vec<Result<Self::Value, StoreError>>, StoreError>;

    /// Returns the locks of the contacts and deals that the write settles.
    fn settling_locks(&self) -> Vec<SettlingLock> {
        Vec::new()
    }

    /// Publishes a result after the commit.
    fn publish(state: &HostState, value: &mut Self::Value);
}

/// Write with the clock of its caller.
pub(super) struct Entry<'m, M> {
    pub(super) member: &'m mut M,
    clock: &'m Option<Arc<dyn Clock>>,
}

impl<M> Entry<'_, M> {
    /// Sets the clock of the caller until the guard is dropped.
    pub(super) fn enter_clock(&self) -> Entered {
        clock::enter(self.clock.clone())
    }
}

/// Queued [`Member`].
pub(super) struct MemberJob<M: Member> {
    settling_locks: Vec<SettlingLock>,
    member: M,
    clock: Option<Arc<dyn Clock>>,
    written: Written<M::Value>,
}

impl<M: Member> MemberJob<M> {
    /// Returns a write, and the receiver of its answer.
    pub(super) fn new(member: M) -> (Self, oneshot::Receiver<Result<M::Value, StoreError>>) {
        let (written, answered) = Written::new();
        (MemberJob { settling_locks: member.settling_locks(), member, clock: clock::current(), written }, answered)
    }
}

#[async_trait]
impl<M: Member> Job for MemberJob<M> {
    fn together(&self) -> Option<RunTogether> {
        Some(run_members::<M>)
    }

    fn as_any(&mut self) -> &mut (dyn Any + Send) {
        self
    }

    fn settling_locks(&self) -> &[SettlingLock] {
        &self.settling_locks
    }

    fn result(&self) -> Option<bool> {
        self.written.result()
    }

    async fn run(&mut self, tx: &WriteTx) -> bool {
        if let Err(error) = run_jobs(tx, &mut [self]).await {
            self.written.set(Err(error));
        }
        self.written.result() == Some(true)
    }

    fn finish(&mut self, state: &HostState, outcome: &CommitOutcome) {
        let clock = &self.clock;
        self.written.finish(outcome, |value| {
            let _entered = clock::enter(clock.clone());
            M::publish(state, value);
        });
    }
}

fn run_members<'t, M: Member>(tx: &'t WriteTx, jobs: Vec<&'t mut (dyn Any + Send)>) -> SqlFuture<'t, ()> {
    Box::pin(async move {
        let mut jobs: Vec<&mut MemberJob<M>> = jobs.into_iter().filter_map(|job| job.downcast_mut()).collect();
        run_jobs(tx, &mut jobs).await
    })
}

async fn run_jobs<M: Member>(tx: &WriteTx, jobs: &mut [&mut MemberJob<M>]) -> Result<(), StoreError> {
    let results = {
        let entries = jobs.iter_mut().map(|job| Entry { member: &mut job.member, clock: &job.clock });
        let mut entries: Vec<Entry<'_, M>> = entries.collect();
        // A panic is an error of all.
        guarded(clock::current(), Box::pin(async { M::run_all(tx, &mut entries).await })).await?
    };
    jobs.iter_mut().zip(results).for_each(|(job, result)| job.written.set(result));
    Ok(())
}

/// Runs the writes of a batch that can run together, and returns the number of those that succeeded. The others have not run.
pub(super) async fn run_together(tx: &WriteTx, batch: &mut [Box<dyn Job>]) -> Result<usize, StoreError> {
    let mut kinds: Vec<RunTogether> = Vec::new();
    for kind in batch.iter().filter_map(|job| job.together()) {
        if !kinds.iter().any(|known| std::ptr::fn_addr_eq(*known, kind)) {
            kinds.push(kind);
        }
    }
    for kind in kinds {
        let of_kind = batch.iter_mut().filter(|job| job.together().is_some_and(|of| std::ptr::fn_addr_eq(of, kind)));
        let jobs: Vec<&mut (dyn Any + Send)> = of_kind.map(|job| job.as_any()).collect();
        tx.batch_execute("SAVEPOINT together").await?;
        let before = tx.pending_len();
        if kind(tx, jobs).await.is_err() {
            tx.undo_pending(before);
            tx.batch_execute("ROLLBACK TO SAVEPOINT together").await?;
        }
        // The savepoint is not released, which would take a round trip. The commit does it.
    }
    Ok(batch.iter().filter(|job| job.result() == Some(true)).count())
}
