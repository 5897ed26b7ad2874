//! Writes what is whole of a damaged store into a new one: `hookloom rescue`.
//!
//! # Guarantees
//! - The damaged store is only read. No host may run on it meanwhile.
//! - The new store is one to start from: rows that are whole are in it, rows that are not are named, and what belongs together is
//!   together. The ledgers' law holds: deliveries that are lost count as dead ones that were pruned, promises of lost events as kept.
//! - It has a number of its own, so no log of the damaged store is taken for its own. It keeps what it knows of its master key; if that
//!   row is lost, the next start takes the key that lies beside it for the right one.
//! - Events keep their order, so the history of each contact and deal is what it was without the lost ones.
//!
//! # Rules for what lost its other half
//! - A pending delivery whose event is lost is dead, and says why.
//! - What belongs to a tenant whose row is lost brings the tenant back, with its name and nothing else.
//! - A component whose bytes are not those of its sha256 is left out; an upload of the right ones brings the version back.
//! - A webhook whose row is lost is gone: its pending deliveries are cancelled at the next start, as after a deletion.

use super::check::{TableReport, log_fault, open_damaged, wrong_components};
use super::data_folder::{folder_error, number_copy};
use super::pruning::NO_TENANT;
use super::salvage::{Table, salvage};
use super::{StoreError, now_ms, schema};
use crate::delivery::{DeliveryState, Reason};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use serde::Serialize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Number of rows that one transaction writes.
const STEP: u64 = 10_000;

/// Result of the rescue of a store.
#[derive(Debug, Serialize)]
pub struct RescueReport {
    /// Tables, each with the rows that were kept and those that were not.
    pub tables: Vec<TableReport>,
    /// Deliveries that are dead because their event is lost.
    pub deliveries_without_event: u64,
    /// Components that were left out.
    pub components_left_out: Vec<String>,
    /// Reason for which the log was not read, if there should be one: what was accepted last is lost with it.
    pub log_fault: Option<String>,
    /// True if the master key was copied.
    pub master_key: bool,
}

impl RescueReport {
    /// Returns true if everything was kept.
    pub fn is_complete(&self) -> bool {
        self.deliveries_without_event == 0
            && self.log_fault.is_none()
            && self.components_left_out.is_empty()
            && self.tables.iter().all(|table| table.damaged.is_empty() && !table.unreadable_pages)
    }
}

/// Writes what is whole of the store in `from` into the new folder `to`. `progress` hears of each table.
pub fn rescue(from: &Path, to: &Path, mut progress: impl FnMut(&str)) -> Result<RescueReport, StoreError> {
    // While a host goes on, what it accepts would be left behind.
    let _lock = super::DataFolder::lock(from)?;
    let source = open_damaged(from)?;
    let log_fault = log_fault(from);
    let version: usize = source.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    std::fs::DirBuilder::new().mode(0o700).create(to).map_err(folder_error(to))?;
    let path = to.join("hookloom.db");
    let target = Connection::open(&path)?;
    target.pragma_update(None, "synchronous", "FULL")?;
    schema::make(&target, version)?;
    let mut tables = Vec::new();
    for table in Table::all(&source)? {
        progress(&table.name);
        tables.push(copy(&source, &target, &table)?);
    }
    progress("what belongs together");
    let components_left_out = wrong_components(&target)?;
    target.execute_batch("BEGIN")?;
    let deliveries_without_event = join(&target)?;
    for wrong in &components_left_out {
        let sha256 = wrong.split([' ', ':']).nth(1).unwrap_or_default();
        target.execute("DELETE FROM components WHERE sha256 = ?1", [sha256])?;
    }
    target.execute_batch("COMMIT")?;
    number_copy(&target)?;
    drop(target);
    let key = from.join("master.key");
    let copied = to.join("master.key");
    let master_key = key.exists();
    if master_key {
        std::fs::copy(&key, &copied).map_err(folder_error(from))?;
    }
    for file in [Some(&path), master_key.then_some(&copied)].into_iter().flatten() {
        std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(folder_error(to))?;
    }
    Ok(RescueReport { tables, deliveries_without_event, components_left_out, log_fault, master_key })
}

/// Copies the rows of a table that are whole.
fn copy(source: &Connection, target: &Connection, table: &Table) -> Result<TableReport, StoreError> {
    let names: Vec<&str> = table.column_names().collect();
    let places: Vec<String> = (1..=names.len()).map(|place| format!("?{place}")).collect();
    // A row comes twice where both scans read it.
    let sql = format!("INSERT OR IGNORE INTO {} ({}) VALUES ({})", table.name, names.join(", "), places.join(", "));
    let mut insert = target.prepare(&sql)?;
    let mut copied = 0;
    target.execute_batch("BEGIN")?;
    let mut salvaged = salvage(source, table, |values: Vec<Value>| {
        copied += insert.execute(params_from_iter(values))? as u64;
        if copied % STEP == STEP - 1 {
            target.execute_batch("COMMIT; BEGIN")?;
        }
        Ok(())
    })?;
    target.execute_batch("COMMIT")?;
    salvaged.whole = copied;
    Ok(TableReport::of(&table.name, salvaged))
}

/// Makes one store of what was kept, and returns how many deliveries are dead because their event is lost.
fn join(target: &Connection) -> Result<u64, StoreError> {
    target.execute("DELETE FROM events WHERE tenant = ?1", [NO_TENANT])?;
    for table in ["ledgers", "subscriptions", "events", "deliveries", "keys", "intake_tokens"] {
        let sql = format!(
            "INSERT OR IGNORE INTO tenants (id, extra_event_names, created_at_ms)
             SELECT DISTINCT tenant, '{{}}', ?1 FROM {table} WHERE tenant IS NOT NULL"
        );
        target.execute(&sql, [now_ms()])?;
    }
    target.execute("INSERT OR IGNORE INTO ledgers (tenant) SELECT id FROM tenants", [])?;
    let reason = Reason::new("damaged", "its event was lost in a damaged database").to_bounded_json()?;
    let sql = "UPDATE deliveries SET state = ?1, due_at_ms = 0, awaiting_plugin = 0, reason = ?2, updated_at_ms = ?3
               WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.tenant = deliveries.tenant AND e.id = deliveries.event)";
    let ended = target.execute(sql, params![DeliveryState::Dead as u8, reason, now_ms()])?;
    balance(target)?;
    target.execute("DELETE FROM damage", []).ok();
    Ok(ended as u64)
}

/// Makes the ledgers' law hold for what was kept: promised deliveries are those that there are, and those that were pruned.
fn balance(target: &Connection) -> Result<(), StoreError> {
    let sql = "UPDATE ledgers SET
        events_kept = (SELECT COUNT(*) FROM events e WHERE e.tenant = ledgers.tenant),
        bytes_kept = (SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM events e WHERE e.tenant = ledgers.tenant)";
    target.execute(sql, [])?;
    // Promised, less what there is of it.
    let missing = "((SELECT COALESCE(SUM(fan_out), 0) FROM events e WHERE e.tenant = ledgers.tenant) + fan_out_pruned + replayed + tests
        - (SELECT COUNT(*) FROM deliveries d WHERE d.tenant = ledgers.tenant)
        - delivered_pruned - dropped_pruned - dead_pruned - cancelled_pruned)";
    let sql = format!("UPDATE ledgers SET dead_pruned = dead_pruned + {missing} WHERE {missing} > 0");
    target.execute(&sql, [])?;
    let sql = format!("UPDATE ledgers SET fan_out_pruned = fan_out_pruned - {missing} WHERE {missing} < 0");
    target.execute(&sql, [])?;
    Ok(())
}

#[cfg(test)]
mod tests;
