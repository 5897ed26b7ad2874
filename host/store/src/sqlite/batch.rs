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
//!
//! A write does not see the transaction itself, which only the writer drives, but one of three parts of it: [`IntakeTx`],
//! [`OutcomeTx`] or [`AdminTx`]. The type decides what the write may do, and whether it has a savepoint.

mod admin;
mod intake;
mod outcome;
mod settling;

pub(super) use admin::AdminTx;
pub(super) use intake::{IntakeStatement, IntakeTx};
pub(super) use outcome::{OutcomeQuery, OutcomeTx};

use super::disk_room::DiskRoom;
use super::rows::{Insert, Row, Rows};
use crate::StoreError;
use crate::caps::Caps;
use crate::pending_counts::PendingChange;
use crate::usage::{BytesByKind, UsageKind};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{CachedStatement, Connection, Params, ffi, params, params_from_iter};
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Statement that runs for every event or every attempt.
#[derive(Clone, Copy)]
enum HotStatement {
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
    /// Search of the settling delivery of a contact or deal.
    Waiting,
    /// End of a delivery that another one supersedes.
    Supersede,
    /// Addition of events to those that a delivery stands for.
    StandForMore,
    /// Insert of a delivery of a burst.
    Settling,
}

impl HotStatement {
    const COUNT: usize = Insert::COUNT + 8;

    fn index(self) -> usize {
        match self {
            HotStatement::Insert(insert) => insert.index(),
            HotStatement::Attempt => Insert::COUNT,
            HotStatement::AttemptAgain => Insert::COUNT + 1,
            HotStatement::Outcome => Insert::COUNT + 2,
            HotStatement::OutcomeWithoutReason => Insert::COUNT + 3,
            HotStatement::Waiting => Insert::COUNT + 4,
            HotStatement::Supersede => Insert::COUNT + 5,
            HotStatement::StandForMore => Insert::COUNT + 6,
            HotStatement::Settling => Insert::COUNT + 7,
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
                 WHERE tenant = ?1 AND id = ?2 AND state = 0 AND attempts_made = ?8 AND reason IS NULL"
            }
            HotStatement::Outcome => {
                "UPDATE OR ROLLBACK deliveries SET state = ?3, due_at_ms = ?4, awaiting_plugin = ?5, attempts_made = attempts_made + ?6,
                        budget_spent = budget_spent + ?6, reason = ?9, updated_at_ms = ?7
                 WHERE tenant = ?1 AND id = ?2 AND state = 0 AND attempts_made = ?8"
            }
            HotStatement::Waiting => settling::WAITING,
            HotStatement::Supersede => settling::SUPERSEDE,
            HotStatement::StandForMore => settling::STAND_FOR_MORE,
            HotStatement::Settling => settling::INSERT,
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
struct Mark {
    counts: usize,
    rows: [usize; 3],
    pending: usize,
}

/// Transaction of the writer, which the writer alone sees.
pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    room: &'c DiskRoom,
    /// Share of each tenant.
    share: Caps,
    hot: RefCell<[Option<CachedStatement<'c>>; HotStatement::COUNT]>,
    rows: RefCell<Rows>,
    /// Error that prevents the commit: a row of the transaction could not be written.
    given_up: RefCell<Option<rusqlite::Error>>,
    tally: RefCell<Tally>,
    /// Changes of the numbers of pending deliveries.
    pending: RefCell<Vec<PendingChange>>,
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

    /// Runs a write that accepts events, without a savepoint.
    pub(super) fn intake<T>(
        &self,
        write: impl FnOnce(&IntakeTx<'_, 'c>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.without_savepoint(|| write(&IntakeTx(self)))
    }

    /// Runs a write that records an outcome, without a savepoint.
    pub(super) fn outcome<T>(
        &self,
        write: impl FnOnce(&OutcomeTx<'_, 'c>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.without_savepoint(|| write(&OutcomeTx(self)))
    }

    /// Runs any other write, within a savepoint, so that its error undoes only this write.
    pub(super) fn admin<T>(
        &self,
        write: impl FnOnce(&AdminTx<'_, 'c>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.refuse_if_over()?;
        // Rows of earlier writes must not be undone with this one.
        if let Err(error) = self.write_rows() {
            self.give_up(error);
            return Err(StoreError::TransactionEnded);
        }
        let mark = self.mark();
        execute(self.connection, "SAVEPOINT one")?;
        let written = guarded(|| write(&AdminTx(self)));
        match written.and_then(|value| Ok(self.write_rows().map(|()| value)?)) {
            Ok(value) => {
                execute(self.connection, "RELEASE one")?;
                Ok(value)
            }
            Err(error) => {
                self.back_to(mark);
                if !self.connection.is_autocommit() {
                    self.connection.execute_batch("ROLLBACK TO one; RELEASE one")?;
                }
                Err(error)
            }
        }
    }

    /// Runs one write without a savepoint. An error after its first change ends the transaction.
    fn without_savepoint<T>(&self, write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.refuse_if_over()?;
        let before = self.connection.total_changes();
        let mark = self.mark();
        let written = guarded(write);
        if let Err(error) = &written {
            self.back_to(mark);
            if self.connection.total_changes() != before {
                let code = if error.is_damage() { ffi::SQLITE_CORRUPT } else { ffi::SQLITE_ABORT };
                let what = "a write failed after its first change".to_owned();
                self.give_up(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(what)));
            }
        }
        written
    }

    /// Refuses writes after the end of the transaction: it was given up, or SQLite has rolled it back, as on a full disk.
    fn refuse_if_over(&self) -> Result<(), StoreError> {
        if self.given_up.borrow().is_some() || self.connection.is_autocommit() {
            return Err(StoreError::TransactionEnded);
        }
        Ok(())
    }

    /// Prevents the commit: further writes are refused, and every caller gets the cause.
    fn give_up(&self, cause: rusqlite::Error) {
        self.given_up.borrow_mut().get_or_insert(cause);
    }

    /// Runs a statement of the hot path.
    fn execute_hot(&self, which: HotStatement, params: impl Params) -> rusqlite::Result<usize> {
        self.with_hot(which, |statement| statement.execute(params))
    }

    /// Uses a statement of the hot path.
    fn with_hot<T>(
        &self,
        which: HotStatement,
        run: impl FnOnce(&mut CachedStatement<'c>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut hot = self.hot.borrow_mut();
        let statement = match &mut hot[which.index()] {
            Some(statement) => statement,
            empty => empty.insert(self.connection.prepare_cached(which.sql())?),
        };
        run(statement)
    }

    fn count_pending(&self, tenant: &TenantId, subscription: SubscriptionId, by: i64) {
        if by != 0 {
            self.pending.borrow_mut().push(PendingChange { tenant: tenant.clone(), subscription, by });
        }
    }

    /// Takes the changes of the numbers of pending deliveries.
    pub(super) fn take_pending(&self) -> Vec<PendingChange> {
        self.pending.take()
    }

    /// Writes the collected rows. A write that is not of the hot path begins and ends with it.
    fn write_rows(&self) -> rusqlite::Result<()> {
        self.forget_before();
        let Rows { events, deliveries, settling } = self.rows.take();
        self.insert(&events)?;
        self.insert(&deliveries)?;
        settling.into_iter().try_for_each(|row| self.write_settling(row))
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

    /// Returns the current position.
    fn mark(&self) -> Mark {
        let rows = self.rows.borrow();
        Mark {
            counts: self.tally.borrow().counts.len(),
            rows: [rows.events.len(), rows.deliveries.len(), rows.settling.len()],
            pending: self.pending.borrow().len(),
        }
    }

    /// Removes the counts and the collected rows since `mark`.
    fn back_to(&self, mark: Mark) {
        let mut rows = self.rows.borrow_mut();
        rows.events.truncate(mark.rows[0]);
        rows.deliveries.truncate(mark.rows[1]);
        rows.settling.truncate(mark.rows[2]);
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
    pub(super) fn complete(&self) -> rusqlite::Result<()> {
        if let Some(cause) = self.given_up.take() {
            return Err(cause);
        }
        if self.connection.is_autocommit() {
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

/// Runs a write. A panic is an error of the write.
fn guarded<T>(write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or(Err(StoreError::Panicked))
}

/// Runs a statement without parameters.
pub(super) fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
