//! Deletion of tenants in the database, in steps.

use super::Postgres;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::tenants::DeletionBackend;
use crate::backend::tenants::WorkStep;
use crate::usage::TenantContents;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl DeletionBackend for Postgres {
    async fn delete_tenant(&self, actor: Actor, tenant: TenantId, contents: TenantContents) -> Result<(), StoreError> {
        todo!()
    }

    async fn tenants_being_deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        todo!()
    }

    async fn delete_tenant_step(&self, tenant: &TenantId) -> Result<WorkStep, StoreError> {
        todo!()
    }
}
