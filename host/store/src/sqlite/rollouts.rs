//! Rollouts of plugin versions in the database.

use super::Sqlite;
use super::batch::AdminTx;
use super::plugins::has_version;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::rollouts::{CountsElsewhere, RolloutBackend, RolloutId, RolloutKind, StoredRollout};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};

#[async_trait]
impl RolloutBackend for Sqlite {
    async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError> {
        let owner = rollout.tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let StoredRollout { tenant, name, kind, sha256, percent, started_at_ms, earlier, counts, .. } = &rollout;
            if !has_version(tx, tenant, name, sha256)? {
                return Err(StoreError::NotFound("version of the plugin"));
            }
            let sql = "INSERT INTO rollouts (tenant, name, kind, sha256, percent, started_at_ms, earlier, counts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                       ON CONFLICT DO UPDATE SET kind = ?3, sha256 = ?4, percent = ?5, started_at_ms = ?6, earlier = ?7, counts = ?8, ended_reason = NULL";
            let earlier = serde_json::to_string(earlier)?;
            tx.execute(sql, params![&*tenant.0, name, *kind as u8, sha256, percent, started_at_ms, earlier, counts])?;
            let action = AuditAction::PluginBeginRollout { name, rollout: rollout.audit() };
            tx.record(&actor, Some(tenant), &action)
        };
        self.write(&owner, write).await
    }

    async fn end_rollout(
        &self,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE rollouts SET ended_reason = ?5, counts = COALESCE(?6, counts)
                   WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3 AND started_at_ms = ?4 AND ended_reason IS NULL";
        let RolloutId { tenant, name, sha256, started_at_ms } = ended;
        self.write(&tenant.clone(), move |tx| {
            let reason = shortened(&reason, REASON_BYTES_MAX);
            match tx.execute(sql, params![&*tenant.0, name, sha256, started_at_ms, reason, counts])? {
                0 => Ok(()),
                _ => tx.record(&actor, Some(&tenant), &AuditAction::PluginEndRollout(&name)),
            }
        })
        .await
    }

    async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError> {
        let sql = "UPDATE rollouts SET counts = ?5
                   WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3 AND started_at_ms = ?4 AND ended_reason IS NULL";
        let RolloutId { tenant, name, sha256, started_at_ms } = counted;
        self.write(&tenant.clone(), move |connection| {
            Ok(connection.execute(sql, params![&*tenant.0, name, sha256, started_at_ms, counts]).map(drop)?)
        })
        .await
    }

    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        self.readers.read(Owner::Host, |connection| read_rollouts(connection, None)).await
    }

    async fn rollout_counts_elsewhere(&self) -> Result<Vec<CountsElsewhere>, StoreError> {
        // There is no other host.
        Ok(Vec::new())
    }
}

/// Returns the rollouts of a tenant, or of all tenants.
pub(super) fn read_rollouts(connection: &Connection, of: Option<&TenantId>) -> Result<Vec<StoredRollout>, StoreError> {
    let sql = "SELECT tenant, name, kind, sha256, percent, started_at_ms, ended_reason, earlier, counts FROM rollouts JOIN ledgers USING (tenant)
               WHERE NOT deleting AND (?1 IS NULL OR tenant = ?1)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([of.map(|of| &*of.0)], |row| {
        let earlier: String = row.get(7)?;
        let stored = StoredRollout {
            tenant: TenantId(row.get::<_, String>(0)?.into()),
            name: row.get(1)?,
            kind: if row.get::<_, u8>(2)? == 0 { RolloutKind::Canary } else { RolloutKind::Shadow },
            sha256: row.get(3)?,
            percent: row.get(4)?,
            started_at_ms: row.get(5)?,
            ended_reason: row.get(6)?,
            earlier: Vec::new(),
            counts: row.get(8)?,
            counts_elsewhere: Vec::new(),
        };
        Ok((stored, earlier))
    })?;
    rows.map(|row| {
        let (stored, earlier) = row?;
        Ok(StoredRollout { earlier: serde_json::from_str(&earlier)?, ..stored })
    })
    .collect()
}
