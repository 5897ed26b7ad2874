//! Parser of filters: from JSON to conditions, with the JSON pointer of the first fault.

use super::operands::Operands;
use super::position::Position;
use super::{
    Bound, Comparison, FILTER_BYTES_MAX, FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FILTER_REGEXES_MAX, Member, Node,
    Operator, Part, REGEX_BYTES_MAX, Test,
};
use crate::limits::shortened;
use regex::RegexBuilder;
use serde_json::{Map, Value};

/// Fault of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct FilterError {
    /// JSON pointer of the fault, from the filter on. Empty: the whole filter.
    pub pointer: String,
    /// Description of the fault, and what is allowed.
    pub detail: String,
}

/// Names that a filter may have at its top, besides `$and`, `$or` and `$not`.
const PARTS: &str = "eventName, eventData, fields, $and, $or and $not";

const OPERATORS: &str = "$eq, $neq, $gt, $gte, $lt, $lte, $in, $nin, $contains, $startsWith, $endsWith, $exist, $regex, $changed, $and, $or and $not";

/// Maximum length of an operator or a name that an error quotes, in bytes.
const QUOTED_BYTES_MAX: usize = 60;

/// Memory of the lazy automaton of a regular expression, in bytes.
const REGEX_CACHE_BYTES: usize = 128 << 10;

/// Nesting depth of groups in a regular expression.
const REGEX_NEST_MAX: u32 = 32;

/// Parses a filter. Returns its conditions, and the number of its regular expressions.
pub(super) fn parse(source: &Value) -> Result<(Node, usize), FilterError> {
    // Before anything that takes time in the number of positions times the length of their names.
    if source.to_string().len() > FILTER_BYTES_MAX {
        return Err(Position::ROOT.fault(format!("a filter has at most {FILTER_BYTES_MAX} bytes")));
    }
    check_depth(source, &Position::ROOT)?;
    let mut parser = Parser { conditions: 0, regexes: 0 };
    let node = parser.top(source, &Position::ROOT)?;
    Ok((node, parser.regexes))
}

fn check_depth(value: &Value, place: &Position) -> Result<(), FilterError> {
    if place.depth() > FILTER_DEPTH_MAX {
        return Err(fault_of_depth(place));
    }
    match value {
        Value::Object(members) => members.iter().try_for_each(|(key, value)| check_depth(value, &place.key(key))),
        Value::Array(elements) => {
            elements.iter().enumerate().try_for_each(|(index, value)| check_depth(value, &place.index(index)))
        }
        _ => Ok(()),
    }
}

/// Returns the fault of a position that is too deep.
pub(super) fn fault_of_depth(place: &Position) -> FilterError {
    place.fault(format!("a filter nests at most {FILTER_DEPTH_MAX} levels"))
}

impl Position {
    fn fault(&self, detail: impl Into<String>) -> FilterError {
        FilterError { pointer: self.pointer(), detail: detail.into() }
    }

    fn node(&self, test: Test) -> Node {
        Node { position: self.clone(), test }
    }
}

struct Parser {
    conditions: usize,
    regexes: usize,
}

type Rule = fn(&mut Parser, &Value, &Position) -> Result<Node, FilterError>;

impl Parser {
    /// Parses conditions on parts of the event.
    fn top(&mut self, value: &Value, place: &Position) -> Result<Node, FilterError> {
        let mut nodes = Vec::new();
        for (key, value) in conditions(value, place)? {
            let node = match key.as_str() {
                "eventName" => self.part(Part::Name, value, &place.name(key))?,
                "eventData" => self.part(Part::Data, value, &place.name(key))?,
                "fields" => self.fields(value, &place.name(key))?,
                "$and" | "$or" | "$not" => self.combined(key, value, &place.key(key), Parser::top)?,
                other => {
                    let quoted = shortened(other, QUOTED_BYTES_MAX);
                    return Err(place.key(key).fault(format!("there is no {quoted:?} here; allowed are {PARTS}")));
                }
            };
            nodes.push(node);
        }
        Ok(joined(nodes, place))
    }

    /// Parses conditions on fields by name.
    fn fields(&mut self, value: &Value, place: &Position) -> Result<Node, FilterError> {
        let mut nodes = Vec::new();
        for (key, value) in conditions(value, place)? {
            let node = match key.as_str() {
                "$and" | "$or" | "$not" => self.combined(key, value, &place.key(key), Parser::fields)?,
                operator if operator.starts_with('$') => {
                    let quoted = shortened(operator, QUOTED_BYTES_MAX);
                    let detail = format!(
                        "{quoted:?} needs a field: write {{\"NAME\": {{{quoted:?}: …}}}}; allowed here are names of fields, $and, $or and $not"
                    );
                    return Err(place.key(key).fault(detail));
                }
                name => self.part(Part::Field(name.to_owned()), value, &place.name(key))?,
            };
            nodes.push(node);
        }
        Ok(joined(nodes, place))
    }

    fn part(&mut self, part: Part, value: &Value, place: &Position) -> Result<Node, FilterError> {
        let node = self.value(value, place)?;
        Ok(place.node(Test::Part(part, Box::new(node))))
    }

    /// Parses `$and`, `$or` or `$not`. `rule` parses what they hold.
    fn combined(&mut self, key: &str, value: &Value, place: &Position, rule: Rule) -> Result<Node, FilterError> {
        if key == "$not" {
            let node = rule(self, value, place)?;
            return Ok(place.node(Test::Not(Box::new(node))));
        }
        let elements = list(value, place)?;
        let nodes = elements.iter().enumerate().map(|(index, value)| rule(self, value, &place.index(index)));
        let nodes = nodes.collect::<Result<_, _>>()?;
        Ok(place.node(if key == "$and" { Test::All(nodes) } else { Test::Any(nodes) }))
    }

    /// Parses conditions on a value.
    fn value(&mut self, value: &Value, place: &Position) -> Result<Node, FilterError> {
        match value {
            Value::Object(_) => {}
            Value::Array(_) => {
                let detail =
                    "a list is written as {\"$in\": […]} (one of these values) or {\"$eq\": […]} (exactly this list)";
                return Err(place.fault(detail));
            }
            scalar => return self.equal(scalar.clone(), place),
        }
        let mut nodes = Vec::new();
        let mut comparisons = Vec::new();
        let mut members = Vec::new();
        for (key, value) in conditions(value, place)? {
            let at = place.key(key);
            match key.as_str() {
                "$and" | "$or" | "$not" => nodes.push(self.combined(key, value, &at, Parser::value)?),
                "$exist" => {
                    self.count(&at)?;
                    nodes.push(at.node(Test::Exist(boolean(value, &at)?)));
                }
                "$changed" => {
                    self.count(&at)?;
                    nodes.push(at.node(Test::Changed(at.path(), boolean(value, &at)?)));
                }
                "$neq" => {
                    let equal = self.equal(value.clone(), &at)?;
                    nodes.push(at.node(Test::Not(Box::new(equal))));
                }
                "$nin" => {
                    self.count(&at)?;
                    let operator = Operator::In(Operands::new(list(value, &at)?));
                    let within = at.node(Test::Compare(vec![Comparison { position: at.clone(), operator }]));
                    nodes.push(at.node(Test::Not(Box::new(within))));
                }
                operator if operator.starts_with('$') => {
                    self.count(&at)?;
                    let operator = self.operator(operator, value, &at)?;
                    comparisons.push(Comparison { position: at, operator });
                }
                name => {
                    let node = self.value(value, &place.name(name))?;
                    members.push(Member { name: name.to_owned(), node });
                }
            }
        }
        if !comparisons.is_empty() {
            nodes.push(place.node(Test::Compare(comparisons)));
        }
        if !members.is_empty() {
            nodes.push(place.node(Test::Members(members)));
        }
        Ok(joined(nodes, place))
    }

    fn equal(&mut self, operand: Value, place: &Position) -> Result<Node, FilterError> {
        self.count(place)?;
        let comparison = Comparison { position: place.clone(), operator: Operator::Equal(operand) };
        Ok(place.node(Test::Compare(vec![comparison])))
    }

    fn operator(&mut self, name: &str, value: &Value, place: &Position) -> Result<Operator, FilterError> {
        Ok(match name {
            "$eq" => Operator::Equal(value.clone()),
            "$in" => Operator::In(Operands::new(list(value, place)?)),
            "$gt" => Operator::Above(bound(value, place)?),
            "$gte" => Operator::AtLeast(bound(value, place)?),
            "$lt" => Operator::Below(bound(value, place)?),
            "$lte" => Operator::AtMost(bound(value, place)?),
            "$contains" => match value {
                Value::Array(_) | Value::Object(_) => {
                    return Err(place.fault("$contains takes a text, a number, true, false or null"));
                }
                operand => Operator::Contains(operand.clone()),
            },
            "$startsWith" => Operator::StartsWith(text(value, place)?),
            "$endsWith" => Operator::EndsWith(text(value, place)?),
            "$regex" => self.regex(value, place)?,
            other => {
                let quoted = shortened(other, QUOTED_BYTES_MAX);
                return Err(place.fault(format!("there is no operator {quoted:?}; allowed are {OPERATORS}")));
            }
        })
    }

    fn regex(&mut self, value: &Value, place: &Position) -> Result<Operator, FilterError> {
        self.regexes += 1;
        if self.regexes > FILTER_REGEXES_MAX {
            return Err(place.fault(format!("a filter has at most {FILTER_REGEXES_MAX} regular expressions")));
        }
        let pattern = text(value, place)?;
        let mut builder = RegexBuilder::new(&pattern);
        builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_CACHE_BYTES).nest_limit(REGEX_NEST_MAX);
        builder.build().map(Operator::Matches).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => place.fault(format!(
                "the regular expression takes more than {REGEX_BYTES_MAX} bytes of memory: use smaller repetitions, or [a-z0-9_] for \\w"
            )),
            error => {
                // The message shows the pattern in several lines; the last one is the reason.
                let message = error.to_string();
                let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
                place.fault(format!("not a regular expression of the Rust crate regex: {reason}"))
            }
        })
    }

    fn count(&mut self, place: &Position) -> Result<(), FilterError> {
        self.conditions += 1;
        if self.conditions > FILTER_CONDITIONS_MAX {
            return Err(place.fault(format!("a filter has at most {FILTER_CONDITIONS_MAX} conditions")));
        }
        Ok(())
    }
}

/// Returns the entries of an object of conditions.
fn conditions<'v>(value: &'v Value, place: &Position) -> Result<&'v Map<String, Value>, FilterError> {
    match value.as_object() {
        Some(entries) if entries.is_empty() => Err(place.fault("an object with at least one condition is needed here")),
        Some(entries) => Ok(entries),
        None => Err(place.fault(format!("an object with conditions is needed here, not {}", kind(value)))),
    }
}

fn list<'v>(value: &'v Value, place: &Position) -> Result<&'v [Value], FilterError> {
    match value.as_array() {
        Some(elements) if !elements.is_empty() => Ok(elements),
        _ => Err(place.fault("a list with at least one element is needed here")),
    }
}

fn boolean(value: &Value, place: &Position) -> Result<bool, FilterError> {
    value.as_bool().ok_or_else(|| place.fault(format!("true or false is needed here, not {}", kind(value))))
}

fn text(value: &Value, place: &Position) -> Result<String, FilterError> {
    let text = value.as_str().ok_or_else(|| place.fault(format!("a text is needed here, not {}", kind(value))))?;
    Ok(text.to_owned())
}

fn bound(value: &Value, place: &Position) -> Result<Bound, FilterError> {
    match value {
        Value::Number(number) => Ok(Bound::Number(number.as_str().to_owned())),
        Value::String(text) => Ok(Bound::Text(text.clone())),
        other => Err(place.fault(format!("a number or a text is needed here, not {}", kind(other)))),
    }
}

/// Returns the type of a value, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn joined(mut nodes: Vec<Node>, place: &Position) -> Node {
    if nodes.len() == 1 { nodes.remove(0) } else { place.node(Test::All(nodes)) }
}
