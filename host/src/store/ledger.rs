//! The ledger of a tenant: how many deliveries were promised, and where they all are.

use super::fair_queue::Owner;
use super::{Store, StoreError};
use crate::delivery::DeliveryState;
use crate::subscription::TenantId;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the deliveries ended that were pruned since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Their events.
    pub events: u64,
    /// With a 2xx.
    pub delivered: u64,
    /// By a plugin's decision.
    pub dropped: u64,
    /// Given up.
    pub dead: u64,
    /// Stopped by hand.
    pub cancelled: u64,
}

/// The numbers of the conservation law: `fan_out` + `replayed` + `tests` = `delivered` + `dropped` + `dead` + `cancelled` +
/// `pending` + the same of `pruned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Accepted events that are kept.
    pub events: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Σ of the fan-outs of all events that were ever accepted: how many deliveries were promised.
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
    /// What was pruned.
    pub pruned: Pruned,
}

impl Store {
    /// Counts a tenant's events and deliveries at one moment.
    pub async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError> {
        let owner = Owner::from(&tenant);
        self.readers
            .read(owner, move |connection| {
                let sql = "SELECT COUNT(*), COALESCE(SUM(fan_out), 0) FROM events WHERE tenant = ?1";
                let (events, fan_out): (u64, u64) =
                    connection.query_row(sql, params![&*tenant.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let ledger = Ledger { events, fan_out, ..Ledger::default() };
                let sql = "SELECT replayed, tests, bytes_kept, fan_out_pruned, events_pruned, delivered_pruned,
                                  dropped_pruned, dead_pruned, cancelled_pruned
                           FROM ledgers WHERE tenant = ?1";
                let own = |row: &Row<'_>| {
                    let pruned = Pruned {
                        events: row.get(4)?,
                        delivered: row.get(5)?,
                        dropped: row.get(6)?,
                        dead: row.get(7)?,
                        cancelled: row.get(8)?,
                    };
                    let fan_out = fan_out + row.get::<_, u64>(3)?;
                    let (replayed, tests, bytes) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(Ledger { replayed, tests, bytes, fan_out, pruned, ..ledger })
                };
                let found = connection.query_row(sql, params![&*tenant.0], own).optional()?;
                let mut ledger = found.unwrap_or(ledger);
                let sql = "SELECT state, COUNT(*) FROM deliveries WHERE tenant = ?1 GROUP BY state";
                let mut statement = connection.prepare_cached(sql)?;
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
