//! Reason why an event does not match a filter: the first condition that does not hold, with the value that it met.
//!
//! The evaluation of [`outcome`] says whether there is one.

use super::document::Document;
use super::evaluate::{History, bearers, member_of, outcome};
use super::position::Position;
use super::work::Work;
use super::{Comparison, FILTER_STEPS_MAX, Member, Node, Parsed, Test};
use crate::limits::{cut, shortened};
use serde_json::Value;
use std::fmt::{self, Write as _};

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

/// Returns the first condition that does not hold, if the event does not match.
pub(super) fn refusal(filter: &Parsed, event: &Document<'_>, previous: Option<&Document<'_>>) -> Option<Refusal> {
    let mut refusal = match outcome(&filter.root, event, previous) {
        Some(true) => return None,
        Some(false) => {
            let work = Work::new();
            Evaluation(History { event, previous, work: &work }).first(&filter.root, &[])
        }
        None => {
            let met = format!("an event that takes more than {FILTER_STEPS_MAX} steps to compare");
            at(&Position::ROOT, met)
        }
    };
    refusal.condition = filter.source.pointer(&refusal.pointer).map(written).unwrap_or_default();
    Some(refusal)
}

/// Search for the first condition that does not hold, in a filter that does not.
struct Evaluation<'d, 'e, 'p>(History<'d, 'e, 'p>);

impl Evaluation<'_, '_, '_> {
    /// Returns the first condition of one that does not hold.
    fn first(&self, node: &Node, values: &[&Value]) -> Refusal {
        match &node.test {
            Test::All(nodes) => match nodes.iter().find(|node| !self.0.holds(node, values)) {
                Some(node) => self.first(node, values),
                None => at(&node.position, shown(values)),
            },
            Test::Any(_) => at(&node.position, "an event for which none of its alternatives holds".to_owned()),
            Test::Not(inner) => match inner.test {
                Test::Compare(_) => at(&node.position, shown(values)),
                _ => at(&node.position, "an event for which it holds".to_owned()),
            },
            Test::Part(part, inner) => self.first(inner, part.values(self.0.event)),
            Test::Compare(comparisons) => self.of_comparisons(comparisons, values, &node.position),
            Test::Members(members) => self.of_members(members, values, &node.position),
            Test::Exist(_) => at(&node.position, shown(values)),
            Test::Changed(path, expected) => {
                let what = if *expected { "the same value as before" } else { "another value than before" };
                at(&node.position, format!("{what}: {}", shown(&self.0.event.at(path))))
            }
        }
    }

    /// Returns the first condition that does not hold for the first object.
    fn of_members(&self, members: &[Member], values: &[&Value], position: &Position) -> Refusal {
        let bearer = bearers(values).into_iter().next().flatten();
        let failed =
            members.iter().find(|Member { name, node }| !self.0.holds(node, member_of(bearer, name).as_slice()));
        match failed {
            Some(Member { name, node }) => self.first(node, member_of(bearer, name).as_slice()),
            None => at(position, shown(values)),
        }
    }

    /// Returns the first comparison that the first value does not meet.
    fn of_comparisons(&self, comparisons: &[Comparison], values: &[&Value], position: &Position) -> Refusal {
        let first = values.first();
        let failed = comparisons.iter().find(|one| first.is_none_or(|value| !one.operator.holds(value, self.0.work)));
        at(failed.map_or(position, |comparison| &comparison.position), shown(values))
    }
}

fn at(position: &Position, met: String) -> Refusal {
    Refusal { pointer: position.pointer(), condition: String::new(), met }
}

/// Returns values as JSON, shortened.
fn shown(values: &[&Value]) -> String {
    let [value, others @ ..] = values else { return "nothing".to_owned() };
    let text = written(value);
    if others.is_empty() { text } else { format!("{text} and {} more", others.len()) }
}

/// Returns a value as JSON, shortened.
fn written(value: &Value) -> String {
    let mut text = Bounded(String::new());
    // It fails when there is enough.
    let _ = write!(text, "{value}");
    shortened(&text.0, SHOWN_BYTES_MAX)
}

/// Text that takes what is needed to shorten it to [`SHOWN_BYTES_MAX`], so that a large value is not written to its end.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.push_str(cut(part, SHOWN_BYTES_MAX + char::MAX_LEN_UTF8));
        if self.0.len() > SHOWN_BYTES_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}
