//! Comparisons of two bodies on pages.
//!
//! A comparison is made when its page is rendered, on the CPU pool, because it would block a network thread for too long. Its cost
//! is bounded by [`diff`].

use crate::diff;
use crate::plural::counted;
use std::sync::{Arc, LazyLock};

/// Maximum number of lines shown of a comparison.
const LINES_MAX: usize = 400;

type Compare = Box<dyn FnOnce() -> DiffLines + Send>;

/// Comparison of two bodies, or one body, or a text in place of a body.
#[derive(Clone)]
pub(super) struct Diff {
    pub(super) label: String,
    compared: Arc<LazyLock<DiffLines, Compare>>,
}

#[derive(Default)]
struct DiffLines {
    changed: bool,
    /// Class, sign and text of each line.
    lines: Vec<(&'static str, char, String)>,
    /// Whole body, if nothing differs.
    text: String,
}

impl Diff {
    /// Compares a body with the result of a plugin.
    pub(super) fn new(before: impl Into<String>, after: impl Into<String>) -> Diff {
        let before: String = before.into();
        let after: String = after.into();
        let label = format!("{} before (−), {} after (+)", counted(before.len() as u64, "byte", "bytes"), after.len());
        Diff::lazy(label, move || DiffLines::new(&before, &after))
    }

    /// Returns a text in place of a body.
    pub(super) fn words(label: impl Into<String>) -> Diff {
        Diff::lazy(label, DiffLines::default)
    }

    /// Returns one body, unchanged.
    pub(super) fn same(label: impl Into<String>, text: impl Into<String>) -> Diff {
        let text: String = text.into();
        Diff::lazy(label, move || DiffLines { text: diff::pretty(&text), ..DiffLines::default() })
    }

    fn lazy(label: impl Into<String>, compare: impl FnOnce() -> DiffLines + Send + 'static) -> Diff {
        Diff { label: label.into(), compared: Arc::new(LazyLock::new(Box::new(compare))) }
    }

    /// Returns true if the bodies differ.
    pub(super) fn changed(&self) -> bool {
        self.compared.changed
    }

    /// Returns the lines of the comparison, up to the maximum: class, sign and text.
    pub(super) fn lines(&self) -> &[(&'static str, char, String)] {
        &self.compared.lines
    }

    /// Returns the body, if nothing differs.
    pub(super) fn text(&self) -> &str {
        &self.compared.text
    }
}

impl DiffLines {
    fn new(before: &str, after: &str) -> DiffLines {
        let lines = diff::lines(before, after);
        let changed = lines.iter().any(diff::Line::is_changed);
        let lines = lines.into_iter().take(LINES_MAX).map(|line| (class(line.sign), line.sign, line.text)).collect();
        DiffLines { changed, lines, text: if changed { String::new() } else { diff::pretty(after) } }
    }
}

fn class(sign: char) -> &'static str {
    match sign {
        '+' => "add",
        '-' => "del",
        _ => "same",
    }
}
