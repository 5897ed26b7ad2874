//! Schema of the database, as numbered migrations. Each runs once, in one transaction, and is never edited after a release.
//!
//! # Guarantees
//! - A database of a newer host is refused, and so are a server before PostgreSQL 15 and a database whose texts are not UTF-8.

use super::connection::Connection;
use super::usage;
use crate::StoreError;

const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// Oldest version of the server, as `server_version_num`.
const SERVER_MIN: i32 = 150_000;

/// Key of the lock of the server that is held by the transaction of a start: the text `hookloom`.
const LOCK: i64 = 0x686f_6f6b_6c6f_6f6d;

/// Begins a transaction beside which no other host migrates the database.
pub(super) async fn begin(connection: &Connection) -> Result<(), StoreError> {
    connection.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await
}

/// Migrates a database to the newest schema, within a transaction of [`begin`].
pub(super) async fn migrate(connection: &Connection) -> Result<(), StoreError> {
    require_server(connection).await?;
    let found = version(connection).await?;
    if found > MIGRATIONS.len() {
        return Err(StoreError::NewerSchema { found, known: MIGRATIONS.len() });
    }
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    let mut sql = String::new();
    MIGRATIONS.iter().skip(found).for_each(|migration| sql.push_str(migration));
    sql.push_str(&usage::triggers());
    let row = format!(
        "INSERT INTO host (schema) VALUES ({newest}) ON CONFLICT (only_row) DO UPDATE SET schema = {newest};",
        newest = MIGRATIONS.len()
    );
    sql.push_str(&row);
    connection.batch_execute(&sql).await
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

/// Returns the version of the schema. 0: the database has no tables of Hookloom.
async fn version(connection: &Connection) -> Result<usize, StoreError> {
    if !connection.exists("SELECT 1 WHERE to_regclass('host') IS NOT NULL", &[]).await? {
        return Ok(0);
    }
    super::rows::number(&connection.query_one("SELECT schema FROM host", &[]).await?, 0)
}
