//! Settings of every connection to the database.

use crate::StoreError;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::time::Duration;

/// Applies the settings that readers and the writer share.
pub(super) fn tune(connection: &Connection) -> Result<(), StoreError> {
    // Plans must not depend on the values that are bound: with partial indexes, SQLite would compile a statement again
    // whenever one of them changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -16_000)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}
