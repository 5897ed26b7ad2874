//! Migrations: by a host that starts, and by `hookloom migrate`.
//!
//! # Guarantees
//! - A migration and the number of its schema are committed together, or not at all.
//! - While it runs, no host writes, registers or takes over. A live host that cannot work with the new schema prevents it, and is named.
//! - A host whose lease has ended, and which cannot work with the new schema, writes no more.
//!
//! # Theory of operation
//! Locks are taken in the order of the other transactions: the members of the fleet, the fences of all hosts, then tables. Readers have no
//! fence. A lock of a table that is not granted soon is given up, so that it does not hold up others, and the migration begins again.

use super::super::connection::Connection;
use super::super::error::is_state;
use super::super::members;
use super::super::rows::int;
use super::super::usage;
use super::{FoundSchema, KnownSchemas, Migration, begin, found, require_server};
use crate::{StoreError, postgres};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Time that a migration waits for the lock of a table.
const LOCK_WAIT: &str = "1s";

/// Number of times that a migration is begun, if locks of tables are not granted.
const TRIES: u32 = 60;

/// Pause before a migration is begun again, in which others go on.
const PAUSE: Duration = Duration::from_secs(1);

/// Step of a migration, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationStep {
    /// A migration to this schema begins.
    Begins(usize),
    /// Other connections use its tables; it is begun again.
    Waits(usize),
}

/// Result of bringing a database to the newest schema that a program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Schema before. 0: the database had no tables of Hookloom.
    pub before: usize,
    /// Schema that the database has.
    pub schema: usize,
}

/// Schema of a database, next to the one that a program makes of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SchemaState {
    /// Schema of the database. 0: it has no tables of Hookloom.
    pub schema: usize,
    /// Newest schema that the program knows.
    pub known: usize,
    /// Live hosts that prevent a migration, because they cannot work with the newest schema.
    pub too_old: Vec<String>,
}

/// Brings a database to the newest schema, each migration in a transaction of its own.
///
/// # Errors
/// [`StoreError::SchemaTooNew`], [`StoreError::HostsTooOld`], [`StoreError::MayNotMigrate`]. What was committed before stays.
pub(in super::super) async fn bring_up(
    connection: &Connection,
    known: KnownSchemas,
    mut progress: impl FnMut(MigrationStep) + Send,
) -> Result<Migrated, StoreError> {
    require_server(connection).await?;
    let mut before = None;
    let mut tries = 0;
    loop {
        let stepped = in_transaction(connection, known, &mut progress).await;
        match stepped {
            Ok(Stepped { found, done: true }) => {
                return Ok(Migrated { before: before.unwrap_or(found), schema: found });
            }
            Ok(Stepped { found, done: false }) => {
                before.get_or_insert(found);
                tries = 0;
            }
            Err(error) if is_state(&error, &[SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED]) => {
                connection.batch_execute("ROLLBACK").await?;
                tries += 1;
                if tries == TRIES {
                    return Err(error);
                }
                progress(MigrationStep::Waits(found(connection).await?.number + 1));
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                connection.batch_execute("ROLLBACK").await.ok();
                return Err(error);
            }
        }
    }
}

/// Result of [`step`].
struct Stepped {
    /// Schema before.
    found: usize,
    /// True if there was nothing to do.
    done: bool,
}

async fn in_transaction(
    connection: &Connection,
    known: KnownSchemas,
    progress: &mut (impl FnMut(MigrationStep) + Send),
) -> Result<Stepped, StoreError> {
    begin(connection).await?;
    let stepped = step(connection, known, progress).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(stepped)
}

/// Brings a database to the newest schema within the transaction of the caller, which began by [`begin`].
pub(in super::super) async fn migrate(connection: &Connection) -> Result<(), StoreError> {
    require_server(connection).await?;
    while !step(connection, KnownSchemas::OWN, &mut |_| {}).await?.done {}
    Ok(())
}

/// Runs the next migration, if there is one, within the transaction of the caller.
async fn step(
    connection: &Connection,
    known: KnownSchemas,
    progress: &mut (impl FnMut(MigrationStep) + Send),
) -> Result<Stepped, StoreError> {
    let found = found(connection).await?;
    found.require(known)?;
    let next = known.0.get(found.number);
    if let Some(next) = next {
        progress(MigrationStep::Begins(found.number + 1));
        run(connection, known, &found, *next).await?;
    }
    Ok(Stepped { found: found.number, done: next.is_none() })
}

/// Runs the migration after a schema.
async fn run(
    connection: &Connection,
    known: KnownSchemas,
    found: &FoundSchema,
    migration: Migration,
) -> Result<(), StoreError> {
    let schema = found.number + 1;
    if found.number > 0 {
        stop_writes(connection, found, schema, migration.needs).await?;
    }
    let mut sql = format!("SET LOCAL lock_timeout = '{LOCK_WAIT}';\n{}", migration.sql);
    if schema == known.newest() {
        sql.push_str(&usage::triggers());
    }
    let Migration { needs, .. } = migration;
    let version = known.since(needs);
    let set = format!("schema = {schema}, needs = {needs}, needs_version = '{version}'");
    // Writing to a string cannot fail.
    let _ = write!(
        sql,
        "INSERT INTO host (schema, needs, needs_version) VALUES ({schema}, {needs}, '{version}') ON CONFLICT (only_row) DO UPDATE SET {set};"
    );
    connection.batch_execute(&sql).await.map_err(|error| {
        if is_state(&error, &[SqlState::INSUFFICIENT_PRIVILEGE]) {
            StoreError::MayNotMigrate { found: found.number, to: schema, source: Box::new(error) }
        } else {
            error
        }
    })
}

/// Waits for the transactions of all hosts, and begins no other one before the end of this transaction.
async fn stop_writes(
    connection: &Connection,
    found: &FoundSchema,
    schema: usize,
    needs: usize,
) -> Result<(), StoreError> {
    members::lock(connection).await?;
    let too_old = members::live_hosts_before(connection, needs).await?;
    if !too_old.is_empty() {
        return Err(StoreError::HostsTooOld { found: found.number, to: schema, hosts: too_old.join(", ") });
    }
    connection.execute("SELECT 1 FROM fences ORDER BY host FOR UPDATE", &[]).await?;
    // Their leases have ended, and they may come back.
    let sql = "UPDATE fences SET epoch = epoch + 1 WHERE host IN (SELECT host FROM hosts WHERE knows < $1)";
    connection.execute(sql, &[&int(needs)]).await.map(drop)
}

/// Returns the schema of a database, and what would prevent its migration.
pub(in super::super) async fn show(connection: &Connection, known: KnownSchemas) -> Result<SchemaState, StoreError> {
    require_server(connection).await?;
    let found = found(connection).await?;
    found.require(known)?;
    let needs = known.0.iter().skip(found.number).map(|migration| migration.needs).max();
    let too_old = match needs {
        Some(needs) if found.number > 0 => members::live_hosts_before(connection, needs).await?,
        _ => Vec::new(),
    };
    Ok(SchemaState { schema: found.number, known: known.newest(), too_old })
}

/// Brings a database to the newest schema of this program. Calls `progress` with each step.
///
/// # Errors
/// As [`bring_up`].
pub async fn migrate_postgres(url: &str, progress: impl FnMut(MigrationStep) + Send) -> Result<Migrated, StoreError> {
    let connection = Connection::first(&postgres::connection::config(url)?).await?;
    bring_up(&connection, KnownSchemas::OWN, progress).await
}

/// Returns the schema of a database, and changes nothing.
///
/// # Errors
/// [`StoreError::SchemaTooNew`]: this program cannot work with it.
pub async fn schema_of_postgres(url: &str) -> Result<SchemaState, StoreError> {
    let connection = Connection::first(&postgres::connection::config(url)?).await?;
    show(&connection, KnownSchemas::OWN).await
}
