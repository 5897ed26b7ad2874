//! Transaction of the writer, as a write sees it: the connection, and work beside it.
//!
//! # Guarantees
//! - A write that is undone also undoes its changes of the numbers of pending deliveries.

use super::connection::Connection;
use crate::StoreError;
use crate::caps::Caps;
use crate::catalog::Catalog;
use crate::host_state::HostState;
use crate::pending_counts::PendingChange;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::Mutex;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

/// Write or read that runs on a connection.
pub(super) type SqlFuture<'t, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 't>>;

/// Transaction of the writer. Dereferences to its connection.
pub(super) struct WriteTx {
    connection: Arc<Connection>,
    state: Arc<HostState>,
    share: Caps,
    pending: Mutex<Vec<PendingChange>>,
}

impl Deref for WriteTx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl WriteTx {
    pub(super) fn new(connection: Arc<Connection>, state: Arc<HostState>, share: Caps) -> Self {
        WriteTx { connection, state, share, pending: Mutex::default() }
    }

    /// Returns the memory of this host.
    pub(super) fn state(&self) -> &HostState {
        &self.state
    }

    /// Returns the catalog as of the last commit.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.state.catalog
    }

    /// Returns the share of each tenant.
    pub(super) fn share(&self) -> Caps {
        self.share
    }

    /// Lets the owner of a subscription look at its deliveries again, which this write changes. It has done so before the change is in
    /// force at every host.
    pub(super) async fn note_lane(&self, tenant: &TenantId, subscription: SubscriptionId) -> Result<(), StoreError> {
        if self.state.claims.ownership.owns(subscription) {
            // The lane hears of it after the commit.
            return Ok(());
        }
        let sql = "SELECT note_change('lane', $1, $2, NULL)";
        self.query(sql, &[&&*tenant.0, &subscription.0]).await.map(drop)
    }

    /// Counts deliveries that become pending (`by` > 0) or end. Every write that changes the state `pending` must call it.
    pub(super) fn count_pending(&self, tenant: &TenantId, subscription: SubscriptionId, by: i64) {
        if by != 0 {
            self.pending.lock().push(PendingChange { tenant: tenant.clone(), subscription, by });
        }
    }

    /// Returns the number of counted changes, to which [`WriteTx::undo_pending`] returns.
    pub(super) fn pending_len(&self) -> usize {
        self.pending.lock().len()
    }

    /// Forgets the counted changes of a write that was undone.
    pub(super) fn undo_pending(&self, len: usize) {
        self.pending.lock().truncate(len);
    }

    /// Takes the counted changes, which are applied after the commit.
    pub(super) fn take_pending(&self) -> Vec<PendingChange> {
        std::mem::take(&mut *self.pending.lock())
    }
}
