//! Evaluation of a filter for an event.

use super::document::{Document, Path};
use super::{Bound, Comparison, Member, Node, Operator, Part, REGEX_TEXT_BYTES_MAX, Test, number};
use serde_json::Value;
use std::cmp::Ordering;

/// Outcome for an event, as far as it does not depend on the event before.
#[derive(Debug)]
pub enum Decision {
    /// The event matches.
    Matches,
    /// The event does not match.
    Refuses,
    /// The event matches if what remains holds.
    Depends(Residual),
}

/// Conditions `$changed` on which a decision depends.
#[derive(Clone, Debug)]
pub struct Residual(Rest);

#[derive(Clone, Debug)]
enum Rest {
    All(Vec<Rest>),
    Any(Vec<Rest>),
    Not(Box<Rest>),
    Changed(Path, bool),
}

/// Outcome of a condition.
enum Partial {
    Known(bool),
    Depends(Rest),
}

impl Residual {
    /// Returns true if the conditions hold. Without a previous event, everything has changed.
    pub fn holds(&self, event: &Document, previous: Option<&Document>) -> bool {
        self.0.holds(event, previous)
    }
}

impl Rest {
    fn holds(&self, event: &Document, previous: Option<&Document>) -> bool {
        match self {
            Rest::All(all) => all.iter().all(|rest| rest.holds(event, previous)),
            Rest::Any(any) => any.iter().any(|rest| rest.holds(event, previous)),
            Rest::Not(rest) => !rest.holds(event, previous),
            Rest::Changed(path, expected) => has_changed(path, event, previous) == *expected,
        }
    }
}

/// Returns true if the values at a path differ from those of the event before, or if there is none.
pub(super) fn has_changed(path: &[String], event: &Document, previous: Option<&Document>) -> bool {
    let Some(previous) = previous else { return true };
    let [now, before] = [event, previous].map(|document| document.at(path));
    now.len() != before.len() || now.into_iter().zip(before).any(|(now, before)| !is_same(now, before))
}

/// Evaluates everything that does not depend on the event before.
pub(super) fn decide(root: &Node, event: &Document) -> Decision {
    match root.evaluate(event, &[]) {
        Partial::Known(true) => Decision::Matches,
        Partial::Known(false) => Decision::Refuses,
        Partial::Depends(rest) => Decision::Depends(Residual(rest)),
    }
}

impl Part {
    /// Returns the values of the part.
    pub(super) fn values<'d>(&self, event: &'d Document) -> Vec<&'d Value> {
        match self {
            Part::Name => vec![event.name()],
            Part::Data => vec![event.data()],
            Part::Field(name) => event.field(name),
        }
    }
}

impl Node {
    /// Evaluates the condition for the values that it is about.
    fn evaluate(&self, event: &Document, values: &[&Value]) -> Partial {
        match &self.test {
            Test::All(nodes) => all(nodes.iter().map(|node| node.evaluate(event, values))),
            Test::Any(nodes) => any(nodes.iter().map(|node| node.evaluate(event, values))),
            Test::Not(node) => match node.evaluate(event, values) {
                Partial::Known(holds) => Partial::Known(!holds),
                Partial::Depends(rest) => Partial::Depends(Rest::Not(Box::new(rest))),
            },
            Test::Part(part, node) => node.evaluate(event, &part.values(event)),
            Test::Compare(comparisons) => Partial::Known(one_meets(comparisons, values)),
            Test::Members(members) => any(bearers(values).into_iter().map(|bearer| of_members(members, event, bearer))),
            Test::Exist(expected) => Partial::Known(values.is_empty() != *expected),
            Test::Changed(path, expected) => Partial::Depends(Rest::Changed(path.clone(), *expected)),
        }
    }
}

fn of_members(members: &[Member], event: &Document, bearer: Option<&Value>) -> Partial {
    all(members.iter().map(|Member { name, node }| node.evaluate(event, &member_of(bearer, name))))
}

/// Returns the values whose members conditions are about: an object, or each element of a list. One that is None if there is no value.
pub(super) fn bearers<'v>(values: &[&'v Value]) -> Vec<Option<&'v Value>> {
    let mut bearers = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Array(elements) => bearers.extend(elements.iter().map(Some)),
            value => bearers.push(Some(*value)),
        }
    }
    if bearers.is_empty() {
        bearers.push(None);
    }
    bearers
}

/// Returns the value of a member, if there is one.
pub(super) fn member_of<'v>(bearer: Option<&'v Value>, name: &str) -> Vec<&'v Value> {
    bearer.and_then(|value| value.get(name)).into_iter().collect()
}

fn all(partials: impl Iterator<Item = Partial>) -> Partial {
    let mut rest = Vec::new();
    for partial in partials {
        match partial {
            Partial::Known(true) => {}
            Partial::Known(false) => return Partial::Known(false),
            Partial::Depends(one) => rest.push(one),
        }
    }
    if rest.is_empty() { Partial::Known(true) } else { Partial::Depends(Rest::All(rest)) }
}

fn any(partials: impl Iterator<Item = Partial>) -> Partial {
    let mut rest = Vec::new();
    for partial in partials {
        match partial {
            Partial::Known(true) => return Partial::Known(true),
            Partial::Known(false) => {}
            Partial::Depends(one) => rest.push(one),
        }
    }
    if rest.is_empty() { Partial::Known(false) } else { Partial::Depends(Rest::Any(rest)) }
}

/// Returns true if one of the values, or an element of one that is a list, meets all comparisons.
fn one_meets(comparisons: &[Comparison], values: &[&Value]) -> bool {
    let meets_all = |value: &Value| comparisons.iter().all(|comparison| comparison.operator.holds(value));
    values
        .iter()
        .any(|value| meets_all(value) || value.as_array().is_some_and(|elements| elements.iter().any(meets_all)))
}

impl Operator {
    /// Returns true if a value meets the condition.
    pub(super) fn holds(&self, value: &Value) -> bool {
        match self {
            Operator::Equal(operand) => is_same(operand, value),
            Operator::In(operands) => operands.iter().any(|operand| is_same(operand, value)),
            Operator::Above(bound) => bound.compare(value).is_some_and(Ordering::is_gt),
            Operator::AtLeast(bound) => bound.compare(value).is_some_and(Ordering::is_ge),
            Operator::Below(bound) => bound.compare(value).is_some_and(Ordering::is_lt),
            Operator::AtMost(bound) => bound.compare(value).is_some_and(Ordering::is_le),
            Operator::Contains(operand) => match (value, operand) {
                (Value::String(text), Value::String(part)) => text.contains(&**part),
                (Value::Array(elements), operand) => elements.iter().any(|element| is_same(operand, element)),
                _ => false,
            },
            Operator::StartsWith(start) => value.as_str().is_some_and(|text| text.starts_with(&**start)),
            Operator::EndsWith(end) => value.as_str().is_some_and(|text| text.ends_with(&**end)),
            Operator::Matches(regex) => {
                value.as_str().is_some_and(|text| text.len() <= REGEX_TEXT_BYTES_MAX && regex.is_match(text))
            }
        }
    }
}

impl Bound {
    /// Compares a value with the bound. None: the value is of another type.
    fn compare(&self, value: &Value) -> Option<Ordering> {
        match (value, self) {
            (Value::Number(value), Bound::Number(bound)) => Some(number::compare(value.as_str(), bound)),
            (Value::String(value), Bound::Text(bound)) => Some(value.as_str().cmp(bound)),
            _ => None,
        }
    }
}

/// Returns true if two values are equal: numbers by value, objects in any order of their keys.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number::compare(left.as_str(), right.as_str()).is_eq(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| is_same(left, right)))
        }
        (left, right) => left == right,
    }
}
