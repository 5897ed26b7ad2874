//! Plugins in the database: components by content, versions by tenant and name, and the active versions.

use super::batch::AdminTx;
use super::share::within_share;
use super::{Sqlite, sweeps};
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
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

#[async_trait]
impl PluginBackend for Sqlite {
    async fn activate_plugin(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        let share = self.limits.share;
        let add = move |tx: &AdminTx<'_, '_>, tenant: &TenantId, name: &str| {
            refuse_while_deleted(tx, tenant, name)?;
            within_share(tx, tenant, share, |tx| insert_version(tx, tenant, name, &version, &component))?;
            Ok(version.sha256)
        };
        self.activate(actor, |name, sha256| AuditAction::PluginUpload { name, sha256 }, tenant, name, add).await
    }

    async fn add_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        version: PluginVersion,
        component: Bytes,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "SELECT 1 FROM plugins WHERE tenant = ?1 AND name = ?2";
            if !tx.prepare_cached(sql)?.exists(params![&*tenant.0, name])? {
                return Err(no_plugin());
            }
            within_share(tx, &tenant, share, |tx| insert_version(tx, &tenant, &name, &version, &component))?;
            let action = AuditAction::PluginAddVersion { name: &name, sha256: &version.sha256 };
            tx.record(&actor, Some(&tenant), &action)
        };
        self.write(&owner, write).await
    }

    async fn has_version(&self, tenant: TenantId, name: String, sha256: String) -> Result<bool, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| has_version(connection, &tenant, &name, &sha256);
        self.readers.read(owner, read).await
    }

    async fn version_report(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<Option<String>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT report FROM plugin_versions JOIN plugins USING (tenant, name) WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row(params![&*tenant.0, name, sha256], |row| row.get(0)).optional()?)
        };
        self.readers.read(owner, read).await
    }

    async fn active_versions(&self) -> Result<Vec<ActiveVersion>, StoreError> {
        self.readers.read(Owner::Host, |connection| read_active_versions(connection, None)).await
    }

    async fn activate_version(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), StoreError> {
        let find = move |tx: &AdminTx<'_, '_>, tenant: &TenantId, name: &str| {
            let there = has_version(tx, tenant, name, &sha256)?;
            there.then_some(sha256).ok_or(StoreError::NotFound("version of the plugin"))
        };
        self.activate(actor, |name, sha256| AuditAction::PluginActivate { name, sha256 }, tenant, name, find).await
    }

    async fn plugin_file(&self, tenant: TenantId, name: String) -> Result<Option<String>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT sha256 FROM plugin_files WHERE tenant = ?1 AND name = ?2";
            Ok(connection.query_row(sql, params![&*tenant.0, name], |row| row.get(0)).optional()?)
        };
        self.readers.read(owner, read).await
    }

    async fn note_plugin_file(&self, tenant: TenantId, name: String, sha256: String) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO plugin_files (tenant, name, sha256) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET sha256 = ?3";
        self.write(&tenant.clone(), move |connection| {
            Ok(connection.execute(sql, params![&*tenant.0, name, sha256]).map(drop)?)
        })
        .await
    }

    async fn plugins(&self) -> Result<Vec<StoredPlugin>, StoreError> {
        self.readers.read(Owner::Host, read_plugins).await
    }

    async fn plugin_versions(&self, tenant: TenantId, name: String) -> Result<Vec<PluginVersion>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT v.sha256, v.size, v.report, v.created_at_ms, v.created_by, v.sha256 = p.active_sha256
                       FROM plugin_versions v JOIN plugins p USING (tenant, name)
                       WHERE v.tenant = ?1 AND v.name = ?2 ORDER BY v.created_at_ms DESC, v.sha256";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![&*tenant.0, name], |row| {
                Ok(PluginVersion {
                    sha256: row.get(0)?,
                    size: row.get(1)?,
                    report: row.get(2)?,
                    created_at_ms: row.get(3)?,
                    created_by: row.get(4)?,
                    active: row.get(5)?,
                })
            })?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }

    async fn component(&self, sha256: String) -> Result<Bytes, StoreError> {
        let read = move |connection: &Connection| {
            let bytes = match stored_component(connection, &sha256) {
                Ok(bytes) => bytes.ok_or(StoreError::NotFound("component"))?,
                // Pages of the component itself are damaged.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    return Err(StoreError::DamagedComponent { sha256 });
                }
                Err(error) => return Err(error.into()),
            };
            if is_whole(&sha256, &bytes) {
                Ok(Bytes::from(bytes))
            } else {
                Err(StoreError::DamagedComponent { sha256 })
            }
        };
        self.readers.read(Owner::Host, read).await
    }
}

impl Sqlite {
    /// Stores an activation. The lanes are told by the store, when the version is installed.
    async fn activate(
        &self,
        actor: Actor,
        action: for<'a> fn(&'a str, &'a str) -> AuditAction<'a>,
        tenant: TenantId,
        name: String,
        version: impl FnOnce(&AdminTx<'_, '_>, &TenantId, &str) -> Result<String, StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let users = self.state.catalog.users_of(&tenant, &name);
        let damage = self.damage.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sha256 = version(tx, &tenant, &name)?;
            tx.execute(
                "INSERT INTO plugins (tenant, name, active_sha256, activated_at_ms, activated_by) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET active_sha256 = ?3, activated_at_ms = ?4, activated_by = ?5",
                params![&*tenant.0, name, sha256, now_ms(), actor.shown()],
            )?;
            // The rollout compared with the previous version.
            let sql = "UPDATE rollouts SET ended_reason = ?3 WHERE tenant = ?1 AND name = ?2 AND ended_reason IS NULL";
            tx.execute(sql, params![&*tenant.0, name, ANOTHER_ACTIVATED])?;
            tx.record(&actor, Some(&tenant), &action(&name, &sha256))?;
            sweeps::judge_again(tx, &tenant, &Changed::Plugin(name), &users, &damage)
        };
        self.change(&owner, write, |_, ()| {}).await
    }
}

fn read_plugins(connection: &Connection) -> Result<Vec<StoredPlugin>, StoreError> {
    let mut statement =
        connection.prepare("SELECT tenant, name, active_sha256, activated_at_ms, activated_by FROM plugins JOIN ledgers USING (tenant) WHERE NOT deleting")?;
    let rows = statement.query_map([], |row| {
        Ok(StoredPlugin {
            tenant: TenantId(row.get::<_, String>(0)?.into()),
            name: row.get(1)?,
            active_sha256: row.get(2)?,
            activated_at_ms: row.get(3)?,
            activated_by: row.get(4)?,
        })
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

/// Returns the active versions of a tenant, or of all tenants.
pub(super) fn read_active_versions(
    connection: &Connection,
    of: Option<&TenantId>,
) -> Result<Vec<ActiveVersion>, StoreError> {
    let sql = "SELECT p.tenant, p.name, v.sha256, v.report FROM plugins p
               JOIN plugin_versions v ON v.tenant = p.tenant AND v.name = p.name AND v.sha256 = p.active_sha256
               JOIN ledgers l ON l.tenant = p.tenant AND NOT l.deleting WHERE ?1 IS NULL OR p.tenant = ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([of.map(|of| &*of.0)], |row| {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        Ok(ActiveVersion { tenant, name: row.get(1)?, sha256: row.get(2)?, report: row.get(3)? })
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

fn stored_component(connection: &Connection, sha256: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT bytes FROM components WHERE sha256 = ?1")?;
    statement.query_row([sha256], |row| row.get(0)).optional()
}

/// Returns the sha256 of every component whose bytes do not match it.
pub(super) fn damaged_components(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut names = connection.prepare("SELECT sha256 FROM components ORDER BY sha256")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let is_damaged = |sha256: &String| match stored_component(connection, sha256) {
        Ok(bytes) => bytes.is_some_and(|bytes| !is_whole(sha256, &bytes)),
        Err(_) => true,
    };
    Ok(names.into_iter().filter(is_damaged).collect())
}

fn insert_version(
    connection: &Connection,
    tenant: &TenantId,
    name: &str,
    version: &PluginVersion,
    component: &[u8],
) -> Result<(), StoreError> {
    let PluginVersion { sha256, size, report, created_at_ms, created_by, .. } = version;
    let stored = stored_component(connection, sha256);
    if !stored.is_ok_and(|stored| stored.is_some_and(|stored| stored == component)) {
        // The right bytes repair a damaged component, for everybody who has this version.
        let sql = "INSERT INTO components (sha256, bytes) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET bytes = ?2";
        connection.execute(sql, params![sha256, component])?;
    }
    connection.execute(
        "INSERT INTO plugin_versions (tenant, name, sha256, size, report, created_at_ms, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET report = excluded.report",
        params![&*tenant.0, name, sha256, size, report, created_at_ms, created_by],
    )?;
    Ok(())
}

/// Returns an error if versions of a deleted plugin of the same name are left.
fn refuse_while_deleted(connection: &Connection, tenant: &TenantId, name: &str) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM plugin_versions v WHERE tenant = ?1 AND name = ?2
               AND NOT EXISTS (SELECT 1 FROM plugins p WHERE p.tenant = v.tenant AND p.name = v.name) LIMIT 1";
    if connection.prepare_cached(sql)?.exists(params![&*tenant.0, name])? {
        return Err(has_versions_left(name));
    }
    Ok(())
}

/// Returns an error if a plugin or version of a subscription does not exist. It may have been deleted since it was looked up.
pub(super) fn require_versions(connection: &Connection, subscription: &Subscription) -> Result<(), StoreError> {
    let tenant = &subscription.tenant;
    for Step { plugin, pin } in &subscription.settings.plugin.0 {
        let is_there = match pin {
            Some(pin) => has_version(connection, tenant, plugin, pin)?,
            None => connection
                .prepare_cached("SELECT 1 FROM plugins WHERE tenant = ?1 AND name = ?2")?
                .exists(params![&*tenant.0, &**plugin])?,
        };
        if !is_there {
            return Err(deleted_meanwhile(plugin));
        }
    }
    Ok(())
}

pub(super) fn has_version(
    connection: &Connection,
    tenant: &TenantId,
    name: &str,
    sha256: &str,
) -> Result<bool, StoreError> {
    // Versions of a deleted plugin stay for a while.
    let sql = "SELECT 1 FROM plugin_versions JOIN plugins USING (tenant, name) WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3";
    Ok(connection.prepare_cached(sql)?.exists(params![&*tenant.0, name, sha256])?)
}
