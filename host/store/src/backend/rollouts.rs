//! Rollouts of plugin versions, and versions in quarantine.
//!
//! # Guarantees of every backend
//! - A plugin has at most one rollout. One that has ended stays with its reason, until another one replaces it or the plugin is deleted.
//! - The end and the counts of a rollout name it, so those of a rollout that has ended or was replaced change nothing.
//! - Each host that uses the database has its own counts of a rollout. An embedded database has one host.

use crate::StoreError;
use crate::audit::{Actor, RolloutAudit};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

/// Beginning of the reason with which the host ends a canary that does worse than the active version.
pub const TAKEN_BACK: &str = "taken back: ";

/// Maximum number of earlier percentages of a canary that are remembered.
const EARLIER_MAX: usize = 100;

/// Reason for the end of a rollout when a version of its plugin is activated, perhaps its own.
pub const ANOTHER_ACTIVATED: &str = "another version was activated";

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
    /// Counts of this host, as text of the plugin runtime. Empty: nothing was counted.
    pub counts: String,
    /// Counts of the other hosts, in the same form.
    pub counts_elsewhere: Vec<String>,
}

/// Counts of a rollout on other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountsElsewhere {
    /// Identity of the rollout.
    pub id: RolloutId,
    /// Counts of each host that has stored some, as text of the plugin runtime.
    pub counts: Vec<String>,
}

/// Identity of a rollout, with the percentage that a change of it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutId {
    /// Tenant of the plugin.
    pub tenant: TenantId,
    /// Name of the plugin.
    pub name: String,
    /// Version of the rollout.
    pub sha256: String,
    /// Time since which its percentage applies, in milliseconds since the epoch.
    pub started_at_ms: i64,
}

impl StoredRollout {
    /// Returns the identity of the rollout.
    pub fn id(&self) -> RolloutId {
        RolloutId {
            tenant: self.tenant.clone(),
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            started_at_ms: self.started_at_ms,
        }
    }

    /// Returns the rollout as the log of changes shows it when it begins.
    pub(crate) fn audit(&self) -> RolloutAudit<'_> {
        match self.kind {
            RolloutKind::Canary => RolloutAudit { kind: "canary", sha256: &self.sha256, percent: Some(self.percent) },
            RolloutKind::Shadow => RolloutAudit { kind: "shadow", sha256: &self.sha256, percent: None },
        }
    }

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

    /// Returns true if this is a rollout that was known, perhaps with another percentage meanwhile.
    pub fn is_stage_of(&self, known: &StoredRollout) -> bool {
        let is_later = || self.earlier.iter().any(|(started_at_ms, _)| *started_at_ms == known.started_at_ms);
        self.kind == known.kind && (self.id() == known.id() || self.continues(known) && is_later())
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

/// Rollouts of versions.
#[async_trait]
pub trait RolloutBackend: Send + Sync {
    /// Begins a rollout, which replaces the plugin's previous one. Other hosts keep their counts if it continues the rollout that is
    /// under way, that is, if its latest earlier percentage is that one's.
    async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError>;

    /// Ends a rollout, if it is under way, with the last counts of this host. None: the stored counts stay.
    async fn end_rollout(
        &self,
        actor: Actor,
        ended: RolloutId,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError>;

    /// Stores the counts of this host for a rollout, if it is under way.
    async fn note_rollout_counts(&self, counted: RolloutId, counts: String) -> Result<(), StoreError>;

    /// Returns all rollouts, including those that have ended.
    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError>;

    /// Returns the counts of other hosts for the rollouts under way. Rollouts without such counts may be absent.
    async fn rollout_counts_elsewhere(&self) -> Result<Vec<CountsElsewhere>, StoreError>;
}

/// Quarantined versions.
#[async_trait]
pub trait QuarantineBackend: Send + Sync {
    /// Quarantines a version, unless it is quarantined already.
    async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError>;

    /// Releases a version.
    async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError>;

    /// Returns all quarantined versions.
    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError>;
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

    #[test]
    fn a_rollout_is_known_again_by_its_earlier_percentages() {
        let first = stage(100, 10.0);
        let third = stage(300, 5.0).after(&stage(200, 50.0).after(&first));
        assert!(third.is_stage_of(&first) && third.is_stage_of(&third));
        assert!(!first.is_stage_of(&third), "an earlier stage");
        assert!(!stage(300, 5.0).is_stage_of(&first), "another rollout of the same version");
        let shadow = StoredRollout { kind: RolloutKind::Shadow, ..third.clone() };
        assert!(!shadow.is_stage_of(&third) && shadow.is_stage_of(&shadow));
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
            counts_elsewhere: Vec::new(),
        }
    }
}
