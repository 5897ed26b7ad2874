//! Rollouts of plugin versions in the database.
//!
//! # Guarantees
//! - A plugin has at most one rollout. One that has ended stays with its reason, until another one replaces it or the plugin is deleted.
//! - Each host has a row of counts, which only that host writes while the rollout is under way.

use super::connection::Connection;
use super::host_number::OF_CONNECTION;
use super::plugins::has_version;
use super::rows::text;
use super::transaction::WriteTx;
use super::{Postgres, rows};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::rollouts::{CountsElsewhere, RolloutBackend, RolloutId, RolloutKind, StoredRollout};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;
use tokio_postgres::Row;

/// Returns the SQL of the counts of other hosts for the rollout `r`.
fn counts_elsewhere() -> String {
    format!(
        "ARRAY(SELECT c.counts FROM rollout_counts c WHERE c.tenant = r.tenant AND c.name = r.name
           AND c.host <> {OF_CONNECTION} ORDER BY c.host)"
    )
}

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
                if let Some(counts) = counts {
                    note_counts(tx, &ended, &counts).await?;
                }
                let RolloutId { tenant, name, sha256, started_at_ms } = ended;
                let sql = "UPDATE rollouts SET ended_reason = $5
                           WHERE tenant = $1 AND name = $2 AND sha256 = $3 AND started_at_ms = $4 AND ended_reason IS NULL";
                let reason = shortened(&text(&reason), REASON_BYTES_MAX);
                match tx.execute(sql, &[&&*tenant.0, &name, &sha256, &started_at_ms, &reason]).await? {
                    0 => Ok(()),
                    _ => tx.record(&actor, Some(&tenant), &AuditAction::PluginEndRollout(&name)).await,
                }
            })
        })
        .await
    }

    async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError> {
        self.write(Owner::from(&counted.tenant), move |tx| {
            Box::pin(async move { note_counts(tx, &counted, &counts).await })
        })
        .await
    }

    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        let read = self
            .readers
            .read_one(Owner::Host, |connection| Box::pin(async move { read_rollouts(connection, None).await }));
        read.await
    }

    async fn rollout_counts_elsewhere(&self) -> Result<Vec<CountsElsewhere>, StoreError> {
        let read = self
            .readers
            .read_one(Owner::Host, |connection| Box::pin(async move { read_counts_elsewhere(connection).await }));
        read.await
    }
}

async fn begin(tx: &WriteTx, actor: &Actor, rollout: &StoredRollout) -> Result<(), StoreError> {
    let StoredRollout { tenant, name, kind, sha256, percent, started_at_ms, earlier, counts, .. } = rollout;
    if !has_version(tx, &tenant.0, name, sha256).await? {
        return Err(StoreError::NotFound("version of the plugin"));
    }
    let kind = *kind as i16;
    let continued_ms = earlier.last().map(|(started_at_ms, _)| *started_at_ms);
    let sql = "DELETE FROM rollout_counts WHERE tenant = $1 AND name = $2 AND NOT EXISTS
               (SELECT 1 FROM rollouts r WHERE r.tenant = $1 AND r.name = $2 AND r.kind = $3 AND r.sha256 = $4 AND r.started_at_ms = $5
                AND r.ended_reason IS NULL)";
    tx.execute(sql, &[&&*tenant.0, name, &kind, sha256, &continued_ms]).await?;
    let sql = "INSERT INTO rollouts (tenant, name, kind, sha256, percent, started_at_ms, earlier)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (tenant, name) DO UPDATE SET kind = EXCLUDED.kind, sha256 = EXCLUDED.sha256,
                 percent = EXCLUDED.percent, started_at_ms = EXCLUDED.started_at_ms, earlier = EXCLUDED.earlier,
                 ended_reason = NULL";
    let earlier = serde_json::to_string(earlier)?;
    tx.execute(sql, &[&&*tenant.0, name, &kind, sha256, percent, started_at_ms, &earlier]).await?;
    note_counts(tx, &rollout.id(), counts).await?;
    let action = AuditAction::PluginBeginRollout { name, rollout: rollout.audit() };
    tx.record(actor, Some(tenant), &action).await
}

/// Stores the counts of this host for a rollout, if it is under way.
async fn note_counts(tx: &WriteTx, counted: &RolloutId, counts: &str) -> Result<(), StoreError> {
    let RolloutId { tenant, name, sha256, started_at_ms } = counted;
    let sql = format!(
        "INSERT INTO rollout_counts (tenant, name, host, counts)
         SELECT tenant, name, {OF_CONNECTION}, $5::text FROM rollouts
         WHERE tenant = $1 AND name = $2 AND sha256 = $3 AND started_at_ms = $4 AND ended_reason IS NULL
         ON CONFLICT (tenant, name, host) DO UPDATE SET counts = EXCLUDED.counts"
    );
    tx.execute(&sql, &[&&*tenant.0, name, sha256, started_at_ms, &counts]).await.map(drop)
}

/// Returns the rollouts of a tenant, or of all tenants.
pub(super) async fn read_rollouts(
    connection: &Connection,
    of: Option<&TenantId>,
) -> Result<Vec<StoredRollout>, StoreError> {
    let sql = format!(
        "SELECT r.tenant, r.name, r.kind, r.sha256, r.percent, r.started_at_ms, r.ended_reason, r.earlier,
           coalesce((SELECT c.counts FROM rollout_counts c WHERE c.tenant = r.tenant AND c.name = r.name AND c.host = {OF_CONNECTION}), ''),
           {}
         FROM rollouts r JOIN tenants t ON t.id = r.tenant AND t.deleting_since_ms IS NULL
         WHERE $1::text IS NULL OR r.tenant = $1::text ORDER BY r.tenant, r.name",
        counts_elsewhere()
    );
    connection.query(&sql, &[&of.map(|of| &*of.0)]).await?.iter().map(rollout_row).collect()
}

async fn read_counts_elsewhere(connection: &Connection) -> Result<Vec<CountsElsewhere>, StoreError> {
    let sql = format!(
        "SELECT r.tenant, r.name, r.sha256, r.started_at_ms, {} FROM rollouts r
         WHERE r.ended_reason IS NULL ORDER BY r.tenant, r.name",
        counts_elsewhere()
    );
    connection.query(&sql, &[]).await?.iter().map(counts_row).collect()
}

fn counts_row(row: &Row) -> Result<CountsElsewhere, StoreError> {
    Ok(CountsElsewhere {
        id: RolloutId {
            tenant: rows::tenant(row, 0)?,
            name: row.try_get(1)?,
            sha256: row.try_get(2)?,
            started_at_ms: row.try_get(3)?,
        },
        counts: row.try_get(4)?,
    })
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
        counts_elsewhere: row.try_get(9)?,
    })
}

#[cfg(test)]
mod tests;
