//! The ledger of a tenant: how many deliveries were promised, and where they all are.

use super::{Store, StoreError};
use crate::delivery::DeliveryState;
use crate::subscription::TenantId;
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The numbers of the conservation law: `fan_out` + `replayed` + `tests` = `delivered` + `dropped` + `dead` + `cancelled` +
/// `pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Accepted events.
    pub events: u64,
    /// Σ of their fan-outs: how many deliveries were promised.
    pub fan_out: u64,
    /// Deliveries that were made by replaying events.
    pub replayed: u64,
    /// Test deliveries.
    pub tests: u64,
    /// Ended with a 2xx.
    pub delivered: u64,
    /// Ended by a plugin's decision.
    pub dropped: u64,
    /// Given up.
    pub dead: u64,
    /// Stopped by hand.
    pub cancelled: u64,
    /// Not at an end.
    pub pending: u64,
}

impl Store {
    /// Counts a tenant's events and deliveries at one moment.
    pub async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError> {
        self.readers
            .read(move |connection| {
                // One transaction, so that both counts are of the same commit.
                let transaction = connection.unchecked_transaction()?;
                let sql = "SELECT COUNT(*), COALESCE(SUM(fan_out), 0) FROM events WHERE tenant = ?1";
                let (events, fan_out) =
                    transaction.query_row(sql, params![&*tenant.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let mut ledger = Ledger { events, fan_out, ..Ledger::default() };
                let sql = "SELECT replayed, tests FROM ledgers WHERE tenant = ?1";
                let made =
                    transaction.query_row(sql, params![&*tenant.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                (ledger.replayed, ledger.tests) = made.unwrap_or_default();
                let sql = "SELECT state, COUNT(*) FROM deliveries WHERE tenant = ?1 GROUP BY state";
                let mut statement = transaction.prepare_cached(sql)?;
                let mut rows = statement.query(params![&*tenant.0])?;
                while let Some(row) = rows.next()? {
                    let count = row.get(1)?;
                    match DeliveryState::ALL[row.get::<_, usize>(0)?] {
                        DeliveryState::Pending => ledger.pending = count,
                        DeliveryState::Delivered => ledger.delivered = count,
                        DeliveryState::Dropped => ledger.dropped = count,
                        DeliveryState::Dead => ledger.dead = count,
                        DeliveryState::Cancelled => ledger.cancelled = count,
                    }
                }
                Ok(ledger)
            })
            .await
    }
}
