//! End of the pending deliveries of a subscription that is disabled or deleted, in steps.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::backend::subscriptions::{ENDED_MAX, EndingBackend};
use crate::endings::end_of;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};

#[async_trait]
impl EndingBackend for Sqlite {
    async fn end_pending(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        end: Option<(DeliveryState, Reason)>,
    ) -> Result<usize, StoreError> {
        let owner = tenant.clone();
        // A write costs a flush, so a reader looks first.
        let any = move |connection: &Connection| {
            let sql = "SELECT 1 FROM deliveries INDEXED BY deliveries_due WHERE tenant = ?1 AND subscription = ?2 AND state = 0 LIMIT 1";
            Ok(connection.prepare_cached(sql)?.exists(params![&*owner.0, id.0])?)
        };
        if !self.readers.read(tenant, any).await? {
            return Ok(0);
        }
        let owner = tenant.clone();
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let Some(default) = end_of(state.catalog.subscription(&owner, id).as_deref()) else { return Ok(0) };
            let (state, reason) = end.unwrap_or(default);
            end_pending(tx, &owner, id, state, &reason)
        };
        let terms = Terms { owner: tenant.into(), rows: ENDED_MAX as u64 };
        self.writer.write(terms, write, |_| {}).await
    }
}

/// Ends at most [`ENDED_MAX`] pending deliveries, and returns their number.
pub(super) fn end_pending(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    id: SubscriptionId,
    state: DeliveryState,
    reason: &Reason,
) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET state = ?3, awaiting_plugin = 0, reason = ?4, updated_at_ms = ?5
               WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries INDEXED BY deliveries_due
                                            WHERE tenant = ?1 AND subscription = ?2 AND state = 0 LIMIT ?6)";
    let ended = params![&*tenant.0, id.0, state as u8, reason.to_bounded_json()?, now_ms(), ENDED_MAX];
    let count = tx.prepare_cached(sql)?.execute(ended)?;
    tx.count_pending(tenant, id, -(count as i64));
    Ok(count)
}
