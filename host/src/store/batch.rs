//! One transaction of the writer, as its writes see it: the connection, and what is done once for all of them.
//!
//! Events and their deliveries are written together before the commit ([`Rows`](super::rows)), and before any write
//! that is not of the hot path: those of the hot path read neither. The statements of the hot path are fetched once a transaction
//! instead of once a row. What is kept of a tenant is read once, counted here, and written before the commit. A write that
//! is undone takes back its rows and what it counted. Nothing else may change `events_kept` and `bytes_kept` but by adding
//! to them.

use super::StoreError;
use super::accept::Caps;
use super::rows::{DeliveryRow, EventRow, Insert, Row, Rows};
use crate::subscription::TenantId;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Params, params, params_from_iter};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Deref;

/// The statements of every event and every attempt.
#[derive(Clone, Copy)]
pub(super) enum HotStatement {
    /// So many rows of a table.
    Insert(Insert),
    /// An attempt. One that does not count is overwritten by the next one, so that a plugin which always says `later`
    /// cannot fill the disk.
    Attempt,
    /// What an attempt makes of its delivery.
    Outcome,
}

impl HotStatement {
    const COUNT: usize = Insert::COUNT + 2;

    fn index(self) -> usize {
        match self {
            HotStatement::Insert(insert) => insert.index(),
            HotStatement::Attempt => Insert::COUNT,
            HotStatement::Outcome => Insert::COUNT + 1,
        }
    }

    fn sql(self) -> &'static str {
        match self {
            HotStatement::Insert(insert) => insert.sql(),
            HotStatement::Attempt => {
                "INSERT OR REPLACE INTO attempts (tenant, delivery, number, detail) VALUES (?1, ?2, ?3, ?4)"
            }
            HotStatement::Outcome => {
                "UPDATE deliveries SET state = ?3, due_at_ms = ?4, awaiting_plugin = ?5, attempts_made = attempts_made + ?6,
                        budget_spent = budget_spent + ?6, reason = ?7, updated_at_ms = ?8
                 WHERE tenant = ?1 AND id = ?2 AND state = 0"
            }
        }
    }
}

/// What is kept of a tenant, events and bytes: in the table at first, and what this transaction adds.
struct Kept {
    before: [u64; 2],
    added: [u64; 2],
}

/// What is kept of every tenant that this transaction counted for, and each count, to take it back.
#[derive(Default)]
struct Tally {
    kept: HashMap<TenantId, Kept>,
    counts: Vec<(TenantId, [u64; 2])>,
}

/// How much was counted at a moment of a transaction, and how many rows waited.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    counts: usize,
    rows: [usize; 2],
}

/// A transaction.
pub(super) struct Batch<'c> {
    connection: &'c Connection,
    hot: RefCell<[Option<CachedStatement<'c>>; HotStatement::COUNT]>,
    rows: RefCell<Rows>,
    /// Why it cannot be committed, if something that belongs to it could not be written.
    given_up: RefCell<Option<rusqlite::Error>>,
    tally: RefCell<Tally>,
}

impl Deref for Batch<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'c> Batch<'c> {
    /// The one that has begun, or could not.
    pub(super) fn on(connection: &'c Connection) -> Self {
        Batch {
            connection,
            hot: RefCell::default(),
            rows: RefCell::default(),
            given_up: RefCell::default(),
            tally: RefCell::default(),
        }
    }

    /// Nothing of it may be committed: what follows in it is refused, and everybody is told the cause.
    pub(super) fn give_up(&self, cause: rusqlite::Error) {
        self.given_up.borrow_mut().get_or_insert(cause);
    }

    /// Whether nothing can follow in it: it was given up, or SQLite itself has rolled the transaction back, as it does on
    /// a full disk.
    pub(super) fn is_over(&self) -> bool {
        self.given_up.borrow().is_some() || self.is_autocommit()
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

    /// Takes an event in, to be written with others.
    pub(super) fn add_event(&self, event: EventRow) {
        self.rows.borrow_mut().events.push(event);
    }

    /// Takes a delivery in, to be written with others.
    pub(super) fn add_delivery(&self, delivery: DeliveryRow) {
        self.rows.borrow_mut().deliveries.push(delivery);
    }

    /// Writes the rows that were added so far.
    pub(super) fn write_rows(&self) -> rusqlite::Result<()> {
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

    /// Counts events and bytes to what is kept of a tenant, or refuses them because they are over its caps.
    pub(super) fn keep(&self, tenant: &TenantId, events: u64, bytes: u64, caps: Caps) -> Result<(), StoreError> {
        let tally = &mut *self.tally.borrow_mut();
        let kept = match tally.kept.entry(tenant.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Kept { before: self.kept_before(tenant)?, added: [0, 0] }),
        };
        let fits = |which: usize, more: u64, cap: u64| {
            kept.before[which].saturating_add(kept.added[which]).saturating_add(more) <= cap
        };
        if !fits(0, events, caps.events) || !fits(1, bytes, caps.bytes) {
            return Err(StoreError::TenantFull { events: caps.events, bytes: caps.bytes });
        }
        kept.added = [kept.added[0] + events, kept.added[1] + bytes];
        tally.counts.push((tenant.clone(), [events, bytes]));
        Ok(())
    }

    fn kept_before(&self, tenant: &TenantId) -> Result<[u64; 2], StoreError> {
        let sql = "SELECT MAX(events_kept, 0), MAX(bytes_kept, 0) FROM ledgers WHERE tenant = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([&*tenant.0], |row| Ok([row.get(0)?, row.get(1)?])).optional()?;
        Ok(found.unwrap_or_default())
    }

    /// What is counted so far and which rows wait, to come back to.
    pub(super) fn mark(&self) -> Mark {
        let rows = self.rows.borrow();
        Mark { counts: self.tally.borrow().counts.len(), rows: [rows.events.len(), rows.deliveries.len()] }
    }

    /// Takes back what was counted and added since then.
    pub(super) fn back_to(&self, mark: Mark) {
        let mut rows = self.rows.borrow_mut();
        rows.events.truncate(mark.rows[0]);
        rows.deliveries.truncate(mark.rows[1]);
        let Tally { kept, counts } = &mut *self.tally.borrow_mut();
        for (tenant, [events, bytes]) in counts.drain(mark.counts..) {
            if let Some(kept) = kept.get_mut(&tenant) {
                kept.added = [kept.added[0] - events, kept.added[1] - bytes];
            }
        }
    }

    /// Writes what was added and counted: the last thing before the commit.
    pub(super) fn settle(&self) -> rusqlite::Result<()> {
        if let Some(cause) = self.given_up.take() {
            return Err(cause);
        }
        if self.is_autocommit() {
            // Nothing is left to settle, and the commit will say so.
            return Ok(());
        }
        self.write_rows()?;
        let sql = "INSERT INTO ledgers (tenant, events_kept, bytes_kept) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET events_kept = events_kept + ?2, bytes_kept = bytes_kept + ?3";
        for (tenant, Kept { added: [events, bytes], .. }) in &self.tally.borrow().kept {
            if *events > 0 {
                self.connection.prepare_cached(sql)?.execute(params![&*tenant.0, events, bytes])?;
            }
        }
        Ok(())
    }
}
