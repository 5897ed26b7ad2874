//! Errors of SQLite, as errors of the store.

use super::damage::is_damage;
use super::disk_room::is_full_disk;
use crate::error::{DatabaseError, DatabaseFault, StoreError};
use rusqlite::ffi;

/// Returns the fault that an error of SQLite is a sign of.
fn fault(error: &rusqlite::Error) -> DatabaseFault {
    if is_full_disk(error) {
        return DatabaseFault::DiskFull;
    }
    if is_damage(error) {
        return DatabaseFault::Damage;
    }
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_READONLY_DBMOVED) => DatabaseFault::FilesGone,
        _ => DatabaseFault::Other,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Database(error.into())
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::new(fault(&error), error)
    }
}
