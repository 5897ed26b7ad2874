//! Error of a script, as the engine reports it.

use std::fmt;

/// Error of a script, in its author's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Set when the script failed before its function was called.
    pub(super) before_call: bool,
    /// Name and message of the error.
    pub(super) message: String,
    /// Line and column, both from 1. None: the engine cannot tell.
    pub(super) position: Option<(u32, u32)>,
    /// The script's functions, innermost first.
    pub(super) frames: Vec<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(out, "line {line}, column {column}: {}", self.message)?,
            None => write!(out, "{}", self.message)?,
        }
        if self.frames.is_empty() { Ok(()) } else { write!(out, "; in {}", self.frames.join(" < ")) }
    }
}
