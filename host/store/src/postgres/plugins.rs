//! Plugins in the database: components by content, versions by tenant and name, and the active versions.
//!
//! # Guarantees
//! - A component is returned only if its bytes have its sha256.
//! - An activation is committed with the end of the plugin's rollout, its entry in the log, and what it makes due.
//!
//! # Limits
//! Names and sha256 are not checked here: their types have no zero bytes, which texts of PostgreSQL cannot have.

use super::connection::Connection;
use super::rows::{int, number, text};
use super::share::ShareCheck;
use super::transaction::WriteTx;
use super::{Postgres, rows, sweeps};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::plugins::{
    ActiveVersion, PluginBackend, PluginVersion, StoredPlugin, deleted_meanwhile, has_versions_left, is_whole,
    no_plugin,
};
use crate::backend::rollouts::ANOTHER_ACTIVATED;
use crate::backend::upkeep::Changed;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::chain::Step;
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::{Subscription, TenantId};
use tokio_postgres::Row;

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
        self.change(
            Owner::from(&tenant),
            move |tx| {
                Box::pin(async move {
                    refuse_while_deleted(tx, &tenant, &name).await?;
                    insert_version(tx, &tenant, &name, &version, &component).await?;
                    let action = AuditAction::PluginUpload { name: &name, sha256: &version.sha256 };
                    activate(tx, &actor, &tenant, &name, &version.sha256, &action).await
                })
            },
            |_, ()| {},
        )
        .await
    }

    async fn activate_version(
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
                    if !has_version(tx, &tenant.0, &name, &sha256).await? {
                        return Err(StoreError::NotFound("version of the plugin"));
                    }
                    let action = AuditAction::PluginActivate { name: &name, sha256: &sha256 };
                    activate(tx, &actor, &tenant, &name, &sha256, &action).await
                })
            },
            |_, ()| {},
        )
        .await
    }

    async fn add_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                if !has_plugin(tx, &tenant.0, &name).await? {
                    return Err(no_plugin());
                }
                insert_version(tx, &tenant, &name, &version, &component).await?;
                let action = AuditAction::PluginAddVersion { name: &name, sha256: &version.sha256 };
                tx.record(&actor, Some(&tenant), &action).await
            })
        })
        .await
    }

    async fn has_version(&self, tenant: TenantId, name: String, sha256: String) -> Result<bool, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move { has_version(connection, &tenant.0, &name, &sha256).await })
        });
        read.await
    }

    async fn version_report(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<Option<String>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql =
                    "SELECT v.report FROM plugin_versions v JOIN plugins p ON p.tenant = v.tenant AND p.name = v.name
                           WHERE v.tenant = $1 AND v.name = $2 AND v.sha256 = $3";
                first_text(connection.query_opt(sql, &[&&*tenant.0, &name, &sha256]).await?)
            })
        });
        read.await
    }

    async fn active_versions(&self) -> Result<Vec<ActiveVersion>, StoreError> {
        let read = self
            .readers
            .read_one(Owner::Host, |connection| Box::pin(async move { read_active_versions(connection, None).await }));
        read.await
    }

    async fn plugins(&self) -> Result<Vec<StoredPlugin>, StoreError> {
        let read =
            self.readers.read_one(Owner::Host, |connection| Box::pin(async move { read_plugins(connection).await }));
        read.await
    }

    async fn plugin_versions(&self, tenant: TenantId, name: String) -> Result<Vec<PluginVersion>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT v.sha256, v.size, v.report, v.created_at_ms, v.created_by, v.sha256 = p.active_sha256
                           FROM plugin_versions v JOIN plugins p ON p.tenant = v.tenant AND p.name = v.name
                           WHERE v.tenant = $1 AND v.name = $2 ORDER BY v.created_at_ms DESC, v.sha256";
                connection.query(sql, &[&&*tenant.0, &name]).await?.iter().map(version_row).collect()
            })
        });
        read.await
    }

    async fn component(&self, sha256: String) -> Result<Bytes, StoreError> {
        let of = sha256.clone();
        let read = self.readers.read_one(Owner::Host, move |connection| {
            Box::pin(async move {
                let row = connection.query_opt("SELECT bytes FROM components WHERE sha256 = $1", &[&of]).await?;
                Ok(row.ok_or(StoreError::NotFound("component"))?.try_get::<_, Vec<u8>>(0)?)
            })
        });
        let bytes = read.await?;
        // A component has megabytes, whose hash would stop a thread of the runtime for a while.
        let checked = tokio::task::spawn_blocking(move || {
            if is_whole(&sha256, &bytes) {
                Ok(Bytes::from(bytes))
            } else {
                Err(StoreError::DamagedComponent { sha256 })
            }
        });
        checked.await.map_err(|_| StoreError::Stopped)?
    }

    async fn plugin_file(&self, tenant: TenantId, name: String) -> Result<Option<String>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT sha256 FROM plugin_files WHERE tenant = $1 AND name = $2";
                first_text(connection.query_opt(sql, &[&&*tenant.0, &name]).await?)
            })
        });
        read.await
    }

    async fn note_plugin_file(&self, tenant: TenantId, name: String, sha256: String) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO plugin_files (tenant, name, sha256) VALUES ($1, $2, $3)
                           ON CONFLICT (tenant, name) DO UPDATE SET sha256 = EXCLUDED.sha256";
                tx.execute(sql, &[&&*tenant.0, &name, &sha256]).await.map(drop)
            })
        })
        .await
    }
}

/// Makes a version the active one. The lanes are told by the store, when the version is installed.
async fn activate(
    tx: &WriteTx,
    actor: &Actor,
    tenant: &TenantId,
    name: &str,
    sha256: &str,
    action: &AuditAction<'_>,
) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO plugins (tenant, name, active_sha256, activated_at_ms, activated_by) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (tenant, name) DO UPDATE SET active_sha256 = EXCLUDED.active_sha256,
                 activated_at_ms = EXCLUDED.activated_at_ms, activated_by = EXCLUDED.activated_by";
    let activated_by = text(actor.shown());
    tx.execute(sql, &[&&*tenant.0, &name, &sha256, &now_ms(), &&*activated_by]).await?;
    // The rollout compared with the previous version.
    let sql = "UPDATE rollouts SET ended_reason = $3 WHERE tenant = $1 AND name = $2 AND ended_reason IS NULL";
    tx.execute(sql, &[&&*tenant.0, &name, &ANOTHER_ACTIVATED]).await?;
    tx.record(actor, Some(tenant), action).await?;
    let users = tx.catalog().users_of(tenant, name);
    sweeps::judge_again(tx, tenant, &Changed::Plugin(name.to_owned()), &users).await
}

/// Adds a version with its component, within the share of the tenant. A version that exists gets another report, and keeps the rest.
async fn insert_version(
    tx: &WriteTx,
    tenant: &TenantId,
    name: &str,
    version: &PluginVersion,
    component: &[u8],
) -> Result<(), StoreError> {
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    let PluginVersion { sha256, size, report, created_at_ms, created_by, .. } = version;
    // The right bytes repair a damaged component, for everybody who has this version. The same bytes are not written again.
    let sql = "INSERT INTO components AS c (sha256, bytes) VALUES ($1, $2)
               ON CONFLICT (sha256) DO UPDATE SET bytes = EXCLUDED.bytes WHERE c.bytes <> EXCLUDED.bytes";
    tx.execute(sql, &[sha256, &component]).await?;
    let sql = "INSERT INTO plugin_versions (tenant, name, sha256, size, report, created_at_ms, created_by)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, name, sha256) DO UPDATE SET report = EXCLUDED.report";
    let created_by = text(created_by);
    tx.execute(sql, &[&&*tenant.0, &name, sha256, &int(*size), report, created_at_ms, &&*created_by]).await?;
    check.end(tx).await
}

/// Returns an error if versions of a deleted plugin of the same name are left.
async fn refuse_while_deleted(connection: &Connection, tenant: &TenantId, name: &str) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM plugin_versions v WHERE v.tenant = $1 AND v.name = $2
               AND NOT EXISTS (SELECT 1 FROM plugins p WHERE p.tenant = v.tenant AND p.name = v.name) LIMIT 1";
    if connection.exists(sql, &[&&*tenant.0, &name]).await? {
        return Err(has_versions_left(name));
    }
    Ok(())
}

fn first_text(row: Option<Row>) -> Result<Option<String>, StoreError> {
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

fn version_row(row: &Row) -> Result<PluginVersion, StoreError> {
    Ok(PluginVersion {
        sha256: row.try_get(0)?,
        size: number(row, 1)?,
        report: row.try_get(2)?,
        created_at_ms: row.try_get(3)?,
        created_by: row.try_get(4)?,
        active: row.try_get(5)?,
    })
}

async fn read_plugins(connection: &Connection) -> Result<Vec<StoredPlugin>, StoreError> {
    let sql = "SELECT p.tenant, p.name, p.active_sha256, p.activated_at_ms, p.activated_by FROM plugins p
               JOIN tenants t ON t.id = p.tenant AND t.deleting_since_ms IS NULL ORDER BY p.tenant, p.name";
    connection.query(sql, &[]).await?.iter().map(plugin_row).collect()
}

fn plugin_row(row: &Row) -> Result<StoredPlugin, StoreError> {
    Ok(StoredPlugin {
        tenant: rows::tenant(row, 0)?,
        name: row.try_get(1)?,
        active_sha256: row.try_get(2)?,
        activated_at_ms: row.try_get(3)?,
        activated_by: row.try_get(4)?,
    })
}

/// Returns the active versions of a tenant, or of all tenants.
pub(super) async fn read_active_versions(
    connection: &Connection,
    of: Option<&TenantId>,
) -> Result<Vec<ActiveVersion>, StoreError> {
    let sql = "SELECT p.tenant, p.name, v.sha256, v.report FROM plugins p
               JOIN plugin_versions v ON v.tenant = p.tenant AND v.name = p.name AND v.sha256 = p.active_sha256
               JOIN tenants t ON t.id = p.tenant AND t.deleting_since_ms IS NULL
               WHERE $1::text IS NULL OR p.tenant = $1::text ORDER BY p.tenant, p.name";
    connection.query(sql, &[&of.map(|of| &*of.0)]).await?.iter().map(active_row).collect()
}

fn active_row(row: &Row) -> Result<ActiveVersion, StoreError> {
    Ok(ActiveVersion {
        tenant: rows::tenant(row, 0)?,
        name: row.try_get(1)?,
        sha256: row.try_get(2)?,
        report: row.try_get(3)?,
    })
}

/// Returns an error if a plugin of a subscription, or a version that it is pinned to, does not exist.
pub(super) async fn require_versions(connection: &Connection, subscription: &Subscription) -> Result<(), StoreError> {
    let tenant = &*subscription.tenant.0;
    for Step { plugin, pin } in &subscription.settings.plugin.0 {
        let is_there = match pin {
            Some(pin) => has_version(connection, tenant, plugin, pin.as_str()).await?,
            None => has_plugin(connection, tenant, plugin).await?,
        };
        if !is_there {
            return Err(deleted_meanwhile(plugin));
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

async fn has_plugin(connection: &Connection, tenant: &str, name: &str) -> Result<bool, StoreError> {
    connection.exists("SELECT 1 FROM plugins WHERE tenant = $1 AND name = $2", &[&tenant, &name]).await
}
