//! One transaction of the writer, as its writes see it: the connection, and what is done once for all of them.
//!
//! The statements of the hot path are fetched once a transaction instead of once a row. What is kept of a tenant is read
//! once, counted here, and written before the commit; a write that is undone takes back what it counted. Nothing else
//! may change `events_kept` and `bytes_kept` but by adding to them.

use super::StoreError;
use super::accept::Caps;
use crate::subscription::TenantId;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Params, params};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Deref;

/// The statements of every event and every attempt.
#[derive(Clone, Copy)]
pub(super) enum HotStatement {
    /// An event.
    Event,
    /// A pending delivery of it.
    Delivery,
    /// An attempt. One that does not count is overwritten by the next one, so that a plugin which always says `later`
    /// cannot fill the disk.
    Attempt,
    /// What an attempt makes of its delivery.
    Outcome,
}

impl HotStatement {
    const COUNT: usize = 4;

    fn sql(self) -> &'static str {
        match self {
            HotStatement::Event => {
                "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            }
            HotStatement::Delivery => {
                "INSERT INTO deliveries (tenant, id, event, subscription, kind, order_key, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?7, ?8, 0, ?6, ?5, ?5, ?5)"
            }
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

/// How much was counted at a moment of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

/// A transaction.
pub(super) struct Batch<'c> {
    connection: &'c Connection,
    hot: RefCell<[Option<CachedStatement<'c>>; HotStatement::COUNT]>,
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
        Batch { connection, hot: RefCell::default(), tally: RefCell::default() }
    }

    /// Runs a statement of the hot path.
    pub(super) fn execute_hot(&self, which: HotStatement, params: impl Params) -> rusqlite::Result<usize> {
        let mut hot = self.hot.borrow_mut();
        let statement = match &mut hot[which as usize] {
            Some(statement) => statement,
            empty => empty.insert(self.connection.prepare_cached(which.sql())?),
        };
        statement.execute(params)
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

    /// What is counted so far, to come back to.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.tally.borrow().counts.len())
    }

    /// Takes back what was counted since then.
    pub(super) fn back_to(&self, mark: Mark) {
        let Tally { kept, counts } = &mut *self.tally.borrow_mut();
        for (tenant, [events, bytes]) in counts.drain(mark.0..) {
            if let Some(kept) = kept.get_mut(&tenant) {
                kept.added = [kept.added[0] - events, kept.added[1] - bytes];
            }
        }
    }

    /// Writes what was counted: the last thing before the commit.
    pub(super) fn settle(&self) -> rusqlite::Result<()> {
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
