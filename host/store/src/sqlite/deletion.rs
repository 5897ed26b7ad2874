//! Deletion of tenants, plugins and versions in the database, in steps of about [`STEP_MAX`].

use super::Sqlite;
use super::batch::AdminTx;
use super::credentials::found;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::plugins::{PluginDeletionBackend, VERSIONS_RECORDED_MAX, is_active, is_in_rollout};
use crate::backend::tenants::{DeletionBackend, WorkStep};
use crate::catalog::Catalog;
use crate::fair_queue::Owner;
use crate::usage::TenantContents;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;

/// Maximum duration of a step, which occupies the writer. A single row may take longer.
const STEP_MAX: Duration = Duration::from_millis(10);

/// Approximate number of rows that a step deletes.
const STEP_ROWS: u64 = 512;

/// Maximum number of versions that the transaction of a deletion removes from their plugin.
const DISCARDED: usize = 64;

/// Statements that delete some rows of a tenant (?1). Rows that identify the tenant of other rows come after them.
const STATEMENTS: [&str; 23] = [
    "DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM attempts WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM deliveries WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE tenant = ?1 LIMIT 8)",
    "DELETE FROM idempotency_keys WHERE tenant = ?1 AND key IN (SELECT key FROM idempotency_keys WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM rejected_requests WHERE tenant = ?1 AND id IN (SELECT id FROM rejected_requests WHERE tenant = ?1 LIMIT 8)",
    "DELETE FROM bin_requests WHERE (bin, id) IN (SELECT r.bin, r.id FROM bins b JOIN bin_requests r ON r.bin = b.id WHERE b.tenant = ?1 LIMIT 8)",
    "DELETE FROM bins WHERE id IN (SELECT id FROM bins WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM figures WHERE tenant = ?1 AND (span_s, at_s, subscription, plugin) IN
     (SELECT span_s, at_s, subscription, plugin FROM figures WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM changes WHERE tenant = ?1 AND id IN (SELECT id FROM changes WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM incidents WHERE tenant = ?1 AND id IN (SELECT id FROM incidents WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM alert_emails WHERE tenant = ?1 AND id IN (SELECT id FROM alert_emails WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM subscriptions WHERE tenant = ?1 AND id IN (SELECT id FROM subscriptions WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM quarantine WHERE tenant = ?1 AND sha256 IN (SELECT sha256 FROM quarantine WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM rollouts WHERE tenant = ?1 AND name IN (SELECT name FROM rollouts WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM sessions WHERE hash IN (SELECT s.hash FROM keys k JOIN sessions s ON s.key = k.id WHERE k.tenant = ?1 LIMIT 64)",
    "DELETE FROM sign_in_links WHERE hash IN (SELECT l.hash FROM keys k JOIN sign_in_links l ON l.key = k.id WHERE k.tenant = ?1 LIMIT 64)",
    "DELETE FROM keys WHERE id IN (SELECT id FROM keys WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM intake_tokens WHERE tenant = ?1 AND id IN (SELECT id FROM intake_tokens WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM portal_sessions WHERE rowid IN (SELECT rowid FROM portal_sessions WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM plugins WHERE tenant = ?1 AND name IN (SELECT name FROM plugins WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM sweeps WHERE tenant = ?1 AND (plugin, subscription) IN (SELECT plugin, subscription FROM sweeps WHERE tenant = ?1 LIMIT 64)",
    "DELETE FROM fan_outs WHERE rowid IN (SELECT rowid FROM fan_outs WHERE tenant = ?1 LIMIT 16)",
    "DELETE FROM damage WHERE tenant = ?1 AND (kind, id) IN (SELECT kind, id FROM damage WHERE tenant = ?1 LIMIT 64)",
];

#[async_trait]
impl DeletionBackend for Sqlite {
    async fn delete_tenant(&self, actor: Actor, tenant: TenantId, contents: TenantContents) -> Result<(), StoreError> {
        let subscriptions = self.state.catalog.subscriptions(&tenant).iter().map(|one| one.id).collect();
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE tenants SET deleting_since_ms = ?2 WHERE id = ?1 AND deleting_since_ms IS NULL";
            found(tx.execute(sql, params![&*owner.0, now_ms()])?, "tenant")?;
            tx.execute("UPDATE ledgers SET deleting = 1 WHERE tenant = ?1", [&*owner.0])?;
            tx.record(&actor, None, &AuditAction::TenantDelete(&contents))
        };
        let pending = self.pending.clone();
        let show = move |catalog: &Catalog, (): &()| {
            catalog.remove_tenant(&tenant);
            pending.forget(&tenant);
        };
        self.change_of(Owner::Host, subscriptions, write, show).await
    }

    async fn tenants_being_deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        self.readers.read(Owner::Host, read_tenants_being_deleted).await
    }

    async fn delete_tenant_step(&self, tenant: &TenantId) -> Result<WorkStep, StoreError> {
        let deleted = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let begun = clock::instant();
            Ok(WorkStep { done: delete_some(tx, &deleted)?, took: clock::since(begun) })
        };
        let terms = Terms { owner: tenant.into(), rows: STEP_ROWS };
        self.writer.write(terms, write, |_| {}).await
    }
}

#[async_trait]
impl PluginDeletionBackend for Sqlite {
    async fn delete_plugin(&self, actor: Actor, tenant: TenantId, name: String) -> Result<(), StoreError> {
        let state = self.state.clone();
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "DELETE FROM plugins WHERE tenant = ?1 AND name = ?2";
            found(tx.execute(sql, params![&*tenant.0, name])?, "plugin")?;
            state.catalog.require_unused(&tenant, &name)?;
            tx.execute("DELETE FROM rollouts WHERE tenant = ?1 AND name = ?2", params![&*tenant.0, name])?;
            let versions = versions_of(tx, &tenant, &name)?;
            discard(tx, &tenant, &name, None)?;
            tx.record(&actor, Some(&tenant), &AuditAction::PluginDelete { name: &name, versions: &versions })
        };
        self.change(&owner, write, |_, ()| {}).await
    }

    async fn delete_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        let state = self.state.clone();
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let version = params![&*tenant.0, name, sha256];
            let exists = |sql: &str| Ok::<_, StoreError>(tx.prepare_cached(sql)?.exists(version)?);
            if exists("SELECT 1 FROM plugins WHERE tenant = ?1 AND name = ?2 AND active_sha256 = ?3")? {
                return Err(is_active());
            }
            let in_rollout =
                "SELECT 1 FROM rollouts WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3 AND ended_reason IS NULL";
            if exists(in_rollout)? {
                return Err(is_in_rollout());
            }
            state.catalog.require_unpinned(&tenant, &name, &sha256)?;
            found(discard(tx, &tenant, &name, Some(&sha256))?, "version of the plugin")?;
            tx.record(&actor, Some(&tenant), &AuditAction::PluginDeleteVersion { name: &name, sha256: &sha256 })
        };
        self.change(&owner, write, |_, ()| {}).await
    }

    async fn delete_discarded_versions(&self) -> Result<WorkStep, StoreError> {
        let found = self.readers.read(Owner::Host, discarded_versions).await?;
        if found.is_empty() {
            return Ok(WorkStep { done: true, took: Duration::ZERO });
        }
        let write = move |tx: &AdminTx<'_, '_>| {
            let begun = clock::instant();
            for (tenant, name, sha256) in found {
                delete_version_row(tx, &tenant, &name, sha256)?;
                if clock::since(begun) >= STEP_MAX {
                    break;
                }
            }
            Ok(WorkStep { done: false, took: clock::since(begun) })
        };
        let terms = Terms { owner: Owner::Host, rows: STEP_ROWS };
        self.writer.write(terms, write, |_| {}).await
    }
}

fn read_tenants_being_deleted(connection: &Connection) -> Result<Vec<TenantId>, StoreError> {
    let mut statement = connection.prepare("SELECT id FROM tenants WHERE deleting_since_ms IS NOT NULL")?;
    let ids = statement.query_map([], |row| Ok(TenantId(row.get::<_, String>(0)?.into())))?;
    Ok(ids.collect::<Result<Vec<_>, _>>()?)
}

/// Removes at most [`DISCARDED`] versions from a plugin, by a name that no plugin has, so that the plugin's name is free at once.
/// Further versions of a deleted plugin stay without a plugin, and its name is free when they are deleted. Returns the number of
/// removed versions.
fn discard(connection: &Connection, tenant: &TenantId, name: &str, sha256: Option<&str>) -> Result<usize, StoreError> {
    let discarded = format!(".{}", ids::new_uuid());
    let sql = "UPDATE plugin_versions SET name = ?4 WHERE tenant = ?1 AND name = ?2 AND sha256 IN
               (SELECT sha256 FROM plugin_versions WHERE tenant = ?1 AND name = ?2 AND (?3 IS NULL OR sha256 = ?3) LIMIT ?5)";
    Ok(connection.execute(sql, params![&*tenant.0, name, sha256, discarded, DISCARDED])?)
}

/// Returns the versions of a plugin, newest first, at most as many as a state in the log of changes has room for. Reads only an
/// index.
fn versions_of(connection: &Connection, tenant: &TenantId, name: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT sha256 FROM plugin_versions WHERE tenant = ?1 AND name = ?2 ORDER BY rowid DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let versions = statement.query_map(params![&*tenant.0, name, VERSIONS_RECORDED_MAX], |row| row.get(0))?;
    Ok(versions.collect::<Result<_, _>>()?)
}

/// Tenant, plugin name and sha256 of a version.
type VersionKey = (String, String, String);

/// Returns versions that were removed, or whose plugins were deleted, at most [`DISCARDED`].
fn discarded_versions(connection: &Connection) -> Result<Vec<VersionKey>, StoreError> {
    let sql = "SELECT tenant, name, sha256 FROM plugin_versions v
               WHERE NOT EXISTS (SELECT 1 FROM plugins p WHERE p.tenant = v.tenant AND p.name = v.name) LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let versions = statement.query_map([DISCARDED], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(versions.collect::<Result<_, _>>()?)
}

/// Deletes a version, and its component if no other version has the same.
fn delete_version_row(connection: &Connection, tenant: &str, name: &str, sha256: String) -> Result<(), StoreError> {
    let sql = "DELETE FROM plugin_versions WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3";
    connection.execute(sql, params![tenant, name, sha256])?;
    let sql =
        "DELETE FROM components WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM plugin_versions WHERE sha256 = ?1)";
    Ok(connection.execute(sql, [sha256]).map(drop)?)
}

/// Deletes rows of a tenant for up to [`STEP_MAX`], and finally the tenant. Returns true if the tenant is gone.
fn delete_some(tx: &AdminTx<'_, '_>, tenant: &TenantId) -> Result<bool, StoreError> {
    let begun = clock::instant();
    let mut deleted = 0;
    for sql in STATEMENTS {
        loop {
            let rows = tx.prepare_cached(sql)?.execute([&*tenant.0])?;
            deleted += rows;
            if clock::since(begun) >= STEP_MAX {
                return Ok(false);
            }
            if rows == 0 {
                break;
            }
        }
    }
    let sql = "SELECT name, sha256 FROM plugin_versions WHERE tenant = ?1 LIMIT 1";
    while let Some((name, sha256)) = tx
        .prepare_cached(sql)?
        .query_row([&*tenant.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()?
    {
        delete_version_row(tx, &tenant.0, &name, sha256)?;
        deleted += 1;
        if clock::since(begun) >= STEP_MAX {
            return Ok(false);
        }
    }
    // An outcome may have been written for a delivery whose attempts were deleted already, so the last step must find no rows.
    if deleted > 0 {
        return Ok(false);
    }
    tx.execute("DELETE FROM ledgers WHERE tenant = ?1", [&*tenant.0])?;
    tx.execute("DELETE FROM tenants WHERE id = ?1", [&*tenant.0])?;
    Ok(true)
}

#[cfg(test)]
mod tests;
