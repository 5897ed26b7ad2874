//! Whether the store does its work, and what of the machine under it is wrong.

use super::fair_queue::Owner;
use super::{Store, StoreError, now_ms};
use rusqlite::{Connection, ffi};

impl Store {
    /// Faults of the data folder's files that leave the host at work and keep the next start from it.
    pub fn folder_faults(&self) -> Vec<String> {
        self.folder.faults(&self.vault)
    }

    /// Whether the store can commit and read: a small write that is flushed, and a query.
    pub async fn check(&self) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (1, ?1)";
        self.write(Owner::Host, move |connection| Ok(connection.execute(sql, [now_ms()])?)).await?;
        let read =
            |connection: &Connection| Ok(connection.query_row("SELECT COUNT(*) FROM tenants", [], |_| Ok(()))?);
        self.readers.read(Owner::Host, read).await
    }
}

/// A fault of the machine under the store, in words for whoever asked.
pub struct MachineFault {
    /// What is wrong.
    pub what: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl StoreError {
    /// The fault of the machine that this error is. None: it is none, or an unknown one.
    pub fn machine_fault(&self) -> Option<MachineFault> {
        let cause = match self {
            StoreError::Database(error) => error,
            StoreError::Commit(error) => error,
            _ => return None,
        };
        match cause.sqlite_error()?.extended_code {
            ffi::SQLITE_READONLY_DBMOVED => Some(MachineFault {
                what: "a file of the database (hookloom.db, hookloom.db-wal or hookloom.db-shm) was removed or replaced while this host uses it, so nothing is accepted",
                remedy: "put the very file back; or stop the host, restore the data folder and start again",
            }),
            _ => None,
        }
    }
}
