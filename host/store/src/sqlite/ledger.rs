//! Ledger of a tenant: the number of promised deliveries, and their present states.

mod past_damage;

use super::Sqlite;
use super::fan_out;
use crate::StoreError;
use crate::backend::deliveries::{Ledger, LedgerBackend, Pruned};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

#[async_trait]
impl LedgerBackend for Sqlite {
    async fn ledger(&self, tenant: TenantId) -> Result<Ledger, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let counts = match counts(connection, &tenant) {
                Err(error) if error.is_damage() => past_damage::counts(connection, &tenant)?,
                counts => counts?,
            };
            ledger(connection, &tenant, counts)
        };
        self.readers.read(owner, read).await
    }
}

/// Counts of a tenant's rows in the tables of events and deliveries.
#[derive(Clone, Copy, Debug, Default)]
struct LedgerCounts {
    events: u64,
    fan_out: u64,
    /// Deliveries by state.
    deliveries: [u64; DeliveryState::ALL.len()],
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

/// Adds the numbers of the tenant's row.
fn ledger(connection: &Connection, tenant: &TenantId, counts: LedgerCounts) -> Result<Ledger, StoreError> {
    let of = |state: DeliveryState| counts.deliveries[state as usize];
    let ledger = Ledger {
        events: counts.events,
        fan_out: counts.fan_out,
        delivered: of(DeliveryState::Delivered),
        dropped: of(DeliveryState::Dropped),
        dead: of(DeliveryState::Dead),
        cancelled: of(DeliveryState::Cancelled),
        superseded: of(DeliveryState::Superseded),
        // Deliveries that a fan-out has not made yet are pending.
        pending: of(DeliveryState::Pending) + fan_out::lacking(connection, tenant)?,
        ..Ledger::default()
    };
    let sql = "SELECT replayed, tests, bytes_kept, fan_out_pruned, events_pruned, delivered_pruned,
                      dropped_pruned, dead_pruned, cancelled_pruned, superseded_pruned
               FROM ledgers WHERE tenant = ?1";
    let ledger_row = |row: &Row<'_>| {
        let pruned = Pruned {
            events: row.get(4)?,
            delivered: row.get(5)?,
            dropped: row.get(6)?,
            dead: row.get(7)?,
            cancelled: row.get(8)?,
            superseded: row.get(9)?,
        };
        let fan_out = ledger.fan_out + row.get::<_, u64>(3)?;
        let replayed = row.get(0)?;
        let tests = row.get(1)?;
        let bytes = row.get(2)?;
        Ok(Ledger { replayed, tests, bytes, fan_out, pruned, ..ledger })
    };
    Ok(connection.query_row(sql, params![&*tenant.0], ledger_row).optional()?.unwrap_or(ledger))
}
