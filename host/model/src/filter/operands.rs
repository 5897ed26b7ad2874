//! Values of `$in` and `$nin`: a value is looked up, however many there are.
//!
//! # Guarantees
//! - A value is found if and only if it is equal to one of the operands, as `$eq` compares.

use super::number;
use serde_json::Value;
use std::collections::HashSet;

/// Set of values.
pub(super) struct Operands {
    texts: HashSet<String>,
    /// Values of other types, as [`spelled`].
    others: HashSet<String>,
}

impl Operands {
    pub(super) fn new(values: &[Value]) -> Self {
        let texts = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let others = values.iter().filter(|value| !value.is_string()).map(spelled).collect();
        Operands { texts, others }
    }

    /// Returns true if a value is equal to one of them.
    pub(super) fn contains(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.texts.contains(text),
            other => self.others.contains(&spelled(other)),
        }
    }
}

/// Returns the spelling that equal values have in common.
fn spelled(value: &Value) -> String {
    let mut text = String::new();
    spell(value, &mut text);
    text
}

fn spell(value: &Value, to: &mut String) {
    match value {
        Value::Number(number) => number::spell(number.as_str(), to),
        Value::Array(elements) => {
            to.push('[');
            for element in elements {
                spell(element, to);
                to.push(',');
            }
            to.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            to.push('{');
            for (name, value) in members {
                spell_text(name, to);
                spell(value, to);
                to.push(',');
            }
            to.push('}');
        }
        Value::String(text) => spell_text(text, to),
        Value::Null => to.push_str("null"),
        Value::Bool(true) => to.push_str("true"),
        Value::Bool(false) => to.push_str("false"),
    }
}

/// Writes a text behind its length, so that no text ends the one around it.
fn spell_text(text: &str, to: &mut String) {
    to.push_str(&format!("\"{}:{text}", text.len()));
}
