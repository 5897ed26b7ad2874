//! Transaction of the writer: the connection, and work that is done once for all writes of the transaction.
//!
//! - Events and deliveries are collected, and inserted many to a statement ([`Rows`](super::rows)), before the commit and before any
//!   write that is not of the hot path. Writes of the hot path read neither.
//! - Statements of the hot path are fetched once a transaction instead of once a row.
//! - The usage of a tenant is read once, counted here for the inserts of the hot path, and written before the commit. Triggers count
//!   all other rows ([`usage`](mod@super::usage)).
//! - A write that is undone also removes its collected rows and its counts.
//!
//! Other code changes the counters of `ledgers` only by adding to them.

use super::StoreError;
use super::caps::Caps;
use super::disk_room::DiskRoom;
use super::rows::{DeliveryRow, EventRow, Insert, Row, Rows};
use super::usage::{self, ATTEMPT_BYTES, BytesByKind, IDEMPOTENCY_KEY_BYTES, Usage, UsageKind};
use hookloom_model::delivery::{DeliveryState, DueDelivery};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{CachedStatement, Connection, Params, params, params_from_iter};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;

/// Statement that runs for every event or every attempt.
#[derive(Clone, Copy)]
pub(super) enum HotStatement {
    /// Insert of one or more rows of a table.
    Insert(Insert),
    /// Insert of an attempt, if there is none of its number.
    Attempt,
    /// Replacement of an attempt that did not count by the next one of the same number.
    AttemptAgain,
    /// Update of a delivery after an attempt.
    Outcome,
    /// Update of a delivery that neither has nor gets a reason, so that no trigger counts it.
    OutcomeWithoutReason,
}

impl HotStatement {
    const COUNT: usize = Insert::COUNT + 4;

    fn index(self) -> usize {
        match self {
            HotStatement::Insert(insert) => insert.index(),
            HotStatement::Attempt => Insert::COUNT,
            HotStatement::AttemptAgain => Insert::COUNT + 1,
            HotStatement::Outcome => Insert::COUNT + 2,
            HotStatement::OutcomeWithoutReason => Insert::COUNT + 3,
        }
    }

    fn sql(self) -> &'static str {
        match self {
            HotStatement::Insert(insert) => insert.sql(),
            HotStatement::Attempt => {
                "INSERT INTO attempts (tenant, delivery, number, detail) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING"
            }
            HotStatement::AttemptAgain => {
                "UPDATE OR ROLLBACK attempts SET detail = ?4 WHERE tenant = ?1 AND delivery = ?2 AND number = ?3"
            }
            HotStatement::OutcomeWithoutReason => {
                "UPDATE deliveries SET state = ?3, due_at_ms = ?4, awaiting_plugin = ?5, attempts_made = attempts_made + ?6,
                        budget_spent = budget_spent + ?6, updated_at_ms = ?7
                 WHERE tenant = ?1 AND id = ?2 AND state = 0 AND reason IS NULL"
            }
            HotStatement::Outcome => {
                "UPDATE OR ROLLBACK deliveries SET state = ?3, due_at_ms = ?4, awaiting_plugin = ?5, attempts_made = attempts_made + ?6,
                        budget_spent = budget_spent + ?6, reason = ?7, updated_at_ms = ?8
                 WHERE tenant = ?1 AND id = ?2 AND state = 0"
            }
        }
    }
}

/// Addition of one hot-path write to a tenant's usage.
struct Count {
    tenant: TenantId,
    kind: UsageKind,
    bytes: u64,
    /// Size of the payload, for an event.
    payload: Option<u64>,
}

/// Usage of one tenant: stored events and bytes, and those that this transaction adds without a trigger.
#[derive(Default)]
struct Kept {
    /// Stored events and bytes. None until they are needed, and again after a write that triggers may have counted.
    before: Option<[u64; 2]>,
    events: u64,
    payload: u64,
    bytes: BytesByKind,
}

/// Usage of each tenant in this transaction, and each single count, so that counts can be undone.
#[derive(Default)]
struct Tally {
    kept: HashMap<TenantId, Kept>,
    counts: Vec<Count>,
}

/// Position in a transaction, to which a failed write returns.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    counts: usize,
    rows: [usize; 2],
    pending: usize,
}

/// Change of the number of a subscription's pending deliveries.
#[derive(Clone, Debug)]
pub(super) struct PendingChange {
    pub(super) tenant: TenantId,
    pub(super) subscription: SubscriptionId,
    pub(super) by: i64,
}

/// Transaction of the writer.
pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    room: &'c DiskRoom,
    /// Share of each tenant.
    pub(super) share: Caps,
    hot: RefCell<[Option<CachedStatement<'c>>; HotStatement::COUNT]>,
    rows: RefCell<Rows>,
    /// Error that prevents the commit: a row of the transaction could not be written.
    given_up: RefCell<Option<rusqlite::Error>>,
    tally: RefCell<Tally>,
    /// Changes of the numbers of pending deliveries.
    pending: RefCell<Vec<PendingChange>>,
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'c> Transaction<'c> {
    /// Wraps the transaction of a connection. If it could not begin, its writes are refused.
    pub(super) fn on(connection: &'c Connection, room: &'c DiskRoom, share: Caps) -> Self {
        Transaction {
            connection,
            room,
            share,
            hot: RefCell::default(),
            rows: RefCell::default(),
            given_up: RefCell::default(),
            tally: RefCell::default(),
            pending: RefCell::default(),
        }
    }

    /// Prevents the commit: further writes are refused, and every caller gets the cause.
    pub(super) fn give_up(&self, cause: rusqlite::Error) {
        self.given_up.borrow_mut().get_or_insert(cause);
    }

    /// Returns true if the transaction takes no further writes: it was given up, or SQLite has rolled it back, as on a full disk.
    pub(super) fn is_over(&self) -> bool {
        self.given_up.borrow().is_some() || self.is_autocommit()
    }

    /// Refuses a write that makes the store larger, if the disk is full.
    pub(super) fn require_disk(&self) -> Result<(), StoreError> {
        self.room.require(self.connection)
    }

    /// Returns an error unless the log has room for the largest event.
    pub(super) fn try_event(&self) -> Result<(), StoreError> {
        self.require_disk()?;
        self.connection.execute_batch("SAVEPOINT event")?;
        self.room.try_event(self.connection)?;
        Ok(self.connection.execute_batch("ROLLBACK TO event; RELEASE event")?)
    }

    /// Runs a statement of the hot path.
    pub(super) fn execute_hot(&self, which: HotStatement, params: impl Params) -> rusqlite::Result<usize> {
        let mut hot = self.hot.borrow_mut();
        let statement = match &mut hot[which.index()] {
            Some(statement) => statement,
            empty => empty.insert(self.connection.prepare_cached(which.sql())?),
        };
        statement.execute(params)
    }

    /// Adds an event to the collected rows, and counts it.
    pub(super) fn add_event(&self, event: EventRow) {
        let payload = Some(event.event.payload.len() as u64);
        self.count(Count { tenant: event.tenant.clone(), kind: UsageKind::Events, bytes: event.bytes(), payload });
        self.rows.borrow_mut().events.push(event);
    }

    /// Adds a delivery to the collected rows, and counts it.
    pub(super) fn add_delivery(&self, delivery: DeliveryRow) {
        let tenant = delivery.delivery.tenant.clone();
        self.count_pending(&tenant, delivery.delivery.subscription, 1);
        self.count(Count { tenant, kind: UsageKind::Deliveries, bytes: delivery.bytes(), payload: None });
        self.rows.borrow_mut().deliveries.push(delivery);
    }

    /// Writes an attempt and counts it. Overwrites an attempt of the same number, which did not count, so that a plugin that always
    /// returns `later` cannot fill the disk.
    pub(super) fn write_attempt(
        &self,
        tenant: &TenantId,
        delivery: uuid::Uuid,
        number: u32,
        detail: &str,
    ) -> rusqlite::Result<()> {
        let row = params![&*tenant.0, delivery, number, detail];
        if self.execute_hot(HotStatement::Attempt, row)? == 0 {
            self.forget_before();
            return self.execute_hot(HotStatement::AttemptAgain, row).map(drop);
        }
        let bytes = ATTEMPT_BYTES + detail.len() as u64;
        self.count(Count { tenant: tenant.clone(), kind: UsageKind::Attempts, bytes, payload: None });
        Ok(())
    }

    /// Writes the outcome of an attempt to a pending delivery. Returns false if the delivery is no longer pending. The tuple has the new
    /// state, the due time, whether the delivery awaits a plugin, and the number of attempts to add.
    pub(super) fn write_outcome(
        &self,
        delivery: &DueDelivery,
        (state, due_at_ms, awaiting, counts): (u8, i64, bool, u8),
        reason: Option<&str>,
        now_ms: i64,
    ) -> rusqlite::Result<bool> {
        let tenant = &*delivery.tenant.0;
        let id = delivery.id.0;
        if reason.is_none() {
            let outcome = params![tenant, id, state, due_at_ms, awaiting, counts, now_ms];
            if self.execute_hot(HotStatement::OutcomeWithoutReason, outcome)? > 0 {
                self.count_ended(delivery, state);
                return Ok(true);
            }
        }
        self.forget_before();
        let outcome = params![tenant, id, state, due_at_ms, awaiting, counts, reason, now_ms];
        let was_pending = self.execute_hot(HotStatement::Outcome, outcome)? > 0;
        if was_pending {
            self.count_ended(delivery, state);
        }
        Ok(was_pending)
    }

    fn count_ended(&self, delivery: &DueDelivery, state: u8) {
        if state != DeliveryState::Pending as u8 {
            self.count_pending(&delivery.tenant, delivery.subscription, -1);
        }
    }

    /// Counts deliveries that become pending (`by` > 0) or end. Every write that changes the state `pending` must call it.
    pub(super) fn count_pending(&self, tenant: &TenantId, subscription: SubscriptionId, by: i64) {
        if by != 0 {
            self.pending.borrow_mut().push(PendingChange { tenant: tenant.clone(), subscription, by });
        }
    }

    /// Takes the changes of the numbers of pending deliveries.
    pub(super) fn take_pending(&self) -> Vec<PendingChange> {
        self.pending.take()
    }

    /// Counts an idempotency key before its insert.
    pub(super) fn count_idempotency_key(&self, tenant: &TenantId, key: &str, answer: &str) {
        let bytes = IDEMPOTENCY_KEY_BYTES + (key.len() + answer.len()) as u64;
        self.count(Count { tenant: tenant.clone(), kind: UsageKind::IdempotencyKeys, bytes, payload: None });
    }

    /// Writes the collected rows. A write that is not of the hot path begins and ends with it.
    pub(super) fn write_rows(&self) -> rusqlite::Result<()> {
        self.forget_before();
        let Rows { events, deliveries } = self.rows.take();
        self.insert(&events)?;
        self.insert(&deliveries)
    }

    fn insert<R: Row>(&self, mut rows: &[R]) -> rusqlite::Result<()> {
        while !rows.is_empty() {
            let insert = Insert::of::<R>(rows.len());
            let (now, later) = rows.split_at(insert.rows());
            self.execute_hot(HotStatement::Insert(insert), params_from_iter(now.iter().flat_map(Row::values)))?;
            rows = later;
        }
        Ok(())
    }

    /// Discards the usage that was read, because triggers may have changed it.
    fn forget_before(&self) {
        self.tally.borrow_mut().kept.values_mut().for_each(|kept| kept.before = None);
    }

    fn count(&self, count: Count) {
        let tally = &mut *self.tally.borrow_mut();
        let kept = match tally.kept.get_mut(&count.tenant) {
            Some(known) => known,
            None => tally.kept.entry(count.tenant.clone()).or_default(),
        };
        kept.bytes[count.kind as usize] += count.bytes;
        kept.events += u64::from(count.payload.is_some());
        kept.payload += count.payload.unwrap_or(0);
        tally.counts.push(count);
    }

    /// Returns an error if a tenant exceeds its share with the rows that this transaction adds.
    pub(super) fn check_share(&self, tenant: &TenantId, share: Caps) -> Result<(), StoreError> {
        let tally = &mut *self.tally.borrow_mut();
        let kept = tally.kept.entry(tenant.clone()).or_default();
        let [events, bytes] = match kept.before {
            Some(before) => before,
            None => *kept.before.insert(self.kept_before(tenant)?),
        };
        let added: u64 = kept.bytes.iter().sum();
        if events.saturating_add(kept.events) <= share.events && bytes.saturating_add(added) <= share.bytes {
            return Ok(());
        }
        let before = usage::kept(self.connection, tenant)?.ok_or(StoreError::NotFound("tenant"))?;
        Err(StoreError::TenantFull(Box::new(share.of(before))))
    }

    fn kept_before(&self, tenant: &TenantId) -> Result<[u64; 2], StoreError> {
        let (events, bytes) = usage::kept(self.connection, tenant)?.ok_or(StoreError::NotFound("tenant"))?;
        Ok([events, bytes.iter().sum()])
    }

    /// Returns the usage of a tenant, with the rows that this transaction has added so far.
    pub(super) fn usage(&self, tenant: &TenantId, share: Caps) -> Result<Usage, StoreError> {
        let (mut events, mut bytes) = usage::kept(self.connection, tenant)?.ok_or(StoreError::NotFound("tenant"))?;
        if let Some(added) = self.tally.borrow().kept.get(tenant) {
            events += added.events;
            bytes.iter_mut().zip(added.bytes).for_each(|(bytes, added)| *bytes += added);
        }
        Ok(share.of((events, bytes)))
    }

    /// Returns the current position.
    pub(super) fn mark(&self) -> Mark {
        let rows = self.rows.borrow();
        Mark {
            counts: self.tally.borrow().counts.len(),
            rows: [rows.events.len(), rows.deliveries.len()],
            pending: self.pending.borrow().len(),
        }
    }

    /// Removes the counts and the collected rows since `mark`.
    pub(super) fn back_to(&self, mark: Mark) {
        let mut rows = self.rows.borrow_mut();
        rows.events.truncate(mark.rows[0]);
        rows.deliveries.truncate(mark.rows[1]);
        self.pending.borrow_mut().truncate(mark.pending);
        let Tally { kept, counts } = &mut *self.tally.borrow_mut();
        for count in counts.drain(mark.counts..) {
            if let Some(kept) = kept.get_mut(&count.tenant) {
                kept.bytes[count.kind as usize] -= count.bytes;
                kept.events -= u64::from(count.payload.is_some());
                kept.payload -= count.payload.unwrap_or(0);
            }
        }
    }

    /// Writes the collected rows and the counts. The last step before the commit.
    pub(super) fn settle(&self) -> rusqlite::Result<()> {
        if let Some(cause) = self.given_up.take() {
            return Err(cause);
        }
        if self.is_autocommit() {
            // SQLite has rolled the transaction back; the commit returns the error.
            return Ok(());
        }
        self.write_rows()?;
        let sql = "UPDATE ledgers SET events_kept = events_kept + ?2, bytes_kept = bytes_kept + ?3,
                          bytes_of_events = bytes_of_events + ?4, bytes_of_deliveries = bytes_of_deliveries + ?5,
                          bytes_of_attempts = bytes_of_attempts + ?6, bytes_of_idempotency_keys = bytes_of_idempotency_keys + ?7
                   WHERE tenant = ?1";
        for (tenant, kept) in &self.tally.borrow().kept {
            let Kept { events, payload, bytes, .. } = kept;
            if bytes.iter().all(|bytes| *bytes == 0) {
                continue;
            }
            let of = |kind: UsageKind| bytes[kind as usize];
            self.connection.prepare_cached(sql)?.execute(params![
                &*tenant.0,
                events,
                payload,
                of(UsageKind::Events),
                of(UsageKind::Deliveries),
                of(UsageKind::Attempts),
                of(UsageKind::IdempotencyKeys),
            ])?;
        }
        Ok(())
    }
}
