//! Memory of this host that every backend keeps up to date: the catalog, the claims, and the events for the dispatcher.

use crate::catalog::Catalog;
use crate::claims::Claims;
use crate::store_event::{NewDeliveries, StoreEvent};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use hookloom_telemetry as telemetry;
use tokio::sync::mpsc;

/// Memory of this host beside a backend. The backend changes it after a commit and before the next one.
pub struct HostState {
    pub(crate) catalog: Catalog,
    pub(crate) claims: Claims,
    store_events: mpsc::UnboundedSender<StoreEvent>,
}

impl HostState {
    /// Returns an empty state, and the channel of its events.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<StoreEvent>) {
        let (store_events, listener) = mpsc::unbounded_channel();
        (HostState { catalog: Catalog::default(), claims: Claims::default(), store_events }, listener)
    }

    /// Publishes accepted events with their deliveries.
    pub(crate) fn publish_accepted(&self, tenant: &TenantId, events: usize, new_deliveries: NewDeliveries) {
        telemetry::accepted(tenant, events);
        self.publish_deliveries(new_deliveries);
    }

    /// Publishes new deliveries. The dispatcher is gone only while the host stops, and reads them from the store at the next start.
    pub(crate) fn publish_deliveries(&self, new_deliveries: NewDeliveries) {
        if !new_deliveries.due.is_empty() || !new_deliveries.later.is_empty() {
            let _ = self.store_events.send(StoreEvent::Accepted(new_deliveries));
        }
    }

    /// Publishes that a subscription changed, or that deliveries of it became due.
    pub(crate) fn publish_change(&self, id: SubscriptionId) {
        let _ = self.store_events.send(StoreEvent::Changed(id));
    }
}
