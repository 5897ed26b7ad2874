//! Ending what is pending of a subscription that is disabled or deleted, however much that is.
//!
//! The transaction of the change ends the first [`STEP`] deliveries; the rest follows in transactions of as many, so that
//! others write in between. The subscription matches nothing and attempts nothing meanwhile. What an interrupted change
//! left is known by its subscription, and housekeeping ends it.

use super::batch::Batch;
use super::writer::{Terms, WriteMode};
use super::{Store, StoreError, now_ms};
use crate::delivery::{DeliveryState, Reason};
use crate::subscription::{SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, params};

/// Maximum number of deliveries that one transaction ends.
const STEP: usize = 500;

impl Store {
    /// Ends what is still pending of a subscription that is disabled or deleted, step by step: with this end, or with one
    /// that says so. Stops if the subscription was resumed meanwhile.
    pub(super) async fn end_rest(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        end: Option<(DeliveryState, Reason)>,
    ) -> Result<(), StoreError> {
        loop {
            let owner = tenant.clone();
            let any = move |connection: &Connection| {
                let sql = "SELECT 1 FROM deliveries INDEXED BY deliveries_due WHERE tenant = ?1 AND subscription = ?2 AND state = 0 LIMIT 1";
                Ok(connection.prepare_cached(sql)?.exists(params![&*owner.0, id.0])?)
            };
            if !self.readers.read(tenant, any).await? {
                return Ok(());
            }
            let owner = tenant.clone();
            let catalog = self.catalog.clone();
            let end = end.clone();
            let write = move |batch: &Batch<'_>| {
                let default = match catalog.subscription(&owner, id) {
                    None => (DeliveryState::Cancelled, deleted()),
                    Some(own) if own.state == SubscriptionState::Disabled => {
                        let message = own.state_reason.as_deref().unwrap_or("its subscription was disabled");
                        (DeliveryState::Dead, Reason::new("subscription-disabled", message))
                    }
                    Some(_) => return Ok(0),
                };
                let (state, reason) = end.unwrap_or(default);
                end_pending(batch, &owner, id, state, &reason)
            };
            let terms = Terms { owner: tenant.into(), mode: WriteMode::Shared, rows: STEP as u64 };
            if self.writer.write(terms, write, |_| {}).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Ends what an interrupted change left pending for subscriptions of a tenant that are disabled or deleted.
    pub(super) async fn end_leftovers(&self, tenant: &TenantId) -> Result<(), StoreError> {
        for id in self.pending(tenant).into_keys() {
            let own = self.catalog.subscription(tenant, id);
            if own.is_none_or(|own| own.state == SubscriptionState::Disabled) {
                self.end_rest(tenant, id, None).await?;
            }
        }
        Ok(())
    }
}

/// The reason of deliveries whose subscription was deleted.
pub(super) fn deleted() -> Reason {
    Reason::new("subscription-deleted", "its subscription was deleted")
}

/// Ends pending deliveries, at most [`STEP`], and returns how many.
pub(super) fn end_pending(
    batch: &Batch<'_>,
    tenant: &TenantId,
    id: SubscriptionId,
    state: DeliveryState,
    reason: &Reason,
) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET state = ?3, reason = ?4, updated_at_ms = ?5
               WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries INDEXED BY deliveries_due
                                            WHERE tenant = ?1 AND subscription = ?2 AND state = 0 LIMIT ?6)";
    let ended = params![&*tenant.0, id.0, state as u8, reason.to_bounded_json()?, now_ms(), STEP];
    let count = batch.prepare_cached(sql)?.execute(ended)?;
    batch.count_pending(tenant, id, -(count as i64));
    Ok(count)
}
