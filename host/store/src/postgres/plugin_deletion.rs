//! Deletion of plugins and versions in the database, in steps.
//!
//! # Theory of operation
//! A deleted version gets a name that no plugin has, so that the plugin's name is free at once. The rows and their components, which
//! may have megabytes, are deleted later, in steps of a bounded size.
//!
//! # Limits
//! A plugin of more than [`DISCARDED`] versions keeps its name until the rest of them is deleted.

use super::connection::Connection;
use super::credentials::found;
use super::rows::{int, number};
use super::transaction::WriteTx;
use super::{Postgres, rows};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::plugins::{PluginDeletionBackend, VERSIONS_RECORDED_MAX, is_active, is_in_rollout};
use crate::backend::tenants::WorkStep;
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock;
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use std::time::Duration;
use tokio_postgres::Row;

/// Maximum number of versions that the transaction of a deletion removes from their plugin, and that a step deletes.
const DISCARDED: usize = 64;

/// Maximum size of the components of a step that deletes more than one: it occupies the writer for some tens of milliseconds.
const STEP_BYTES: u64 = 8 << 20;

/// Cost of a step for the host, in rows.
const STEP_ROWS: u64 = 512;

#[async_trait]
impl PluginDeletionBackend for Postgres {
    async fn delete_plugin(&self, actor: Actor, tenant: TenantId, name: String) -> Result<(), StoreError> {
        self.change(
            Owner::from(&tenant),
            move |tx| {
                Box::pin(async move {
                    let sql = "DELETE FROM plugins WHERE tenant = $1 AND name = $2";
                    found(tx.execute(sql, &[&&*tenant.0, &name]).await?, "plugin")?;
                    tx.catalog().require_unused(&tenant, &name)?;
                    for table in ["rollouts", "rollout_counts"] {
                        let sql = format!("DELETE FROM {table} WHERE tenant = $1 AND name = $2");
                        tx.execute(&sql, &[&&*tenant.0, &name]).await?;
                    }
                    let versions = versions_of(tx, &tenant, &name).await?;
                    discard(tx, &tenant, &name, None).await?;
                    let action = AuditAction::PluginDelete { name: &name, versions: &versions };
                    tx.record(&actor, Some(&tenant), &action).await
                })
            },
            |_, ()| {},
        )
        .await
    }

    async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        self.change(
            Owner::from(&tenant),
            move |tx| {
                Box::pin(async move {
                    require_idle(tx, &tenant, &name, &sha256).await?;
                    found(discard(tx, &tenant, &name, Some(&sha256)).await?, "version of the plugin")?;
                    let action = AuditAction::PluginDeleteVersion { name: &name, sha256: &sha256 };
                    tx.record(&actor, Some(&tenant), &action).await
                })
            },
            |_, ()| {},
        )
        .await
    }

    async fn delete_discarded_versions(&self) -> Result<WorkStep, StoreError> {
        // A write costs a flush, so a reader looks first.
        let read = self
            .readers
            .read_one(Owner::Host, |connection| Box::pin(async move { discarded_versions(connection).await }));
        let versions = read.await?;
        if versions.is_empty() {
            return Ok(WorkStep { done: true, took: Duration::ZERO });
        }
        self.write(Terms { owner: Owner::Host, rows: STEP_ROWS }, move |tx| {
            Box::pin(async move {
                let begun = clock::instant();
                delete_versions(tx, &versions).await?;
                Ok(WorkStep { done: false, took: clock::since(begun) })
            })
        })
        .await
    }
}

/// Returns an error if a version is active, in a rollout or pinned.
async fn require_idle(tx: &WriteTx, tenant: &TenantId, name: &str, sha256: &str) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM plugins WHERE tenant = $1 AND name = $2 AND active_sha256 = $3";
    if tx.exists(sql, &[&&*tenant.0, &name, &sha256]).await? {
        return Err(is_active());
    }
    let sql = "SELECT 1 FROM rollouts WHERE tenant = $1 AND name = $2 AND sha256 = $3 AND ended_reason IS NULL";
    if tx.exists(sql, &[&&*tenant.0, &name, &sha256]).await? {
        return Err(is_in_rollout());
    }
    tx.catalog().require_unpinned(tenant, name, sha256)
}

/// Removes at most [`DISCARDED`] versions from a plugin, by a name that no plugin has, so that the plugin's name is free at once.
/// Further versions of a deleted plugin stay without a plugin, and its name is free when they are deleted. Returns the number of
/// removed versions.
async fn discard(tx: &WriteTx, tenant: &TenantId, name: &str, sha256: Option<&str>) -> Result<u64, StoreError> {
    let discarded = format!(".{}", ids::new_uuid());
    let sql = "UPDATE plugin_versions SET name = $4 WHERE tenant = $1 AND name = $2 AND sha256 IN
               (SELECT sha256 FROM plugin_versions
                WHERE tenant = $1 AND name = $2 AND ($3::text IS NULL OR sha256 = $3::text) LIMIT $5)";
    tx.execute(sql, &[&&*tenant.0, &name, &sha256, &discarded, &int(DISCARDED)]).await
}

/// Returns the versions of a plugin, newest first, at most as many as a state in the log of changes has room for.
async fn versions_of(connection: &Connection, tenant: &TenantId, name: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT sha256 FROM plugin_versions WHERE tenant = $1 AND name = $2 ORDER BY seq DESC LIMIT $3";
    let rows = connection.query(sql, &[&&*tenant.0, &name, &int(VERSIONS_RECORDED_MAX)]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Key of a version.
struct VersionKey {
    /// Tenant of the version.
    tenant: TenantId,
    /// Name of its plugin, or the one under which it was discarded.
    name: String,
    /// The sha256 of its component.
    sha256: String,
}

fn key_row(row: &Row) -> Result<VersionKey, StoreError> {
    Ok(VersionKey { tenant: rows::tenant(row, 0)?, name: row.try_get(1)?, sha256: row.try_get(2)? })
}

/// Returns the versions of the next step: some that were removed, or whose plugins were deleted. Empty: there are none.
async fn discarded_versions(connection: &Connection) -> Result<Vec<VersionKey>, StoreError> {
    let sql = "SELECT v.tenant, v.name, v.sha256, v.size FROM plugin_versions v
               WHERE NOT EXISTS (SELECT 1 FROM plugins p WHERE p.tenant = v.tenant AND p.name = v.name) LIMIT $1";
    let mut versions = Vec::new();
    let mut bytes = 0_u64;
    for row in &connection.query(sql, &[&int(DISCARDED)]).await? {
        bytes = bytes.saturating_add(number(row, 3)?);
        if bytes > STEP_BYTES && !versions.is_empty() {
            break;
        }
        versions.push(key_row(row)?);
    }
    Ok(versions)
}

/// Deletes versions whose plugins do not exist, and those of their components that no other version has.
async fn delete_versions(tx: &WriteTx, versions: &[VersionKey]) -> Result<(), StoreError> {
    let tenants: Vec<&str> = versions.iter().map(|version| &*version.tenant.0).collect();
    let names: Vec<&str> = versions.iter().map(|version| &*version.name).collect();
    let sha256s: Vec<&str> = versions.iter().map(|version| &*version.sha256).collect();
    // A plugin of the same name may have come since the versions were read, if another step deleted them meanwhile.
    let sql = "DELETE FROM plugin_versions v USING unnest($1::text[], $2::text[], $3::text[]) d (tenant, name, sha256)
               WHERE v.tenant = d.tenant AND v.name = d.name AND v.sha256 = d.sha256
               AND NOT EXISTS (SELECT 1 FROM plugins p WHERE p.tenant = v.tenant AND p.name = v.name)";
    tx.execute(sql, &[&tenants, &names, &sha256s]).await?;
    let sql = "DELETE FROM components c WHERE c.sha256 = ANY ($1)
               AND NOT EXISTS (SELECT 1 FROM plugin_versions v WHERE v.sha256 = c.sha256)";
    tx.execute(sql, &[&sha256s]).await.map(drop)
}

#[cfg(test)]
mod tests;
