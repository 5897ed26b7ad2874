//! Plugins: components, versions and active versions.

mod deletion;
mod rollouts;
mod tenant_plugins;

use super::Memory;
use super::share::{record, within_share};
use super::tables::{MemoryTables, VersionRow};
use super::upkeep::judge_again;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::plugins::{
    ActiveVersion, PluginBackend, PluginVersion, StoredPlugin, deleted_meanwhile, is_whole, no_plugin,
};
use crate::backend::rollouts::ANOTHER_ACTIVATED;
use crate::backend::upkeep::Changed;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::chain::Step;
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::{Subscription, TenantId};
use std::cmp::Reverse;

#[async_trait]
impl PluginBackend for Memory {
    async fn activate_plugin(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let sha256 = version.sha256.clone();
            within_share(tables, &tenant, self.limits.share, |tables| {
                insert_version(tables, &tenant, &name, version, component);
                Ok(())
            })?;
            let action = AuditAction::PluginUpload { name: &name, sha256: &sha256 };
            self.activate(tables, &actor, &tenant, &name, &sha256, &action)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn activate_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            if !has_version(tables, &tenant, &name, &sha256) {
                return Err(StoreError::NotFound("version of the plugin"));
            }
            let action = AuditAction::PluginActivate { name: &name, sha256: &sha256 };
            self.activate(tables, &actor, &tenant, &name, &sha256, &action)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn add_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            if !tables.plugins.contains_key(&(tenant.clone(), name.clone())) {
                return Err(no_plugin());
            }
            let sha256 = version.sha256.clone();
            within_share(tables, &tenant, share, |tables| {
                insert_version(tables, &tenant, &name, version, component);
                Ok(())
            })?;
            let action = AuditAction::PluginAddVersion { name: &name, sha256: &sha256 };
            record(tables, &actor, Some(&tenant), &action, share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn has_version(&self, tenant: TenantId, name: String, sha256: String) -> Result<bool, StoreError> {
        self.read(move |tables| Ok(has_version(tables, &tenant, &name, &sha256))).await
    }

    async fn version_report(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<Option<String>, StoreError> {
        self.read(move |tables| {
            let version = version(tables, &tenant, &name, &sha256);
            Ok(version.map(|version| version.report.clone()))
        })
        .await
    }

    async fn active_versions(&self) -> Result<Vec<ActiveVersion>, StoreError> {
        self.read(|tables| Ok(active_versions(tables))).await
    }

    async fn plugins(&self) -> Result<Vec<StoredPlugin>, StoreError> {
        self.read(|tables| {
            let plugins = tables.plugins.values().filter(|plugin| is_kept(tables, &plugin.tenant));
            Ok(plugins.cloned().collect())
        })
        .await
    }

    async fn plugin_versions(&self, tenant: TenantId, name: String) -> Result<Vec<PluginVersion>, StoreError> {
        self.read(move |tables| {
            let Some(plugin) = tables.plugins.get(&(tenant.clone(), name.clone())) else { return Ok(Vec::new()) };
            let is_active = |row: &VersionRow| row.version.sha256 == plugin.active_sha256;
            let versions = versions_of(tables, &tenant, &name);
            let mut versions: Vec<PluginVersion> =
                versions.map(|row| PluginVersion { active: is_active(row), ..row.version.clone() }).collect();
            versions.sort_by_key(|version| Reverse(version.created_at_ms));
            Ok(versions)
        })
        .await
    }

    async fn component(&self, sha256: String) -> Result<Bytes, StoreError> {
        self.read(move |tables| {
            let bytes = tables.components.get(&sha256).cloned().ok_or(StoreError::NotFound("component"))?;
            if is_whole(&sha256, &bytes) { Ok(bytes) } else { Err(StoreError::DamagedComponent { sha256 }) }
        })
        .await
    }

    async fn plugin_file(&self, tenant: TenantId, name: String) -> Result<Option<String>, StoreError> {
        self.read(move |tables| Ok(tables.plugin_files.get(&(tenant, name)).cloned())).await
    }

    async fn note_plugin_file(&self, tenant: TenantId, name: String, sha256: String) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            tables.plugin_files.insert_mut((tenant, name), sha256);
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }
}

impl Memory {
    /// Makes a version the active one, within a transaction. The rollout ends, because it compared with the previous version.
    fn activate(
        &self,
        tables: &mut MemoryTables,
        actor: &Actor,
        tenant: &TenantId,
        name: &str,
        sha256: &str,
        action: &AuditAction<'_>,
    ) -> Result<(), StoreError> {
        let key = (tenant.clone(), name.to_owned());
        if let Some(rollout) = tables.rollouts.get_mut(&key) {
            rollout.ended_reason.get_or_insert_with(|| ANOTHER_ACTIVATED.into());
        }
        let plugin = StoredPlugin {
            tenant: tenant.clone(),
            name: name.to_owned(),
            active_sha256: sha256.to_owned(),
            activated_at_ms: now_ms(),
            activated_by: actor.shown().to_owned(),
        };
        tables.plugins.insert_mut(key, plugin);
        record(tables, actor, Some(tenant), action, self.limits.share)?;
        let users = self.state.catalog.users_of(tenant, name);
        judge_again(tables, tenant, &Changed::Plugin(name.to_owned()), &users);
        Ok(())
    }
}

/// Returns an error if a plugin or version of a subscription does not exist. It may have been deleted since it was looked up.
pub(super) fn require_versions(tables: &MemoryTables, subscription: &Subscription) -> Result<(), StoreError> {
    let tenant = &subscription.tenant;
    for Step { plugin, pin } in &subscription.settings.plugin.0 {
        let is_there = match pin {
            Some(pin) => has_version(tables, tenant, plugin, pin),
            None => tables.plugins.contains_key(&(tenant.clone(), plugin.to_string())),
        };
        if !is_there {
            return Err(deleted_meanwhile(plugin));
        }
    }
    Ok(())
}

/// Deletes a version, and its component if no other version has the same.
pub(super) fn delete_version_row(tables: &mut MemoryTables, key: &(TenantId, String, String)) {
    let (.., sha256) = key;
    tables.versions.remove_mut(key);
    if tables.versions.keys().all(|(.., other)| other != sha256) {
        tables.components.remove_mut(sha256);
    }
}

/// Returns the active versions of all tenants that are not being deleted.
fn active_versions(tables: &MemoryTables) -> Vec<ActiveVersion> {
    let plugins = tables.plugins.values().filter(|plugin| is_kept(tables, &plugin.tenant));
    let active = plugins.filter_map(|StoredPlugin { tenant, name, active_sha256, .. }| {
        let PluginVersion { sha256, report, .. } = version(tables, tenant, name, active_sha256)?.clone();
        Some(ActiveVersion { tenant: tenant.clone(), name: name.clone(), sha256, report })
    });
    active.collect()
}

/// Returns true unless a tenant is being deleted.
fn is_kept(tables: &MemoryTables, tenant: &TenantId) -> bool {
    tables.tenants.get(tenant).is_some_and(|row| row.deleting_since_ms.is_none())
}

fn has_version(tables: &MemoryTables, tenant: &TenantId, name: &str, sha256: &str) -> bool {
    version(tables, tenant, name, sha256).is_some()
}

/// Returns a version of a plugin. Versions of a deleted plugin stay for a while.
fn version<'t>(tables: &'t MemoryTables, tenant: &TenantId, name: &str, sha256: &str) -> Option<&'t PluginVersion> {
    tables.plugins.get(&(tenant.clone(), name.to_owned()))?;
    let row = tables.versions.get(&(tenant.clone(), name.to_owned(), sha256.to_owned()))?;
    Some(&row.version)
}

/// Returns the versions with a plugin's name, by sha256.
fn versions_of<'t>(tables: &'t MemoryTables, tenant: &TenantId, name: &str) -> impl Iterator<Item = &'t VersionRow> {
    let rows = tables.versions.range((tenant.clone(), name.to_owned(), String::new())..);
    rows.take_while(move |((owner, of, _), _)| owner == tenant && of == name).map(|(_, row)| row)
}

/// Adds a version with its component. A version that exists gets another report, and keeps the rest.
fn insert_version(tables: &mut MemoryTables, tenant: &TenantId, name: &str, version: PluginVersion, component: Bytes) {
    tables.components.insert_mut(version.sha256.clone(), component);
    let key = (tenant.clone(), name.to_owned(), version.sha256.clone());
    match tables.versions.get_mut(&key) {
        Some(row) => row.version.report = version.report,
        None => {
            let sequence = tables.next_sequence();
            let version = PluginVersion { active: false, ..version };
            tables.versions.insert_mut(key, VersionRow { version, sequence });
        }
    }
}
