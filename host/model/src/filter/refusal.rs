//! Reason why an event does not match a filter: the first condition that does not hold, with the value that it met.

use super::document::Document;
use super::evaluate::{bearers, has_changed, member_of};
use super::{Comparison, Member, Node, Parsed, Test};
use crate::limits::shortened;
use serde_json::Value;
use std::fmt;

/// Maximum length of a value in an explanation, in bytes.
const SHOWN_BYTES_MAX: usize = 80;

/// First condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer of the condition, from the filter on.
    pub pointer: String,
    /// The condition as it was written, shortened.
    pub condition: String,
    /// Value that the condition met, shortened, or another fact about it.
    pub met: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} met {}", self.pointer, self.condition, self.met)
    }
}

/// Returns the first condition that does not hold.
pub(super) fn refusal(filter: &Parsed, event: &Document, previous: Option<&Document>) -> Option<Refusal> {
    let mut refusal = Evaluation { event, previous }.refusal(&filter.root, &[])?;
    let condition = filter.source.pointer(&refusal.pointer).map(Value::to_string).unwrap_or_default();
    refusal.condition = shortened(&condition, SHOWN_BYTES_MAX);
    Some(refusal)
}

struct Evaluation<'d> {
    event: &'d Document,
    previous: Option<&'d Document>,
}

impl Evaluation<'_> {
    fn refusal(&self, node: &Node, values: &[&Value]) -> Option<Refusal> {
        match &node.test {
            Test::All(nodes) => nodes.iter().find_map(|node| self.refusal(node, values)),
            Test::Any(nodes) => {
                let is_refused = nodes.iter().all(|node| self.refusal(node, values).is_some());
                is_refused.then(|| at(node, "an event for which none of its alternatives holds"))
            }
            Test::Not(inner) => match (self.refusal(inner, values), &inner.test) {
                (Some(_), _) => None,
                (None, Test::Compare(_)) => Some(at(node, &shown(values))),
                (None, _) => Some(at(node, "an event for which it holds")),
            },
            Test::Part(part, inner) => self.refusal(inner, &part.values(self.event)),
            Test::Compare(comparisons) => of_comparisons(comparisons, values),
            Test::Members(members) => self.of_members(members, values),
            Test::Exist(expected) => (values.is_empty() == *expected).then(|| at(node, &shown(values))),
            Test::Changed(path, expected) => {
                let has_changed = has_changed(path, self.event, self.previous);
                (has_changed != *expected).then(|| {
                    let what = if has_changed { "another value than before" } else { "the same value as before" };
                    at(node, &format!("{what}: {}", shown(&self.event.at(path))))
                })
            }
        }
    }

    /// Returns the refusal of the first object, if all of them are refused.
    fn of_members(&self, members: &[Member], values: &[&Value]) -> Option<Refusal> {
        let refusal_of = |bearer: Option<&Value>| {
            members.iter().find_map(|Member { name, node }| self.refusal(node, &member_of(bearer, name)))
        };
        let refusals: Option<Vec<Refusal>> = bearers(values).into_iter().map(refusal_of).collect();
        refusals?.into_iter().next()
    }
}

/// Returns the refusal of the first value, if no value and no element meets all comparisons.
fn of_comparisons(comparisons: &[Comparison], values: &[&Value]) -> Option<Refusal> {
    let failed = |value: &Value| comparisons.iter().find(|comparison| !comparison.operator.holds(value));
    let mut first = comparisons.first();
    for (index, value) in values.iter().enumerate() {
        let of_value = failed(value)?;
        if value.as_array().is_some_and(|elements| elements.iter().any(|element| failed(element).is_none())) {
            return None;
        }
        if index == 0 {
            first = Some(of_value);
        }
    }
    first.map(|comparison| Refusal {
        pointer: comparison.pointer.clone(),
        condition: String::new(),
        met: shown(values),
    })
}

fn at(node: &Node, met: &str) -> Refusal {
    Refusal { pointer: node.pointer.clone(), condition: String::new(), met: met.to_owned() }
}

/// Returns values as JSON, shortened.
fn shown(values: &[&Value]) -> String {
    match values {
        [] => "nothing".to_owned(),
        [value] => shortened(&value.to_string(), SHOWN_BYTES_MAX),
        [value, others @ ..] => {
            format!("{} and {} more", shortened(&value.to_string(), SHOWN_BYTES_MAX), others.len())
        }
    }
}
