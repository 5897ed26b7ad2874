//! Usage of tenants: counted by triggers and by the transaction.
//!
//! # Guarantees
//! - The counters of a tenant's row in `ledgers` equal the result of [`recount`], after every commit.
//! - Every table is in [`COUNTED`] or, with a reason, in `NOT_COUNTED`; a test compares them with the schema.
//!
//! # Theory of operation
//! The size of a row is the length of its texts and blobs, and a constant for its other columns and the entries of its indexes.
//! Triggers count changed and deleted rows, and most inserted rows. The inserts of the hot path have no trigger: [`batch`](super::batch)
//! adds them up and writes one sum for each tenant and commit. The triggers are generated from [`COUNTED`]. If they differ from
//! those in the database (after a migration or an upgrade), they are replaced and everything is counted once.
//!
//! # Limits
//! The real size on the disk differs, because pages are never quite full and columns may be packed.

use super::rows::{DELIVERY_BYTES, EVENT_BYTES};
use crate::StoreError;
use crate::usage::{BytesByKind, UsageKind};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// Counted size of an attempt besides its detail, in bytes.
pub(super) const ATTEMPT_BYTES: u64 = 96;

/// Counted size of an idempotency key besides the key and its answer, in bytes.
pub(super) const IDEMPOTENCY_KEY_BYTES: u64 = 192;

/// Counter of a table's inserts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inserts {
    ByTrigger,
    /// By the transaction, for the hot path.
    ByBatch,
}

/// Table whose rows count.
struct UsageTable {
    table: &'static str,
    kind: UsageKind,
    /// SQL of a row's tenant; `@` stands for the row.
    tenant: &'static str,
    /// Fixed size of a row, in bytes.
    row_bytes: u64,
    /// Columns whose length counts.
    lengths: &'static [&'static str],
    /// Column that holds a size in bytes.
    size: Option<&'static str>,
    inserts: Inserts,
}

const fn counted(table: &'static str, kind: UsageKind, row_bytes: u64, lengths: &'static [&'static str]) -> UsageTable {
    UsageTable { table, kind, tenant: "@.tenant", row_bytes, lengths, size: None, inserts: Inserts::ByTrigger }
}

const fn hot(counted: UsageTable) -> UsageTable {
    UsageTable { inserts: Inserts::ByBatch, ..counted }
}

const fn owned_by(tenant: &'static str, counted: UsageTable) -> UsageTable {
    UsageTable { tenant, ..counted }
}

const OF_KEY: &str = "(SELECT k.tenant FROM keys k WHERE k.id = @.key)";

/// Tables that count.
const COUNTED: [UsageTable; 18] = [
    hot(counted("events", UsageKind::Events, EVENT_BYTES, &["name", "entity_id", "payload"])),
    hot(counted("deliveries", UsageKind::Deliveries, DELIVERY_BYTES, &["order_key", "reason"])),
    hot(counted("attempts", UsageKind::Attempts, ATTEMPT_BYTES, &["detail"])),
    UsageTable { size: Some("size"), ..counted("plugin_versions", UsageKind::Plugins, 256, &["report", "created_by"]) },
    counted("plugins", UsageKind::Plugins, 192, &["activated_by"]),
    counted("quarantine", UsageKind::Plugins, 160, &["reason"]),
    counted("rollouts", UsageKind::Plugins, 192, &["counts", "earlier", "ended_reason"]),
    counted("subscriptions", UsageKind::Subscriptions, 128, &["settings", "sealed", "state_reason"]),
    counted("bins", UsageKind::Bins, 160, &["settings"]),
    owned_by(
        "(SELECT b.tenant FROM bins b WHERE b.id = @.bin)",
        counted("bin_requests", UsageKind::Bins, 160, &["head", "body"]),
    ),
    counted("rejected_requests", UsageKind::RejectedRequests, 96, &["reason", "body"]),
    hot(counted("idempotency_keys", UsageKind::IdempotencyKeys, IDEMPOTENCY_KEY_BYTES, &["key", "answer"])),
    counted("changes", UsageKind::Changes, 128, &["who", "action", "subject", "before", "after"]),
    counted("keys", UsageKind::Access, 256, &["hint", "scopes", "label"]),
    counted("intake_tokens", UsageKind::Access, 256, &["hint", "label"]),
    owned_by(OF_KEY, counted("sessions", UsageKind::Access, 256, &[])),
    owned_by(OF_KEY, counted("sign_in_links", UsageKind::Access, 160, &[])),
    counted("figures", UsageKind::Statistics, 96, &["plugin", "figures"]),
];

impl UsageTable {
    fn of_row(text: &str, row: &str) -> String {
        text.replace('@', row)
    }

    fn bytes(&self, row: &str) -> String {
        let mut text = self.row_bytes.to_string();
        for column in self.lengths {
            // Writing to a string cannot fail.
            let _ = write!(text, " + ifnull(octet_length({row}.{column}), 0)");
        }
        if let Some(size) = self.size {
            let _ = write!(text, " + {row}.{size}");
        }
        text
    }

    /// Returns the name and text of each trigger of the table.
    fn triggers(&self) -> Vec<(String, String)> {
        let table = self.table;
        let column = column(self.kind);
        let [new, old] = ["new", "old"].map(|row| self.bytes(row));
        let add = |what: &str, row: &str| {
            format!(
                "UPDATE ledgers SET {column} = {column} + {what} WHERE tenant = {};",
                Self::of_row(self.tenant, row)
            )
        };
        let trigger = |event: &str, of: &str, when: &str, what: &str, row: &str| {
            let name = format!("usage_{table}_{}", event.to_ascii_lowercase());
            let text = format!("CREATE TRIGGER {name} AFTER {event}{of} ON {table}{when} BEGIN {} END", add(what, row));
            (name, text)
        };
        let mut triggers = vec![trigger("DELETE", "", "", &format!("-({old})"), "old")];
        if self.inserts == Inserts::ByTrigger {
            triggers.push(trigger("INSERT", "", "", &format!("({new})"), "new"));
        }
        let changing: Vec<&str> = self.lengths.iter().copied().chain(self.size).collect();
        if !changing.is_empty() {
            let of = format!(" OF {}", changing.join(", "));
            let when = format!(" WHEN ({new}) <> ({old})");
            triggers.push(trigger("UPDATE", &of, &when, &format!("({new}) - ({old})"), "new"));
        }
        triggers
    }
}

pub(super) fn column(kind: UsageKind) -> String {
    format!("bytes_of_{}", kind.as_str())
}

/// Installs the triggers. If they differed from those in the database, counts everything.
pub(super) fn install(connection: &mut Connection) -> Result<(), StoreError> {
    let wanted: BTreeMap<String, String> = COUNTED.iter().flat_map(UsageTable::triggers).collect();
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
        let bytes = counted.bytes(counted.table);
        let tenant = UsageTable::of_row(counted.tenant, table);
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
