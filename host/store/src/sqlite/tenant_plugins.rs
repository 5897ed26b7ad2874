//! Plugins of one tenant, in one snapshot.

use super::Sqlite;
use super::plugins::read_active_versions;
use super::quarantine::read_quarantined;
use super::rollouts::read_rollouts;
use crate::StoreError;
use crate::backend::rollouts::TAKEN_BACK;
use crate::backend::tenant_plugins::{HALTED_MAX, Halt, HaltedVersion, TenantPlugins, TenantPluginsBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, Params, params};

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

    async fn halted_versions(&self, tenant: TenantId, since_ms: i64) -> Result<Vec<HaltedVersion>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT p.name, q.sha256, q.reason
                       FROM plugins p JOIN quarantine q ON q.tenant = p.tenant AND q.sha256 = p.active_sha256
                       WHERE p.tenant = ?1 ORDER BY p.name LIMIT ?2";
            let mut halted = read_halted(connection, sql, params![&*tenant.0, HALTED_MAX], Halt::Quarantined)?;
            let sql = "SELECT r.name, r.sha256, r.ended_reason FROM rollouts r JOIN plugins p USING (tenant, name)
                       WHERE r.tenant = ?1 AND r.started_at_ms >= ?3 AND r.ended_reason GLOB ?4 || '*' AND r.sha256 <> p.active_sha256
                       ORDER BY r.name LIMIT ?2";
            let values = params![&*tenant.0, HALTED_MAX, since_ms, TAKEN_BACK];
            halted.append(&mut read_halted(connection, sql, values, Halt::TakenBack)?);
            Ok(halted)
        };
        self.readers.read(owner, read).await
    }
}

/// Reads names, versions and reasons.
fn read_halted(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    halt: Halt,
) -> Result<Vec<HaltedVersion>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(values, |row| {
        Ok(HaltedVersion { name: row.get(0)?, sha256: row.get(1)?, halt, reason: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
