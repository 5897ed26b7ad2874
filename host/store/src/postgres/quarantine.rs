//! Quarantined versions of plugins in the database, by tenant and sha256.

use super::connection::Connection;
use super::rows::text;
use super::{Postgres, rows};
use crate::StoreError;
use crate::backend::rollouts::{Quarantine, QuarantineBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use tokio_postgres::Row;

#[async_trait]
impl QuarantineBackend for Postgres {
    async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError> {
        self.write(Owner::from(&new.tenant), move |tx| {
            Box::pin(async move {
                let Quarantine { tenant, sha256, since_ms, reason } = &new;
                let sql = "INSERT INTO quarantine (tenant, sha256, since_ms, reason) VALUES ($1, $2, $3, $4)
                           ON CONFLICT (tenant, sha256) DO NOTHING";
                tx.execute(sql, &[&&*tenant.0, sha256, since_ms, &&*text(reason)]).await.map(drop)
            })
        })
        .await
    }

    async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM quarantine WHERE tenant = $1 AND sha256 = $2";
                tx.execute(sql, &[&&*tenant.0, &sha256]).await.map(drop)
            })
        })
        .await
    }

    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        let read = self
            .readers
            .read_one(Owner::Host, |connection| Box::pin(async move { read_quarantined(connection, None).await }));
        read.await
    }
}

/// Returns the quarantined versions of a tenant that is not being deleted, or of all tenants.
pub(super) async fn read_quarantined(
    connection: &Connection,
    of: Option<&TenantId>,
) -> Result<Vec<Quarantine>, StoreError> {
    let sql = "SELECT tenant, sha256, since_ms, reason FROM quarantine WHERE $1::text IS NULL OR tenant = $1::text
               AND EXISTS (SELECT 1 FROM tenants WHERE id = $1::text AND deleting_since_ms IS NULL) ORDER BY tenant, sha256";
    connection.query(sql, &[&of.map(|of| &*of.0)]).await?.iter().map(quarantine_row).collect()
}

fn quarantine_row(row: &Row) -> Result<Quarantine, StoreError> {
    Ok(Quarantine {
        tenant: rows::tenant(row, 0)?,
        sha256: row.try_get(1)?,
        since_ms: row.try_get(2)?,
        reason: row.try_get(3)?,
    })
}
