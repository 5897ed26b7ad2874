//! View of a comparison of two versions: the events that they judge differently, in groups by the kind of the difference.
//!
//! A shadow has the same groups, for the latest events that it judged differently.

use super::diff::Diff;
use super::{duration, short};
use crate::plugin::{Comparison, Difference, DifferenceKind, Sample};
use crate::plural::counted;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;

/// Comparison of a version with the active one.
pub(super) struct ComparisonView {
    pub(super) sha256: String,
    pub(super) version: String,
    pub(super) summary: String,
    pub(super) times: String,
    pub(super) groups: Vec<DifferenceGroup>,
}

impl ComparisonView {
    pub(super) fn new(sha256: &str, comparison: &Comparison, tenant: &TenantId) -> Self {
        let Comparison { same, changed, failed, skipped, active_us_p95, new_us_p95, judged_on, .. } = comparison;
        // Samples are not stored, so there is no page of their events.
        let tenant = (comparison.sources.samples == 0).then_some(tenant);
        let all = &comparison.differences;
        let groups = DifferenceKind::ALL
            .into_iter()
            .filter_map(|kind| DifferenceGroup::new(kind, comparison.kinds.of(kind), all, tenant));
        ComparisonView {
            sha256: sha256.to_owned(),
            version: short(sha256),
            summary: format!("Of {judged_on}: {same} the same, {changed} changed, {failed} failed, {skipped} skipped."),
            times: format!(
                "95 % of the calls took up to {} before, and {} now.",
                duration(*active_us_p95),
                duration(*new_us_p95)
            ),
            groups: DifferenceGroup::same(*same).into_iter().chain(groups).collect(),
        }
    }
}

/// Events with one kind of difference.
pub(super) struct DifferenceGroup {
    pub(super) name: &'static str,
    /// Class of the mark: the role of its colour.
    pub(super) class: &'static str,
    pub(super) meaning: &'static str,
    pub(super) count: u64,
    pub(super) is_open: bool,
    pub(super) rows: Vec<DifferenceRow>,
}

/// Event that two versions judge differently.
pub(super) struct DifferenceRow {
    /// Path of the event's page. None: it is a sample.
    pub(super) event: Option<String>,
    pub(super) name: String,
    /// Module and id of the contact or deal. Empty without one.
    pub(super) entity: String,
    pub(super) active: &'static str,
    pub(super) active_reason: String,
    pub(super) new: &'static str,
    pub(super) new_reason: String,
    pub(super) diff: Diff,
}

impl DifferenceGroup {
    /// Returns the events of a kind. None: there are none. `tenant` has the pages of the events.
    fn new(kind: DifferenceKind, count: u64, all: &[Difference], tenant: Option<&TenantId>) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let (name, class, meaning) = words(kind);
        let rows = all.iter().filter(|one| one.kind == kind).map(|one| DifferenceRow::new(one, tenant)).collect();
        Some(DifferenceGroup { name, class, meaning, count, is_open: kind == DifferenceKind::NewFault, rows })
    }

    /// Returns the group of the events that both versions judge in the same way. None: there are none.
    fn same(count: u64) -> Option<Self> {
        (count > 0).then_some(DifferenceGroup {
            name: "same result",
            class: "ok",
            meaning: "Both versions send the same request, or decide the same.",
            count,
            is_open: false,
            rows: Vec::new(),
        })
    }

    /// Returns whether only the first rows are shown.
    pub(super) fn is_cut(&self) -> bool {
        !self.rows.is_empty() && (self.rows.len() as u64) < self.count
    }

    /// Returns the groups of a shadow's latest differences, which are events of the tenant.
    pub(super) fn of_latest(all: &[Difference], tenant: &TenantId) -> Vec<Self> {
        fn count(all: &[Difference], kind: DifferenceKind) -> u64 {
            all.iter().filter(|one| one.kind == kind).count() as u64
        }
        let groups = DifferenceKind::ALL.into_iter();
        groups.filter_map(|kind| DifferenceGroup::new(kind, count(all, kind), all, Some(tenant))).collect()
    }
}

/// Returns name, class and meaning of a kind.
fn words(kind: DifferenceKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        DifferenceKind::NewFault => {
            ("new fault", "fault", "This version faults or fails, where the active one judges the event.")
        }
        DifferenceKind::Verdict => ("other verdict", "warning", "This version decides something else."),
        DifferenceKind::Body => ("other body", "info", "Both versions send a body, and it is not the same."),
        DifferenceKind::Request => {
            ("other headers or URL", "info", "The body is the same; the content type, a header or the URL is not.")
        }
        DifferenceKind::Reason => ("other reason", "info", "Both versions decide the same, for another reason."),
        DifferenceKind::FaultGone => {
            ("fault gone", "ok", "The active version faults or fails, where this one judges the event.")
        }
    }
}

impl DifferenceRow {
    fn new(one: &Difference, tenant: Option<&TenantId>) -> Self {
        let path = |tenant| UrlPath::pages_of(tenant).then("events").then(&one.event).to_string();
        fn reason(sample: &Sample) -> String {
            sample.reason.clone().unwrap_or_default()
        }
        let entity = one.entity_id.as_ref().map(|id| format!("{} {id}", one.module.as_str()));
        let lines = counted(one.diff.len() as u64, "line", "lines");
        DifferenceRow {
            event: tenant.map(path),
            name: one.event_name.clone(),
            entity: entity.unwrap_or_default(),
            active: one.active.verdict.as_str(),
            active_reason: reason(&one.active),
            new: one.other.verdict.as_str(),
            new_reason: reason(&one.other),
            diff: Diff::of_changes(format!("{lines}: − active version, + this version"), &one.diff),
        }
    }
}
