//! Deletion of plugins and versions in the database, in steps.

use super::Postgres;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::plugins::PluginDeletionBackend;
use crate::backend::tenants::WorkStep;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl PluginDeletionBackend for Postgres {
    async fn delete_plugin(&self, actor: Actor, tenant: TenantId, name: String) -> Result<(), StoreError> {
        todo!()
    }

    async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn delete_discarded_versions(&self) -> Result<WorkStep, StoreError> {
        todo!()
    }
}
