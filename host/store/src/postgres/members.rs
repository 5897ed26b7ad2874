//! Members of the fleet, for transactions that change who is one, and for those beside which nobody may become one.

use super::connection::Connection;
use super::rows::int;
use crate::StoreError;

/// Key of the lock of the server that is held by transactions which change who is a member: the text `hookfleet`, shortened.
const MEMBERS: i64 = 0x686f_6f6b_666c_6565;

/// Waits for registrations, takeovers and departures. None begins before the end of the transaction.
pub(super) async fn lock(connection: &Connection) -> Result<(), StoreError> {
    connection.batch_execute(&format!("SELECT pg_advisory_xact_lock({MEMBERS})")).await
}

/// Returns the names of live hosts that do not know a schema, with their versions.
pub(super) async fn live_hosts_before(connection: &Connection, schema: usize) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name || ' (' || version || ')' FROM hosts WHERE lease_until > clock_timestamp() AND knows < $1 ORDER BY host";
    connection.query(sql, &[&int(schema)]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
