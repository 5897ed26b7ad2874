//! The ledger of a tenant: how many deliveries were promised, and where they all are.

use super::careful;
use super::fair_queue::Owner;
use super::fan_out;
use super::{Store, StoreError};
use crate::delivery::DeliveryState;
use crate::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Numbers of pruned deliveries, by the state in which they ended.
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
    /// Numbers of the pruned deliveries.
    pub pruned: Pruned,
}

impl Store {
    /// Counts a tenant's events and deliveries at one moment.
    pub async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let counts = match counts(connection, &tenant) {
                Err(error) if error.is_damage() => careful::ledger_counts(connection, &tenant)?,
                counts => counts?,
            };
            ledger(connection, &tenant, counts)
        };
        self.readers.read(owner, read).await
    }
}

/// Counts of a tenant's rows in the tables of events and deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LedgerCounts {
    pub(super) events: u64,
    pub(super) fan_out: u64,
    /// Deliveries by state.
    pub(super) deliveries: [u64; DeliveryState::ALL.len()],
}

fn counts(connection: &Connection, tenant: &TenantId) -> Result<LedgerCounts, StoreError> {
    let sql = "SELECT COUNT(*), COALESCE(SUM(fan_out), 0) FROM events WHERE tenant = ?1";
    let (events, fan_out) = connection.query_row(sql, params![&*tenant.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut counts = LedgerCounts { events, fan_out, ..LedgerCounts::default() };
    let sql = "SELECT state, COUNT(*) FROM deliveries WHERE tenant = ?1 GROUP BY state";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![&*tenant.0])?;
    while let Some(row) = rows.next()? {
        counts.deliveries[row.get::<_, usize>(0)?] = row.get(1)?;
    }
    Ok(counts)
}

/// Adds what a tenant's own row says.
fn ledger(connection: &Connection, tenant: &TenantId, counts: LedgerCounts) -> Result<Ledger, StoreError> {
    let of = |state: DeliveryState| counts.deliveries[state as usize];
    let ledger = Ledger {
        events: counts.events,
        fan_out: counts.fan_out,
        delivered: of(DeliveryState::Delivered),
        dropped: of(DeliveryState::Dropped),
        dead: of(DeliveryState::Dead),
        cancelled: of(DeliveryState::Cancelled),
        // Those that are not made yet are still to come.
        pending: of(DeliveryState::Pending) + fan_out::lacking(connection, tenant)?,
        ..Ledger::default()
    };
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
        let fan_out = ledger.fan_out + row.get::<_, u64>(3)?;
        let replayed = row.get(0)?;
        let tests = row.get(1)?;
        let bytes = row.get(2)?;
        Ok(Ledger { replayed, tests, bytes, fan_out, pruned, ..ledger })
    };
    Ok(connection.query_row(sql, params![&*tenant.0], own).optional()?.unwrap_or(ledger))
}
