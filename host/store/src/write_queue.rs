//! Queue of writes: the order in which the writer of a backend serves tenants, and the writes that share a transaction.
//!
//! # Guarantees
//! - Writes of one owner (a tenant or the host) run in the order in which they were queued. Outcomes have a separate queue, which is
//!   served first, because lanes wait for them.
//! - The owner that wrote the fewest rows lately is served first ([`FairQueue`]). A transaction has about as many rows of outcomes, and
//!   of other writes, as the writer allows; a write of more than [`ROWS_MAX`] is committed alone. So a tenant that writes little waits
//!   for the transaction under way and is part of the next one.
//! - An exclusive write shares its transaction with no other, and runs before what was queued by the same owner after it.
//!
//! # Limits
//! Queued writes are bounded by [`queue_permits`], with a share for each owner, so that a tenant whose share is full delays no other.
//! Outcomes need no permit: they are bounded by the attempts under way. The size of one write is not bounded here.

use crate::backend::intake::IntakeRequest;
use crate::fair_queue::{FairQueue, Owner};
use hookloom_fair_share::{FairPermit, FairSemaphore};
use hookloom_model::clock;
use hookloom_model::subscription::TenantId;
use std::time::{Duration, Instant};

/// Approximate maximum number of rows of outcomes in one transaction, and of other writes. 4 KiB of payload count as one row.
pub(crate) const ROWS_MAX: u64 = 1_024;

/// Maximum number of queued writes, without outcomes. One owner may have half of them while no other owner waits. When the queue
/// is full, callers wait; this is the back-pressure that intake passes on.
const QUEUE_MAX: u64 = 8_192;

/// Cost of a flush in rows, which a write that is committed alone is charged.
const COMMIT_ROWS: u64 = 256;

/// Half-life of an owner's written rows.
const HALF_LIFE: Duration = Duration::from_millis(100);

/// Rule by which a write shares a transaction with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// In a transaction with others, within a savepoint: an error undoes only this write.
    Shared,
    /// In a transaction with others, for accepting events. A backend may leave out the savepoint.
    Intake,
    /// As `Intake`, before other queued writes, for outcomes of attempts, which free permits of their lanes.
    Outcome,
    /// In a transaction without others, committed and published before the next write runs.
    Exclusive,
}

/// Owner and cost of a write.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) owner: Owner,
    /// Approximate number of rows.
    pub(crate) rows: u64,
}

impl Terms {
    /// Returns the terms of a write of few rows.
    pub(crate) fn small(owner: Owner) -> Self {
        Terms { owner, rows: 2 }
    }

    /// Returns the terms of accepting events.
    pub(crate) fn of_intake(request: &IntakeRequest) -> Self {
        let bytes = request.events.iter().map(|event| event.payload.len()).sum();
        let receivers = &request.receivers.events;
        let deliveries = match request.steps {
            Some(_) => 0,
            None => receivers.iter().map(|receivers| receivers.len_max() as u64).sum(),
        };
        Terms { owner: (&request.tenant).into(), rows: request.events.len() as u64 + deliveries + payload_rows(bytes) }
    }
}

impl From<Owner> for Terms {
    fn from(owner: Owner) -> Self {
        Terms::small(owner)
    }
}

impl From<&TenantId> for Terms {
    fn from(tenant: &TenantId) -> Self {
        Terms::small(tenant.into())
    }
}

/// Returns the cost of payloads of this size, in rows.
pub(crate) fn payload_rows(bytes: usize) -> u64 {
    (bytes / 4_096) as u64
}

/// Returns the permits of the queue of a writer.
pub(crate) fn queue_permits() -> FairSemaphore<Owner> {
    FairSemaphore::new(QUEUE_MAX, QUEUE_MAX)
}

/// Queued write.
pub(crate) struct QueuedWrite<W> {
    pub(crate) write: W,
    mode: WriteMode,
    pub(crate) terms: Terms,
    /// Permit of the queue, released when the write is run.
    _permit: Option<FairPermit<Owner>>,
}

impl<W> QueuedWrite<W> {
    /// Takes a permit of the queue if the write needs one.
    pub(crate) async fn new(permits: &FairSemaphore<Owner>, mode: WriteMode, terms: Terms, write: W) -> Self {
        let permit = if mode == WriteMode::Outcome { None } else { Some(permits.acquire(&terms.owner, 1).await) };
        QueuedWrite { write, mode, terms, _permit: permit }
    }

    /// Returns a write that needs no permit, for the host itself.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn without_permit(terms: Terms, write: W) -> Self {
        QueuedWrite { write, mode: WriteMode::Outcome, terms, _permit: None }
    }

    /// Returns true if a transaction of another host may run beside the write: it accepts events or records outcomes.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn runs_beside_other_hosts(&self) -> bool {
        matches!(self.mode, WriteMode::Intake | WriteMode::Outcome)
    }

    /// Returns true if the write is committed alone, because of its mode, or because it is so large that others would wait for it.
    fn is_alone(&self) -> bool {
        self.mode == WriteMode::Exclusive || self.terms.rows > ROWS_MAX
    }

    fn cost(&self) -> u64 {
        if self.is_alone() { self.terms.rows.max(COMMIT_ROWS) } else { self.terms.rows.max(1) }
    }
}

/// Queued writes, outcomes apart.
pub(crate) struct WriteQueue<W> {
    outcomes: FairQueue<QueuedWrite<W>>,
    others: FairQueue<QueuedWrite<W>>,
    /// True if the next write of `others` must be committed alone and has waited for one commit.
    alone_is_next: bool,
    aged: Instant,
}

impl<W> WriteQueue<W> {
    pub(crate) fn new() -> Self {
        WriteQueue {
            outcomes: FairQueue::default(),
            others: FairQueue::default(),
            alone_is_next: false,
            aged: clock::instant(),
        }
    }

    /// Returns true if there are no writes.
    pub(crate) fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.others.is_empty()
    }

    /// Adds a write.
    pub(crate) fn push(&mut self, write: QueuedWrite<W>) {
        let queue = if write.mode == WriteMode::Outcome { &mut self.outcomes } else { &mut self.others };
        queue.push(write.terms.owner.clone(), write.cost(), write);
    }

    /// Removes and returns the writes of the next transaction: at most `batch_max` outcomes and as many others, of about `rows_max`
    /// rows each. With a `batch_max` of 1, only one write. Empty only if the queue is.
    pub(crate) fn next_batch(&mut self, rows_max: u64, batch_max: usize) -> Vec<QueuedWrite<W>> {
        self.age();
        if std::mem::take(&mut self.alone_is_next) {
            return self.others.pop().into_iter().collect();
        }
        let mut batch = Vec::new();
        let mut rows = 0;
        while batch.len() < batch_max
            && rows < rows_max
            && let Some(write) = self.outcomes.pop()
        {
            rows += write.cost();
            batch.push(write);
        }
        if batch_max > 1 || batch.is_empty() {
            self.add_others(&mut batch, rows_max, batch_max);
        }
        batch
    }

    fn add_others(&mut self, batch: &mut Vec<QueuedWrite<W>>, rows_max: u64, batch_max: usize) {
        let mut others = 0;
        let mut rows = 0;
        while others < batch_max
            && rows < rows_max
            && let Some((cost, write)) = self.others.front()
        {
            let is_alone = write.is_alone();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Maximum number of writes in the transactions of these tests.
    const BATCH_MAX: usize = 512;

    /// Queues writes and returns the transactions that they would share. `f` is an outcome, `o` another write, `e` an exclusive one, a
    /// digit a write of that many hundred rows, all of tenant `A`. A capital letter before one of them names its tenant.
    fn batches(written: &str) -> String {
        let mut queue = WriteQueue::new();
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
            queue.push(QueuedWrite { write: (), mode, terms: Terms { owner: owner.clone(), rows }, _permit: None });
        }
        let mut all = Vec::new();
        while !queue.is_empty() {
            all.push(queue.next_batch(ROWS_MAX, BATCH_MAX).iter().map(letter).collect::<String>());
        }
        all.join(" ")
    }

    /// Returns the letter of a write, as [`batches`] parses it.
    fn letter(write: &QueuedWrite<()>) -> String {
        let kind = match write.mode {
            WriteMode::Outcome => "f".to_owned(),
            WriteMode::Shared => "o".to_owned(),
            WriteMode::Exclusive => "e".to_owned(),
            WriteMode::Intake => std::char::from_digit((write.terms.rows / 100) as u32, 36).into_iter().collect(),
        };
        match &write.terms.owner {
            Owner::Tenant(tenant) if &*tenant.0 != "A" => format!("{tenant}{kind}"),
            _ => kind,
        }
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
        // Without turns, it would be in the third commit.
        assert_eq!(batches("999999Bo"), "9Bo9 99 99");
        // Large writes of several tenants: the small one is in the second commit, not behind all of them.
        assert_eq!(batches("kkCkkDkkBo"), "k Bo Ck Dk k Ck Dk");
    }
}
