//! Two bodies for people in front of a terminal: what differs, line by line, in colour.

use super::terminal::{DIM, GREEN, PLAIN, RED, outln};
use crate::diff;

/// Longer texts are cut on the screen, not in what is sent.
const LINES_MAX: usize = 24;

/// Prints the lines that differ.
pub(super) fn print_diff(label: &str, before: &str, after: &str) {
    let lines = diff::lines(before, after);
    let changed: Vec<_> = lines.iter().filter(|line| line.is_changed()).collect();
    outln!("    {}{} bytes instead of {}, changed:", label, after.len(), before.len());
    for line in changed.iter().take(LINES_MAX) {
        let tone = if line.sign == '-' { RED } else { GREEN };
        outln!("      {}{} {}{}", tone, line.sign, line.text, PLAIN);
    }
    if changed.len() > LINES_MAX {
        outln!("      {}… {} more lines{}", DIM, changed.len() - LINES_MAX, PLAIN);
    }
}
