//! Readiness of the store, and faults of the machine.

use super::batch::AdminTx;
use super::disk_room::is_full_disk;
use super::fair_queue::Owner;
use super::writer::Terms;
use super::{Store, StoreError};
use hookloom_model::clock::now_ms;
use rusqlite::{Connection, ffi};
use std::time::Duration;

impl Store {
    /// Returns faults of the data folder's files that affect only the next start.
    pub fn folder_faults(&self) -> Vec<String> {
        self.folder.faults(&self.vault)
    }

    /// Verifies that the store can read and can accept the largest event: writes such an event and rolls it back, flushes a small
    /// write, and runs a query.
    pub async fn check(&self) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (1, ?1)";
        let write = move |tx: &AdminTx<'_, '_>| {
            tx.try_event()?;
            Ok(tx.execute(sql, [now_ms()])?)
        };
        // Alone, because the rollback must not affect other writes.
        self.writer.change(Terms::small(Owner::Host), write, |_| {}).await?;
        self.readers.read(Owner::Host, query_tenants).await
    }

    /// Returns the number of commits that failed since the start. Any earlier check is void after a failed commit.
    pub fn failed_commits(&self) -> u64 {
        self.room.failed_commits()
    }

    /// Checks a full disk every second, so that free space is detected without traffic. Never returns.
    pub async fn watch_disk(&self) {
        loop {
            tokio::time::sleep(DISK_CHECK_INTERVAL).await;
            if self.room.is_full() {
                // The writer checks the disk before each write. If the disk is still full, that is known already.
                let _ = self.check().await;
            }
        }
    }
}

fn query_tenants(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.query_row("SELECT COUNT(*) FROM tenants", [], |_| Ok(()))?)
}

/// Interval at which a full disk is checked.
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

const FULL_DISK: MachineFault = MachineFault {
    what: "the disk of the data folder is full, so events, uploads and other new rows are refused; pending deliveries are still attempted",
    remedy: "free disk space, or delete what is not needed (tenants, versions of plugins, bins; GET /v1/tenants/{t}/usage shows what is large): deleting works on a full disk",
};

/// Fault of the machine, as text for operators.
pub struct MachineFault {
    /// Description of the fault.
    pub what: &'static str,
    /// Advice to the operator.
    pub remedy: &'static str,
}

impl StoreError {
    /// Returns the fault of the machine that caused this error. None: another or an unknown cause.
    pub fn machine_fault(&self) -> Option<MachineFault> {
        let cause = match self {
            StoreError::Database(error) => error,
            StoreError::Commit(error) => error,
            StoreError::DiskFull => return Some(FULL_DISK),
            _ => return None,
        };
        if is_full_disk(cause) {
            return Some(FULL_DISK);
        }
        match cause.sqlite_error()?.extended_code {
            ffi::SQLITE_READONLY_DBMOVED => Some(MachineFault {
                what: "a file of the database (hookloom.db, hookloom.db-wal or hookloom.db-shm) was removed or replaced while this host uses it, so nothing is accepted",
                remedy: "put the very file back; or stop the host, restore the data folder and start again",
            }),
            _ => None,
        }
    }
}
