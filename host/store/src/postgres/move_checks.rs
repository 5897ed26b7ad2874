//! Checks of a database that is the target of a move: empty before, complete after.
//!
//! # Theory of operation
//! All events and deliveries are summed up once. Later changes are added to the sums, so that the last check does not read all rows again.

use super::connection::Connection;
use super::rows::number;
use crate::StoreError;

/// Table whose row does not belong to a store: a host that was started once has written it.
const READINESS: &str = "readiness";

/// Returns the tables that have rows.
pub(super) async fn tables_with_rows<'t>(
    connection: &Connection,
    tables: &[&'t str],
) -> Result<Vec<&'t str>, StoreError> {
    let mut filled = Vec::new();
    for table in tables.iter().filter(|table| **table != READINESS) {
        if connection.exists(&format!("SELECT 1 FROM \"{table}\" LIMIT 1"), &[]).await? {
            filled.push(*table);
        }
    }
    Ok(filled)
}

/// Returns the number of rows of a table, whose name is quoted.
pub(super) async fn count(connection: &Connection, table: &str) -> Result<u64, StoreError> {
    number(&connection.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?, 0)
}

/// Table of the transaction with what the copied events promise and how many deliveries exist, as sums that are added up for each tenant.
const SUMS: &str = "moving_sums";

/// Sums up all events and deliveries.
pub(super) async fn sum_up(connection: &Connection) -> Result<(), StoreError> {
    let sql = format!(
        "CREATE TEMP TABLE {SUMS} ON COMMIT DROP AS
           SELECT tenant, sum(fan_out)::int8 AS promised, 0::int8 AS existing FROM events GROUP BY tenant
           UNION ALL SELECT tenant, 0, count(*) FROM deliveries GROUP BY tenant"
    );
    connection.batch_execute(&sql).await
}

/// Adds events or deliveries to the sums (`sign` 1), or subtracts them (-1). `rows` is the SQL of the rows.
pub(super) async fn add_rows(connection: &Connection, sign: i32, table: &str, rows: &str) -> Result<(), StoreError> {
    let sums = match table {
        "events" => format!("{sign} * sum(r.fan_out)::int8, 0"),
        "deliveries" => format!("0, {sign} * count(*)"),
        _ => return Ok(()),
    };
    let sql = format!("INSERT INTO {SUMS} SELECT r.tenant, {sums} FROM {rows} r GROUP BY r.tenant");
    connection.execute(&sql, &[]).await?;
    Ok(())
}

/// Returns an error if the promised deliveries of a tenant, of the moved rows, are not as many as the existing, the missing and the pruned
/// ones. Tenants that are being deleted have lost rows already.
///
/// # Errors
/// [`StoreError::Conflict`] names the tenant.
pub(super) async fn require_balance(connection: &Connection) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT l.tenant FROM ledgers l
        JOIN tenants t ON t.id = l.tenant AND t.deleting_since_ms IS NULL
        LEFT JOIN (SELECT tenant, sum(promised)::int8 AS promised, sum(existing)::int8 AS existing FROM {SUMS} GROUP BY tenant) s
          ON s.tenant = l.tenant
        LEFT JOIN (SELECT tenant, sum(lacks)::int8 AS n FROM fan_outs GROUP BY tenant) f ON f.tenant = l.tenant
        WHERE coalesce(s.promised, 0) + l.fan_out_pruned + l.replayed + l.tests
           <> coalesce(s.existing, 0) + coalesce(f.n, 0) + l.delivered_pruned + l.dropped_pruned + l.dead_pruned + l.cancelled_pruned
            + l.superseded_pruned
        ORDER BY l.tenant LIMIT 1"
    );
    let Some(row) = connection.query_opt(&sql, &[]).await? else { return Ok(()) };
    let tenant: String = row.try_get(0)?;
    Err(StoreError::Conflict(format!(
        "the ledger of the tenant {tenant} does not add up; `hookloom rescue` writes the data folder into a new one in which it does"
    )))
}
