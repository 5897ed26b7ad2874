//! Checks of a database that is the target of a move: empty before, complete after.

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

/// Returns a tenant, of the moved rows, whose promised deliveries are not as many as the existing, the missing and the pruned ones. Tenants that are being
/// deleted have lost rows already.
pub(super) async fn unbalanced_ledger(connection: &Connection) -> Result<Option<String>, StoreError> {
    let sql = "SELECT l.tenant FROM ledgers l
        JOIN tenants t ON t.id = l.tenant AND t.deleting_since_ms IS NULL
        LEFT JOIN (SELECT tenant, sum(fan_out)::int8 AS n FROM events GROUP BY tenant) e ON e.tenant = l.tenant
        LEFT JOIN (SELECT tenant, count(*) AS n FROM deliveries GROUP BY tenant) d ON d.tenant = l.tenant
        LEFT JOIN (SELECT tenant, sum(lacks)::int8 AS n FROM fan_outs GROUP BY tenant) f ON f.tenant = l.tenant
        WHERE coalesce(e.n, 0) + l.fan_out_pruned + l.replayed + l.tests
           <> coalesce(d.n, 0) + coalesce(f.n, 0) + l.delivered_pruned + l.dropped_pruned + l.dead_pruned + l.cancelled_pruned
        ORDER BY l.tenant LIMIT 1";
    let row = connection.query_opt(sql, &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
