//! Usage of tenants, counted by triggers.
//!
//! # Guarantees
//! - The counters of a tenant's row in `ledgers` equal the sum over its rows, in every transaction. `events_kept` and `bytes_kept` are
//!   counted by the same triggers, so no statement of the host changes them.
//!
//! # Theory of operation
//! The size of a row is the length of its texts and bytes, and a constant for its other columns and the entries of its indexes. The
//! constants are those of SQLite. Triggers run once for each statement, with all its rows.
//!
//! # Limits
//! The real size on the disk differs. Each statement writes a version of the tenant's row in `ledgers`.

use super::connection::Connection;
use super::rows::{self, number};
use crate::StoreError;
use crate::usage::{BytesByKind, UsageKind};
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Table whose rows count.
struct UsageTable {
    table: &'static str,
    kind: UsageKind,
    /// SQL of a row's tenant; `r` is the row.
    tenant: &'static str,
    /// Fixed size of a row, in bytes.
    row_bytes: u64,
    /// Columns whose length counts.
    lengths: &'static [&'static str],
    /// Column that counts as a row of another kind if it is not null, and the fixed size of that row, in bytes.
    part: Option<(&'static str, UsageKind, u64)>,
    /// Column that holds a size in bytes.
    size: Option<&'static str>,
    /// True if the lengths of a row change.
    changes: bool,
}

const fn counted(table: &'static str, kind: UsageKind, row_bytes: u64, lengths: &'static [&'static str]) -> UsageTable {
    UsageTable { table, kind, tenant: "r.tenant", row_bytes, lengths, part: None, size: None, changes: true }
}

const fn constant(counted: UsageTable) -> UsageTable {
    UsageTable { changes: false, ..counted }
}

const fn owned_by(tenant: &'static str, counted: UsageTable) -> UsageTable {
    UsageTable { tenant, ..counted }
}

const OF_KEY: &str = "(SELECT k.tenant FROM keys k WHERE k.id = r.key)";

/// Fixed size of an event, in bytes.
pub(super) const EVENT_BYTES: u64 = 160;

/// Fixed size of a delivery, in bytes.
pub(super) const DELIVERY_BYTES: u64 = 320;

/// Fixed size of an attempt, in bytes.
const ATTEMPT_BYTES: u64 = 96;

/// Tables that count.
const COUNTED: [UsageTable; 18] = [
    constant(counted("events", UsageKind::Events, EVENT_BYTES, &["name", "entity_id", "payload"])),
    UsageTable {
        part: Some(("last_attempt", UsageKind::Attempts, ATTEMPT_BYTES)),
        ..counted("deliveries", UsageKind::Deliveries, DELIVERY_BYTES, &["order_key", "reason"])
    },
    counted("attempts", UsageKind::Attempts, ATTEMPT_BYTES, &["detail"]),
    UsageTable { size: Some("size"), ..counted("plugin_versions", UsageKind::Plugins, 256, &["report", "created_by"]) },
    counted("plugins", UsageKind::Plugins, 192, &["activated_by"]),
    counted("quarantine", UsageKind::Plugins, 160, &["reason"]),
    counted("rollouts", UsageKind::Plugins, 192, &["counts", "earlier", "ended_reason"]),
    counted("subscriptions", UsageKind::Subscriptions, 128, &["settings", "sealed", "state_reason"]),
    counted("bins", UsageKind::Bins, 160, &["settings"]),
    owned_by(
        "(SELECT b.tenant FROM bins b WHERE b.id = r.bin)",
        constant(counted("bin_requests", UsageKind::Bins, 160, &["head", "body"])),
    ),
    constant(counted("rejected_requests", UsageKind::RejectedRequests, 96, &["reason", "body"])),
    constant(counted("idempotency_keys", UsageKind::IdempotencyKeys, 192, &["key", "answer"])),
    constant(counted("changes", UsageKind::Changes, 128, &["who", "action", "subject", "before", "after"])),
    counted("keys", UsageKind::Access, 256, &["hint", "scopes", "label"]),
    constant(counted("intake_tokens", UsageKind::Access, 256, &["hint", "label"])),
    constant(owned_by(OF_KEY, counted("sessions", UsageKind::Access, 256, &[]))),
    constant(owned_by(OF_KEY, counted("sign_in_links", UsageKind::Access, 160, &[]))),
    counted("figures", UsageKind::Statistics, 96, &["plugin", "figures"]),
];

impl UsageTable {
    /// Returns the SQL of a row's size.
    fn bytes(&self) -> String {
        let mut text = self.row_bytes.to_string();
        for column in self.lengths {
            // Writing to a string cannot fail.
            let _ = write!(text, " + coalesce(octet_length(r.{column}), 0)");
        }
        if let Some(size) = self.size {
            let _ = write!(text, " + r.{size}");
        }
        text
    }

    /// Returns the SQL of the size of a row's part of another kind.
    fn part_bytes(&self) -> String {
        let Some((column, _, bytes)) = self.part else { return "0".to_owned() };
        format!("CASE WHEN r.{column} IS NULL THEN 0 ELSE {bytes} + octet_length(r.{column}) END")
    }

    /// Returns the SQL of the rows of a transition table, with their sign.
    fn changed(&self, rows: &str, sign: i32) -> String {
        let payload = if self.table == "events" { "octet_length(r.payload)" } else { "0" };
        let Self { tenant, .. } = self;
        let bytes = self.bytes();
        let part = self.part_bytes();
        format!(
            "SELECT {tenant} AS tenant, {sign} AS rows, {sign} * ({bytes}) AS bytes, {sign} * {payload} AS payload, {sign} * {part} AS part
     FROM {rows} r"
        )
    }

    fn trigger(&self, event: &str, rows: &[(&str, &str, i32)]) -> String {
        let Self { table, kind, .. } = self;
        let column = column(*kind);
        let changed: Vec<String> = rows.iter().map(|(name, _, sign)| self.changed(name, *sign)).collect();
        let changed = changed.join("\n    UNION ALL ");
        let kept = if *table == "events" {
            ", events_kept = l.events_kept + s.rows, bytes_kept = l.bytes_kept + s.payload"
        } else {
            ""
        };
        let part = self.part.map_or(String::new(), |(_, kind, _)| {
            let column = self::column(kind);
            format!(", {column} = l.{column} + s.part")
        });
        let tables: Vec<String> = rows.iter().map(|(name, which, _)| format!("{which} TABLE AS {name}")).collect();
        let tables = tables.join(" ");
        let name = format!("usage_{table}_{}", event.to_ascii_lowercase());
        format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $usage$
BEGIN
  UPDATE ledgers l SET {column} = l.{column} + s.bytes{kept}{part}
  FROM (SELECT c.tenant, sum(c.rows)::int8 AS rows, sum(c.bytes)::int8 AS bytes, sum(c.payload)::int8 AS payload,
               sum(c.part)::int8 AS part FROM (
    {changed}
  ) c WHERE c.tenant IS NOT NULL GROUP BY c.tenant HAVING sum(c.bytes) <> 0 OR sum(c.part) <> 0) s
  WHERE l.tenant = s.tenant;
  RETURN NULL;
END $usage$;
CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table} REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}();
"
        )
    }

    fn triggers(&self) -> String {
        const NEW: (&str, &str, i32) = ("new_rows", "NEW", 1);
        const OLD: (&str, &str, i32) = ("old_rows", "OLD", -1);
        let mut sql = self.trigger("INSERT", &[NEW]) + &self.trigger("DELETE", &[OLD]);
        if self.changes {
            sql.push_str(&self.trigger("UPDATE", &[NEW, OLD]));
        }
        sql
    }
}

/// Trigger of deliveries that are copied into a part of their table, for which the triggers of the table do not run.
const COPIED_DELIVERIES: &str = "CREATE OR REPLACE TRIGGER usage_deliveries_copy AFTER INSERT ON deliveries_pending
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION usage_deliveries_insert();
";

/// Returns the column of a kind in `ledgers`.
pub(super) fn column(kind: UsageKind) -> String {
    format!("bytes_of_{}", kind.as_str())
}

/// Returns the statements that create the triggers of all tables.
pub(super) fn triggers() -> String {
    COUNTED.iter().map(UsageTable::triggers).chain([COPIED_DELIVERIES.to_owned()]).collect()
}

/// Number of events and sizes by kind.
pub(super) type Kept = (u64, BytesByKind);

/// Returns what tenants keep. A tenant that does not exist, or that is being deleted, is absent.
pub(super) async fn kept_by(
    connection: &Connection,
    tenants: &[&TenantId],
) -> Result<HashMap<TenantId, Kept>, StoreError> {
    const SQL: &str = "SELECT tenant, greatest(events_kept, 0), greatest(bytes_of_events, 0), greatest(bytes_of_deliveries, 0),
        greatest(bytes_of_attempts, 0), greatest(bytes_of_plugins, 0), greatest(bytes_of_subscriptions, 0), greatest(bytes_of_bins, 0),
        greatest(bytes_of_rejected_requests, 0), greatest(bytes_of_idempotency_keys, 0), greatest(bytes_of_changes, 0),
        greatest(bytes_of_access, 0), greatest(bytes_of_statistics, 0)
        FROM ledgers WHERE tenant = ANY ($1) AND NOT deleting";
    let ids: Vec<&str> = tenants.iter().map(|tenant| &*tenant.0).collect();
    let mut kept = HashMap::new();
    for row in connection.query(SQL, &[&ids]).await? {
        let mut bytes = BytesByKind::default();
        for (index, bytes) in bytes.iter_mut().enumerate() {
            *bytes = number(&row, index + 2)?;
        }
        kept.insert(rows::tenant(&row, 0)?, (number(&row, 1)?, bytes));
    }
    Ok(kept)
}

/// Returns what a tenant keeps. None: the tenant does not exist, or it is being deleted.
pub(super) async fn kept(connection: &Connection, tenant: &TenantId) -> Result<Option<Kept>, StoreError> {
    Ok(kept_by(connection, &[tenant]).await?.remove(tenant))
}

#[cfg(test)]
mod tests;
