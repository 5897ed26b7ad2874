//! End of the pending deliveries of a subscription that is disabled or deleted.
//!
//! The transaction of the change ends the first [`STEP`] deliveries. The others follow in transactions of the same size, between
//! which other writes run. Meanwhile the subscription matches no events and attempts nothing. After an interruption, the retention
//! task ends the remaining deliveries, which it finds by their subscription.

use super::batch::AdminTx;
use super::writer::Terms;
use super::{Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::subscription::{SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, params};

/// Maximum number of deliveries that one transaction ends.
const STEP: usize = 500;

impl Store {
    /// Ends the remaining pending deliveries of a subscription that is disabled or deleted, step by step, with the given state and
    /// reason, or else those of a deleted subscription. Stops if the subscription was resumed meanwhile.
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
            let write = move |tx: &AdminTx<'_, '_>| {
                let default = match catalog.subscription(&owner, id) {
                    None => (DeliveryState::Cancelled, deleted()),
                    Some(subscription) if subscription.state == SubscriptionState::Disabled => {
                        let message = subscription.state_reason.as_deref().unwrap_or("its subscription was disabled");
                        (DeliveryState::Dead, Reason::new("subscription-disabled", message))
                    }
                    Some(_) => return Ok(0),
                };
                let (state, reason) = end.unwrap_or(default);
                end_pending(tx, &owner, id, state, &reason)
            };
            let terms = Terms { owner: tenant.into(), rows: STEP as u64 };
            if self.writer.write(terms, write, |_| {}).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Ends the pending deliveries that an interrupted change has left for disabled or deleted subscriptions of a tenant.
    pub(super) async fn end_leftovers(&self, tenant: &TenantId) -> Result<(), StoreError> {
        for id in self.pending(tenant).into_keys() {
            let subscription = self.catalog.subscription(tenant, id);
            if subscription.is_none_or(|subscription| subscription.state == SubscriptionState::Disabled) {
                self.end_rest(tenant, id, None).await?;
            }
        }
        Ok(())
    }
}

/// Returns the reason of deliveries whose subscription was deleted.
pub(super) fn deleted() -> Reason {
    Reason::new("subscription-deleted", "its subscription was deleted")
}

/// Ends at most [`STEP`] pending deliveries, and returns their number.
pub(super) fn end_pending(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    id: SubscriptionId,
    state: DeliveryState,
    reason: &Reason,
) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET state = ?3, reason = ?4, updated_at_ms = ?5
               WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries INDEXED BY deliveries_due
                                            WHERE tenant = ?1 AND subscription = ?2 AND state = 0 LIMIT ?6)";
    let ended = params![&*tenant.0, id.0, state as u8, reason.to_bounded_json()?, now_ms(), STEP];
    let count = tx.prepare_cached(sql)?.execute(ended)?;
    tx.count_pending(tenant, id, -(count as i64));
    Ok(count)
}
