//! Filters of subscriptions: conditions on an event, written in JSON.
//!
//! The reference of the language is `docs/reference/filter.md`.
//!
//! # Guarantees
//! - A filter that was parsed is within its limits, and its regular expressions are compiled. It is written as it was read: keys
//!   in their order, numbers with their digits. An exponent gets a sign (`1e2` is written as `1e+2`).
//! - Each event matches a filter or does not. An evaluation takes at most [`FILTER_STEPS_MAX`] steps. An event that would
//!   take more does not match, and the reason names the limit.
//! - `$not` is the negation of what it holds, for every event within that limit.
//! - [`Filter::decide`] with [`Residual::holds`], [`Filter::matches`] and [`Filter::refusal`] agree for every event.
//!
//! # Theory of operation
//! Filters are evaluated in two steps, because the event before this one is known only within the transaction that accepts it.
//! [`Filter::decide`] evaluates everything but `$changed`. Where the outcome depends on it, what remains is a [`Residual`], which
//! consists of nothing else.
//!
//! # Limits
//! A filter knows the event, and the event before it of the same contact or deal. It knows no clock and no other event.

mod document;
mod evaluate;
mod number;
mod operands;
mod parse;
mod position;
mod refusal;
mod work;
mod written;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

pub use document::{Document, ParsedEvent};
pub use evaluate::{Decision, Residual};
pub use parse::FilterError;
pub use refusal::Refusal;
pub use written::WrittenFilter;

use document::Path;
use operands::Operands;
use position::Position;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// Maximum length of a filter in bytes, without blanks.
pub const FILTER_BYTES_MAX: usize = 16 << 10;

/// Maximum nesting depth of a filter.
pub const FILTER_DEPTH_MAX: usize = 16;

/// Maximum number of conditions of a filter.
pub const FILTER_CONDITIONS_MAX: usize = 100;

/// Maximum number of regular expressions of a filter.
pub const FILTER_REGEXES_MAX: usize = 4;

/// Maximum size of a compiled regular expression in bytes.
pub const REGEX_BYTES_MAX: usize = 128 << 10;

/// Maximum length of a text that a regular expression is applied to, in bytes. A longer text does not match.
pub const REGEX_TEXT_BYTES_MAX: usize = 1 << 10;

/// Maximum number of steps of an evaluation. A step compares up to 64 bytes of a value with an operand; a regular expression takes
/// 32 steps for each byte that it is applied to.
pub const FILTER_STEPS_MAX: usize = 1 << 20;

/// Filter of a subscription. A clone shares the conditions.
#[derive(Clone)]
pub struct Filter(Arc<Parsed>);

struct Parsed {
    source: Value,
    root: Node,
    regexes: usize,
}

/// Condition with its position in the filter.
struct Node {
    position: Position,
    test: Test,
}

enum Test {
    /// All of them hold.
    All(Vec<Node>),
    /// One of them holds.
    Any(Vec<Node>),
    /// It does not hold.
    Not(Box<Node>),
    /// It holds for a part of the event.
    Part(Part, Box<Node>),
    /// A value, or an element of a list, meets all of them.
    Compare(Vec<Comparison>),
    /// The members of an object, or of an element of a list, meet all of them.
    Members(Vec<Member>),
    /// There is a value.
    Exist(bool),
    /// The value is another one than in the event before.
    Changed(Path, bool),
}

/// Part of an event that a condition is about.
enum Part {
    Name,
    Data,
    Field(String),
}

struct Member {
    name: String,
    node: Node,
}

struct Comparison {
    position: Position,
    operator: Operator,
}

enum Operator {
    Equal(Value),
    In(Operands),
    Above(Bound),
    AtLeast(Bound),
    Below(Bound),
    AtMost(Bound),
    Contains(Value),
    StartsWith(String),
    EndsWith(String),
    Matches(Regex),
}

/// Number or text with which values are compared.
enum Bound {
    Number(String),
    Text(String),
}

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// [`FilterError`] with the JSON pointer of the first fault.
    pub fn parse(source: Value) -> Result<Self, FilterError> {
        let (root, regexes) = parse::parse(&source)?;
        Ok(Filter(Arc::new(Parsed { source, root, regexes })))
    }

    /// Returns the filter as it was written.
    pub fn source(&self) -> &Value {
        &self.0.source
    }

    /// Number of regular expressions in the filter.
    pub fn regexes(&self) -> usize {
        self.0.regexes
    }

    /// Evaluates everything that does not depend on the event before this one.
    pub fn decide(&self, event: &Document<'_>) -> Decision {
        evaluate::decide(&self.0.root, event)
    }

    /// Returns true if the event matches. `previous` is the event before it of the same contact or deal, if there is one.
    pub fn matches(&self, event: &Document<'_>, previous: Option<&Document<'_>>) -> bool {
        self.decide(event).holds(event, previous)
    }

    /// Returns the first condition that does not hold. None: the event matches.
    pub fn refusal(&self, event: &Document<'_>, previous: Option<&Document<'_>>) -> Option<Refusal> {
        refusal::refusal(&self.0, event, previous)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.0.source)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Filter::parse(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
