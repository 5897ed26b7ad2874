//! Repair of indexes: finds damaged tables and indexes after a failed read, and rebuilds damaged indexes.
//!
//! # Guarantees
//! - An index is rebuilt from its table in one transaction, so it is either complete or unchanged. The pages of the old index are
//!   neither read nor reused; `hookloom rescue` removes them.
//! - Tables are never changed. The undamaged rows of a damaged table stay readable row by row ([`partial_read`](super::partial_read)).
//!
//! # Limits
//! Rebuilding an index blocks every write, for about two seconds per million rows. It fails if the table is damaged as well, and
//! reads that need the index fail until `hookloom rescue`.

use super::Sqlite;
use super::backlog::count_pending;
use super::batch::AdminTx;
use crate::StoreError;
use crate::backend::machine::DamagedObject;
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

/// Maximum number of findings that are read.
const FINDINGS_MAX: usize = 10_000;

/// Shortest and longest pause between two checks of the whole database, while new rows cannot be read.
const CHECK_PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3_600)];

/// Name of an index during its rebuild.
const NEW_INDEX: &str = "hookloom_new_index";

/// Table or index of the schema.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) is_index: bool,
    /// Table of the index.
    table: String,
}

/// Returns all tables and indexes by root page.
pub(super) fn objects(connection: &Connection) -> Result<BTreeMap<u64, Object>, StoreError> {
    let sql = "SELECT rootpage, name, type = 'index', tbl_name FROM sqlite_schema WHERE type IN ('table', 'index') AND rootpage > 0";
    let mut statement = connection.prepare(sql)?;
    Ok(statement.query_map([], object_row)?.collect::<Result<_, _>>()?)
}

fn object_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, Object)> {
    Ok((row.get(0)?, Object { name: row.get(1)?, is_index: row.get(2)?, table: row.get(3)? }))
}

/// Returns the tables and indexes that SQLite's check of every page finds damaged, each with its first finding.
pub(super) fn damaged_objects(connection: &Connection) -> Result<Vec<DamagedObject>, StoreError> {
    let objects = objects(connection)?;
    let mut found: BTreeMap<String, DamagedObject> = BTreeMap::new();
    for finding in findings(connection, "integrity_check")? {
        let Some(object) = object_of(&finding, &objects) else { continue };
        let damaged = || DamagedObject { name: object.name.clone(), detail: finding.clone() };
        found.entry(object.name.clone()).or_insert_with(damaged);
    }
    // The index of a damaged table has other rows than the table shows, and cannot be rebuilt from it.
    let tables: HashSet<&str> = objects.values().map(|object| object.table.as_str()).collect();
    let damaged: HashSet<String> =
        tables.into_iter().filter(|table| found.contains_key(*table)).map(str::to_owned).collect();
    let is_cause = |object: &DamagedObject| {
        let table = objects.values().find(|other| other.name == object.name).map(|other| &other.table);
        object.detail.starts_with("Tree ") || table.is_none_or(|table| !damaged.contains(table))
    };
    Ok(found.into_values().filter(is_cause).collect())
}

/// Returns the damaged tables and indexes of the database in a folder.
pub fn damaged_parts(folder: &Path) -> Result<Vec<DamagedObject>, StoreError> {
    damaged_objects(&open_to_read(&folder.join("hookloom.db"))?)
}

/// Returns the findings of SQLite's check, one a line. A check that cannot continue is a finding.
pub(super) fn findings(connection: &Connection, check: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}({FINDINGS_MAX})"))?;
    let mut rows = statement.query([])?;
    let mut found: Vec<String> = Vec::new();
    loop {
        match rows.next() {
            Ok(Some(row)) => found.extend(row.get::<_, String>(0)?.lines().map(str::to_owned)),
            Ok(None) => break,
            Err(error) => {
                found.push(hookloom_model::describe(&error));
                break;
            }
        }
    }
    found.retain(|line| line != "ok" && !line.starts_with("*** in database"));
    Ok(found)
}

/// Returns the table or index of a finding: `Tree 12 page 345 cell 3: …`, where 12 is the root page, `row 5 missing from index
/// NAME`, or `wrong # of entries in index NAME`.
pub(super) fn object_of<'o>(finding: &str, objects: &'o BTreeMap<u64, Object>) -> Option<&'o Object> {
    if let Some(tree) = finding.strip_prefix("Tree ") {
        return objects.get(&tree.split(' ').next()?.parse().ok()?);
    }
    let (_, name) = finding.rsplit_once(" index ")?;
    objects.values().find(|object| object.is_index && object.name == name)
}

/// Rebuilds an index under its name.
fn rebuild(connection: &Connection, name: &str) -> Result<(), StoreError> {
    let sql = "SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND name = ?1";
    let found =
        connection.query_row(sql, [name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
    let (table, sql) = found.optional()?.ok_or(StoreError::NotFound("index"))?;
    connection.execute_batch(&create_new(connection, name, &table, sql.as_deref())?)?;
    // Gives the new tree the name of the old one, because SQLite would have to read the old tree to drop it.
    connection.pragma_update(None, "writable_schema", true)?;
    let swapped = swap(connection, name);
    connection.pragma_update(None, "writable_schema", false)?;
    swapped
}

fn swap(connection: &Connection, name: &str) -> Result<(), StoreError> {
    let sql =
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = ?2) WHERE name = ?1";
    connection.execute(sql, [name, NEW_INDEX])?;
    connection.execute("DELETE FROM sqlite_schema WHERE name = ?1", [NEW_INDEX])?;
    // Makes every connection read the schema again, including this one.
    let version: i64 = connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    Ok(connection.pragma_update(None, "schema_version", version + 1)?)
}

/// Returns the statement that creates an index under another name.
fn create_new(connection: &Connection, name: &str, table: &str, sql: Option<&str>) -> Result<String, StoreError> {
    if let Some((_, definition)) = sql.and_then(|sql| sql.split_once(" ON ")) {
        return Ok(format!("CREATE INDEX {NEW_INDEX} ON {definition}"));
    }
    // The index of a PRIMARY KEY or UNIQUE constraint has no statement, but its columns are in the schema.
    let sql = format!("SELECT name FROM pragma_index_info('{name}') ORDER BY seqno");
    let columns: Vec<String> = connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(format!("CREATE UNIQUE INDEX {NEW_INDEX} ON {table} ({})", columns.join(", ")))
}

impl Sqlite {
    /// Checks for damaged indexes after reads have failed, and rebuilds them. Runs until the store stops.
    pub(super) async fn run_repairs(&self) {
        if let Err(error) = self.recheck_damage().await {
            tracing::warn!(error = %hookloom_model::describe(&error), "earlier damage could not be checked again");
        }
        let mut wait = CHECK_PAUSES[0];
        loop {
            self.damage.seen.notified().await;
            let before = self.damage.report(None).objects;
            self.damage.note_check(false);
            match self.repair().await {
                Ok(()) => self.damage.note_check(true),
                Err(StoreError::Stopped) => return,
                Err(error) => {
                    tracing::error!(error = %hookloom_model::describe(&error), "the database could not be checked");
                }
            }
            // Known damage is met again and again, so the pause grows until there is new damage.
            wait = if self.damage.report(None).objects == before {
                (wait * 2).min(CHECK_PAUSES[1])
            } else {
                CHECK_PAUSES[0]
            };
            tokio::time::sleep(CHECK_PAUSES[0]).await;
            tokio::select! {
                () = tokio::time::sleep(wait - CHECK_PAUSES[0]) => {}
                () = self.damage.suspected.notified() => self.damage.seen.notify_one(),
            }
        }
    }

    /// Checks every page, rebuilds damaged indexes, and records the remaining damage.
    pub(super) async fn repair(&self) -> Result<(), StoreError> {
        let found = self.damaged_objects().await?;
        let mut rebuilt = false;
        for object in &found {
            tracing::error!(object = object.name, error = object.detail, "a part of the database is damaged");
            rebuilt |= self.rebuild_index(&object.name).await?;
        }
        let left = if rebuilt { self.damaged_objects().await? } else { found };
        self.damage.set_objects(left);
        if rebuilt {
            // Lanes that waited for an index read again.
            for subscription in self.state.catalog.all_subscriptions() {
                self.state.publish_change(subscription.id);
            }
        }
        Ok(())
    }

    async fn damaged_objects(&self) -> Result<Vec<DamagedObject>, StoreError> {
        let path = self.path.clone();
        // A separate connection, without a time limit.
        let check = move || damaged_objects(&open_to_read(&path)?);
        tokio::task::spawn_blocking(check).await.map_err(|_| StoreError::Stopped)?
    }

    /// Rebuilds an index. Returns false for a table, and for an index whose table is damaged.
    async fn rebuild_index(&self, name: &str) -> Result<bool, StoreError> {
        let index = name.to_owned();
        let pending = self.pending.clone();
        let damage = self.damage.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            rebuild(tx, &index)?;
            // The numbers may have been counted from the damaged index.
            pending.replace(count_pending(tx, &damage));
            Ok(())
        };
        let terms = Terms { owner: Owner::Host, rows: crate::write_queue::ROWS_MAX };
        match self.writer.change(terms, write, |()| {}).await {
            Ok(()) => {
                tracing::warn!(index = name, "a damaged index was rebuilt from its table");
                Ok(true)
            }
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(StoreError::Stopped) => Err(StoreError::Stopped),
            Err(error) => {
                tracing::error!(index = name, error = %hookloom_model::describe(&error), "a damaged index could not be rebuilt; stop the host and run `hookloom rescue`");
                Ok(false)
            }
        }
    }
}

/// Opens a read-only connection without a time limit.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    super::tune(&connection)?;
    Ok(connection)
}
