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

    /// Returns the lines of a comparison that was made elsewhere, each with its sign and a blank before it.
    pub(super) fn of_changes(label: impl Into<String>, changes: &[String]) -> Diff {
        fn line(change: &str) -> (&'static str, char, String) {
            let sign = change.chars().next().unwrap_or(' ');
            (class(sign), sign, change.get(2..).unwrap_or_default().to_owned())
        }
        let lines: Vec<_> = changes.iter().map(|change| line(change)).collect();
        Diff::lazy(label, move || DiffLines { changed: !lines.is_empty(), lines, text: String::new() })
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

    /// Returns the lines in two columns: class and text of each cell.
    pub(super) fn side_by_side(&self) -> Vec<[SideCell<'_>; 2]> {
        paired(&self.compared.lines)
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

/// Class and text of a line in one of two columns.
pub(super) type SideCell<'a> = (&'static str, &'a str);

/// Returns lines in two columns. Removed lines stand beside the added ones that follow them; a cell without a line is a gap.
fn paired<'a>(lines: &'a [(&'static str, char, String)]) -> Vec<[SideCell<'a>; 2]> {
    const GAP: SideCell<'static> = ("gap", "");
    let mut rows = Vec::new();
    // Beginning of the rows whose right cells are gaps.
    let mut open = 0;
    for (class, sign, text) in lines {
        let cell = (*class, text.as_str());
        match sign {
            '-' => rows.push([cell, GAP]),
            '+' if open < rows.len() => {
                rows[open][1] = cell;
                open += 1;
                continue;
            }
            '+' => rows.push([GAP, cell]),
            _ => rows.push([cell, cell]),
        }
        if *sign != '-' {
            open = rows.len();
        }
    }
    rows
}

fn class(sign: char) -> &'static str {
    match sign {
        '+' => "add",
        '-' => "del",
        _ => "same",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the columns of lines that are written with their signs. A gap is a dot.
    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| {
                let sign = line.chars().next().expect("a sign");
                (class(sign), sign, line[1..].to_owned())
            })
            .collect();
        let shown = paired(&lines).into_iter().map(|row| {
            row.map(|(class, text)| if class == "gap" { ".".to_owned() } else { text.to_owned() }).join("|")
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn changes_keep_their_signs() {
        let diff = Diff::of_changes("2 lines", &["- a".to_owned(), "+ é".to_owned(), "+ ".to_owned()]);
        let lines = [("del", '-', "a".to_owned()), ("add", '+', "é".to_owned()), ("add", '+', String::new())];
        assert!(diff.changed());
        assert_eq!(diff.lines(), lines);
        assert!(!Diff::of_changes("none", &[]).changed());
    }

    #[test]
    fn removed_lines_stand_beside_added_ones() {
        check(&[], &[]);
        check(&[" a", "-b", "+c", " d"], &["a|a", "b|c", "d|d"]);
        check(&["-a", "-b", "+c"], &["a|c", "b|."]);
        check(&["-a", "+b", "+c", " d"], &["a|b", ".|c", "d|d"]);
        check(&["+a", "-b", "+c"], &[".|a", "b|c"]);
        check(&["-a", " b", "+c"], &["a|.", "b|b", ".|c"]);
        check(&["-a", "+b", "-c", "-d", "+e"], &["a|b", "c|e", "d|."]);
    }
}
