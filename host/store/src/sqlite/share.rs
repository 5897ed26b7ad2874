//! Share of a tenant: writes that are refused because the tenant keeps too much ([`usage`](super::usage)).

use super::batch::AdminTx;
use crate::StoreError;
use crate::caps::Caps;
use hookloom_model::subscription::TenantId;

/// Returns an error if the tenant's share is used up. For changes that make attempts, and so rows, later.
pub(super) fn require_room(tx: &AdminTx<'_, '_>, tenant: &TenantId, share: Caps) -> Result<(), StoreError> {
    let usage = tx.usage(tenant, share)?;
    if usage.bytes < share.bytes { Ok(()) } else { Err(StoreError::TenantFull(Box::new(usage))) }
}

/// Runs a write, and returns an error if the tenant exceeds its share afterwards. A write that does not add to the usage is
/// allowed, so that a tenant over its share can make things smaller.
pub(super) fn within_share<T>(
    tx: &AdminTx<'_, '_>,
    tenant: &TenantId,
    share: Caps,
    write: impl FnOnce(&AdminTx<'_, '_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let before = tx.usage(tenant, share)?;
    let value = write(tx)?;
    let after = tx.usage(tenant, share)?;
    if after.bytes > before.bytes {
        tx.require_disk()?;
    }
    if share.is_outgrown(before.amounts(), after.amounts()) {
        return Err(StoreError::TenantFull(Box::new(before)));
    }
    Ok(value)
}
