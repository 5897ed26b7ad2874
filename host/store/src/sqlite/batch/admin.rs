//! Part of a transaction for everything except the hot path: any statement, and the parts of the other kinds.
//!
//! # Guarantees
//! - A write of this kind runs within a savepoint, so its error undoes this write and no other.

use super::Transaction;
use super::intake::IntakeTx;
use super::outcome::OutcomeTx;
use crate::StoreError;
use crate::caps::Caps;
use crate::sqlite::usage;
use crate::usage::Usage;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::Connection;
use std::ops::Deref;

/// Transaction, as a write sees it that may run any statement.
#[derive(Clone, Copy)]
pub(crate) struct AdminTx<'t, 'c>(pub(super) &'t Transaction<'c>);

impl Deref for AdminTx<'_, '_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.connection
    }
}

impl<'t, 'c> AdminTx<'t, 'c> {
    /// Returns the part that adds events and deliveries.
    pub(crate) fn intake(&self) -> IntakeTx<'t, 'c> {
        IntakeTx(self.0)
    }

    /// Returns the part that records outcomes.
    pub(crate) fn outcome(&self) -> OutcomeTx<'t, 'c> {
        OutcomeTx(self.0)
    }

    /// Refuses a write that makes the store larger, if the disk is full.
    pub(crate) fn require_disk(&self) -> Result<(), StoreError> {
        self.intake().require_disk()
    }

    /// Returns an error unless the log has room for the largest event.
    pub(crate) fn try_event(&self) -> Result<(), StoreError> {
        self.require_disk()?;
        self.execute_batch("SAVEPOINT event")?;
        self.0.room.try_event(self)?;
        Ok(self.execute_batch("ROLLBACK TO event; RELEASE event")?)
    }

    /// Counts deliveries that become pending (`by` > 0) or end. Every write that changes the state `pending` must call it.
    pub(crate) fn count_pending(&self, tenant: &TenantId, subscription: SubscriptionId, by: i64) {
        self.0.count_pending(tenant, subscription, by);
    }

    /// Returns the share of each tenant.
    pub(crate) fn share(&self) -> Caps {
        self.0.share
    }

    /// Returns the usage of a tenant, with the rows that this transaction has added so far.
    pub(crate) fn usage(&self, tenant: &TenantId, share: Caps) -> Result<Usage, StoreError> {
        let (mut events, mut bytes) = usage::kept(self, tenant)?.ok_or(StoreError::NotFound("tenant"))?;
        if let Some(added) = self.0.tally.borrow().kept.get(tenant) {
            events += added.events;
            bytes.iter_mut().zip(added.bytes).for_each(|(bytes, added)| *bytes += added);
        }
        Ok(share.of((events, bytes)))
    }
}
