//! Evaluation of a filter for an event.
//!
//! Once the steps of [`Work`] are used up, conditions have any outcome; only the evaluation as a whole says so.

use super::document::{Document, Path};
use super::work::Work;
use super::{Bound, Comparison, Member, Node, Operator, Part, REGEX_TEXT_BYTES_MAX, Test, number};
use serde_json::Value;
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::sync::Arc;

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

impl Decision {
    /// Returns true if the event matches. `previous` is the event before it of the same contact or deal, if there is one.
    pub(super) fn holds(self, event: &Document<'_>, previous: Option<&Document<'_>>) -> bool {
        match self {
            Decision::Matches => true,
            Decision::Refuses => false,
            Decision::Depends(residual) => residual.holds(event, previous),
        }
    }
}

impl Residual {
    /// Returns true if the conditions hold. Without a previous event, everything has changed.
    pub fn holds(&self, event: &Document<'_>, previous: Option<&Document<'_>>) -> bool {
        self.0.outcome(event, previous).unwrap_or(false)
    }
}

/// An event and the one before it.
pub(super) struct History<'d, 'e, 'p> {
    pub(super) event: &'d Document<'e>,
    pub(super) previous: Option<&'d Document<'p>>,
    pub(super) work: &'d Work,
}

impl History<'_, '_, '_> {
    /// Returns true if the values at a path differ from those of the event before, or if there is none.
    pub(super) fn has_changed(&self, path: &[Arc<str>]) -> bool {
        let Some(previous) = self.previous else { return true };
        let now = self.event.at(path);
        let before = previous.at(path);
        self.work.spend(now.len() + before.len());
        now.len() != before.len() || now.into_iter().zip(before).any(|(now, before)| !is_same(now, before, self.work))
    }

    /// Returns true if a condition holds for values of the event, as far as there are steps left.
    pub(super) fn holds(&self, node: &Node, values: &[&Value]) -> bool {
        match node.evaluate(self.event, values, self.work) {
            Partial::Known(holds) => holds,
            Partial::Depends(rest) => rest.holds(self),
        }
    }
}

impl Rest {
    /// Returns true if the conditions hold. None: the steps are used up.
    fn outcome(&self, event: &Document<'_>, previous: Option<&Document<'_>>) -> Option<bool> {
        let work = Work::new();
        let holds = self.holds(&History { event, previous, work: &work });
        (!work.is_used_up()).then_some(holds)
    }

    fn holds(&self, history: &History<'_, '_, '_>) -> bool {
        match self {
            Rest::All(all) => all.iter().all(|rest| rest.holds(history)),
            Rest::Any(any) => any.iter().any(|rest| rest.holds(history)),
            Rest::Not(rest) => !rest.holds(history),
            Rest::Changed(path, expected) => history.has_changed(path) == *expected,
        }
    }
}

/// Evaluates everything that does not depend on the event before. None: the steps are used up.
fn partial(root: &Node, event: &Document<'_>) -> Option<Partial> {
    let work = Work::new();
    let partial = root.evaluate(event, &[], &work);
    (!work.is_used_up()).then_some(partial)
}

/// Evaluates everything that does not depend on the event before.
pub(super) fn decide(root: &Node, event: &Document<'_>) -> Decision {
    match partial(root, event) {
        Some(Partial::Known(true)) => Decision::Matches,
        Some(Partial::Known(false)) | None => Decision::Refuses,
        Some(Partial::Depends(rest)) => Decision::Depends(Residual(rest)),
    }
}

/// Returns true if the event matches. None: it takes too many steps, and so does not.
pub(super) fn outcome(root: &Node, event: &Document<'_>, previous: Option<&Document<'_>>) -> Option<bool> {
    match partial(root, event)? {
        Partial::Known(matches) => Some(matches),
        Partial::Depends(rest) => rest.outcome(event, previous),
    }
}

impl Part {
    /// Returns the values of the part.
    pub(super) fn values<'d, 'e>(&self, event: &'d Document<'e>) -> &'d [&'e Value] {
        match self {
            Part::Name => event.name(),
            Part::Data => event.data(),
            Part::Field(name) => event.field(name),
        }
    }
}

impl Node {
    /// Evaluates the condition for the values that it is about.
    fn evaluate(&self, event: &Document<'_>, values: &[&Value], work: &Work) -> Partial {
        if !work.spend(1 + values.len()) {
            return Partial::Known(false);
        }
        match &self.test {
            Test::All(nodes) => all(nodes.iter().map(|node| node.evaluate(event, values, work))),
            Test::Any(nodes) => any(nodes.iter().map(|node| node.evaluate(event, values, work))),
            Test::Not(node) => match node.evaluate(event, values, work) {
                Partial::Known(holds) => Partial::Known(!holds),
                Partial::Depends(rest) => Partial::Depends(Rest::Not(Box::new(rest))),
            },
            Test::Part(part, node) => node.evaluate(event, part.values(event), work),
            Test::Compare(comparisons) => Partial::Known(one_meets(comparisons, values, work)),
            Test::Members(members) => {
                let bearers = bearers(values);
                work.spend(bearers.len());
                any(bearers.into_iter().map(|bearer| of_members(members, event, bearer, work)))
            }
            Test::Exist(expected) => Partial::Known(values.is_empty() != *expected),
            Test::Changed(path, expected) => Partial::Depends(Rest::Changed(path.clone(), *expected)),
        }
    }
}

fn of_members(members: &[Member], event: &Document<'_>, bearer: Option<&Value>, work: &Work) -> Partial {
    all(members.iter().map(|Member { name, node }| node.evaluate(event, member_of(bearer, name).as_slice(), work)))
}

/// Objects, and other values, whose members conditions are about. An event of the vendor has short lists.
type Bearers<'v> = SmallVec<[Option<&'v Value>; 8]>;

/// Returns the values whose members conditions are about: an object, or each element of a list. One that is None if there is no value.
pub(super) fn bearers<'v>(values: &[&'v Value]) -> Bearers<'v> {
    let mut bearers = Bearers::new();
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
pub(super) fn member_of<'v>(bearer: Option<&'v Value>, name: &str) -> Option<&'v Value> {
    bearer?.get(name)
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
fn one_meets(comparisons: &[Comparison], values: &[&Value], work: &Work) -> bool {
    let meets_all =
        |value: &Value| work.spend(1) && comparisons.iter().all(|comparison| comparison.operator.holds(value, work));
    values.iter().any(|value| meets_all(value) || elements(value).iter().any(meets_all))
}

/// Returns the elements of a list. Another value has none.
pub(super) fn elements(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Operator {
    /// Returns true if a value meets the condition, as far as there are steps left.
    pub(super) fn holds(&self, value: &Value, work: &Work) -> bool {
        match self {
            Operator::Equal(operand) => is_same(operand, value, work),
            Operator::In(operands) => spend_on_all(value, work) && operands.contains(value),
            Operator::Above(bound) => bound.compare(value, work).is_some_and(Ordering::is_gt),
            Operator::AtLeast(bound) => bound.compare(value, work).is_some_and(Ordering::is_ge),
            Operator::Below(bound) => bound.compare(value, work).is_some_and(Ordering::is_lt),
            Operator::AtMost(bound) => bound.compare(value, work).is_some_and(Ordering::is_le),
            Operator::Contains(operand) => match (value, operand) {
                (Value::String(text), Value::String(part)) => work.spend_on_text(text.len()) && text.contains(&**part),
                (Value::Array(elements), operand) => elements.iter().any(|element| is_same(operand, element, work)),
                _ => false,
            },
            Operator::StartsWith(start) => value.as_str().is_some_and(|text| text.starts_with(&**start)),
            Operator::EndsWith(end) => value.as_str().is_some_and(|text| text.ends_with(&**end)),
            Operator::Matches(regex) => value.as_str().is_some_and(|text| {
                text.len() <= REGEX_TEXT_BYTES_MAX && work.spend_on_regex(text.len()) && regex.is_match(text)
            }),
        }
    }
}

/// Takes the steps for a value with all that is in it. Returns false if the steps are used up.
fn spend_on_all(value: &Value, work: &Work) -> bool {
    work.spend_on(value)
        && match value {
            Value::Array(elements) => elements.iter().all(|element| spend_on_all(element, work)),
            Value::Object(members) => {
                members.iter().all(|(name, value)| work.spend_on_text(name.len()) && spend_on_all(value, work))
            }
            _ => true,
        }
}

impl Bound {
    /// Compares a value with the bound. None: the value is of another type, or the steps are used up.
    fn compare(&self, value: &Value, work: &Work) -> Option<Ordering> {
        match (value, self) {
            (Value::Number(value), Bound::Number(bound)) => {
                work.spend_on_text(value.as_str().len()).then(|| number::compare(value.as_str(), bound))
            }
            (Value::String(value), Bound::Text(bound)) => {
                work.spend_on_text(value.len().min(bound.len())).then(|| value.as_str().cmp(bound))
            }
            _ => None,
        }
    }
}

/// Returns true if two values are equal: numbers by value, objects in any order of their keys.
fn is_same(left: &Value, right: &Value, work: &Work) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            work.spend_on_text(left.as_str().len() + right.as_str().len())
                && number::compare(left.as_str(), right.as_str()).is_eq()
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right, work))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| {
                    work.spend_on_text(name.len()) && right.get(name).is_some_and(|right| is_same(left, right, work))
                })
        }
        (Value::String(left), Value::String(right)) => {
            left.len() == right.len() && work.spend_on_text(left.len()) && left == right
        }
        (left, right) => work.spend(1) && left == right,
    }
}
