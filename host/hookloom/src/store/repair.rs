//! Finds out which tables and indexes are damaged once something could not be read, and makes damaged indexes anew.
//!
//! # Guarantees
//! - An index is made anew from its table, in one transaction: it is whole then, or as it was. The pages of the old one are
//!   neither read nor used again; `hookloom rescue` gets rid of them.
//! - A table is never changed. What it holds beside its damaged pages stays readable row by row ([`careful`](super::careful)).
//!
//! # Limits
//! Making an index holds up every write for its time, about two seconds for a million rows. If its table is damaged, too, that
//! fails, and what needs the index waits for `hookloom rescue`.

use super::backlog::PendingCounts;
use super::batch::Batch;
use super::damage::DamagedObject;
use super::fair_queue::Owner;
use super::writer::{Terms, WriteMode};
use super::{Store, StoreError};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

/// Maximum number of findings that are looked at.
const FINDINGS_MAX: usize = 10_000;

/// The shortest and the longest time between two looks at the whole database, as long as something new cannot be read.
const WAIT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3_600)];

/// Name of an index while it is made.
const NEW_INDEX: &str = "hookloom_new_index";

/// A table or an index, as the schema has it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) is_index: bool,
    /// The table that it belongs to.
    table: String,
}

/// Every table and index, by the page at its root.
pub(super) fn objects(connection: &Connection) -> Result<BTreeMap<u64, Object>, StoreError> {
    let sql = "SELECT rootpage, name, type = 'index', tbl_name FROM sqlite_schema WHERE type IN ('table', 'index') AND rootpage > 0";
    let mut statement = connection.prepare(sql)?;
    Ok(statement.query_map([], object_row)?.collect::<Result<_, _>>()?)
}

fn object_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, Object)> {
    Ok((row.get(0)?, Object { name: row.get(1)?, is_index: row.get(2)?, table: row.get(3)? }))
}

/// Tables and indexes with pages that are damaged, as SQLite's own check of every page finds them, each with its first finding.
pub(super) fn damaged_objects(connection: &Connection) -> Result<Vec<DamagedObject>, StoreError> {
    let objects = objects(connection)?;
    let mut found: BTreeMap<String, DamagedObject> = BTreeMap::new();
    for finding in findings(connection, "integrity_check")? {
        let Some(object) = object_of(&finding, &objects) else { continue };
        let damaged = || DamagedObject { name: object.name.clone(), detail: finding.clone() };
        found.entry(object.name.clone()).or_insert_with(damaged);
    }
    // An index of a damaged table has other rows than can be counted there, and cannot be made anew from it.
    let tables: HashSet<&str> = objects.values().map(|object| object.table.as_str()).collect();
    let damaged: HashSet<String> =
        tables.into_iter().filter(|table| found.contains_key(*table)).map(str::to_owned).collect();
    let is_cause = |object: &DamagedObject| {
        let table = objects.values().find(|other| other.name == object.name).map(|other| &other.table);
        object.detail.starts_with("Tree ") || table.is_none_or(|table| !damaged.contains(table))
    };
    Ok(found.into_values().filter(is_cause).collect())
}

/// Tables and indexes of the database in a folder that have damaged pages.
pub fn damaged_parts(folder: &Path) -> Result<Vec<DamagedObject>, StoreError> {
    damaged_objects(&open_to_read(&folder.join("hookloom.db"))?)
}

/// The findings of SQLite's check, each in a line; none if all is well. A check that cannot go on is a finding.
pub(super) fn findings(connection: &Connection, check: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}({FINDINGS_MAX})"))?;
    let mut rows = statement.query([])?;
    let mut found: Vec<String> = Vec::new();
    loop {
        match rows.next() {
            Ok(Some(row)) => found.extend(row.get::<_, String>(0)?.lines().map(str::to_owned)),
            Ok(None) => break,
            Err(error) => {
                found.push(crate::describe(&error));
                break;
            }
        }
    }
    found.retain(|line| line != "ok" && !line.starts_with("*** in database"));
    Ok(found)
}

/// The table or index that a finding is about: `Tree 12 page 345 cell 3: …`, where 12 is its root page, or `row 5 missing from index
/// NAME`, `wrong # of entries in index NAME`.
pub(super) fn object_of<'o>(finding: &str, objects: &'o BTreeMap<u64, Object>) -> Option<&'o Object> {
    if let Some(tree) = finding.strip_prefix("Tree ") {
        return objects.get(&tree.split(' ').next()?.parse().ok()?);
    }
    let (_, name) = finding.rsplit_once(" index ")?;
    objects.values().find(|object| object.is_index && object.name == name)
}

/// Makes an index anew in the place of the old one.
fn rebuild(connection: &Connection, name: &str) -> Result<(), StoreError> {
    let sql = "SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND name = ?1";
    let found =
        connection.query_row(sql, [name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
    let (table, sql) = found.optional()?.ok_or(StoreError::NotFound("index"))?;
    connection.execute_batch(&create_new(connection, name, &table, sql.as_deref())?)?;
    // The tree of the new one under the name of the old one: to drop that, SQLite would have to read it.
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
    // Every connection reads the schema again, this one too.
    let version: i64 = connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    Ok(connection.pragma_update(None, "schema_version", version + 1)?)
}

/// The statement that makes an index with another name.
fn create_new(connection: &Connection, name: &str, table: &str, sql: Option<&str>) -> Result<String, StoreError> {
    if let Some((_, definition)) = sql.and_then(|sql| sql.split_once(" ON ")) {
        return Ok(format!("CREATE INDEX {NEW_INDEX} ON {definition}"));
    }
    // It stands for a PRIMARY KEY or UNIQUE, whose columns the schema tells.
    let sql = format!("SELECT name FROM pragma_index_info('{name}') ORDER BY seqno");
    let columns: Vec<String> = connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(format!("CREATE UNIQUE INDEX {NEW_INDEX} ON {table} ({})", columns.join(", ")))
}

impl Store {
    /// Looks for damaged indexes whenever something could not be read, and makes them anew.
    pub async fn run_repairs(&self) {
        if let Err(error) = self.recheck_damage().await {
            tracing::warn!(error = %crate::describe(&error), "what was damaged before could not be looked at again");
        }
        let mut wait = WAIT[0];
        loop {
            self.damage.seen.notified().await;
            let before = self.damage(None).objects;
            self.damage.note_check(false);
            match self.repair().await {
                Ok(()) => self.damage.note_check(true),
                Err(StoreError::Stopped) => return,
                Err(error) => {
                    tracing::error!(error = %crate::describe(&error), "the database could not be checked");
                }
            }
            // What is known is met again and again. A row that is new waits for the next look.
            wait = if self.damage(None).objects == before { (wait * 2).min(WAIT[1]) } else { WAIT[0] };
            tokio::time::sleep(WAIT[0]).await;
            tokio::select! {
                () = tokio::time::sleep(wait - WAIT[0]) => {}
                () = self.damage.suspected.notified() => self.damage.seen.notify_one(),
            }
        }
    }

    /// Checks every page, makes damaged indexes anew, and notes what stays damaged.
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
            // Whoever waited for an index looks again.
            for subscription in self.catalog().all_subscriptions() {
                let _ = self.news.send(super::News::Changed(subscription.id));
            }
        }
        Ok(())
    }

    async fn damaged_objects(&self) -> Result<Vec<DamagedObject>, StoreError> {
        let path = self.path.clone();
        // A connection of its own, without a time limit.
        let check = move || damaged_objects(&open_to_read(&path)?);
        tokio::task::spawn_blocking(check).await.map_err(|_| StoreError::Stopped)?
    }

    /// Makes an index anew, and says whether it did: a table is none, and one whose table is damaged cannot be made.
    async fn rebuild_index(&self, name: &str) -> Result<bool, StoreError> {
        let index = name.to_owned();
        let pending = self.pending.clone();
        let damage = self.damage.clone();
        let write = move |batch: &Batch<'_>| {
            rebuild(batch, &index)?;
            // They may have been counted from the damaged one.
            pending.replace(PendingCounts::load(batch, &damage));
            Ok(())
        };
        let terms = Terms { owner: Owner::Host, mode: WriteMode::Exclusive, rows: super::writer::ROWS_MAX };
        match self.writer.write(terms, write, |()| {}).await {
            Ok(()) => {
                tracing::warn!(index = name, "a damaged index was rebuilt from its table");
                Ok(true)
            }
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(StoreError::Stopped) => Err(StoreError::Stopped),
            Err(error) => {
                tracing::error!(index = name, error = %crate::describe(&error), "a damaged index could not be rebuilt; stop the host and run `hookloom rescue`");
                Ok(false)
            }
        }
    }
}

/// A connection that only reads and has no time limit.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    super::tune(&connection)?;
    Ok(connection)
}
