//! What differs, for the eye.

use crate::diff;

/// Longer ones are cut.
const LINES_MAX: usize = 400;

/// Two bodies put together.
#[derive(Clone, Default)]
pub(super) struct Diff {
    pub(super) label: String,
    pub(super) changed: bool,
    /// Class, sign and text of each line.
    pub(super) lines: Vec<(&'static str, char, String)>,
    /// The whole, where nothing differs.
    pub(super) text: String,
}

impl Diff {
    /// A body that became another one.
    pub(super) fn new(before: &str, after: &str) -> Diff {
        let lines = diff::lines(before, after);
        let changed = lines.iter().any(diff::Line::is_changed);
        let class = |sign| match sign {
            '+' => "add",
            '-' => "del",
            _ => "same",
        };
        let lines: Vec<_> =
            lines.into_iter().take(LINES_MAX).map(|line| (class(line.sign), line.sign, line.text)).collect();
        Diff {
            label: format!("{} bytes before (−), {} after (+)", before.len(), after.len()),
            changed,
            lines,
            text: if changed { String::new() } else { diff::pretty(after) },
        }
    }

    /// Words instead of a body.
    pub(super) fn words(label: impl Into<String>) -> Diff {
        Diff { label: label.into(), ..Diff::default() }
    }

    /// One body, as it is.
    pub(super) fn same(label: impl Into<String>, text: &str) -> Diff {
        Diff { label: label.into(), text: diff::pretty(text), ..Diff::default() }
    }
}
