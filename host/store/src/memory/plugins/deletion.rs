//! Deletion of plugins and versions.
//!
//! A deleted version gets a name that no plugin has, so that the plugin's name is free at once, and is deleted later.

use super::{delete_version_row, versions_of};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::plugins::{PluginDeletionBackend, VERSIONS_RECORDED_MAX, is_active, is_in_rollout};
use crate::backend::tenants::WorkStep;
use crate::memory::Memory;
use crate::memory::share::record;
use crate::memory::tables::{MemoryTables, VersionRow};
use async_trait::async_trait;
use hookloom_model::clock;
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use std::cmp::Reverse;

#[async_trait]
impl PluginDeletionBackend for Memory {
    async fn delete_plugin(&self, actor: Actor, tenant: TenantId, name: String) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let key = (tenant.clone(), name.clone());
            if !tables.plugins.remove_mut(&key) {
                return Err(StoreError::NotFound("plugin"));
            }
            self.state.catalog.require_unused(&tenant, &name)?;
            tables.rollouts.remove_mut(&key);
            let versions = newest_versions(tables, &tenant, &name);
            discard(tables, &tenant, &name, None);
            let action = AuditAction::PluginDelete { name: &name, versions: &versions };
            record(tables, &actor, Some(&tenant), &action, self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let key = (tenant.clone(), name.clone());
            if tables.plugins.get(&key).is_some_and(|plugin| plugin.active_sha256 == sha256) {
                return Err(is_active());
            }
            let rollout = tables.rollouts.get(&key).filter(|rollout| rollout.ended_reason.is_none());
            if rollout.is_some_and(|rollout| rollout.sha256 == sha256) {
                return Err(is_in_rollout());
            }
            self.state.catalog.require_unpinned(&tenant, &name, &sha256)?;
            if discard(tables, &tenant, &name, Some(&sha256)) == 0 {
                return Err(StoreError::NotFound("version of the plugin"));
            }
            let action = AuditAction::PluginDeleteVersion { name: &name, sha256: &sha256 };
            record(tables, &actor, Some(&tenant), &action, self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn delete_discarded_versions(&self) -> Result<WorkStep, StoreError> {
        self.write(delete_discarded, |_, _| {}).await
    }
}

/// Returns the versions of a plugin, newest first, at most as many as a state in the log of changes has room for.
fn newest_versions(tables: &MemoryTables, tenant: &TenantId, name: &str) -> Vec<String> {
    let mut rows: Vec<&VersionRow> = versions_of(tables, tenant, name).collect();
    rows.sort_by_key(|row| Reverse(row.sequence));
    rows.into_iter().take(VERSIONS_RECORDED_MAX).map(|row| row.version.sha256.clone()).collect()
}

/// Removes a version from a plugin, or all of them, by a name that no plugin has. Returns the number of removed versions.
fn discard(tables: &mut MemoryTables, tenant: &TenantId, name: &str, sha256: Option<&str>) -> usize {
    let discarded = format!(".{}", ids::new_uuid());
    let meant =
        versions_of(tables, tenant, name).filter(|row| sha256.is_none_or(|sha256| row.version.sha256 == sha256));
    let rows: Vec<VersionRow> = meant.cloned().collect();
    let removed = rows.len();
    for row in rows {
        let sha256 = row.version.sha256.clone();
        tables.versions.remove_mut(&(tenant.clone(), name.to_owned(), sha256.clone()));
        tables.versions.insert_mut((tenant.clone(), discarded.clone(), sha256), row);
    }
    removed
}

/// Returns the key of a version that was removed from its plugin.
fn first_discarded(tables: &MemoryTables) -> Option<(TenantId, String, String)> {
    let has_plugin = |tenant: &TenantId, name: &String| tables.plugins.contains_key(&(tenant.clone(), name.clone()));
    tables.versions.keys().find(|(tenant, name, _)| !has_plugin(tenant, name)).cloned()
}

/// Deletes the first discarded version.
fn delete_discarded(tables: &mut MemoryTables) -> Result<WorkStep, StoreError> {
    let begun = clock::instant();
    if let Some(key) = first_discarded(tables) {
        delete_version_row(tables, &key);
    }
    Ok(WorkStep { done: first_discarded(tables).is_none(), took: clock::since(begun) })
}
