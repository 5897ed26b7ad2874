//! Requests that `/in` rejected.

use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::inspector::{REJECTED_KEPT_MS, REJECTED_MAX, RejectedBackend, RejectedEntry, RejectedRequest};
use crate::memory::Memory;
use crate::memory::share::{record, within_share};
use crate::memory::tables::MemoryTables;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

/// Number of the oldest requests that are checked for their age, because each request that arrives deletes more than one.
const OLDEST: usize = 16;

#[async_trait]
impl RejectedBackend for Memory {
    async fn reject(&self, tenant: TenantId, reason: String, body: Bytes, truncated: bool) -> Result<Uuid, StoreError> {
        let share = self.limits.share.with_a_tenth_more();
        let write = move |tables: &mut MemoryTables| {
            within_share(tables, &tenant, share, |tables| {
                let id = ids::new_uuid();
                let reason = shortened(&reason, REASON_BYTES_MAX);
                let request = RejectedRequest { id, received_at_ms: now_ms(), reason, truncated, body };
                tables.rejected.insert_mut((tenant.clone(), id), request);
                forget_oldest(tables, &tenant);
                Ok(id)
            })
        };
        self.write(write, |_, _| {}).await
    }

    async fn rejected_requests(
        &self,
        tenant: TenantId,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        self.read(move |tables| {
            let requests = oldest_first(tables, &tenant, before.unwrap_or(Uuid::max()));
            let entries = requests.rev().take(limit).map(|request| RejectedEntry {
                id: request.id,
                received_at_ms: request.received_at_ms,
                reason: request.reason.clone(),
                truncated: request.truncated,
                bytes: request.body.len(),
            });
            Ok(entries.collect())
        })
        .await
    }

    async fn forget_rejected_request(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            if !tables.rejected.remove_mut(&(tenant.clone(), id)) {
                return Err(StoreError::NotFound("rejected request"));
            }
            record(tables, &actor, Some(&tenant), &AuditAction::RejectedRequestDelete(id), self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError> {
        let found = move |tables: &MemoryTables| {
            tables.rejected.get(&(tenant, id)).cloned().ok_or(StoreError::NotFound("rejected request"))
        };
        self.read(found).await
    }
}

/// Returns the rejected requests of a tenant with ids before this one.
fn oldest_first<'t>(
    tables: &'t MemoryTables,
    tenant: &TenantId,
    before: Uuid,
) -> impl DoubleEndedIterator<Item = &'t RejectedRequest> + use<'t> {
    let range = (tenant.clone(), Uuid::nil())..(tenant.clone(), before);
    tables.rejected.range(range).map(|(_, request)| request)
}

/// Deletes rejected requests of a tenant that are too old or too many.
fn forget_oldest(tables: &mut MemoryTables, tenant: &TenantId) {
    let before_ms = now_ms() - REJECTED_KEPT_MS;
    let oldest = oldest_first(tables, tenant, Uuid::max()).take(OLDEST);
    let old: Vec<Uuid> =
        oldest.filter(|request| request.received_at_ms < before_ms).map(|request| request.id).collect();
    for id in old {
        tables.rejected.remove_mut(&(tenant.clone(), id));
    }
    let surplus = oldest_first(tables, tenant, Uuid::max()).rev().skip(REJECTED_MAX);
    let surplus: Vec<Uuid> = surplus.map(|request| request.id).collect();
    for id in surplus {
        tables.rejected.remove_mut(&(tenant.clone(), id));
    }
}
