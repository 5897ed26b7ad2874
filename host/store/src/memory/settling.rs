//! Settling of deliveries in memory.

use super::tables::{MemoryTables, StoredDelivery};
use crate::settling::{Survivor, WaitingDelivery};
use crate::store_event::NewDelivery;
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::subscription::TenantId;

/// Key of a delivery in its table.
pub(super) type DeliveryKey = (TenantId, DeliveryId);

/// Supersedes the delivery that waits for the same burst as a new one, before that is added. Returns the delivery that supersedes the
/// new one instead, if it is of a later event.
pub(super) fn supersede(tables: &mut MemoryTables, new: &mut NewDelivery) -> Option<DeliveryId> {
    let mut waiting = waiting(tables, new)?;
    let key = (new.delivery.tenant.clone(), waiting.id);
    match new.meet(&mut waiting) {
        Survivor::New => {
            end_superseded(tables, &key, new.delivery.id, new.delivery.age_from_ms);
            None
        }
        Survivor::Waiting => {
            if let Some(row) = tables.deliveries.get_mut(&key) {
                row.settled = Some(waiting.settled);
            }
            Some(waiting.id)
        }
    }
}

/// Ends a delivery that another one supersedes, at the time of the later event.
pub(super) fn end_superseded(tables: &mut MemoryTables, key: &DeliveryKey, by: DeliveryId, at_ms: i64) {
    if let Some(row) = tables.deliveries.get_mut(key) {
        row.state = DeliveryState::Superseded;
        row.settling = None;
        row.superseded_by = Some(by);
        row.updated_at_ms = at_ms;
    }
}

/// Ends the settling of a delivery before it is attempted. Returns false if it is not pending any more.
pub(super) fn end_settling(tables: &mut MemoryTables, key: &DeliveryKey) -> bool {
    let Some(row) = tables.deliveries.get_mut(key) else { return false };
    row.settling = None;
    row.state == DeliveryState::Pending
}

/// Returns the settling delivery of the same subscription and the same contact or deal.
fn waiting(tables: &MemoryTables, new: &NewDelivery) -> Option<WaitingDelivery> {
    let settling = new.settling?;
    let is_same = |row: &StoredDelivery| {
        row.state == DeliveryState::Pending
            && row.subscription == new.delivery.subscription
            && row.settling.is_some_and(|other| other.key == settling.key)
    };
    let (id, row) = tables.deliveries_of(&new.delivery.tenant).find(|(_, row)| is_same(row))?;
    Some(WaitingDelivery { id, event: row.event, until_ms: row.settling?.until_ms, settled: row.settled? })
}
