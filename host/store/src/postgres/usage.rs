//! Usage of tenants, counted by triggers.
//!
//! # Guarantees
//! - The counters of a tenant in `ledgers` equal the sum over its rows, in every transaction. `events_kept` and `bytes_kept` are
//!   counted by the same triggers, so no statement of the host changes them.
//! - A host adds to its own row of a tenant only, so that no host waits for another one.
//!
//! # Theory of operation
//! Triggers run once for each statement, with all its rows. An `UPDATE` that finds the row of the host writes less to the server's log
//! than an `INSERT … ON CONFLICT`, so the row is only inserted if the update finds none.
//!
//! # Limits
//! The real size on the disk differs. Each statement writes a version of a row in `ledgers`. A host sees what another one has added
//! when that is committed, so hosts that write at once can exceed the share of a tenant by a transaction of each.

use super::connection::Connection;
use super::host_number::OF_CONNECTION;
use super::ledger::sum_of;
use super::rows::{self, number};
use crate::StoreError;
use crate::counted_tables::{ATTEMPT_BYTES, COUNTED, CountedTable, column, counted};
use crate::usage::{BytesByKind, UsageKind};
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Tables whose rows do not change in length.
const CONSTANT: [&str; 9] = [
    "events",
    "bin_requests",
    "rejected_requests",
    "idempotency_keys",
    "changes",
    "intake_tokens",
    "portal_sessions",
    "sessions",
    "sign_in_links",
];

/// Tables in the place of `rollouts`: the counts have a row for each host, and count the same as long as there is one host.
static ROLLOUTS: [CountedTable; 2] = [
    counted("rollouts", UsageKind::Plugins, 192, &["earlier", "ended_reason"]),
    counted("rollout_counts", UsageKind::Plugins, 0, &["counts"]),
];

/// Tables whose rows are of the kind [`UsageKind::Bins`].
pub(super) const BINS: [&str; 2] = ["bins", "bin_requests"];

/// Name of a row in the statements of triggers.
const ROW: &str = "r";

/// Table whose rows count, with what is special about it in this backend.
struct UsageTable {
    counted: &'static CountedTable,
    /// Column that counts as a row of another kind if it is not null, and the fixed size of that row, in bytes.
    part: Option<(&'static str, UsageKind, u64)>,
}

/// Returns the tables that count.
fn usage_tables() -> impl Iterator<Item = UsageTable> {
    let shared = COUNTED.iter().filter(|counted| counted.table != "rollouts");
    shared.chain(&ROLLOUTS).map(|counted| UsageTable {
        counted,
        part: (counted.table == "deliveries").then_some(("last_attempt", UsageKind::Attempts, ATTEMPT_BYTES)),
    })
}

impl UsageTable {
    /// Returns the SQL of a row's size.
    fn bytes(&self) -> String {
        self.counted.bytes_of(ROW, "coalesce")
    }

    /// Returns the SQL of the size of a row's part of another kind.
    fn part_bytes(&self) -> String {
        let Some((column, _, bytes)) = self.part else { return "0".to_owned() };
        format!("CASE WHEN r.{column} IS NULL THEN 0 ELSE {bytes} + octet_length(r.{column}) END")
    }

    /// Returns the SQL that adds the sums `s` of a tenant to its counters.
    fn additions(&self) -> String {
        let of_kind = column(self.counted.kind);
        let kept = if self.counted.table == "events" {
            ", events_kept = l.events_kept + s.rows, bytes_kept = l.bytes_kept + s.payload"
        } else {
            ""
        };
        let part = self.part.map_or(String::new(), |(_, kind, _)| {
            let column = column(kind);
            format!(", {column} = l.{column} + s.part")
        });
        format!("{of_kind} = l.{of_kind} + s.bytes{kept}{part}")
    }

    /// Returns the SQL of the rows of a transition table, with their sign.
    fn changed(&self, rows: &str, sign: i32) -> String {
        let payload = if self.counted.table == "events" { "octet_length(r.payload)" } else { "0" };
        let tenant = self.counted.tenant_of(ROW);
        let bytes = self.bytes();
        let part = self.part_bytes();
        format!(
            "SELECT {tenant} AS tenant, {sign} AS rows, {sign} * ({bytes}) AS bytes, {sign} * {payload} AS payload, {sign} * {part} AS part
     FROM {rows} {ROW}"
        )
    }

    fn trigger(&self, event: &str, rows: &[(&str, &str, i32)]) -> String {
        let table = self.counted.table;
        let changed: Vec<String> = rows.iter().map(|(name, _, sign)| self.changed(name, *sign)).collect();
        let sums = sums_of(&changed.join("\n    UNION ALL "));
        let tables: Vec<String> = rows.iter().map(|(name, which, _)| format!("{which} TABLE AS {name}")).collect();
        let tables = tables.join(" ");
        let name = format!("usage_{table}_{}", event.to_ascii_lowercase());
        let additions = self.additions();
        let update = format!("UPDATE ledgers l SET {additions} WHERE l.tenant = s.tenant AND l.host = this_host");
        format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $usage$
DECLARE
  this_host int2 := {OF_CONNECTION};
  s record;
BEGIN
  FOR s IN {sums} HAVING sum(c.bytes) <> 0 OR sum(c.part) <> 0
  LOOP
    {update};
    IF NOT FOUND THEN
      INSERT INTO ledgers (tenant, host) SELECT id, this_host FROM tenants WHERE id = s.tenant ON CONFLICT DO NOTHING;
      {update};
    END IF;
  END LOOP;
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
        if !CONSTANT.contains(&self.counted.table) {
            sql.push_str(&self.trigger("UPDATE", &[NEW, OLD]));
        }
        sql
    }
}

/// Returns the SQL of the sums of [`UsageTable::changed`] by tenant, for those that belong to one.
fn sums_of(changed: &str) -> String {
    format!(
        "SELECT c.tenant, sum(c.rows)::int8 AS rows, sum(c.bytes)::int8 AS bytes, sum(c.payload)::int8 AS payload,
               sum(c.part)::int8 AS part FROM (
    {changed}
  ) c WHERE c.tenant IS NOT NULL GROUP BY c.tenant"
    )
}

/// Trigger of deliveries that are copied into a part of their table, for which the triggers of the table do not run.
const COPIED_DELIVERIES: &str = "CREATE OR REPLACE TRIGGER usage_deliveries_copy AFTER INSERT ON deliveries_pending
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION usage_deliveries_insert();
";

/// Returns the statements that create the triggers of all tables.
pub(super) fn triggers() -> String {
    usage_tables().map(|table| table.triggers()).chain([COPIED_DELIVERIES.to_owned()]).collect()
}

/// Counts all rows, and writes the counters, for rows that were written while the triggers were disabled.
pub(super) async fn count_again(connection: &Connection) -> Result<(), StoreError> {
    let reset: Vec<String> = counters().iter().map(|counter| format!("{counter} = 0")).collect();
    connection.execute(&format!("UPDATE ledgers SET {}", reset.join(", ")), &[]).await?;
    add_rows(connection, 1, |table| Some(table.to_owned())).await
}

/// Adds the sizes of rows to the counters (`sign` 1), or subtracts them (-1), while the triggers are disabled. `rows_of` has the SQL of the
/// rows of a table; None: none of its rows.
pub(super) async fn add_rows(
    connection: &Connection,
    sign: i32,
    rows_of: impl Fn(&str) -> Option<String>,
) -> Result<(), StoreError> {
    for table in usage_tables() {
        let Some(rows) = rows_of(table.counted.table) else { continue };
        let additions = table.additions();
        let sums = sums_of(&table.changed(&rows, sign));
        let sql = format!("UPDATE ledgers l SET {additions} FROM ({sums}) s WHERE l.tenant = s.tenant");
        connection.execute(&sql, &[]).await?;
    }
    Ok(())
}

/// Counts all bins and their requests, and writes their counter.
pub(super) async fn count_bins_again(connection: &Connection) -> Result<(), StoreError> {
    connection.execute(&format!("UPDATE ledgers SET {} = 0", column(UsageKind::Bins)), &[]).await?;
    add_rows(connection, 1, |table| BINS.contains(&table).then(|| table.to_owned())).await
}

/// Returns the names of the counters, which are columns of `ledgers`.
pub(super) fn counters() -> Vec<String> {
    let of_events = ["events_kept", "bytes_kept"].map(str::to_owned);
    of_events.into_iter().chain(UsageKind::ALL.map(column)).collect()
}

/// Number of events and sizes by kind.
pub(super) type Kept = (u64, BytesByKind);

/// Returns what tenants keep. A tenant that does not exist, or that is being deleted, is absent.
pub(super) async fn kept_by(
    connection: &Connection,
    tenants: &[&TenantId],
) -> Result<HashMap<TenantId, Kept>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let bytes = UsageKind::ALL.map(|kind| sum_of(&column(kind))).join(", ");
        format!(
            "SELECT t.id, {}, {bytes} FROM tenants t LEFT JOIN ledgers l ON l.tenant = t.id
             WHERE t.id = ANY ($1) AND t.deleting_since_ms IS NULL GROUP BY t.id",
            sum_of("events_kept")
        )
    });
    let ids: Vec<&str> = tenants.iter().map(|tenant| &*tenant.0).collect();
    let mut kept = HashMap::new();
    for row in connection.query(&SQL, &[&ids]).await? {
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
pub(super) mod tests;
