//! Plugins of one tenant, in one snapshot.

use super::Sqlite;
use super::plugins::read_active_versions;
use super::quarantine::read_quarantined;
use super::rollouts::read_rollouts;
use crate::StoreError;
use crate::backend::tenant_plugins::{TenantPlugins, TenantPluginsBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use rusqlite::Connection;

#[async_trait]
impl TenantPluginsBackend for Sqlite {
    async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError> {
        let read = move |connection: &Connection| {
            Ok(TenantPlugins {
                active: read_active_versions(connection, Some(&tenant))?,
                rollouts: read_rollouts(connection, Some(&tenant))?,
                quarantined: read_quarantined(connection, Some(&tenant))?,
            })
        };
        self.readers.read(Owner::Host, read).await
    }
}
