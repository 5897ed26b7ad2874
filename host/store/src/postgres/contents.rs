//! Reads of what a tenant keeps: the counted usage, and its contents by a count of every row.

use super::Postgres;
use super::usage::kept;
use crate::StoreError;
use crate::backend::tenants::UsageBackend;
use crate::usage::{TenantContents, Usage};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl UsageBackend for Postgres {
    async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError> {
        todo!()
    }

    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError> {
        let read = self.readers.read_one(move |connection| Box::pin(async move { kept(connection, &tenant).await }));
        Ok(self.limits.share.of(read.await?.ok_or(StoreError::NotFound("tenant"))?))
    }
}
