//! Two bodies for people in front of a terminal: what differs, line by line, in colour.

use crate::diff;
use anstyle::{AnsiColor, Style};

const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();

/// Longer texts are cut on the screen, not in what is sent.
const LINES_MAX: usize = 24;

/// Prints the lines that differ.
pub(super) fn print_diff(label: &str, before: &str, after: &str) {
    let lines = diff::lines(before, after);
    let changed: Vec<_> = lines.iter().filter(|line| line.is_changed()).collect();
    anstream::println!("    {label}{} bytes instead of {}, changed:", after.len(), before.len());
    for line in changed.iter().take(LINES_MAX) {
        let style = if line.sign == '-' { RED } else { GREEN };
        anstream::println!("      {style}{} {}{style:#}", line.sign, line.text);
    }
    if changed.len() > LINES_MAX {
        anstream::println!("      {DIM}… {} more lines{DIM:#}", changed.len() - LINES_MAX);
    }
}
