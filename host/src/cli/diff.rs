//! Two bodies, side by side for people: JSON is compared pretty-printed, line by line.

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();

/// Longer texts are cut on the screen, not in what is sent.
const LINES_MAX: usize = 24;

/// Prints what changed: the lines that differ, or the whole when most do.
pub(super) fn print_diff(label: &str, before: &str, after: &str) {
    let pretty = |text: &str| match serde_json::from_str::<Value>(text) {
        Ok(json) => serde_json::to_string_pretty(&json).unwrap_or_default(),
        Err(_) => text.to_owned(),
    };
    let (before_text, after_text) = (pretty(before), pretty(after));
    let diff = TextDiff::from_lines(&before_text, &after_text);
    let changed: Vec<_> = diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal).collect();
    let removed = changed.iter().filter(|change| change.tag() == ChangeTag::Delete).count();
    let kept = removed * 2 < before_text.lines().count();
    anstream::println!(
        "    {label}{} bytes instead of {}{}",
        after.len(),
        before.len(),
        if kept { ", changed:" } else { ":" }
    );
    if !kept {
        return lines(after_text.lines().map(|line| (GREEN, format!("+ {line}"))).collect());
    }
    let line = |change: &similar::Change<&str>| match change.tag() {
        ChangeTag::Delete => (RED, format!("- {}", change.value().trim_end())),
        _ => (GREEN, format!("+ {}", change.value().trim_end())),
    };
    lines(changed.iter().map(line).collect());
}

fn lines(lines: Vec<(Style, String)>) {
    for (style, line) in lines.iter().take(LINES_MAX) {
        anstream::println!("      {style}{line}{style:#}");
    }
    if lines.len() > LINES_MAX {
        anstream::println!("      {DIM}… {} more lines{DIM:#}", lines.len() - LINES_MAX);
    }
}
