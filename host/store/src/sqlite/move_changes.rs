//! Changes of a running host during a move, read from the journal in rounds.
//!
//! # Guarantees
//! - After a round that [is complete](ChangeRound::is_complete), the changed rows of this round and of those before, applied to a copy of
//!   the tables, make the copy equal to the snapshot of the round.
//! - A journal that a host has removed is an error, not an empty one.
//!
//! # Limits
//! A round has at most [`ROUND_ENTRIES`] entries, so that its keys fit into memory. Tables whose entries have no key are read whole when they
//! have changed.

use super::move_journal::{self, JournalLock, journaled};
use super::salvage::{Table, read_selected};
use super::schema;
use crate::StoreError;
use crate::table_rows::{RowPage, StoredValue};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

/// Maximum number of entries of a round.
const ROUND_ENTRIES: i64 = 20_000;

/// Table of the source.
pub(crate) struct SourceTable {
    pub(crate) name: String,
    /// Names of the columns in each row. The first is `rowid`, if the table has one.
    pub(crate) columns: Vec<String>,
    /// Number of rows.
    pub(crate) rows: u64,
    /// Last entry of the journal that [`SourceTable::rows`] has.
    pub(super) counted_to: i64,
}

/// Journal that this process reads.
pub(super) struct LiveJournal {
    lock: JournalLock,
    token: i64,
    /// Last entry that has been read.
    read_to: i64,
}

/// Entries of the journal, and the snapshot that follows them.
pub(crate) struct ChangeRound {
    after: i64,
    upto: i64,
    /// Number of entries that remain for later rounds.
    pub(crate) behind: u64,
}

impl ChangeRound {
    /// Number of entries.
    pub(crate) fn entries(&self) -> u64 {
        self.upto.abs_diff(self.after)
    }

    /// Returns true if no entry remained in the snapshot.
    pub(crate) fn is_complete(&self) -> bool {
        self.behind == 0
    }

    /// Returns the keys of a table that the entries name. None: any row of the table may have changed.
    pub(super) fn keys(&self, connection: &Connection, name: &str) -> Result<Option<RowPage>, StoreError> {
        let (index, key) = journaled(name).ok_or(StoreError::NotFound("journal"))?;
        if key.is_empty() {
            return Ok((!has_entries(connection, index, self.after)?).then(RowPage::new));
        }
        let mut statement = connection.prepare_cached(&keys_sql(key.len()))?;
        let mut rows = statement.query(params![index, self.after, self.upto])?;
        let mut keys = RowPage::new();
        while let Some(row) = rows.next()? {
            let values = (0..key.len()).map(|column| row.get::<_, Value>(column).map(stored));
            keys.push(values.collect::<rusqlite::Result<_>>()?);
        }
        Ok(Some(keys))
    }

    /// Reads the rows of a table that are there and that the entries name. Returns the first damaged one.
    pub(super) fn read(
        &self,
        connection: &Connection,
        table: &Table,
        each: impl FnMut(Vec<Value>) -> Result<(), StoreError>,
    ) -> Result<Option<(String, String)>, StoreError> {
        let (index, key) = journaled(&table.name).ok_or(StoreError::NotFound("journal"))?;
        let equal = key.iter().enumerate().map(|(place, column)| format!("t.{column} = j.k{}", place + 1));
        let equal: Vec<String> = equal.collect();
        // CROSS JOIN reads the journal first, whatever the sizes are.
        let source = format!("({}) j CROSS JOIN {} t ON {}", keys_sql(key.len()), table.name, equal.join(" AND "));
        read_selected(connection, table, &source, params![index, self.after, self.upto], each)
    }
}

/// Returns the SQL of the distinct keys of a table in a range of entries.
fn keys_sql(columns: usize) -> String {
    let columns: Vec<String> = (1..=columns).map(|place| format!("k{place}")).collect();
    format!("SELECT DISTINCT {} FROM moving_journal WHERE tbl = ?1 AND seq > ?2 AND seq <= ?3", columns.join(", "))
}

impl LiveJournal {
    /// Begins a journal under its lock.
    pub(super) fn begin(connection: &Connection, lock: JournalLock) -> Result<Self, StoreError> {
        Ok(LiveJournal { lock, token: move_journal::begin(connection)?, read_to: 0 })
    }

    /// Returns the last entry in the snapshot of a connection.
    pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT coalesce(max(seq), 0) FROM moving_journal", [], |row| row.get(0))
    }

    /// Reads which entries precede the snapshot of a connection.
    pub(super) fn begin_round(
        &self,
        connection: &Connection,
        tables: &mut [SourceTable],
    ) -> Result<ChangeRound, StoreError> {
        require_newest(connection)?;
        self.require_begun(connection)?;
        let after = self.read_to;
        let newest = LiveJournal::newest(connection)?.max(after);
        let upto = newest.min(after + ROUND_ENTRIES);
        for table in tables {
            let (index, key) = journaled(&table.name).ok_or(StoreError::NotFound("journal"))?;
            if key.is_empty() {
                if has_entries(connection, index, after)? {
                    table.rows = count(connection, &table.name)?;
                }
                continue;
            }
            let sql = "SELECT coalesce(sum(net), 0) FROM moving_journal WHERE tbl = ?1 AND seq > ?2 AND seq <= ?3";
            let counted_to = table.counted_to.max(after);
            let net: i64 = connection.query_row(sql, params![index, counted_to, upto], |row| row.get(0))?;
            table.rows = table.rows.saturating_add_signed(net);
            table.counted_to = upto.max(table.counted_to);
        }
        Ok(ChangeRound { after, upto, behind: newest.abs_diff(upto) })
    }

    /// Ends a round, and removes its entries if a host adds others.
    pub(super) fn end_round(
        &mut self,
        connection: &Connection,
        round: &ChangeRound,
        is_live: bool,
    ) -> rusqlite::Result<()> {
        self.read_to = round.upto;
        if is_live && round.entries() > 0 {
            // The last entry stays: SQLite numbers the next one after it.
            connection.execute("DELETE FROM moving_journal WHERE seq < ?1", [round.upto])?;
        }
        Ok(())
    }

    /// Removes the journal.
    pub(super) fn end(self, connection: &Connection, folder: &Path) -> rusqlite::Result<()> {
        move_journal::remove(connection)?;
        self.lock.end(folder);
        Ok(())
    }

    /// Returns an error if the journal is not the one that this process began.
    fn require_begun(&self, connection: &Connection) -> Result<(), StoreError> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'moving_run'";
        let is_there = connection.query_row(sql, [], |_| Ok(())).optional()?.is_some();
        let sql = "SELECT token FROM moving_run";
        let token = if is_there { connection.query_row(sql, [], |row| row.get(0)).optional()? } else { None };
        if token == Some(self.token) {
            return Ok(());
        }
        let what = "the journal of the changes was removed while the store was copied: move the store again";
        Err(StoreError::Conflict(what.to_owned()))
    }
}

/// Returns true if the snapshot of a connection has entries of a table after an entry.
fn has_entries(connection: &Connection, index: usize, after: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM moving_journal WHERE tbl = ?1 AND seq > ?2 LIMIT 1";
    connection.prepare_cached(sql)?.exists(params![index, after])
}

/// Returns the number of rows of a table.
pub(super) fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    connection.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0))
}

/// Returns an error if a host of another version uses the database.
pub(super) fn require_newest(connection: &Connection) -> Result<(), StoreError> {
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = schema::newest();
    if found == known {
        return Ok(());
    }
    let what = format!(
        "the running host has schema {found} of the store, and this program has {known}: use the program of the host, or stop the host"
    );
    Err(StoreError::Conflict(what))
}

pub(super) fn stored(value: Value) -> StoredValue {
    match value {
        Value::Null => StoredValue::Null,
        Value::Integer(number) => StoredValue::Integer(number),
        Value::Real(number) => StoredValue::Real(number),
        Value::Text(text) => StoredValue::Text(text),
        Value::Blob(bytes) => StoredValue::Bytes(bytes),
    }
}
