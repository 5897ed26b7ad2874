//! Journal of changed rows, while a store is copied to another database beside a running host.
//!
//! # Guarantees
//! - From [`begin`] to [`remove`], every row of [`JOURNALED`] and [`WHOLE`] that is inserted, changed or deleted has an entry, in the transaction of its
//!   change, whichever process writes it. So a change that a snapshot does not have is in the journal behind the end that the snapshot shows.
//! - A host removes a journal whose process has ended: at its start, and every few seconds.
//!
//! # Theory of operation
//! Triggers write the keys of rows into a table. The process that copies holds the lock of the file [`MOVING`]. The lock ends with the
//! process, and so tells a journal that is in use from an abandoned one. The token of a journal tells it from a later one.
//!
//! An update has an entry with the key after it. An update that changes the key, such as the one that frees the name of a deleted plugin,
//! has another with the key before it, so that the row is not left in the copy under its old key.

use super::Sqlite;
use super::data_folder::folder_error;
use crate::StoreError;
use crate::fair_queue::Owner;
use hookloom_model::clock;
use rusqlite::{Connection, OptionalExtension as _};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// Tables that grow with the number of events or uploads, with the columns of their keys.
pub(crate) const JOURNALED: [(&str, &[&str]); 10] = [
    ("attempts", &["tenant", "delivery", "number"]),
    ("bin_requests", &["bin", "id"]),
    ("changes", &["tenant", "id"]),
    ("components", &["sha256"]),
    ("deliveries", &["tenant", "id"]),
    ("events", &["tenant", "id"]),
    ("figures", &["tenant", "span_s", "at_s", "subscription", "plugin"]),
    ("idempotency_keys", &["tenant", "key"]),
    ("plugin_versions", &["tenant", "name", "sha256"]),
    ("rejected_requests", &["tenant", "id"]),
];

/// Tables that are as large as the settings, or whose rows come and go. They are copied whole, so that entries have no key.
const WHOLE: [&str; 18] = [
    "alert_emails",
    "bins",
    "fan_outs",
    "incidents",
    "intake_tokens",
    "keys",
    "ledgers",
    "plugin_files",
    "plugins",
    "portal_sessions",
    "quarantine",
    "readiness",
    "rollouts",
    "sessions",
    "sign_in_links",
    "subscriptions",
    "sweeps",
    "tenants",
];

/// Beginning of the names of the journal's tables and triggers, which belong to no schema.
pub(super) const PREFIX: &str = "moving_";

/// File that is locked by the process that copies.
const MOVING: &str = "hookloom.db.moving";

/// Interval at which a host looks for an abandoned journal.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum wait for the lock, and the interval at which it is tried.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(10);

const TABLES: &str = "
    CREATE TABLE moving_journal (seq INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, net INTEGER NOT NULL, k1, k2, k3, k4, k5);
    CREATE TABLE moving_run (token INTEGER NOT NULL);";

/// Returns all tables with entries, and the columns of their keys. A table has its index as number.
fn tables() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    JOURNALED.into_iter().chain(WHOLE.map(|table| (table, &[][..])))
}

/// Returns the number of a table, and the columns of its key: none if it is copied whole. None: the table has no journal.
pub(super) fn journaled(table: &str) -> Option<(usize, &'static [&'static str])> {
    tables().enumerate().find(|(_, (name, _))| *name == table).map(|(index, (_, key))| (index, key))
}

/// Returns the SQL that creates the triggers of a table. `net` of an entry is the change of the number of rows.
fn triggers((index, (table, key)): (usize, (&str, &[&str]))) -> String {
    let columns: String = (1..=key.len()).map(|place| format!(", k{place}")).collect();
    let trigger = |name: &str, event: &str, row: &str, net: i32| {
        let values: String = key.iter().map(|column| format!(", {row}.{column}")).collect();
        format!(
            "CREATE TRIGGER {PREFIX}{table}_{name} AFTER {event} BEGIN
               INSERT INTO moving_journal (tbl, net{columns}) VALUES ({index}, {net}{values}); END;"
        )
    };
    let mut sql = [
        trigger("insert", &format!("INSERT ON {table}"), "new", 1),
        trigger("update", &format!("UPDATE ON {table}"), "new", 0),
        trigger("delete", &format!("DELETE ON {table}"), "old", -1),
    ]
    .concat();
    if !key.is_empty() {
        let of_row = |row: &str| key.iter().map(|column| format!("{row}.{column}")).collect::<Vec<_>>().join(", ");
        let [before, after] = ["old", "new"].map(of_row);
        let event = format!("UPDATE OF {} ON {table} WHEN ({before}) IS NOT ({after})", key.join(", "));
        sql.push_str(&trigger("rekey", &event, "old", 0));
    }
    sql
}

/// Lock of a journal that is in use.
pub(super) struct JournalLock(File);

impl JournalLock {
    /// # Errors
    /// [`StoreError::Conflict`]: another process copies the store, or a host removes the journal of one that has ended.
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let file = File::options().write(true).create(true).truncate(false).open(folder.join(MOVING));
        let file = file.map_err(folder_error(folder))?;
        let begun = clock::instant();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(JournalLock(file)),
                Err(TryLockError::Error(error)) => return Err(folder_error(folder)(error)),
                // A host that looks for an abandoned journal has it for a moment.
                Err(TryLockError::WouldBlock) if clock::since(begun) < LOCK_WAIT => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => {
                    let what =
                        "another process moves this store at this moment: wait until it has ended, and try again";
                    return Err(StoreError::Conflict(what.to_owned()));
                }
            }
        }
    }

    /// Returns the lock of a journal that no process uses. None: one uses it, or there never was one.
    fn of_abandoned(folder: &Path) -> Option<Self> {
        let file = File::options().write(true).open(folder.join(MOVING)).ok()?;
        file.try_lock().is_ok().then_some(JournalLock(file))
    }

    /// Removes the file, which nobody needs without a journal.
    pub(super) fn end(self, folder: &Path) {
        // A file that stays is locked again by the next move.
        std::fs::remove_file(folder.join(MOVING)).ok();
        drop(self.0);
    }
}

/// Begins a journal, and returns its token. An earlier journal is removed.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<i64> {
    let token: i64 = rand::random();
    let mut sql = TABLES.to_owned();
    tables().enumerate().for_each(|table| sql.push_str(&triggers(table)));
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let begun = drop_all(connection).and_then(|()| connection.execute_batch(&sql));
    let begun = begun.and_then(|()| connection.execute("INSERT INTO moving_run VALUES (?1)", [token]));
    end_transaction(connection, begun.map(|_| token))
}

/// Removes the journal, if there is one.
pub(super) fn remove(connection: &Connection) -> rusqlite::Result<()> {
    if !exists(connection)? {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    end_transaction(connection, drop_all(connection))
}

fn end_transaction<T>(connection: &Connection, done: rusqlite::Result<T>) -> rusqlite::Result<T> {
    let ended = connection.execute_batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" });
    done.and_then(|value| ended.map(|()| value))
}

fn exists(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'moving_run'";
    Ok(connection.query_row(sql, [], |_| Ok(())).optional()?.is_some())
}

/// Drops the triggers and tables of the journal, in the transaction of the caller.
fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT 'DROP ' || type || ' ' || name FROM sqlite_schema
               WHERE type IN ('trigger', 'table') AND name LIKE 'moving\\_%' ESCAPE '\\' ORDER BY type DESC";
    let drops: Vec<String> =
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    drops.iter().try_for_each(|drop| connection.execute_batch(drop))
}

/// Removes the journal of a process that has ended, when a host starts.
pub(super) fn remove_abandoned(connection: &Connection, folder: &Path) -> rusqlite::Result<()> {
    // A copy of a database has a journal, and no process that uses it.
    if folder.join(MOVING).exists() && JournalLock::of_abandoned(folder).is_none() {
        return Ok(());
    }
    remove(connection)
}

impl Sqlite {
    /// Removes the journals of processes that have ended. Never returns.
    pub(super) async fn watch_moves(&self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if let Some(folder) = self.path.parent()
                && let Some(lock) = JournalLock::of_abandoned(folder)
                && let Err(error) = self.remove_journal(lock).await
            {
                tracing::warn!(%error, "the journal of a move that has ended could not be removed");
            }
        }
    }

    /// Removes a journal under its lock.
    async fn remove_journal(&self, lock: JournalLock) -> Result<(), StoreError> {
        if !self.readers.read(Owner::Host, |connection| Ok(exists(connection)?)).await? {
            return Ok(());
        }
        // The lock is returned after the commit, so that no other process begins a journal meanwhile.
        let lock = self.write(Owner::Host, move |tx| drop_all(tx).map(|()| lock).map_err(StoreError::from)).await?;
        drop(lock);
        tracing::info!("a move of the store has ended before it was complete; its journal was removed");
        Ok(())
    }
}

/// Removes the token of a journal, for a test of another module.
#[cfg(test)]
pub(crate) fn lose_token(folder: &Path) {
    let connection = Connection::open(folder.join(super::data_folder::DATABASE)).expect("a database");
    connection.busy_timeout(Duration::from_secs(30)).expect("a wait");
    connection.execute_batch("DROP TABLE moving_run").expect("a journal");
}

#[cfg(test)]
mod tests;
