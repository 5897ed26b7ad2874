//! Usage of tenants: counted by triggers and by the transaction.
//!
//! # Guarantees
//! - The counters of a tenant's row in `ledgers` equal the result of [`recount`], after every commit.
//! - Every table is in [`COUNTED`] or, with a reason, in `NOT_COUNTED`; a test compares them with the schema.
//!
//! # Theory of operation
//! Triggers count changed and deleted rows, and most inserted rows. The inserts of the hot path have no trigger: [`batch`](super::batch)
//! adds them up and writes one sum for each tenant and commit. The triggers are generated from [`COUNTED`]. If they differ from
//! those in the database (after a migration or an upgrade), they are replaced and everything is counted once.
//!
//! # Limits
//! The real size on the disk differs, because pages are never quite full and columns may be packed.

use crate::StoreError;
use crate::counted_tables::{COUNTED, CountedTable, column};
use crate::usage::{BytesByKind, UsageKind};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, HashMap};

/// Tables whose inserts are counted by the transaction, because they are on the hot path.
const COUNTED_BY_BATCH: [&str; 4] = ["events", "deliveries", "attempts", "idempotency_keys"];

/// Returns the SQL of the size of a row.
fn bytes_of(counted: &CountedTable, row: &str) -> String {
    counted.bytes_of(row, "ifnull")
}

/// Returns the name and text of each trigger of a table.
fn triggers(counted: &CountedTable) -> Vec<(String, String)> {
    let table = counted.table;
    let column = column(counted.kind);
    let [new, old] = ["new", "old"].map(|row| bytes_of(counted, row));
    let add = |what: &str, row: &str| {
        format!("UPDATE ledgers SET {column} = {column} + {what} WHERE tenant = {};", counted.tenant_of(row))
    };
    let trigger = |event: &str, of: &str, when: &str, what: &str, row: &str| {
        let name = format!("usage_{table}_{}", event.to_ascii_lowercase());
        let text = format!("CREATE TRIGGER {name} AFTER {event}{of} ON {table}{when} BEGIN {} END", add(what, row));
        (name, text)
    };
    let mut triggers = vec![trigger("DELETE", "", "", &format!("-({old})"), "old")];
    if !COUNTED_BY_BATCH.contains(&table) {
        triggers.push(trigger("INSERT", "", "", &format!("({new})"), "new"));
    }
    let changing: Vec<&str> = counted.lengths.iter().copied().chain(counted.size).collect();
    if !changing.is_empty() {
        let of = format!(" OF {}", changing.join(", "));
        let when = format!(" WHEN ({new}) <> ({old})");
        triggers.push(trigger("UPDATE", &of, &when, &format!("({new}) - ({old})"), "new"));
    }
    triggers
}

/// Installs the triggers. If they differed from those in the database, counts everything.
pub(super) fn install(connection: &mut Connection) -> Result<(), StoreError> {
    let wanted: BTreeMap<String, String> = COUNTED.iter().flat_map(triggers).collect();
    let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'usage\\_%' ESCAPE '\\'";
    let found: BTreeMap<String, String> =
        connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    if found == wanted {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for name in found.keys() {
        transaction.execute_batch(&format!("DROP TRIGGER {name}"))?;
    }
    for text in wanted.values() {
        transaction.execute_batch(text)?;
    }
    let columns = UsageKind::ALL.map(|kind| format!("{} = 0", column(kind)));
    transaction.execute(&format!("UPDATE ledgers SET {}", columns.join(", ")), [])?;
    for (tenant, bytes) in recount(&transaction)? {
        for (kind, bytes) in UsageKind::ALL.into_iter().zip(bytes) {
            let sql = format!("UPDATE ledgers SET {} = ?2 WHERE tenant = ?1", column(kind));
            transaction.execute(&sql, rusqlite::params![&*tenant.0, bytes])?;
        }
    }
    Ok(transaction.commit()?)
}

/// Counts the rows of all tables by tenant. Reads every row.
pub(super) fn recount(connection: &Connection) -> Result<HashMap<TenantId, BytesByKind>, StoreError> {
    let mut found: HashMap<TenantId, BytesByKind> = HashMap::new();
    for counted in &COUNTED {
        let table = counted.table;
        let bytes = bytes_of(counted, table);
        let tenant = counted.tenant_of(table);
        let sql = format!("SELECT {tenant} AS owner, SUM({bytes}) FROM {table} GROUP BY owner");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // Rows without a tenant belong to the host.
            let Some(tenant) = row.get::<_, Option<String>>(0)? else { continue };
            found.entry(TenantId(tenant.into())).or_default()[counted.kind as usize] += row.get::<_, u64>(1)?;
        }
    }
    Ok(found)
}

/// Returns a tenant's stored number of events and sizes by kind. None: the tenant does not exist, or it is being deleted.
pub(super) fn kept(connection: &Connection, tenant: &TenantId) -> Result<Option<(u64, BytesByKind)>, StoreError> {
    const SQL: &str = "SELECT MAX(events_kept, 0), MAX(bytes_of_events, 0), MAX(bytes_of_deliveries, 0), MAX(bytes_of_attempts, 0),
        MAX(bytes_of_plugins, 0), MAX(bytes_of_subscriptions, 0), MAX(bytes_of_bins, 0), MAX(bytes_of_rejected_requests, 0),
        MAX(bytes_of_idempotency_keys, 0), MAX(bytes_of_changes, 0), MAX(bytes_of_access, 0), MAX(bytes_of_statistics, 0)
        FROM ledgers WHERE tenant = ?1 AND NOT deleting";
    Ok(connection.prepare_cached(SQL)?.query_row([&*tenant.0], kept_row).optional()?)
}

fn kept_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, BytesByKind)> {
    let mut bytes = BytesByKind::default();
    for (index, bytes) in bytes.iter_mut().enumerate() {
        *bytes = row.get(index + 1)?;
    }
    Ok((row.get(0)?, bytes))
}

#[cfg(test)]
mod tests;
