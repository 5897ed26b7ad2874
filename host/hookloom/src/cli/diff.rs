//! Comparison of two bodies for a terminal: differing lines in colour.

use super::terminal::{DIM, GREEN, PLAIN, RED, outln};
use crate::diff;
use crate::plural::counted;

/// Maximum number of printed lines.
const LINES_MAX: usize = 24;

/// Prints the lines that differ.
pub(super) fn print_diff(label: &str, before: &str, after: &str) {
    let lines = diff::lines(before, after);
    let changed: Vec<_> = lines.iter().filter(|line| line.is_changed()).collect();
    let after_bytes = counted(after.len() as u64, "byte", "bytes");
    outln!("    {}{} instead of {}, changed:", label, after_bytes, before.len());
    for line in changed.iter().take(LINES_MAX) {
        let tone = if line.sign == '-' { RED } else { GREEN };
        outln!("      {}{} {}{}", tone, line.sign, line.text, PLAIN);
    }
    if changed.len() > LINES_MAX {
        let more = counted((changed.len() - LINES_MAX) as u64, "more line", "more lines");
        outln!("      {}… {}{}", DIM, more, PLAIN);
    }
}
