//! Numbers of pending deliveries that are counted again while other hosts write.
//!
//! # Guarantees
//! - The numbers have the changes of all transactions of this host. A count that replaces them while this host writes loses no change
//!   and applies none twice.
//! - They have the changes of other hosts as of the last count, and all of them when every host has stopped writing.
//!
//! # Theory of operation
//! The transactions of a host follow each other, so a count has seen all of them up to the last one, whose id is read in the snapshot of
//! the count. While a count is under way, the changes of this host are also kept with their transactions, and those after the last one
//! that the count has seen are applied to its numbers. A count may see a transaction before this host hears of its commit: its changes
//! are not applied then.

use super::backlog::{PendingCount, count_pending};
use super::readers::Readers;
use crate::StoreError;
use crate::fair_queue::Owner;
use crate::pending_counts::{PendingChange, PendingCounts};
use hookloom_model::clock;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use uuid::Uuid;

/// Minimum pause between two counts.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Pause after a count, as a multiple of its duration: a twentieth of the time is spent in counts.
const PAUSE_FACTOR: u32 = 19;

/// Numbers of pending deliveries.
pub(super) struct PendingNumbers {
    counts: PendingCounts,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Last transaction whose changes are in the numbers.
    last: Option<Uuid>,
    /// None: no count is under way.
    count: Option<CountProgress>,
}

/// Progress of the numbers since a count began.
struct CountProgress {
    /// Last transaction before the count.
    last: Option<Uuid>,
    steps: Vec<Step>,
}

/// Step of the numbers.
enum Step {
    Commit(Uuid, Vec<PendingChange>),
    Forget(TenantId),
}

impl PendingNumbers {
    /// Returns the numbers of a count, while this host writes nothing.
    pub(super) fn new(count: PendingCount) -> Self {
        let progress = Mutex::new(Progress { last: count.seen, count: None });
        PendingNumbers { counts: PendingCounts::of_counts(count.counts), progress }
    }

    /// Applies the changes of a transaction that was committed. Every transaction that was committed must be applied, in their order.
    pub(super) fn apply(&self, transaction: Uuid, changes: Vec<PendingChange>) {
        let mut progress = self.progress.lock();
        // A count has seen it already.
        if progress.last.replace(transaction) == Some(transaction) {
            return;
        }
        if let Some(count) = &mut progress.count {
            count.steps.push(Step::Commit(transaction, changes.clone()));
        }
        self.counts.apply(changes);
    }

    /// Removes a tenant that is deleted.
    pub(super) fn forget(&self, tenant: &TenantId) {
        if let Some(count) = &mut self.progress.lock().count {
            count.steps.push(Step::Forget(tenant.clone()));
        }
        self.counts.forget(tenant);
    }

    /// Returns the numbers of a tenant's pending deliveries, without zeros.
    pub(super) fn of(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64> {
        self.counts.of(tenant)
    }

    /// Begins a count, whose snapshot must be read after this call. Only one may be under way.
    fn begin_count(&self) -> CountUnderWay<'_> {
        let mut progress = self.progress.lock();
        progress.count = Some(CountProgress { last: progress.last, steps: Vec::new() });
        CountUnderWay(self)
    }
}

/// Count under way, which ends when this value is dropped.
struct CountUnderWay<'n>(&'n PendingNumbers);

impl CountUnderWay<'_> {
    /// Replaces the numbers by those of the count.
    fn finish(self, count: PendingCount) {
        let mut progress = self.0.progress.lock();
        let Some(CountProgress { last, steps }) = progress.count.take() else { return };
        let PendingCount { counts, seen } = count;
        let place = steps.iter().position(|step| matches!(step, Step::Commit(id, _) if Some(*id) == seen));
        let seen_steps = match place {
            Some(place) => place + 1,
            None if seen == last => 0,
            // A transaction of which this host has not heard yet, after all steps.
            None => {
                progress.last = seen;
                steps.len()
            }
        };
        let counted = PendingCounts::of_counts(counts);
        for step in steps.into_iter().skip(seen_steps) {
            match step {
                Step::Commit(_, changes) => counted.apply(changes),
                Step::Forget(tenant) => counted.forget(&tenant),
            }
        }
        self.0.counts.replace(counted);
    }
}

impl Drop for CountUnderWay<'_> {
    fn drop(&mut self) {
        self.0.progress.lock().count = None;
    }
}

/// Counts once, by a reader.
async fn recount(readers: &Readers, pending: &PendingNumbers) -> Result<(), StoreError> {
    let under_way = pending.begin_count();
    let host = readers.host();
    let count =
        readers.read_one(Owner::Host, move |connection| Box::pin(async move { count_pending(connection, host).await }));
    under_way.finish(count.await?);
    Ok(())
}

/// Counts again and again while other hosts are live, and once more after that. Ends when the numbers are dropped.
///
/// `others_live` must stay true until no other host can write.
pub(super) async fn keep_counting(readers: Readers, pending: Weak<PendingNumbers>, others_live: Arc<AtomicBool>) {
    let mut pause = PAUSE_MIN;
    let mut is_behind = false;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE_MIN;
        let Some(pending) = pending.upgrade() else { return };
        let others_live = others_live.load(Ordering::Relaxed);
        if !others_live && !is_behind {
            continue;
        }
        is_behind = others_live;
        let begun = clock::instant();
        if let Err(error) = recount(&readers, &pending).await {
            is_behind = true;
            tracing::debug!(error = %hookloom_model::describe(&error), "pending deliveries could not be counted");
        }
        pause = pause.max(clock::since(begun) * PAUSE_FACTOR);
    }
}

#[cfg(test)]
mod tests;
