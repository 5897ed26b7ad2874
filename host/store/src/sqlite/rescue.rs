//! Rescue of a damaged store: writes the undamaged data into a new store, for `hookloom rescue`.
//!
//! # Guarantees
//! - The damaged store is only read. No host may use it at the same time.
//! - A host can start on the new store: undamaged rows are in it, damaged rows are reported, and related rows are consistent. The
//!   ledgers' law holds: lost deliveries count as pruned dead ones, and lost events keep their promised deliveries.
//! - The new store has a new number, so the log of the damaged store is not used for it. It keeps the fingerprint of its master
//!   key. If that row is lost, the next start accepts the key in the folder.
//! - Events keep their order, so the history of each contact and deal is the same without the lost events.
//!
//! # Rules for incomplete data
//! - A pending delivery whose event is lost becomes dead, with that reason.
//! - If the row of a tenant is lost, its other rows bring the tenant back, with its name and default settings.
//! - A component whose bytes do not have its sha256 is left out. An upload of the right bytes brings the version back.
//! - If the row of a subscription is lost, its pending deliveries are cancelled at the next start, as after a deletion.

use super::check::{TableReport, log_fault, open_damaged, wrong_components};
use super::data_folder::{folder_error, number_copy};
use super::pruning::NO_TENANT;
use super::salvage::{Table, salvage};
use super::schema;
use crate::StoreError;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, Reason};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use serde::Serialize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Number of rows that one transaction writes.
const STEP: u64 = 10_000;

/// Result of a rescue.
#[derive(Debug, Serialize)]
pub struct RescueReport {
    /// Tables, with the numbers of kept rows and the lost rows.
    pub tables: Vec<TableReport>,
    /// Deliveries that are dead because their event is lost.
    pub deliveries_without_event: u64,
    /// Components that were left out because of their sha256.
    pub components_left_out: Vec<String>,
    /// Reason for which the log was not read. The last commits are lost with it.
    pub log_fault: Option<String>,
    /// True if the master key was copied.
    pub master_key: bool,
}

impl RescueReport {
    /// Returns true if no row was lost.
    pub fn is_complete(&self) -> bool {
        self.deliveries_without_event == 0
            && self.log_fault.is_none()
            && self.components_left_out.is_empty()
            && self.tables.iter().all(|table| table.damaged.is_empty() && !table.unreadable_pages)
    }
}

/// Writes the undamaged data of the store in `from` into the new folder `to`. Calls `progress` with the name of each table.
pub fn rescue(from: &Path, to: &Path, mut progress: impl FnMut(&str)) -> Result<RescueReport, StoreError> {
    // What a running host accepts meanwhile would not be in the new store.
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

/// Copies the undamaged rows of a table.
fn copy(source: &Connection, target: &Connection, table: &Table) -> Result<TableReport, StoreError> {
    let names: Vec<&str> = table.column_names().collect();
    let places: Vec<String> = (1..=names.len()).map(|place| format!("?{place}")).collect();
    // A row that both scans read comes twice.
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

/// Makes the kept rows consistent. Returns the number of deliveries that are dead because their event is lost.
fn join(target: &Connection) -> Result<u64, StoreError> {
    target.execute("DELETE FROM events WHERE tenant = ?1", [NO_TENANT])?;
    for table in ["ledgers", "subscriptions", "events", "deliveries", "keys", "intake_tokens"] {
        let sql = format!(
            "INSERT OR IGNORE INTO tenants (id, event_types, created_at_ms)
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

/// Restores the ledgers' law for the kept rows: the promised deliveries are the existing and the pruned ones.
fn balance(target: &Connection) -> Result<(), StoreError> {
    let sql = "UPDATE ledgers SET
        events_kept = (SELECT COUNT(*) FROM events e WHERE e.tenant = ledgers.tenant),
        bytes_kept = (SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM events e WHERE e.tenant = ledgers.tenant)";
    target.execute(sql, [])?;
    // Promised deliveries without a row.
    let missing = "((SELECT COALESCE(SUM(fan_out), 0) FROM events e WHERE e.tenant = ledgers.tenant) + fan_out_pruned + replayed + tests
        - (SELECT COUNT(*) FROM deliveries d WHERE d.tenant = ledgers.tenant)
        - delivered_pruned - dropped_pruned - dead_pruned - cancelled_pruned - superseded_pruned)";
    let sql = format!("UPDATE ledgers SET dead_pruned = dead_pruned + {missing} WHERE {missing} > 0");
    target.execute(&sql, [])?;
    let sql = format!("UPDATE ledgers SET fan_out_pruned = fan_out_pruned - {missing} WHERE {missing} < 0");
    target.execute(&sql, [])?;
    Ok(())
}

#[cfg(test)]
mod tests;
