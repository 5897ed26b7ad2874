//! Trials of versions in the database.

use super::plugins::has_version;
use super::{Store, StoreError};
use crate::subscription::TenantId;
use rusqlite::{Connection, params};

/// How a version is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutKind {
    /// It judges a part of the events.
    Canary,
    /// It judges all of them, and nothing of it is sent.
    Shadow,
}

/// A trial of a version.
#[derive(Clone, Debug)]
pub struct StoredRollout {
    /// The plugin's owner.
    pub tenant: TenantId,
    /// The plugin.
    pub name: String,
    /// How it is tried.
    pub kind: RolloutKind,
    /// The version on trial.
    pub sha256: String,
    /// How much of the events a canary judges, in percent.
    pub percent: f64,
    /// Since when, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Why it ended, if it did.
    pub ended_reason: Option<String>,
}

impl Store {
    /// Begins a trial, in the place of the plugin's one before.
    pub async fn begin_rollout(&self, rollout: StoredRollout) -> Result<(), StoreError> {
        let write = move |connection: &Connection| {
            let StoredRollout { tenant, name, kind, sha256, percent, started_at_ms, .. } = rollout;
            if !has_version(connection, &tenant, &name, &sha256)? {
                return Err(StoreError::NotFound("version of the plugin"));
            }
            let sql = "INSERT OR REPLACE INTO rollouts (tenant, name, kind, sha256, percent, started_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.execute(sql, params![&*tenant.0, name, kind as u8, sha256, percent, started_at_ms])?;
            Ok(())
        };
        self.write(write).await
    }

    /// Ends a plugin's trial, if one is under way.
    pub async fn end_rollout(&self, tenant: TenantId, name: String, reason: String) -> Result<(), StoreError> {
        let sql = "UPDATE rollouts SET ended_reason = ?3 WHERE tenant = ?1 AND name = ?2 AND ended_reason IS NULL";
        self.write(move |connection| Ok(connection.execute(sql, params![&*tenant.0, name, reason]).map(drop)?)).await
    }

    /// Every trial, also those that ended.
    pub async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        let read = |connection: &Connection| {
            let sql = "SELECT tenant, name, kind, sha256, percent, started_at_ms, ended_reason FROM rollouts";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(StoredRollout {
                    tenant: TenantId(row.get::<_, String>(0)?.into()),
                    name: row.get(1)?,
                    kind: if row.get::<_, u8>(2)? == 0 { RolloutKind::Canary } else { RolloutKind::Shadow },
                    sha256: row.get(3)?,
                    percent: row.get(4)?,
                    started_at_ms: row.get(5)?,
                    ended_reason: row.get(6)?,
                })
            })?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(read).await
    }
}
