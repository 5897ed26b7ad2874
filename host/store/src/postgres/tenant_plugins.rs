//! Plugins of one tenant, in one snapshot.

use super::Postgres;
use super::plugins::read_active_versions;
use super::quarantine::read_quarantined;
use super::rollouts::read_rollouts;
use crate::StoreError;
use crate::backend::tenant_plugins::{TenantPlugins, TenantPluginsBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl TenantPluginsBackend for Postgres {
    async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError> {
        let read = self.readers.read(Owner::Host, move |connection| {
            Box::pin(async move {
                Ok(TenantPlugins {
                    active: read_active_versions(connection, Some(&tenant)).await?,
                    rollouts: read_rollouts(connection, Some(&tenant)).await?,
                    quarantined: read_quarantined(connection, Some(&tenant)).await?,
                })
            })
        });
        read.await
    }
}
