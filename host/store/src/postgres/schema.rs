//! Schema of the database, as numbered migrations. Each runs once, in one transaction, and is never edited after a release.
//!
//! # Guarantees
//! - A host works with a schema of its own number, or with a later one that only adds to it. It refuses every other one in words, and so a
//!   server before PostgreSQL 15 and a database whose texts are not UTF-8.
//! - A migration runs while no host writes, and only if every live host can work with what it makes ([`migration`]). A host that cannot
//!   registers no more.
//!
//! # Theory of operation
//! The database has two numbers: that of its schema, and the least one that a host must know to work with it. A migration that only adds
//! what an earlier host does not miss (a table, an index, a column with a default) keeps the second number, so hosts of two releases run
//! beside each other while they are replaced. What an earlier host needs is removed by a later release, whose migration raises the
//! second number.

mod migration;

pub use migration::{Migrated, MigrationStep, SchemaState, migrate_postgres, schema_of_postgres};
pub(super) use migration::{bring_up, migrate};

use super::connection::{Connection, WRITE_SETTINGS};
use super::rows::number;
use crate::StoreError;

/// Step from a schema to the next one.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    sql: &'static str,
    /// Least schema that a host must know to work with this one.
    needs: usize,
    /// First version of Hookloom that knows this schema.
    since: &'static str,
}

const MIGRATIONS: &[Migration] = &[Migration { sql: include_str!("schema_1.sql"), needs: 1, since: "0.1.0" }];

/// Schemas that a program knows, from the first one.
#[derive(Clone, Copy)]
pub(super) struct KnownSchemas(&'static [Migration]);

impl KnownSchemas {
    /// Schemas that this program knows.
    pub(super) const OWN: KnownSchemas = KnownSchemas(MIGRATIONS);

    /// Returns the number of the newest one.
    pub(super) fn newest(self) -> usize {
        self.0.len()
    }

    /// Returns the first version of Hookloom that knows a schema.
    fn since(self, schema: usize) -> &'static str {
        schema.checked_sub(1).and_then(|index| self.0.get(index)).map_or("", |migration| migration.since)
    }
}

/// Oldest version of the server, as `server_version_num`.
const SERVER_MIN: i32 = 150_000;

/// Key of the lock of the server that is held by the transaction of a start: the text `hookloom`.
const LOCK: i64 = 0x686f_6f6b_6c6f_6f6d;

/// Schema that a database has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundSchema {
    /// 0: the database has no tables of Hookloom.
    number: usize,
    /// Least schema that a host must know to work with it.
    needs: usize,
    /// First version of Hookloom that knows that one.
    needs_version: String,
}

impl FoundSchema {
    /// Refuses a schema that a program cannot work with.
    fn require(&self, known: KnownSchemas) -> Result<(), StoreError> {
        if self.needs <= known.newest() {
            return Ok(());
        }
        Err(StoreError::SchemaTooNew {
            found: self.number,
            needs: self.needs_version.clone(),
            version: env!("CARGO_PKG_VERSION"),
            known: known.newest(),
        })
    }
}

/// Begins a transaction beside which no other host migrates the database. A migration that is under way may take long.
pub(super) async fn begin(connection: &Connection) -> Result<(), StoreError> {
    let unlimited = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";
    let sql = format!("BEGIN; {WRITE_SETTINGS}; {unlimited}; SELECT pg_advisory_xact_lock({LOCK})");
    connection.batch_execute(&sql).await
}

/// Refuses a database with a schema that this host cannot work with, within a transaction beside which none is migrated.
pub(super) async fn require_usable(connection: &Connection) -> Result<(), StoreError> {
    found(connection).await?.require(KnownSchemas::OWN)
}

async fn require_server(connection: &Connection) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding')";
    let row = connection.query_one(sql, &[]).await?;
    let server: i32 = row.try_get(0)?;
    if server < SERVER_MIN {
        let found = server / 10_000;
        return Err(StoreError::DatabaseUnfit(format!("the server has version {found}, and 15 or newer is needed")));
    }
    let encoding: &str = row.try_get(1)?;
    if encoding != "UTF8" {
        return Err(StoreError::DatabaseUnfit(format!("its encoding is {encoding}, and UTF8 is needed")));
    }
    Ok(())
}

/// Returns the schema of the database.
async fn found(connection: &Connection) -> Result<FoundSchema, StoreError> {
    if !connection.exists("SELECT 1 WHERE to_regclass('host') IS NOT NULL", &[]).await? {
        return Ok(FoundSchema { number: 0, needs: 0, needs_version: String::new() });
    }
    let row = connection.query_one("SELECT schema, needs, needs_version FROM host", &[]).await?;
    Ok(FoundSchema { number: number(&row, 0)?, needs: number(&row, 1)?, needs_version: row.try_get(2)? })
}

#[cfg(test)]
mod tests;
