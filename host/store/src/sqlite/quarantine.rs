//! Quarantined versions of plugins, by tenant and sha256.

use super::Sqlite;
use crate::StoreError;
use crate::backend::rollouts::{Quarantine, QuarantineBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};

#[async_trait]
impl QuarantineBackend for Sqlite {
    async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO quarantine (tenant, sha256, since_ms, reason) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        let owner = new.tenant.clone();
        let write = move |connection: &Connection| {
            connection.execute(sql, params![&*new.tenant.0, new.sha256, new.since_ms, new.reason])
        };
        self.write(&owner, move |batch| Ok(write(batch).map(drop)?)).await
    }

    async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError> {
        let sql = "DELETE FROM quarantine WHERE tenant = ?1 AND sha256 = ?2";
        let owner = tenant.clone();
        self.write(&owner, move |batch| Ok(batch.execute(sql, params![&*tenant.0, sha256]).map(drop)?)).await
    }

    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.readers.read(Owner::Host, |connection| read_quarantined(connection, None)).await
    }
}

/// Returns the quarantined versions of a tenant that is not being deleted, or of all tenants.
pub(super) fn read_quarantined(connection: &Connection, of: Option<&TenantId>) -> Result<Vec<Quarantine>, StoreError> {
    let sql = "SELECT tenant, sha256, since_ms, reason FROM quarantine
               WHERE ?1 IS NULL OR tenant = ?1 AND EXISTS (SELECT 1 FROM ledgers l WHERE l.tenant = ?1 AND NOT l.deleting)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([of.map(|of| &*of.0)], |row| {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        Ok(Quarantine { tenant, sha256: row.get(1)?, since_ms: row.get(2)?, reason: row.get(3)? })
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}
