//! Rollouts of plugin versions in the database.

use super::audit::{Actor, AuditAction, RolloutAudit};
use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::plugins::has_version;
use super::{Store, StoreError};
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};

/// Kind of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutKind {
    /// The version judges a part of the events.
    Canary,
    /// The version judges all events, and its results are not sent.
    Shadow,
}

/// Rollout of a version, as stored.
#[derive(Clone, Debug)]
pub struct StoredRollout {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// Name of the plugin.
    pub name: String,
    /// Kind of the rollout.
    pub kind: RolloutKind,
    /// Version of the rollout.
    pub sha256: String,
    /// Part of the events that a canary judges, in percent.
    pub percent: f64,
    /// Time since which `percent` applies, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Start and value of earlier percentages, so that the arm of an event never changes.
    pub earlier: Vec<(i64, f64)>,
    /// Reason for the end. None: the rollout is under way.
    pub ended_reason: Option<String>,
    /// Counts of the rollout, as text of the plugin runtime. Empty: nothing was counted.
    pub counts: String,
}

/// Maximum number of earlier percentages of a canary that are remembered.
const EARLIER_MAX: usize = 100;

impl StoredRollout {
    /// Returns the percentage that applies to events received at this time. None: the rollout had not begun.
    pub fn percent_at(&self, received_at_ms: i64) -> Option<f64> {
        if received_at_ms >= self.started_at_ms {
            return Some(self.percent);
        }
        self.earlier.iter().rev().find(|(since_ms, _)| received_at_ms >= *since_ms).map(|(_, percent)| *percent)
    }

    /// Returns true if this canary is the one under way with another percentage.
    pub fn continues(&self, under_way: &StoredRollout) -> bool {
        self.kind == RolloutKind::Canary && under_way.kind == self.kind && under_way.sha256 == self.sha256
    }

    /// Adds the earlier percentages of the rollout under way, if this one continues it.
    pub fn after(mut self, under_way: &StoredRollout) -> Self {
        if self.continues(under_way) {
            self.earlier = under_way.earlier.clone();
            self.earlier.push((under_way.started_at_ms, under_way.percent));
            let over = self.earlier.len().saturating_sub(EARLIER_MAX);
            self.earlier.drain(..over);
        }
        self
    }
}

impl Store {
    /// Begins a rollout, which replaces the plugin's previous one.
    pub async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError> {
        let owner = rollout.tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let StoredRollout { tenant, name, kind, sha256, percent, started_at_ms, earlier, counts, .. } = rollout;
            if !has_version(tx, &tenant, &name, &sha256)? {
                return Err(StoreError::NotFound("version of the plugin"));
            }
            let sql = "INSERT INTO rollouts (tenant, name, kind, sha256, percent, started_at_ms, earlier, counts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                       ON CONFLICT DO UPDATE SET kind = ?3, sha256 = ?4, percent = ?5, started_at_ms = ?6, earlier = ?7, counts = ?8, ended_reason = NULL";
            let earlier = serde_json::to_string(&earlier)?;
            tx.execute(sql, params![&*tenant.0, name, kind as u8, sha256, percent, started_at_ms, earlier, counts])?;
            let rollout = match kind {
                RolloutKind::Canary => RolloutAudit { kind: "canary", sha256: &sha256, percent: Some(percent) },
                RolloutKind::Shadow => RolloutAudit { kind: "shadow", sha256: &sha256, percent: None },
            };
            tx.record(&actor, Some(&tenant), &AuditAction::PluginBeginRollout { name: &name, rollout })
        };
        self.write(&owner, write).await
    }

    /// Ends a plugin's rollout, if one is under way, with its last counts. None: the stored counts stay.
    pub async fn end_rollout(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE rollouts SET ended_reason = ?3, counts = COALESCE(?4, counts)
                   WHERE tenant = ?1 AND name = ?2 AND ended_reason IS NULL";
        self.write(&tenant.clone(), move |tx| {
            let reason = shortened(&reason, REASON_BYTES_MAX);
            match tx.execute(sql, params![&*tenant.0, name, reason, counts])? {
                0 => Ok(()),
                _ => tx.record(&actor, Some(&tenant), &AuditAction::PluginEndRollout(&name)),
            }
        })
        .await
    }

    /// Stores the counts of a rollout that is under way.
    pub async fn note_rollout_counts(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
        counts: String,
    ) -> Result<(), StoreError> {
        let sql =
            "UPDATE rollouts SET counts = ?4 WHERE tenant = ?1 AND name = ?2 AND sha256 = ?3 AND ended_reason IS NULL";
        self.write(&tenant.clone(), move |connection| {
            Ok(connection.execute(sql, params![&*tenant.0, name, sha256, counts]).map(drop)?)
        })
        .await
    }

    /// Returns all rollouts, including those that have ended.
    pub async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        self.readers.read(Owner::Host, read_rollouts).await
    }
}

fn read_rollouts(connection: &Connection) -> Result<Vec<StoredRollout>, StoreError> {
    let sql = "SELECT tenant, name, kind, sha256, percent, started_at_ms, ended_reason, earlier, counts FROM rollouts JOIN ledgers USING (tenant) WHERE NOT deleting";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
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
        };
        Ok((stored, earlier))
    })?;
    rows.map(|row| {
        let (stored, earlier) = row?;
        Ok(StoredRollout { earlier: serde_json::from_str(&earlier)?, ..stored })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arm_of_an_event_outlives_a_change_of_the_percentage() {
        let third = stage(300, 5.0).after(&stage(200, 50.0).after(&stage(100, 10.0)));
        let at = [99, 100, 199, 200, 300, 1_000].map(|ms| third.percent_at(ms));
        assert_eq!(at, [None, Some(10.0), Some(10.0), Some(50.0), Some(5.0), Some(5.0)]);
        let other = StoredRollout { sha256: "b".into(), ..stage(400, 20.0) };
        assert_eq!(other.after(&third).percent_at(350), None, "a rollout of another version starts over");
    }

    fn stage(started_at_ms: i64, percent: f64) -> StoredRollout {
        StoredRollout {
            tenant: TenantId("t".into()),
            name: "p".into(),
            kind: RolloutKind::Canary,
            sha256: "a".into(),
            percent,
            started_at_ms,
            earlier: Vec::new(),
            ended_reason: None,
            counts: String::new(),
        }
    }
}
