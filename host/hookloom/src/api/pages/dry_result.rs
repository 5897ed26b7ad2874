//! View of a dry run's result, which the template `verdict.html` shows.

use super::diff::Diff;
use super::{duration, short, size};
use crate::delivery::Verdict;
use crate::plugin::{Shown, ShownScriptError};
use crate::plural::counted;

/// Result of a dry run.
pub(super) struct DryResult {
    pub(super) verdict: String,
    pub(super) reason: String,
    /// Error of the script, with its position.
    pub(super) script_error: Option<ScriptErrorView>,
    pub(super) diff: Diff,
    pub(super) headers: String,
    pub(super) log: String,
    pub(super) cost: String,
    /// Config keys that were not read, in one text.
    pub(super) unread: String,
}

/// Error of a script: where it happened, and what.
pub(super) struct ScriptErrorView {
    pub(super) line: Option<u32>,
    pub(super) column: u32,
    pub(super) message: String,
    pub(super) functions: Vec<String>,
}

impl ScriptErrorView {
    fn new(error: ShownScriptError) -> Self {
        let ShownScriptError { message, line, column, functions } = error;
        ScriptErrorView { line, column: column.unwrap_or(1), message, functions }
    }
}

impl DryResult {
    pub(super) fn new(event: &str, shown: Shown) -> Self {
        let diff = match (shown.verdict, &shown.body) {
            (Verdict::Replace, Some(body)) => Diff::new(event, body.as_str()),
            (Verdict::Pass, _) => Diff::same("It passes unchanged.", event),
            _ => Diff::words("Nothing would be sent."),
        };
        let headers = shown.headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let kind = shown.content_type.iter().map(|kind| format!("content-type: {kind}"));
        DryResult {
            verdict: shown.verdict.to_string(),
            reason: shown.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            script_error: shown.script_error.map(ScriptErrorView::new),
            diff,
            headers: kind.chain(headers).collect::<Vec<_>>().join("\n"),
            log: shown.log.join("\n"),
            unread: shown.unread_config.join(", "),
            cost: format!(
                "Judged by {} in {} (CPU {}) with {} of memory and {} into the host.",
                shown.plugin_sha256.as_deref().map(short).unwrap_or_default(),
                duration(shown.cost.wall_us),
                duration(shown.cost.cpu_us),
                size(shown.cost.memory_bytes),
                counted(shown.cost.host_calls, "call", "calls")
            ),
        }
    }

    pub(super) fn refused(reason: String) -> Self {
        DryResult {
            verdict: "not judged".to_owned(),
            reason,
            script_error: None,
            diff: Diff::words(""),
            headers: String::new(),
            log: String::new(),
            cost: String::new(),
            unread: String::new(),
        }
    }
}
