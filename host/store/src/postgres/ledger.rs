//! Ledger of a tenant, counted in one snapshot, and its counters, of which each host has a row.

use super::Postgres;
use super::connection::Connection;
use super::host_number::OF_CONNECTION;
use super::rows::number;
use super::sql_param::SqlParam;
use crate::StoreError;
use crate::backend::deliveries::{Ledger, LedgerBackend, Pruned};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl LedgerBackend for Postgres {
    async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError> {
        let read = self
            .readers
            .read(Owner::from(&tenant), move |connection| Box::pin(async move { ledger(connection, &tenant).await }));
        read.await
    }
}

async fn ledger(connection: &Connection, tenant: &TenantId) -> Result<Ledger, StoreError> {
    let tenant = &*tenant.0;
    let mut ledger = Ledger::default();
    let sql = "SELECT COUNT(*), COALESCE(SUM(fan_out), 0)::int8 FROM events WHERE tenant = $1";
    let row = connection.query_one(sql, &[&tenant]).await?;
    ledger.events = number(&row, 0)?;
    ledger.fan_out = number(&row, 1)?;
    let sql = "SELECT state, COUNT(*) FROM deliveries WHERE tenant = $1 GROUP BY state";
    for row in connection.query(sql, &[&tenant]).await? {
        let count = match super::rows::state(row.try_get(0)?) {
            DeliveryState::Pending => &mut ledger.pending,
            DeliveryState::Delivered => &mut ledger.delivered,
            DeliveryState::Dropped => &mut ledger.dropped,
            DeliveryState::Dead => &mut ledger.dead,
            DeliveryState::Cancelled => &mut ledger.cancelled,
            DeliveryState::Superseded => &mut ledger.superseded,
        };
        *count = number(&row, 1)?;
    }
    // Deliveries that a fan-out has not made yet are pending.
    let sql = "SELECT COALESCE(SUM(lacks), 0)::int8 FROM fan_outs WHERE tenant = $1";
    ledger.pending += number::<u64>(&connection.query_one(sql, &[&tenant]).await?, 0)?;
    let sums = [
        "replayed",
        "tests",
        "bytes_kept",
        "fan_out_pruned",
        "events_pruned",
        "delivered_pruned",
        "dropped_pruned",
        "dead_pruned",
        "cancelled_pruned",
        "superseded_pruned",
    ];
    let sql = format!("SELECT {} FROM ledgers l WHERE tenant = $1", sums.map(sum_of).join(", "));
    let row = connection.query_one(&sql, &[&tenant]).await?;
    ledger.replayed = number(&row, 0)?;
    ledger.tests = number(&row, 1)?;
    ledger.bytes = number(&row, 2)?;
    ledger.fan_out += number::<u64>(&row, 3)?;
    ledger.pruned = Pruned {
        events: number(&row, 4)?,
        delivered: number(&row, 5)?,
        dropped: number(&row, 6)?,
        dead: number(&row, 7)?,
        cancelled: number(&row, 8)?,
        superseded: number(&row, 9)?,
    };
    Ok(ledger)
}

/// Returns the SQL of a counter of a tenant: the sum over the rows `l` of its hosts.
pub(super) fn sum_of(column: &str) -> String {
    format!("greatest(coalesce(sum(l.{column}), 0), 0)::int8")
}

/// Adds to a counter of a tenant, in the row of this host.
pub(super) async fn add(
    connection: &Connection,
    tenant: &TenantId,
    column: &'static str,
    by: i64,
) -> Result<(), StoreError> {
    add_all(connection, tenant, &[(column, by)]).await
}

/// Adds to counters of a tenant, in the row of this host. A tenant that does not exist has none.
pub(super) async fn add_all(
    connection: &Connection,
    tenant: &TenantId,
    counters: &[(&'static str, i64)],
) -> Result<(), StoreError> {
    let names: Vec<&str> = counters.iter().map(|(column, _)| *column).collect();
    let values: Vec<String> = (2..counters.len() + 2).map(|number| format!("${number}::int8")).collect();
    let sums: Vec<String> = names.iter().map(|column| format!("{column} = l.{column} + EXCLUDED.{column}")).collect();
    let [names, values, sums] = [names.join(", "), values.join(", "), sums.join(", ")];
    let sql = format!(
        "INSERT INTO ledgers AS l (tenant, host, {names}) SELECT id, {OF_CONNECTION}, {values} FROM tenants WHERE id = $1
         ON CONFLICT (tenant, host) DO UPDATE SET {sums}"
    );
    let id = &*tenant.0;
    let mut params: Vec<&(dyn SqlParam + Sync)> = vec![&id];
    params.extend(counters.iter().map(|(_, by)| by as &(dyn SqlParam + Sync)));
    connection.execute(&sql, &params).await.map(drop)
}
