//! Counts of a tenant's rows, although some cannot be read.

use super::LedgerCounts;
use crate::StoreError;
use crate::sqlite::deliveries::kind;
use hookloom_model::delivery::{DeliveryKind, DeliveryState};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};
use uuid::Uuid;

/// Counts a tenant's events and deliveries row by row. The fan-out of an unreadable event is the number of its deliveries. An
/// unreadable delivery counts as pending, because its end is unknown.
pub(super) fn counts(connection: &Connection, tenant: &TenantId) -> Result<LedgerCounts, StoreError> {
    let mut counts = LedgerCounts::default();
    let mut ids = connection.prepare("SELECT id FROM events WHERE tenant = ?1")?;
    let mut event = connection.prepare("SELECT fan_out FROM events WHERE tenant = ?1 AND id = ?2")?;
    let mut deliveries = connection
        .prepare("SELECT id FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2")?;
    let mut delivery = connection.prepare("SELECT state, kind FROM deliveries WHERE tenant = ?1 AND id = ?2")?;
    let mut rows = ids.query([&*tenant.0])?;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        let mut promised = 0;
        for delivery_id in deliveries.query_map(params![&*tenant.0, id], |row| row.get::<_, Uuid>(0))? {
            let of = params![&*tenant.0, delivery_id?];
            let found = delivery.query_row(of, |row| Ok((row.get::<_, usize>(0)?, kind(row.get(1)?))));
            let (state, kind) = found.unwrap_or((DeliveryState::Pending as usize, DeliveryKind::Usual));
            counts.deliveries[state.min(DeliveryState::ALL.len() - 1)] += 1;
            promised += u64::from(kind == DeliveryKind::Usual);
        }
        counts.events += 1;
        counts.fan_out += event.query_row(params![&*tenant.0, id], |row| row.get(0)).unwrap_or(promised);
    }
    Ok(counts)
}
