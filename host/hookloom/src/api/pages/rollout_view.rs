//! View of a rollout: what it compares, how far it is, what ends it, and why it ended.

use super::comparison_view::DifferenceGroup;
use super::{DisplayTime, duration, short};
use crate::plugin::{ArmFigures, CanaryTestFigures, RolloutFigures};
use crate::store::{ANOTHER_ACTIVATED, RolloutKind, StoredRollout, TAKEN_BACK, grouped};

/// Rollout of a version.
pub(super) struct RolloutView {
    pub(super) kind: &'static str,
    pub(super) sha256: String,
    pub(super) version: String,
    /// Beginning of the active version's sha256. None: the version of the rollout is the active one.
    pub(super) active: Option<String>,
    /// Share of the events that a canary judges, in percent.
    pub(super) percent: Option<f64>,
    pub(super) begun: DisplayTime,
    pub(super) state: RolloutState,
    /// Reason for the end. Empty while it is under way, and if its version was activated.
    pub(super) why: String,
    pub(super) progress: Option<CanaryProgress>,
    /// Numbers of events that a shadow judged the same, judged differently, and did not judge.
    pub(super) shadowed: Option<[u64; 3]>,
    pub(super) arms: Vec<ArmRow>,
    /// Latest differences of a shadow.
    pub(super) groups: Vec<DifferenceGroup>,
}

/// State of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RolloutState {
    UnderWay,
    /// Its version is the active one.
    Promoted,
    /// The host ended it, because it did worse than the active version.
    TakenBack,
    /// Somebody ended it, or another version was activated.
    Stopped,
}

/// Figures of the calls of one version.
pub(super) struct ArmRow {
    pub(super) name: &'static str,
    pub(super) calls: u64,
    pub(super) faults: u64,
    pub(super) cpu: String,
}

/// Progress of a canary, and of the test that ends it.
pub(super) struct CanaryProgress {
    pub(super) events: u64,
    pub(super) events_min: u64,
    pub(super) regressions: u64,
    pub(super) slow_calls: u64,
    /// Percentage of the events that are regressions, and that is tolerated.
    pub(super) regressed: String,
    pub(super) tolerated: String,
    pub(super) faults: EvidenceMeter,
    pub(super) cpu: EvidenceMeter,
    pub(super) evidence_max: u64,
    pub(super) regressions_to_end: u64,
}

/// Evidence against a canary.
pub(super) struct EvidenceMeter {
    pub(super) text: String,
    /// Length of the bar in percent of the threshold's, on a logarithmic scale.
    pub(super) percent: u64,
}

impl RolloutView {
    /// Returns the view of a rollout of a plugin with this active version.
    pub(super) fn new(stored: &StoredRollout, figures: Option<&RolloutFigures>, active_sha256: &str) -> Self {
        let is_canary = stored.kind == RolloutKind::Canary;
        let state = RolloutState::of(stored, active_sha256);
        let why = stored.ended_reason.as_deref().filter(|_| state != RolloutState::Promoted);
        let begun_ms = stored.earlier.first().map_or(stored.started_at_ms, |(since_ms, _)| *since_ms);
        RolloutView {
            kind: if is_canary { "Canary" } else { "Shadow" },
            sha256: stored.sha256.clone(),
            version: short(&stored.sha256),
            active: (stored.sha256 != active_sha256).then(|| short(active_sha256)),
            percent: is_canary.then_some(stored.percent),
            begun: DisplayTime::at_ms(begun_ms),
            state,
            why: why.map(in_words).unwrap_or_default(),
            progress: figures.and_then(|figures| figures.test).map(CanaryProgress::new),
            shadowed: figures.filter(|_| !is_canary).map(|one| [one.same, one.different, one.skipped]),
            arms: figures.map(|figures| ArmRow::of_kind(is_canary, figures)).unwrap_or_default(),
            groups: figures.map(|one| DifferenceGroup::of_latest(&one.differences, &stored.tenant)).unwrap_or_default(),
        }
    }
}

/// Returns a rollout under way in a few words, for a list of plugins.
pub(super) fn mark(stored: &StoredRollout) -> String {
    match stored.kind {
        RolloutKind::Canary => format!("canary of {} %", stored.percent),
        RolloutKind::Shadow => "shadow".to_owned(),
    }
}

/// Returns the reason for the end of a rollout as a sentence.
fn in_words(reason: &str) -> String {
    let reason = reason.strip_prefix(TAKEN_BACK).unwrap_or(reason);
    let mut letters = reason.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

impl RolloutState {
    fn of(stored: &StoredRollout, active_sha256: &str) -> Self {
        match stored.ended_reason.as_deref() {
            None => RolloutState::UnderWay,
            Some(reason) if reason.starts_with(TAKEN_BACK) => RolloutState::TakenBack,
            Some(ANOTHER_ACTIVATED) if stored.sha256 == active_sha256 => RolloutState::Promoted,
            Some(_) => RolloutState::Stopped,
        }
    }

    pub(super) fn is_under_way(self) -> bool {
        self == RolloutState::UnderWay
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            RolloutState::UnderWay => "under way",
            RolloutState::Promoted => "promoted",
            RolloutState::TakenBack => "taken back",
            RolloutState::Stopped => "stopped",
        }
    }

    /// Returns the class of the state's mark.
    pub(super) fn class(self) -> &'static str {
        match self {
            RolloutState::UnderWay => "info",
            RolloutState::Promoted => "active",
            RolloutState::TakenBack => "failed",
            RolloutState::Stopped => "stopped",
        }
    }
}

impl ArmRow {
    fn new(name: &'static str, arm: &ArmFigures) -> Self {
        ArmRow { name, calls: arm.calls, faults: arm.faults, cpu: duration(arm.cpu_us_p95) }
    }

    /// Returns the versions whose calls a rollout counts. Those of a shadow are not.
    fn of_kind(is_canary: bool, figures: &RolloutFigures) -> Vec<Self> {
        let active = ArmRow::new("Active version", &figures.active);
        if is_canary { vec![ArmRow::new("Canary", &figures.canary), active] } else { vec![active] }
    }
}

impl CanaryProgress {
    fn new(test: CanaryTestFigures) -> Self {
        let regressed = 100.0 * test.regressions as f64 / test.events.max(1) as f64;
        CanaryProgress {
            events: test.events,
            events_min: test.events_min,
            regressions: test.regressions,
            slow_calls: test.slow_calls,
            regressed: format!("{regressed:.1}"),
            tolerated: format!("{:.1}", test.tolerated_percent),
            faults: EvidenceMeter::new(test.evidence, test.evidence_max),
            cpu: EvidenceMeter::new(test.cpu_evidence, test.evidence_max),
            evidence_max: test.evidence_max as u64,
            regressions_to_end: test.regressions_to_end,
        }
    }

    /// Returns whether the canary has judged too few events to be ended.
    pub(super) fn is_early(&self) -> bool {
        self.events < self.events_min
    }
}

impl EvidenceMeter {
    fn new(evidence: f64, evidence_max: f64) -> Self {
        // Evidence grows by factors: each further regression multiplies it. Below 1 it speaks for the canary.
        let share = evidence.max(1.0).ln() / evidence_max.ln();
        let text = if evidence < 10.0 { format!("{evidence:.1}") } else { grouped(evidence as u64) };
        EvidenceMeter { text, percent: (100.0 * share.min(1.0)).round() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::TenantId;

    fn ended(sha256: &str, reason: Option<&str>) -> StoredRollout {
        StoredRollout {
            tenant: TenantId::default(),
            name: "p".into(),
            kind: RolloutKind::Canary,
            sha256: sha256.into(),
            percent: 5.0,
            started_at_ms: 200,
            earlier: vec![(100, 1.0)],
            ended_reason: reason.map(str::to_owned),
            counts: String::new(),
            counts_elsewhere: Vec::new(),
        }
    }

    #[track_caller]
    fn check(sha256: &str, reason: Option<&str>, expected: RolloutState, why: &str) {
        let view = RolloutView::new(&ended(sha256, reason), None, "active");
        assert_eq!((view.state, view.why.as_str()), (expected, why));
    }

    #[test]
    fn a_rollout_tells_how_it_ended() {
        check("new", None, RolloutState::UnderWay, "");
        check("active", Some(ANOTHER_ACTIVATED), RolloutState::Promoted, "");
        check("new", Some(ANOTHER_ACTIVATED), RolloutState::Stopped, "Another version was activated.");
        check("new", Some("ended manually"), RolloutState::Stopped, "Ended manually.");
        let reason = format!("{TAKEN_BACK}its fault rate is 50.0 %");
        check("new", Some(&reason), RolloutState::TakenBack, "Its fault rate is 50.0 %.");
        check("active", Some(&reason), RolloutState::TakenBack, "Its fault rate is 50.0 %.");
    }

    #[test]
    fn a_rollout_begins_with_its_first_percentage() {
        let view = RolloutView::new(&ended("new", None), None, "active");
        assert_eq!((view.begun.ms, view.percent, view.active.as_deref()), (100, Some(5.0), Some("active")));
        assert_eq!(RolloutView::new(&ended("active", None), None, "active").active, None);
        assert_eq!(mark(&ended("new", None)), "canary of 5 %");
    }

    #[test]
    fn evidence_is_shown_by_its_order_of_magnitude() {
        #[track_caller]
        fn check(evidence: f64, text: &str, percent: u64) {
            let meter = EvidenceMeter::new(evidence, 1_000.0);
            assert_eq!((meter.text.as_str(), meter.percent), (text, percent));
        }
        check(0.04, "0.0", 0);
        check(1.0, "1.0", 0);
        check(10.0, "10", 33);
        check(1_000.0, "1,000", 100);
        check(1e12, "1,000,000,000,000", 100);
    }
}
