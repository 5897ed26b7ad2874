//! Quarantined versions of plugins, by tenant and sha256.

use super::fair_queue::Owner;
use super::{Store, StoreError};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};

/// Quarantined version of a plugin, which is not called.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// The sha256 of the component, in hex.
    pub sha256: String,
    /// Beginning of the quarantine, in milliseconds since the epoch.
    pub since_ms: i64,
    /// Cause of the quarantine.
    pub reason: String,
}

impl Store {
    /// Quarantines a version, unless it is quarantined already.
    pub async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO quarantine (tenant, sha256, since_ms, reason) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        let owner = new.tenant.clone();
        let write = move |connection: &Connection| {
            connection.execute(sql, params![&*new.tenant.0, new.sha256, new.since_ms, new.reason])
        };
        self.write(&owner, move |batch| Ok(write(batch).map(drop)?)).await
    }

    /// Releases a version.
    pub async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError> {
        let sql = "DELETE FROM quarantine WHERE tenant = ?1 AND sha256 = ?2";
        let owner = tenant.clone();
        self.write(&owner, move |batch| Ok(batch.execute(sql, params![&*tenant.0, sha256]).map(drop)?)).await
    }

    /// Returns all quarantined versions.
    pub async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.readers.read(Owner::Host, read_quarantined).await
    }
}

fn read_quarantined(connection: &Connection) -> Result<Vec<Quarantine>, StoreError> {
    let mut statement = connection.prepare("SELECT tenant, sha256, since_ms, reason FROM quarantine")?;
    let rows = statement.query_map([], |row| {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        Ok(Quarantine { tenant, sha256: row.get(1)?, since_ms: row.get(2)?, reason: row.get(3)? })
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}
