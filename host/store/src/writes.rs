//! Writes of the store: queued for the writer, and shown to the catalog and the dispatcher after the commit.

use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::writer::Terms;
use super::{Catalog, Store, StoreError, StoreEvent};
use hookloom_model::subscription::SubscriptionId;
use tokio::sync::mpsc;

impl Store {
    /// Runs a write of few rows that shares its transaction with others.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(Terms::small(owner.into()), write, |_| {}).await
    }

    /// Runs a write that changes the catalog: committed alone, then shown in the catalog by `show`.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_of(owner, Vec::new(), write, show).await
    }

    /// Runs a write as [`Store::change`] does, and publishes that these subscriptions changed. The event is sent on the writer's
    /// thread, because the client that asked for the change may have disconnected by then.
    pub(super) async fn change_of<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        subscriptions: Vec<SubscriptionId>,
        write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let catalog = self.catalog.clone();
        let store_events = self.store_events.clone();
        let then = move |value: &mut T| {
            show(&catalog, value);
            subscriptions.into_iter().for_each(|id| publish_change(&store_events, id));
        };
        self.writer.change(Terms::small(owner.into()), write, then).await
    }
}

/// Publishes that a subscription changed. The dispatcher is gone only while the host stops, and reads what is due from the store at the
/// next start.
pub(super) fn publish_change(store_events: &mpsc::UnboundedSender<StoreEvent>, id: SubscriptionId) {
    let _ = store_events.send(StoreEvent::Changed(id));
}
