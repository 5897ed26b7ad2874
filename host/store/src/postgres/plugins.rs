//! Plugins and their versions in the database.

use super::Postgres;
use super::connection::Connection;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::plugins::ActiveVersion;
use crate::backend::plugins::PluginBackend;
use crate::backend::plugins::PluginVersion;
use crate::backend::plugins::StoredPlugin;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::chain::Step;
use hookloom_model::subscription::Subscription;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl PluginBackend for Postgres {
    async fn activate_plugin(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn activate_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn add_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn has_version(&self, tenant: TenantId, name: String, sha256: String) -> Result<bool, StoreError> {
        todo!()
    }

    async fn version_report(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<Option<String>, StoreError> {
        todo!()
    }

    async fn active_versions(&self) -> Result<Vec<ActiveVersion>, StoreError> {
        todo!()
    }

    async fn plugins(&self) -> Result<Vec<StoredPlugin>, StoreError> {
        todo!()
    }

    async fn plugin_versions(&self, tenant: TenantId, name: String) -> Result<Vec<PluginVersion>, StoreError> {
        todo!()
    }

    async fn component(&self, sha256: String) -> Result<Bytes, StoreError> {
        todo!()
    }

    async fn plugin_file(&self, tenant: TenantId, name: String) -> Result<Option<String>, StoreError> {
        todo!()
    }

    async fn note_plugin_file(&self, tenant: TenantId, name: String, sha256: String) -> Result<(), StoreError> {
        todo!()
    }
}

/// Returns an error if a plugin of a subscription, or a version that it is pinned to, does not exist.
pub(super) async fn require_versions(connection: &Connection, subscription: &Subscription) -> Result<(), StoreError> {
    let tenant = &*subscription.tenant.0;
    for Step { plugin, pin } in &subscription.settings.plugin.0 {
        let is_there = match pin {
            Some(pin) => has_version(connection, tenant, plugin, pin.as_str()).await?,
            None => {
                connection
                    .exists("SELECT 1 FROM plugins WHERE tenant = $1 AND name = $2", &[&tenant, &&**plugin])
                    .await?
            }
        };
        if !is_there {
            return Err(StoreError::Conflict(format!("the plugin {plugin} or its version was deleted meanwhile")));
        }
    }
    Ok(())
}

/// Returns true if an existing plugin has a version.
pub(super) async fn has_version(
    connection: &Connection,
    tenant: &str,
    name: &str,
    sha256: &str,
) -> Result<bool, StoreError> {
    // Versions of a deleted plugin stay for a while.
    let sql = "SELECT 1 FROM plugin_versions v JOIN plugins p ON p.tenant = v.tenant AND p.name = v.name
               WHERE v.tenant = $1 AND v.name = $2 AND v.sha256 = $3";
    connection.exists(sql, &[&tenant, &name, &sha256]).await
}
