//! Rows of a webhook's form for a filter: each is a condition on a field of the event, and all of them hold.
//!
//! # Guarantees
//! - Rows and JSON are equal to each other: a filter has rows only if these rows make the same filter again, values and digits included.
//!   The one liberty is `{"$eq": value}`, which the rows write as `value`.
//! - Every text of a row is a value: JSON where it can be read as a number, a text in quotes, `true`, `false` or `null`, and the
//!   text itself otherwise.
//!
//! # Limits
//! Rows are about `fields`. Conditions on `eventData` and `eventName`, members of a field, `$or` and `$not` have no rows.

#[cfg(test)]
mod tests;

use crate::api::pages::forms::Form;
use serde_json::{Map, Value, json};

/// Operator of a row.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api::pages) struct RowOperator {
    /// Name in the form.
    pub(in crate::api::pages) name: &'static str,
    /// Words between field and value.
    pub(in crate::api::pages) label: &'static str,
    /// Operator of the language.
    key: &'static str,
    operand: Operand,
}

/// Type of an operator's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Scalar,
    /// List of scalars, separated by commas.
    List,
    /// Text as it is.
    Text,
    /// The operator has no value in the form.
    Fixed(bool),
}

const fn operator(key: &'static str, label: &'static str, operand: Operand) -> RowOperator {
    RowOperator { name: key, label, key, operand }
}

const fn fixed(name: &'static str, key: &'static str, label: &'static str, value: bool) -> RowOperator {
    RowOperator { name, label, key, operand: Operand::Fixed(value) }
}

/// Operators in the order of the form.
pub(in crate::api::pages) static OPERATORS: [RowOperator; 16] = [
    operator("$eq", "is", Operand::Scalar),
    operator("$neq", "is not", Operand::Scalar),
    operator("$gt", "is greater than", Operand::Scalar),
    operator("$gte", "is at least", Operand::Scalar),
    operator("$lt", "is less than", Operand::Scalar),
    operator("$lte", "is at most", Operand::Scalar),
    operator("$in", "is one of", Operand::List),
    operator("$nin", "is none of", Operand::List),
    operator("$contains", "contains", Operand::Scalar),
    operator("$startsWith", "begins with", Operand::Text),
    operator("$endsWith", "ends with", Operand::Text),
    operator("$regex", "matches the regular expression", Operand::Text),
    fixed("present", "$exist", "is present", true),
    fixed("absent", "$exist", "is absent", false),
    fixed("changed", "$changed", "has changed", true),
    fixed("unchanged", "$changed", "has not changed", false),
];

impl RowOperator {
    /// Returns true if the operator takes no value.
    pub(in crate::api::pages) fn stands_alone(&self) -> bool {
        matches!(self.operand, Operand::Fixed(_))
    }
}

/// Condition on a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api::pages) struct FilterRow {
    pub(in crate::api::pages) field: String,
    pub(in crate::api::pages) operator: &'static RowOperator,
    pub(in crate::api::pages) value: String,
}

/// Fault of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowFault {
    pub(super) index: usize,
    pub(super) detail: &'static str,
}

impl FilterRow {
    /// Returns a row in which nothing is written.
    pub(super) fn blank() -> Self {
        FilterRow { field: String::new(), operator: &OPERATORS[0], value: String::new() }
    }

    /// Returns the condition as a phrase.
    pub(super) fn in_words(&self) -> String {
        let FilterRow { field, operator, value } = self;
        if operator.stands_alone() {
            format!("{field} {}", operator.label)
        } else {
            format!("{field} {} {value}", operator.label)
        }
    }

    /// Returns true if a position in a filter is within the condition.
    pub(super) fn is_at(&self, pointer: &str) -> bool {
        let field = format!("/fields/{}", self.field.trim().replace('~', "~0").replace('/', "~1"));
        let rest = pointer.strip_prefix(&field).map(|rest| rest.trim_start_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.split('/').any(|part| part == self.operator.key))
    }

    fn is_blank(&self) -> bool {
        self.field.trim().is_empty() && self.value.trim().is_empty() && !self.operator.stands_alone()
    }

    fn operand(&self) -> Result<Value, &'static str> {
        if self.field.trim().is_empty() {
            return Err("choose a field");
        }
        if self.field.trim().starts_with('$') {
            return Err("a field whose name begins with $ cannot be in a filter");
        }
        let value = match self.operator.operand {
            Operand::Fixed(value) => return Ok(Value::Bool(value)),
            Operand::Scalar => scalar(&self.value),
            Operand::List => Some(items(&self.value)).filter(|items| !items.is_empty()).map(Value::Array),
            Operand::Text => Some(self.value.clone()).filter(|text| !text.is_empty()).map(Value::String),
        };
        value.ok_or("write a value; \"\" is the empty text")
    }

    /// Returns the row of a condition, if a row can show its value.
    fn of(field: &str, key: &str, operand: &Value) -> Option<Self> {
        let of_key = OPERATORS.iter().filter(|operator| operator.key == key);
        let row = |operator: &'static RowOperator| {
            let value = match (operator.operand, operand) {
                (Operand::Fixed(value), Value::Bool(wanted)) => (value == *wanted).then(String::new),
                (Operand::Scalar, value) => shown(value, false),
                (Operand::List, Value::Array(items)) => {
                    let items: Option<Vec<_>> = items.iter().map(|item| shown(item, true)).collect();
                    items.map(|items| items.join(", "))
                }
                (Operand::Text, Value::String(text)) => Some(text.clone()),
                _ => None,
            };
            Some(FilterRow { field: field.to_owned(), operator, value: value? })
        };
        of_key.into_iter().find_map(row)
    }
}

/// Returns the rows of a filter. None: rows cannot express it.
pub(super) fn rows_of(filter: &Value) -> Option<Vec<FilterRow>> {
    let fields = filter.as_object().filter(|parts| parts.len() == 1)?.get("fields")?.as_object()?;
    let mut rows = Vec::new();
    for (field, condition) in fields {
        match condition {
            Value::Object(conditions) => match conditions.get("$and").and_then(Value::as_array) {
                Some(all) => {
                    for conditions in all {
                        rows.extend(rows_of_field(field, conditions.as_object()?)?);
                    }
                }
                None => rows.extend(rows_of_field(field, conditions)?),
            },
            value => rows.push(FilterRow::of(field, "$eq", value)?),
        }
    }
    // A box of a form has no line breaks.
    let fits_boxes =
        rows.iter().all(|row| ![&row.field, &row.value].iter().any(|text| text.contains(char::is_control)));
    (fits_boxes && filter_of(&rows).ok()? == with_short_equality(filter)).then_some(rows)
}

fn rows_of_field(field: &str, conditions: &Map<String, Value>) -> Option<Vec<FilterRow>> {
    conditions.iter().map(|(key, operand)| FilterRow::of(field, key, operand)).collect()
}

/// Returns a filter in which a lone `$eq` of a scalar on a field is written as the scalar.
fn with_short_equality(filter: &Value) -> Value {
    let mut filter = filter.clone();
    let fields = filter.get_mut("fields").and_then(Value::as_object_mut);
    for condition in fields.into_iter().flat_map(Map::values_mut) {
        let lone = condition.as_object().filter(|all| all.len() == 1).and_then(|all| all.get("$eq"));
        if let Some(value) = lone.filter(|value| !value.is_array() && !value.is_object()) {
            *condition = value.clone();
        }
    }
    filter
}

/// Returns the filter of rows. Rows in which nothing is written are skipped; without others, the filter is null.
pub(super) fn filter_of(rows: &[FilterRow]) -> Result<Value, RowFault> {
    let mut by_field: Vec<(&str, Vec<(&'static str, Value)>)> = Vec::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| !row.is_blank()) {
        let operand = row.operand().map_err(|detail| RowFault { index, detail })?;
        let field = row.field.trim();
        let condition = (row.operator.key, operand);
        match by_field.iter_mut().find(|(known, _)| *known == field) {
            Some((_, conditions)) => conditions.push(condition),
            None => by_field.push((field, vec![condition])),
        }
    }
    if by_field.is_empty() {
        return Ok(Value::Null);
    }
    let fields: Map<String, Value> =
        by_field.into_iter().map(|(field, conditions)| (field.to_owned(), of_field(conditions))).collect();
    Ok(json!({"fields": fields}))
}

fn of_field(mut conditions: Vec<(&'static str, Value)>) -> Value {
    if let [("$eq", _)] = conditions[..] {
        return conditions.remove(0).1;
    }
    let is_repeated =
        |(index, (key, _)): (usize, &(&str, Value))| conditions[..index].iter().any(|(other, _)| other == key);
    if conditions.iter().enumerate().any(is_repeated) {
        // An object has each key once.
        let all: Vec<Value> = conditions.into_iter().map(|(key, operand)| json!({key: operand})).collect();
        return json!({"$and": all});
    }
    conditions.into_iter().map(|(key, operand)| (key.to_owned(), operand)).collect::<Map<_, _>>().into()
}

/// Reads the value that is written in a row. None: there is none.
fn scalar(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let read = serde_json::from_str(text).ok().filter(|value: &Value| !value.is_array() && !value.is_object());
    Some(read.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// Reads the values of a list that is written in a row.
fn items(text: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (item, after) = match quoted(rest) {
            Some((text, after)) => (Some(Value::String(text)), after),
            None => {
                let (item, after) = rest.split_once(',').unwrap_or((rest, ""));
                (scalar(item), after)
            }
        };
        items.extend(item);
        rest = after.trim();
    }
    items
}

/// Reads a text in quotes that is a whole item. Returns what follows its comma.
fn quoted(rest: &str) -> Option<(String, &str)> {
    let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let text = texts.next()?.ok()?;
    let after = rest.get(texts.byte_offset()..)?.trim_start();
    if after.is_empty() { Some((text, after)) } else { Some((text, after.strip_prefix(',')?)) }
}

/// Returns a value as it is written in a row, alone or as an item of a list.
fn shown(value: &Value, is_item: bool) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => {
            let is_plain = scalar(text).as_ref() == Some(value)
                && text.trim() == text
                && !text.contains(char::is_control)
                && !(is_item && text.contains([',', '"']));
            if is_plain { Some(text.clone()) } else { serde_json::to_string(text).ok() }
        }
        other => Some(other.to_string()),
    }
}

/// Returns the rows of a form.
pub(super) fn rows_in(form: &Form) -> Vec<FilterRow> {
    let [fields, operators, values] = ["row.field", "row.operator", "row.value"].map(|name| form.all(name));
    fn row(((field, operator), value): ((&str, &str), &str)) -> FilterRow {
        let operator = OPERATORS.iter().find(|one| one.name == operator).unwrap_or(&OPERATORS[0]);
        FilterRow { field: field.to_owned(), operator, value: value.to_owned() }
    }
    fields.into_iter().zip(operators).zip(values).map(row).collect()
}
