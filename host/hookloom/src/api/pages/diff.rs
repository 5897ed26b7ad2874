//! Comparisons of two bodies, as pages show them.
//!
//! A comparison is made when its page is rendered, and pages are rendered on the CPU pool: it costs too much for a network
//! thread. Its cost is bounded by [`diff`].

use crate::diff;
use crate::plural::counted;
use std::sync::{Arc, LazyLock};

/// Lines shown of one comparison.
const LINES_MAX: usize = 400;

type Compare = Box<dyn FnOnce() -> DiffLines + Send>;

/// A comparison of two bodies, or one body, or words in the place of one.
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
    /// The whole body, where nothing differs.
    text: String,
}

impl Diff {
    /// Compares a body with what became of it.
    pub(super) fn new(before: impl Into<String>, after: impl Into<String>) -> Diff {
        let before: String = before.into();
        let after: String = after.into();
        let label = format!("{} before (−), {} after (+)", counted(before.len() as u64, "byte", "bytes"), after.len());
        Diff::lazy(label, move || DiffLines::new(&before, &after))
    }

    /// Words instead of a body.
    pub(super) fn words(label: impl Into<String>) -> Diff {
        Diff::lazy(label, DiffLines::default)
    }

    /// One body, as it is.
    pub(super) fn same(label: impl Into<String>, text: impl Into<String>) -> Diff {
        let text: String = text.into();
        Diff::lazy(label, move || DiffLines { text: diff::pretty(&text), ..DiffLines::default() })
    }

    fn lazy(label: impl Into<String>, compare: impl FnOnce() -> DiffLines + Send + 'static) -> Diff {
        Diff { label: label.into(), compared: Arc::new(LazyLock::new(Box::new(compare))) }
    }

    /// Returns whether the two differ.
    pub(super) fn changed(&self) -> bool {
        self.compared.changed
    }

    /// The lines of the two put together, up to a maximum: class, sign and text.
    pub(super) fn lines(&self) -> &[(&'static str, char, String)] {
        &self.compared.lines
    }

    /// The body, where nothing differs.
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
