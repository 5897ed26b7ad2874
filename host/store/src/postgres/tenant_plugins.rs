//! Plugins of one tenant, in one snapshot.

use super::Postgres;
use super::plugins::read_active_versions;
use super::quarantine::read_quarantined;
use super::rollouts::read_rollouts;
use super::rows::int;
use crate::StoreError;
use crate::backend::rollouts::TAKEN_BACK;
use crate::backend::tenant_plugins::{HALTED_MAX, Halt, HaltedVersion, TenantPlugins, TenantPluginsBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use tokio_postgres::Row;

#[async_trait]
impl TenantPluginsBackend for Postgres {
    async fn tenant_plugins(&self, tenant: TenantId) -> Result<TenantPlugins, StoreError> {
        let read = self.readers.read(Owner::Host, move |connection| {
            Box::pin(async move {
                Ok(TenantPlugins {
                    active: read_active_versions(connection, Some(&tenant)).await?,
                    rollouts: read_rollouts(connection, Some(&tenant)).await?,
                    quarantined: read_quarantined(connection, Some(&tenant)).await?,
                })
            })
        });
        read.await
    }

    async fn halted_versions(&self, tenant: TenantId, since_ms: i64) -> Result<Vec<HaltedVersion>, StoreError> {
        let read = self.readers.read(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT p.name, q.sha256, q.reason
                           FROM plugins p JOIN quarantine q ON q.tenant = p.tenant AND q.sha256 = p.active_sha256
                           WHERE p.tenant = $1 ORDER BY p.name LIMIT $2";
                let quarantined = connection.query(sql, &[&&*tenant.0, &int(HALTED_MAX)]).await?;
                let sql = "SELECT r.name, r.sha256, r.ended_reason FROM rollouts r JOIN plugins p USING (tenant, name)
                           WHERE r.tenant = $1 AND r.started_at_ms >= $3 AND starts_with(r.ended_reason, $4) AND r.sha256 <> p.active_sha256
                           ORDER BY r.name LIMIT $2";
                let taken_back =
                    connection.query(sql, &[&&*tenant.0, &int(HALTED_MAX), &since_ms, &TAKEN_BACK]).await?;
                let quarantined = quarantined.iter().map(|row| halted_row(row, Halt::Quarantined));
                quarantined.chain(taken_back.iter().map(|row| halted_row(row, Halt::TakenBack))).collect()
            })
        });
        read.await
    }
}

fn halted_row(row: &Row, halt: Halt) -> Result<HaltedVersion, StoreError> {
    Ok(HaltedVersion { name: row.try_get(0)?, sha256: row.try_get(1)?, halt, reason: row.try_get(2)? })
}
