//! Writes of the backend: queued for the writer, and shown to the catalog and the dispatcher after the commit.
//!
//! Each write is on the account of an owner, with a number of rows unless it is small.
//!
//! A write is given where it is called, as `move |tx| Box::pin(async move { … })`: a closure that has a name first does not get the
//! lifetimes that it needs.

use super::Postgres;
use super::transaction::{SqlFuture, WriteTx};
use crate::StoreError;
use crate::catalog::Catalog;
use crate::host_state::HostState;
use crate::write_queue::{Terms, WriteMode};
use hookloom_model::subscription::SubscriptionId;

impl Postgres {
    /// Runs a write that shares its transaction with others.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        terms: impl Into<Terms>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(WriteMode::Shared, terms.into(), write, |_, _| {}).await
    }

    /// Runs a write that shares its transaction with others, and then `publish`.
    pub(super) async fn write_then<T: Send + 'static>(
        &self,
        terms: impl Into<Terms>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        publish: impl FnOnce(&HostState, &mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(WriteMode::Shared, terms.into(), write, publish).await
    }

    /// Runs a write that changes the catalog: committed alone, then shown in the catalog by `show`.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        terms: impl Into<Terms>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_of(terms, Vec::new(), write, show).await
    }

    /// Runs a write as [`Postgres::change`] does, and publishes that these subscriptions changed.
    pub(super) async fn change_of<T: Send + 'static>(
        &self,
        terms: impl Into<Terms>,
        subscriptions: Vec<SubscriptionId>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        show: impl FnOnce(&Catalog, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_then(terms, write, move |state, value| {
            show(&state.catalog, value);
            subscriptions.into_iter().for_each(|id| state.publish_change(id));
        })
        .await
    }

    /// Runs a write that is committed alone, and then `publish`.
    pub(super) async fn change_then<T: Send + 'static>(
        &self,
        terms: impl Into<Terms>,
        write: impl for<'t> FnOnce(&'t WriteTx) -> SqlFuture<'t, T> + Send + 'static,
        publish: impl FnOnce(&HostState, &mut T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(WriteMode::Exclusive, terms.into(), write, publish).await
    }
}
