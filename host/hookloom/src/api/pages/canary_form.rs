//! Form that begins a canary, or changes the share of the events of the one under way.

use super::rollout_view::RolloutView;
use super::short;
use crate::operations::Problem;

/// Share of the events with which a canary begins, in percent. At a small part, much is known of the active version.
const PERCENT: &str = "5";

/// Form of a canary.
pub(super) struct CanaryForm {
    pub(super) sha256: String,
    pub(super) version: String,
    /// Submitted share of the events, or the one to begin with.
    pub(super) percent: String,
    /// Fault of the share.
    pub(super) error: Option<String>,
    /// True if the canary of this version is under way.
    pub(super) is_change: bool,
    /// Kind and version of the rollout that ends when the canary begins.
    pub(super) ends: Option<(&'static str, String)>,
}

impl CanaryForm {
    /// Returns the form for a version of a plugin with this rollout.
    pub(super) fn new(sha256: &str, rollout: Option<&RolloutView>) -> Self {
        let under_way = rollout.filter(|rollout| rollout.state.is_under_way());
        let continued = under_way.filter(|rollout| rollout.sha256 == sha256 && rollout.percent.is_some());
        let ended = under_way.filter(|_| continued.is_none());
        let percent = continued.and_then(|rollout| rollout.percent).map(|percent| percent.to_string());
        CanaryForm {
            sha256: sha256.to_owned(),
            version: short(sha256),
            percent: percent.unwrap_or_else(|| PERCENT.to_owned()),
            error: None,
            is_change: continued.is_some(),
            ends: ended.map(|rollout| (rollout.kind, rollout.version.clone())),
        }
    }

    /// Shows a submitted share that was refused, with its fault.
    pub(super) fn refuse(&mut self, percent: &str, problem: &Problem) {
        let details: Vec<&str> = problem.errors.iter().map(|fault| fault.detail.as_str()).collect();
        percent.clone_into(&mut self.percent);
        self.error = Some(details.join(" · "));
    }
}

/// Reads a share of the events.
///
/// # Errors
/// The text is not a number. Its range is checked with the rollout.
pub(super) fn percent(text: &str) -> Result<f64, Problem> {
    let number = text.trim().trim_end_matches('%').trim_end().replace(',', ".").parse::<f64>();
    let number = number.ok().filter(|number| number.is_finite());
    number.ok_or_else(|| Problem::field("/percent", "enter a number above 0 and up to 100, such as 5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number() {
        #[track_caller]
        fn check(text: &str, expected: Option<f64>) {
            assert_eq!(percent(text).ok(), expected, "{text:?}");
        }
        check("5", Some(5.0));
        check(" 0.5 % ", Some(0.5));
        check("0,5", Some(0.5));
        check("-1", Some(-1.0));
        check("", None);
        check("many", None);
        check("NaN", None);
        check("inf", None);
    }
}
