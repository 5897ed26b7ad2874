//! Memory of this host that every backend keeps up to date: the catalog, the claims, and the events for the dispatcher.
//!
//! Nothing is published about subscriptions of other hosts: new deliveries of theirs are hinted at ([`HostState::hints`]), and the backend
//! tells these hosts.

use crate::activity::Activity;
use crate::backend::fleet::PluginChange;
use crate::catalog::Catalog;
use crate::claims::Claims;
use crate::store_event::{NewDeliveries, StoreEvent};
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use hookloom_telemetry as telemetry;
use parking_lot::Mutex;
use std::collections::HashSet;
use tokio::sync::{Notify, mpsc};

/// Memory of this host beside a backend. The backend changes it after a commit and before the next one.
pub struct HostState {
    pub(crate) catalog: Catalog,
    pub(crate) claims: Claims,
    pub(crate) activity: Activity,
    /// Time at which this host opened the store, in milliseconds since the epoch.
    pub(crate) opened_at_ms: i64,
    store_events: mpsc::UnboundedSender<StoreEvent>,
    /// Subscriptions of other hosts that have new deliveries.
    hints: Mutex<HashSet<SubscriptionId>>,
    /// Notified when there are hints.
    hinted: Notify,
    /// Plugin runtime that follows the changes of other hosts.
    plugin_changes: Mutex<Option<mpsc::UnboundedSender<PluginChange>>>,
}

impl HostState {
    /// Returns an empty state, and the channel of its events.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<StoreEvent>) {
        let (store_events, listener) = mpsc::unbounded_channel();
        let state = HostState {
            catalog: Catalog::default(),
            claims: Claims::default(),
            activity: Activity::default(),
            opened_at_ms: now_ms(),
            store_events,
            hints: Mutex::default(),
            hinted: Notify::new(),
            plugin_changes: Mutex::default(),
        };
        (state, listener)
    }

    /// Returns the channel of changes of plugins by other hosts, for the plugin runtime.
    pub(crate) fn plugin_changes(&self) -> mpsc::UnboundedReceiver<PluginChange> {
        let (listener, changes) = mpsc::unbounded_channel();
        *self.plugin_changes.lock() = Some(listener);
        changes
    }

    /// Publishes accepted events with their deliveries.
    pub(crate) fn publish_accepted(&self, tenant: &TenantId, events: usize, new_deliveries: NewDeliveries) {
        telemetry::accepted(tenant, events);
        self.publish_deliveries(new_deliveries);
    }

    /// Publishes new deliveries. The dispatcher is gone only while the host stops, and reads them from the store at the next start.
    pub(crate) fn publish_deliveries(&self, mut new_deliveries: NewDeliveries) {
        let elsewhere: Vec<SubscriptionId> = new_deliveries.later.extract_if(.., |id| !self.owns(*id)).collect();
        if !elsewhere.is_empty() {
            self.hints.lock().extend(elsewhere);
            self.hinted.notify_one();
        }
        if !new_deliveries.due.is_empty() || !new_deliveries.later.is_empty() {
            let _ = self.store_events.send(StoreEvent::Accepted(new_deliveries));
        }
    }

    /// Publishes that a subscription changed, or that deliveries of it became due.
    pub(crate) fn publish_change(&self, id: SubscriptionId) {
        if self.owns(id) {
            let _ = self.store_events.send(StoreEvent::Changed(id));
        }
    }

    fn owns(&self, id: SubscriptionId) -> bool {
        self.claims.ownership.owns(id)
    }
}

#[cfg(any(test, feature = "memory", feature = "postgres"))]
impl HostState {
    /// Publishes that subscriptions have deliveries that their lanes read from the store.
    pub(crate) fn publish_later(&self, mut later: Vec<SubscriptionId>) {
        later.retain(|id| self.owns(*id));
        if !later.is_empty() {
            let _ = self.store_events.send(StoreEvent::Accepted(NewDeliveries { due: Vec::new(), later }));
        }
    }

    /// Publishes that any subscription may have deliveries that its lane reads from the store.
    pub(crate) fn publish_later_of_all(&self) {
        self.publish_later(self.catalog.all_subscriptions().iter().map(|one| one.id).collect());
    }

    /// Publishes a change of plugins by another host. Returns false if no plugin runtime listens.
    pub(crate) fn publish_plugin_change(&self, change: PluginChange) -> bool {
        self.plugin_changes.lock().as_ref().is_some_and(|listener| listener.send(change).is_ok())
    }

    /// Replaces the catalog by one that was loaded whole. Returns its tenants: the plugins of all of them may have changed.
    pub(crate) fn replace_catalog(&self, whole: Catalog) -> Vec<TenantId> {
        self.catalog.replace(whole);
        self.catalog.tenants().iter().map(|tenant| tenant.id.clone()).collect()
    }

    /// Publishes that this host owns other subscriptions than before.
    pub(crate) fn publish_ownership(&self) {
        let _ = self.store_events.send(StoreEvent::OwnershipChanged);
    }

    /// Waits until there are hints, and takes them.
    pub(crate) async fn take_hints(&self) -> HashSet<SubscriptionId> {
        loop {
            let hints = std::mem::take(&mut *self.hints.lock());
            if !hints.is_empty() {
                return hints;
            }
            self.hinted.notified().await;
        }
    }
}
