//! End of the pending deliveries of a subscription that is disabled or deleted, in steps.

use super::Postgres;
use super::rows::int;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::subscriptions::{ENDED_MAX, EndingBackend};
use crate::endings::end_of;
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::subscription::{SubscriptionId, TenantId};

#[async_trait]
impl EndingBackend for Postgres {
    async fn end_pending(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        end: Option<(DeliveryState, Reason)>,
    ) -> Result<usize, StoreError> {
        let owner = tenant.clone();
        // A write costs a flush, so a reader looks first.
        let any = self.readers.read_one(Owner::from(tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT 1 FROM deliveries WHERE tenant = $1 AND subscription = $2 AND state = 0 LIMIT 1";
                connection.exists(sql, &[&&*owner.0, &id.0]).await
            })
        });
        if !any.await? {
            return Ok(0);
        }
        let owner = tenant.clone();
        self.write(Terms { owner: Owner::from(tenant), rows: ENDED_MAX as u64 }, move |tx| {
            Box::pin(async move {
                let Some(default) = end_of(tx.catalog().subscription(&owner, id).as_deref()) else { return Ok(0) };
                let (state, reason) = end.unwrap_or(default);
                end_pending(tx, &owner, id, state, &reason).await
            })
        })
        .await
    }
}

/// Ends at most [`ENDED_MAX`] pending deliveries, and returns their number.
pub(super) async fn end_pending(
    tx: &WriteTx,
    tenant: &TenantId,
    id: SubscriptionId,
    state: DeliveryState,
    reason: &Reason,
) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET state = $3, awaiting_plugin = false, reason = $4, updated_at_ms = $5
               WHERE tenant = $1 AND id IN (SELECT id FROM deliveries
                                            WHERE tenant = $1 AND subscription = $2 AND state = 0 LIMIT $6)";
    let reason = reason.to_bounded_json()?;
    let most = int(ENDED_MAX);
    let ended = tx.execute(sql, &[&&*tenant.0, &id.0, &(state as i16), &reason, &now_ms(), &most]).await?;
    tx.count_pending(tenant, id, -int(ended));
    Ok(usize::try_from(ended).unwrap_or(usize::MAX))
}
