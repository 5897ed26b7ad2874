//! Ledger of a tenant, counted in one snapshot.

use super::Postgres;
use super::connection::Connection;
use super::rows::number;
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
        };
        *count = number(&row, 1)?;
    }
    // Deliveries that a fan-out has not made yet are pending.
    let sql = "SELECT COALESCE(SUM(lacks), 0)::int8 FROM fan_outs WHERE tenant = $1";
    ledger.pending += number::<u64>(&connection.query_one(sql, &[&tenant]).await?, 0)?;
    let sql = "SELECT replayed, tests, bytes_kept, fan_out_pruned, events_pruned, delivered_pruned,
                      dropped_pruned, dead_pruned, cancelled_pruned
               FROM ledgers WHERE tenant = $1";
    if let Some(row) = connection.query_opt(sql, &[&tenant]).await? {
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
        };
    }
    Ok(ledger)
}
