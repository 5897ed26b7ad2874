//! Rejected requests in the database.

use super::Postgres;
use super::connection::Connection;
use super::credentials::found;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::inspector::RejectedBackend;
use crate::backend::inspector::RejectedEntry;
use crate::backend::inspector::RejectedRequest;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

#[async_trait]
impl RejectedBackend for Postgres {
    async fn reject(&self, tenant: TenantId, reason: String, body: Bytes, truncated: bool) -> Result<Uuid, StoreError> {
        todo!()
    }

    async fn rejected_requests(
        &self,
        tenant: TenantId,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        todo!()
    }

    async fn forget_rejected_request(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        todo!()
    }

    async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError> {
        todo!()
    }
}

/// Deletes a rejected request.
///
/// # Errors
/// [`StoreError::NotFound`]: it does not exist.
pub(super) async fn forget(connection: &Connection, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM rejected_requests WHERE tenant = $1 AND id = $2";
    found(connection.execute(sql, &[&&*tenant.0, &id]).await?, "rejected request")
}
