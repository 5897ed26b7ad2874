//! Rollouts of plugin versions in the database.
//!
//! # Guarantees
//! - A plugin has at most one rollout. One that has ended stays with its reason, until another one replaces it or the plugin is deleted.

use super::connection::Connection;
use super::plugins::has_version;
use super::rows::text;
use super::transaction::WriteTx;
use super::{Postgres, rows};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::plugins::{RolloutBackend, RolloutId, RolloutKind, StoredRollout};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use tokio_postgres::Row;

#[async_trait]
impl RolloutBackend for Postgres {
    async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError> {
        self.write(Owner::from(&rollout.tenant), move |tx| Box::pin(async move { begin(tx, &actor, &rollout).await }))
            .await
    }

    async fn end_rollout(
        &self,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError> {
        self.write(Owner::from(&ended.tenant), move |tx| {
            Box::pin(async move {
                let RolloutId { tenant, name, sha256, started_at_ms } = ended;
                let sql = "UPDATE rollouts SET ended_reason = $5, counts = coalesce($6, counts)
                           WHERE tenant = $1 AND name = $2 AND sha256 = $3 AND started_at_ms = $4 AND ended_reason IS NULL";
                let reason = shortened(&text(&reason), REASON_BYTES_MAX);
                match tx.execute(sql, &[&&*tenant.0, &name, &sha256, &started_at_ms, &reason, &counts]).await? {
                    0 => Ok(()),
                    _ => tx.record(&actor, Some(&tenant), &AuditAction::PluginEndRollout(&name)).await,
                }
            })
        })
        .await
    }

    async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError> {
        self.write(Owner::from(&counted.tenant), move |tx| {
            Box::pin(async move {
                let RolloutId { tenant, name, sha256, started_at_ms } = counted;
                let sql = "UPDATE rollouts SET counts = $5
                           WHERE tenant = $1 AND name = $2 AND sha256 = $3 AND started_at_ms = $4 AND ended_reason IS NULL";
                tx.execute(sql, &[&&*tenant.0, &name, &sha256, &started_at_ms, &counts]).await.map(drop)
            })
        })
        .await
    }

    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        let read =
            self.readers.read_one(Owner::Host, |connection| Box::pin(async move { read_rollouts(connection).await }));
        read.await
    }
}

async fn begin(tx: &WriteTx, actor: &Actor, rollout: &StoredRollout) -> Result<(), StoreError> {
    let StoredRollout { tenant, name, kind, sha256, percent, started_at_ms, earlier, counts, .. } = rollout;
    if !has_version(tx, &tenant.0, name, sha256).await? {
        return Err(StoreError::NotFound("version of the plugin"));
    }
    let sql = "INSERT INTO rollouts (tenant, name, kind, sha256, percent, started_at_ms, earlier, counts)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (tenant, name) DO UPDATE SET kind = EXCLUDED.kind, sha256 = EXCLUDED.sha256,
                 percent = EXCLUDED.percent, started_at_ms = EXCLUDED.started_at_ms, earlier = EXCLUDED.earlier,
                 counts = EXCLUDED.counts, ended_reason = NULL";
    let earlier = serde_json::to_string(earlier)?;
    let kind = *kind as i16;
    tx.execute(sql, &[&&*tenant.0, name, &kind, sha256, percent, started_at_ms, &earlier, counts]).await?;
    let action = AuditAction::PluginBeginRollout { name, rollout: rollout.audit() };
    tx.record(actor, Some(tenant), &action).await
}

async fn read_rollouts(connection: &Connection) -> Result<Vec<StoredRollout>, StoreError> {
    let sql =
        "SELECT r.tenant, r.name, r.kind, r.sha256, r.percent, r.started_at_ms, r.ended_reason, r.earlier, r.counts
               FROM rollouts r JOIN tenants t ON t.id = r.tenant AND t.deleting_since_ms IS NULL ORDER BY r.tenant, r.name";
    connection.query(sql, &[]).await?.iter().map(rollout_row).collect()
}

fn rollout_row(row: &Row) -> Result<StoredRollout, StoreError> {
    Ok(StoredRollout {
        tenant: rows::tenant(row, 0)?,
        name: row.try_get(1)?,
        kind: if row.try_get::<_, i16>(2)? == 0 { RolloutKind::Canary } else { RolloutKind::Shadow },
        sha256: row.try_get(3)?,
        percent: row.try_get(4)?,
        started_at_ms: row.try_get(5)?,
        ended_reason: row.try_get(6)?,
        earlier: serde_json::from_str(row.try_get(7)?)?,
        counts: row.try_get(8)?,
    })
}
