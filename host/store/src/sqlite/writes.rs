//! Writes of the store: queued for the writer, and shown to the catalog and the dispatcher after the commit.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::catalog::Catalog;
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use hookloom_model::subscription::SubscriptionId;

impl Sqlite {
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

    /// Runs a write as [`Sqlite::change`] does, and publishes that these subscriptions changed. The event is sent on the writer's
    /// thread, because the client that asked for the change may have disconnected by then.
    pub(super) async fn change_of<T: Send + 'static>(
        &self,
        owner: impl Into<Owner>,
        subscriptions: Vec<SubscriptionId>,
        write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let state = self.state.clone();
        let then = move |value: &mut T| {
            show(&state.catalog, value);
            subscriptions.into_iter().for_each(|id| state.publish_change(id));
        };
        self.writer.change(Terms::small(owner.into()), write, then).await
    }
}
