//! Differences between the judgements of two versions, their kinds, and the numbers of these in a comparison.
//!
//! # Guarantees
//! - The size of a difference is bounded, whatever the plugins return.
//! - A difference has exactly one kind: the first of the list that fits.

use super::convert::cut;
use super::sample::Sample;
use hookloom_model::delivery::Verdict;
use hookloom_model::diff;
use hookloom_model::event::{Event, Module};
use serde::Serialize;
use utoipa::ToSchema;

/// Maximum number of lines of a difference.
const DIFF_LINES_MAX: usize = 40;

/// Kind of a difference between the judgements of two versions on one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// Only the new version faults or fails.
    NewFault,
    /// Only the active version faults or fails.
    FaultGone,
    /// Another verdict.
    Verdict,
    /// The same verdict, with another body.
    Body,
    /// The same body, with another content type, header or URL.
    Request,
    /// The same verdict, with another reason.
    Reason,
}

/// Number of differences by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DifferenceCounts {
    /// Events on which only the new version faults or fails.
    pub new_fault: u64,
    /// Events on which only the active version faults or fails.
    pub fault_gone: u64,
    /// Events with another verdict.
    pub verdict: u64,
    /// Events with another body.
    pub body: u64,
    /// Events with the same body, and another content type, header or URL.
    pub request: u64,
    /// Events with the same verdict and another reason.
    pub reason: u64,
}

impl DifferenceKind {
    /// All kinds, the most serious first.
    pub const ALL: [DifferenceKind; 6] = [
        DifferenceKind::NewFault,
        DifferenceKind::Verdict,
        DifferenceKind::Body,
        DifferenceKind::Request,
        DifferenceKind::Reason,
        DifferenceKind::FaultGone,
    ];

    /// Returns the kind of a difference. None: the judgements are the same.
    pub(super) fn of(active: &Sample, new: &Sample) -> Option<Self> {
        if active == new {
            return None;
        }
        Some(match (active.is_usable(), new.is_usable()) {
            (true, false) => DifferenceKind::NewFault,
            (false, true) => DifferenceKind::FaultGone,
            _ if active.verdict != new.verdict => DifferenceKind::Verdict,
            _ if active.verdict != Verdict::Replace => DifferenceKind::Reason,
            _ if active.has_body_of(new) => DifferenceKind::Request,
            _ => DifferenceKind::Body,
        })
    }
}

impl DifferenceCounts {
    /// Returns the number of differences of a kind.
    pub fn of(&self, kind: DifferenceKind) -> u64 {
        match kind {
            DifferenceKind::NewFault => self.new_fault,
            DifferenceKind::FaultGone => self.fault_gone,
            DifferenceKind::Verdict => self.verdict,
            DifferenceKind::Body => self.body,
            DifferenceKind::Request => self.request,
            DifferenceKind::Reason => self.reason,
        }
    }

    /// Counts a difference.
    pub(super) fn add(&mut self, kind: DifferenceKind) {
        let count = match kind {
            DifferenceKind::NewFault => &mut self.new_fault,
            DifferenceKind::FaultGone => &mut self.fault_gone,
            DifferenceKind::Verdict => &mut self.verdict,
            DifferenceKind::Body => &mut self.body,
            DifferenceKind::Request => &mut self.request,
            DifferenceKind::Reason => &mut self.reason,
        };
        *count += 1;
    }
}

/// Event that two versions judge differently.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Difference {
    /// Id of the event.
    pub event: uuid::Uuid,
    /// Value of `eventName`.
    pub event_name: String,
    /// Module of the event.
    pub module: Module,
    /// `eventData.id` as text, if there is one.
    pub entity_id: Option<String>,
    /// Kind of the difference.
    pub kind: DifferenceKind,
    /// Judgement of the active version.
    pub active: Sample,
    /// Judgement of the other version.
    pub other: Sample,
    /// Lines in which the two requests differ, with the prefix `-` (active) or `+` (other): those of the bodies, JSON pretty-printed, and
    /// where both versions replace the request also its content type, headers and URL. At most 40.
    pub diff: Vec<String>,
}

impl Difference {
    pub(super) fn new(kind: DifferenceKind, event: &Event, active: Sample, other: Sample) -> Self {
        let lines = diff::lines(&active.sent(event), &other.sent(event));
        let changed = lines.iter().filter(|line| line.is_changed()).map(|line| (line.sign, &line.text));
        let heads = if active.verdict == other.verdict { changed_heads(&active, &other) } else { Vec::new() };
        let changed = changed.chain(heads).take(DIFF_LINES_MAX);
        let diff = changed.map(|(sign, text)| format!("{sign} {}", cut(text, 200))).collect();
        Difference {
            event: event.id.0,
            event_name: event.name.clone(),
            module: event.module,
            entity_id: event.entity_id.clone(),
            kind,
            active: active.shown(),
            other: other.shown(),
            diff,
        }
    }
}

/// Returns the lines of content type, headers and URL that only one of two requests has, with their signs.
fn changed_heads<'a>(active: &'a Sample, other: &'a Sample) -> Vec<(char, &'a String)> {
    let removed = active.head().iter().filter(|line| !other.head().contains(line)).map(|line| ('-', line));
    let added = other.head().iter().filter(|line| !active.head().contains(line)).map(|line| ('+', line));
    removed.chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::super::judgement::{Judgement, Outgoing, PluginFault};
    use super::*;
    use bytes::Bytes;
    use hookloom_model::delivery::Reason;
    use hookloom_model::event::sample_events;
    use http::{HeaderName, HeaderValue};

    fn replaced(body: &'static str, step: &'static str) -> Judgement {
        replaced_at(body, step, None)
    }

    /// Returns a judgement with this body, one header, and perhaps another URL.
    fn replaced_at(body: &'static str, step: &'static str, url: Option<&str>) -> Judgement {
        Judgement::Replace(Outgoing {
            body: Bytes::from_static(body.as_bytes()),
            is_text: true,
            content_type: HeaderValue::from_static("application/json"),
            headers: vec![(HeaderName::from_static("x-step"), HeaderValue::from_static(step))],
            url: url.map(|url| url.parse().expect("a URL")),
        })
    }

    fn dropped(why: &str) -> Judgement {
        Judgement::Drop(Reason::new("dropped", why.to_owned()))
    }

    #[track_caller]
    fn check(active: &Judgement, new: &Judgement, expected: Option<DifferenceKind>) {
        assert_eq!(DifferenceKind::of(&Sample::of(active), &Sample::of(new)), expected, "{active:?}, {new:?}");
    }

    #[test]
    fn a_difference_has_one_kind() {
        let fault = Judgement::Fault(PluginFault::BadOutput("long".into()));
        let failure = Judgement::BadConfig(Reason::new("bad", "no key"));
        check(&Judgement::Pass, &Judgement::Pass, None);
        check(&replaced("{}", "1"), &replaced("{}", "1"), None);
        check(&Judgement::Pass, &fault, Some(DifferenceKind::NewFault));
        check(&replaced("{}", "1"), &failure, Some(DifferenceKind::NewFault));
        check(&failure, &Judgement::Pass, Some(DifferenceKind::FaultGone));
        check(&failure, &fault, Some(DifferenceKind::Verdict));
        check(&Judgement::Pass, &replaced("{}", "1"), Some(DifferenceKind::Verdict));
        check(&Judgement::Pass, &dropped("old"), Some(DifferenceKind::Verdict));
        check(&replaced("{}", "1"), &replaced("[]", "1"), Some(DifferenceKind::Body));
        check(&replaced("{}", "1"), &replaced("{}", "2"), Some(DifferenceKind::Request));
    }

    #[test]
    fn a_reason_is_compared_by_its_code() {
        let other = Judgement::Drop(Reason::new("other", "old"));
        check(&dropped("old"), &dropped("older"), None);
        check(&dropped("old"), &other, Some(DifferenceKind::Reason));
    }

    #[test]
    fn every_kind_has_a_count_of_its_own() {
        let mut counts = DifferenceCounts::default();
        for (kind, times) in DifferenceKind::ALL.into_iter().zip(1..) {
            (0..times).for_each(|_| counts.add(kind));
        }
        assert_eq!(DifferenceKind::ALL.map(|kind| counts.of(kind)), [1, 2, 3, 4, 5, 6]);
    }

    #[track_caller]
    fn check_lines(active: &Judgement, new: &Judgement, expected: &[&str]) {
        let event = sample_events().remove(0);
        let [active, new] = [active, new].map(Sample::of);
        let kind = DifferenceKind::of(&active, &new).expect("a difference");
        assert_eq!(Difference::new(kind, &event, active, new).diff, expected);
    }

    #[test]
    fn a_difference_has_body_and_head() {
        check_lines(&replaced("1", "a"), &replaced("2", "a"), &["- 1", "+ 2"]);
        check_lines(&replaced("1", "a"), &replaced("1", "b"), &["- x-step: a", "+ x-step: b"]);
        let moved = replaced_at("2", "a", Some("https://b.example/"));
        check_lines(&replaced("1", "a"), &moved, &["- 1", "+ 2", "+ URL: https://b.example/"]);
    }

    #[test]
    fn a_difference_from_no_request_has_no_head() {
        let event = sample_events().remove(0);
        let passes = Sample::of(&Judgement::Pass);
        let replaced = Sample::of(&replaced("{}", "a"));
        let difference = Difference::new(DifferenceKind::Verdict, &event, passes, replaced);
        assert!(difference.diff.iter().all(|line| !line.contains("x-step")), "{difference:?}");
        assert_eq!((difference.event_name.as_str(), difference.module), ("Contact is Created", Module::Contact));
    }
}
