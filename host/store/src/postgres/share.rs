//! Share of a tenant: writes that are refused because the tenant keeps too much ([`usage`]).

use super::transaction::WriteTx;
use super::usage;
use crate::StoreError;
use crate::caps::Caps;
use crate::usage::Usage;
use hookloom_model::subscription::TenantId;

/// Returns the usage of a tenant within a transaction.
///
/// # Errors
/// [`StoreError::NotFound`]: the tenant does not exist, or it is being deleted.
pub(super) async fn usage_of(tx: &WriteTx, tenant: &TenantId, share: Caps) -> Result<Usage, StoreError> {
    Ok(share.of(usage::kept(tx, tenant).await?.ok_or(StoreError::NotFound("tenant"))?))
}

/// Returns an error if the tenant's share is used up. For changes that make attempts, and so rows, later.
pub(super) async fn require_room(tx: &WriteTx, tenant: &TenantId, share: Caps) -> Result<(), StoreError> {
    let usage = usage_of(tx, tenant, share).await?;
    if usage.bytes < share.bytes { Ok(()) } else { Err(StoreError::TenantFull(Box::new(usage))) }
}

/// Check of a write against a share. The write runs between [`ShareCheck::begin`] and the end of the check.
pub(super) struct ShareCheck {
    tenant: TenantId,
    share: Caps,
    before: Usage,
}

impl ShareCheck {
    /// Reads the usage before a write.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]: the tenant does not exist, or it is being deleted.
    pub(super) async fn begin(tx: &WriteTx, tenant: &TenantId, share: Caps) -> Result<Self, StoreError> {
        Ok(ShareCheck { tenant: tenant.clone(), share, before: usage_of(tx, tenant, share).await? })
    }

    /// Returns an error if the tenant exceeds its share after the write. A write that does not add to the usage is allowed, so that a
    /// tenant over its share can make things smaller.
    pub(super) async fn end(self, tx: &WriteTx) -> Result<(), StoreError> {
        let ShareCheck { tenant, share, before } = self;
        if share.is_unbounded() {
            return Ok(());
        }
        let after = usage_of(tx, &tenant, share).await?;
        if share.is_outgrown(before.amounts(), after.amounts()) {
            return Err(StoreError::TenantFull(Box::new(before)));
        }
        Ok(())
    }

    /// Returns an error if the tenant exceeds its share with the events that were added.
    pub(super) async fn end_of_events(self, tx: &WriteTx) -> Result<(), StoreError> {
        let ShareCheck { tenant, share, before } = self;
        if share.is_unbounded() {
            return Ok(());
        }
        let after = usage_of(tx, &tenant, share).await?;
        if !share.is_exceeded_by(after.events, after.bytes) {
            return Ok(());
        }
        Err(StoreError::TenantFull(Box::new(before)))
    }
}
