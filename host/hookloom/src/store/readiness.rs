//! Readiness of the store, and faults of the machine under it.

use super::batch::Batch;
use super::disk_room::is_full_disk;
use super::fair_queue::Owner;
use super::writer::{Terms, WriteMode};
use super::{Store, StoreError, now_ms};
use rusqlite::{Connection, ffi};
use std::time::Duration;

impl Store {
    /// Faults of the data folder's files that leave the host at work and keep the next start from it.
    pub fn folder_faults(&self) -> Vec<String> {
        self.folder.faults(&self.vault)
    }

    /// Verifies that the store can accept the largest event and read: as much is written and taken back, a small write is
    /// flushed, and a query is answered.
    pub async fn check(&self) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (1, ?1)";
        let write = move |batch: &Batch<'_>| {
            batch.try_event()?;
            Ok(batch.execute(sql, [now_ms()])?)
        };
        // What it writes and takes back must be nobody else's.
        self.writer.write(Terms::small(Owner::Host, WriteMode::Exclusive), write, |_| {}).await?;
        self.readers.read(Owner::Host, query_tenants).await
    }

    /// Number of commits that failed since the start: what was proven before the last of them holds no longer.
    pub fn failed_commits(&self) -> u64 {
        self.room.failed_commits()
    }

    /// Looks at a full disk again and again, so that it is noticed also without traffic when there is room.
    pub async fn watch_disk(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.room.is_full() {
                // The writer looks before each write; that it is still full is known already.
                let _ = self.check().await;
            }
        }
    }
}

fn query_tenants(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.query_row("SELECT COUNT(*) FROM tenants", [], |_| Ok(()))?)
}

/// Time between two looks at a full disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const FULL_DISK: MachineFault = MachineFault {
    what: "the disk of the data folder is full, so events, uploads and other new rows are refused; what is pending goes on",
    remedy: "free disk space, or delete what is not needed (tenants, versions of plugins, bins; GET /v1/tenants/{t}/usage shows what is large): deleting works on a full disk",
};

/// A fault of the machine under the store, in words for whoever asked.
pub struct MachineFault {
    /// Description of the fault.
    pub what: &'static str,
    /// Advice to the operator.
    pub remedy: &'static str,
}

impl StoreError {
    /// The fault of the machine that this error is. None: it is none, or an unknown one.
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
