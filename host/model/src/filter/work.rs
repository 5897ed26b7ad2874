//! Bound of the work of one evaluation.
//!
//! # Guarantees
//! - Work is counted the same way each time, so one filter has one outcome for one event.
//!
//! Without a bound, conditions would be multiplied with the elements of a list, and expressions with the texts in it.

use super::FILTER_STEPS_MAX;
use serde_json::Value;
use std::cell::Cell;

/// Number of bytes of texts and numbers that are compared in one step.
const BYTES_PER_STEP: usize = 64;

/// Number of steps for a byte that a regular expression is applied to: an expression that is too large for an automaton
/// looks at each of its states for each byte.
const REGEX_STEPS_PER_BYTE: usize = 32;

/// Steps that are left to an evaluation.
pub(super) struct Work {
    left: Cell<usize>,
}

impl Work {
    pub(super) fn new() -> Self {
        Work { left: Cell::new(FILTER_STEPS_MAX) }
    }

    /// Takes steps. Returns false if they are used up.
    pub(super) fn spend(&self, steps: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(steps));
        !self.is_used_up()
    }

    /// Takes the steps for a text.
    pub(super) fn spend_on_text(&self, bytes: usize) -> bool {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }

    /// Takes the steps for a text that a regular expression is applied to.
    pub(super) fn spend_on_regex(&self, bytes: usize) -> bool {
        self.spend(1 + bytes * REGEX_STEPS_PER_BYTE)
    }

    /// Takes the steps for a comparison with a value, without its elements.
    pub(super) fn spend_on(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.spend_on_text(text.len()),
            Value::Number(number) => self.spend_on_text(number.as_str().len()),
            _ => self.spend(1),
        }
    }

    /// Returns true if the outcome is unknown because the steps are used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }
}
