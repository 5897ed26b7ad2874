//! Chains of superseded deliveries in memory.

use super::{is_same_entity, view};
use crate::backend::deliveries::{DeliveryView, SettledChain};
use crate::memory::tables::MemoryTables;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;

/// Returns the chain of a delivery. None: it is in no chain.
pub(super) fn chain_of(tables: &MemoryTables, tenant: &TenantId, id: DeliveryId) -> Option<SettledChain> {
    let row_of = |id: DeliveryId| tables.deliveries.get(&(tenant.clone(), id));
    let mut last = id;
    while let Some(next) = row_of(last)?.superseded_by.filter(|next| row_of(*next).is_some()) {
        last = next;
    }
    let survivor = view(last, row_of(last)?);
    let superseded = superseded(tables, tenant, &survivor);
    SettledChain::of(survivor, superseded)
}

/// Returns the superseded deliveries of the survivor's subscription and entity.
fn superseded(tables: &MemoryTables, tenant: &TenantId, survivor: &DeliveryView) -> Vec<DeliveryView> {
    let event_of = |event: EventId| tables.events.get(&(tenant.clone(), event)).map(|row| &row.event);
    let Some(event) = event_of(survivor.event) else { return Vec::new() };
    let of_subscription = tables.deliveries_of(tenant).filter(|(_, row)| row.subscription == survivor.subscription);
    let superseded = of_subscription.filter(|(_, row)| row.superseded_by.is_some());
    let same = superseded.filter(|(_, row)| event_of(row.event).is_some_and(|other| is_same_entity(other, event)));
    same.map(|(id, row)| view(id, row)).collect()
}
