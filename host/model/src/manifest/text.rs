//! Typed values of a configuration, written as text.
//!
//! | type | text |
//! | --- | --- |
//! | string | as it is |
//! | integer | digits, with `-` in front of a negative one: `75` |
//! | number | a JSON number: `0.5` |
//! | boolean | `true` or `false` |
//! | array | its items, divided by commas or line ends, without the blanks around them; with `"x-separator": "line"` by line ends only |
//!
//! A blank text stands for an absent value, as the sdks read it.

use serde_json::{Number, Value};

/// Division of the items of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// Commas and line ends.
    Comma,
    /// Line ends, for items that may contain commas.
    Line,
}

impl Separator {
    fn splits(self, sign: char) -> bool {
        sign == '\n' || (self == Separator::Comma && sign == ',')
    }
}

/// Type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text.
    String,
    /// Whole number.
    Integer,
    /// Number with or without a fraction.
    Number,
    /// `true` or `false`.
    Boolean,
    /// List of texts.
    Strings(Separator),
    /// List of whole numbers.
    Integers(Separator),
    /// List of numbers.
    Numbers(Separator),
}

impl ValueKind {
    /// Returns the name of the type for people.
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::String => "text",
            ValueKind::Integer => "whole number",
            ValueKind::Number => "number",
            ValueKind::Boolean => "true or false",
            ValueKind::Strings(Separator::Comma) => "list",
            ValueKind::Strings(Separator::Line) => "list, one item a line",
            ValueKind::Integers(_) => "list of whole numbers",
            ValueKind::Numbers(_) => "list of numbers",
        }
    }

    /// Returns the separator and the type of the items of a list.
    pub fn items(self) -> Option<(Separator, ValueKind)> {
        match self {
            ValueKind::Strings(separator) => Some((separator, ValueKind::String)),
            ValueKind::Integers(separator) => Some((separator, ValueKind::Integer)),
            ValueKind::Numbers(separator) => Some((separator, ValueKind::Number)),
            _ => None,
        }
    }

    /// Reads a text as a value of this type. None: the text stands for an absent value.
    ///
    /// # Errors
    /// A description of what is expected.
    pub(super) fn read(self, text: &str) -> Result<Option<Value>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        if let Some((separator, kind)) = self.items() {
            let items = text.split(|sign| separator.splits(sign)).map(str::trim).filter(|item| !item.is_empty());
            let items: Vec<Value> = items.map(|item| kind.read_one(item)).collect::<Result<_, _>>()?;
            return Ok(Some(Value::Array(items)));
        }
        self.read_one(text).map(Some)
    }

    fn read_one(self, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        let number = || trimmed.parse::<Number>().ok().filter(|number| number.as_f64().is_some_and(f64::is_finite));
        let expected = |what: &str| Err(format!("{} is not {what}", shown(trimmed)));
        match self {
            ValueKind::Integer => {
                let digits = trimmed.strip_prefix('-').unwrap_or(trimmed);
                let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
                number()
                    .filter(|_| is_whole)
                    .map_or_else(|| expected("a whole number, such as 10"), |one| Ok(one.into()))
            }
            ValueKind::Number => number().map_or_else(|| expected("a number, such as 0.5"), |one| Ok(one.into())),
            ValueKind::Boolean => match trimmed {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => expected("true or false"),
            },
            _ => Ok(Value::String(text.to_owned())),
        }
    }

    /// Writes a value of a default or an example as text.
    ///
    /// # Errors
    /// A description of what is wrong with the value.
    pub(super) fn write(self, value: &Value) -> Result<String, String> {
        let unfit = || format!("{} is not of this type ({})", shown(&value.to_string()), self.name());
        let Some((separator, kind)) = self.items() else {
            return match (self, value) {
                (ValueKind::String, Value::String(text)) => Ok(text.clone()),
                (ValueKind::Integer | ValueKind::Number, Value::Number(number)) => Ok(number.to_string()),
                (ValueKind::Boolean, Value::Bool(value)) => Ok(value.to_string()),
                _ => Err(unfit()),
            };
        };
        let items = value.as_array().ok_or_else(unfit)?;
        let mut written = Vec::new();
        for item in items {
            let text = kind.write(item)?;
            if text.trim().is_empty() || text.chars().any(|sign| separator.splits(sign)) {
                return Err(format!("the item {} is blank or contains what divides items", shown(&text)));
            }
            written.push(text);
        }
        Ok(written.join(if separator == Separator::Line { "\n" } else { ", " }))
    }
}

/// Maximum length of a text that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Returns the beginning of a text, in quotes.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(kind: ValueKind, text: &str, expected: Result<Option<Value>, &str>) {
        match (kind.read(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text:?}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, expected) => panic!("{text:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_text_is_read_by_the_type_of_its_key() {
        check(ValueKind::String, " as it is ", Ok(Some(json!(" as it is "))));
        check(ValueKind::String, " \n", Ok(None));
        check(ValueKind::Integer, " 75 ", Ok(Some(json!(75))));
        check(ValueKind::Integer, "-3", Ok(Some(json!(-3))));
        check(ValueKind::Integer, "1.0", Err("\"1.0\" is not a whole number"));
        check(ValueKind::Integer, "1e3", Err("whole number"));
        check(ValueKind::Integer, "ten", Err("whole number"));
        check(ValueKind::Integer, "-", Err("whole number"));
        check(ValueKind::Number, "0.5", Ok(Some(json!(0.5))));
        check(ValueKind::Number, "inf", Err("not a number"));
        check(ValueKind::Number, "1e999", Err("not a number"));
        check(ValueKind::Boolean, "true", Ok(Some(json!(true))));
        check(ValueKind::Boolean, "yes", Err("true or false"));
        check(ValueKind::Strings(Separator::Comma), "a, b\n c,,", Ok(Some(json!(["a", "b", "c"]))));
        check(ValueKind::Strings(Separator::Line), "a, b\n\n c", Ok(Some(json!(["a, b", "c"]))));
        check(ValueKind::Integers(Separator::Comma), "1, 2", Ok(Some(json!([1, 2]))));
        check(ValueKind::Numbers(Separator::Comma), "1, x", Err("\"x\" is not a number"));
    }

    #[test]
    fn items_that_contain_their_separator_are_refused() {
        assert!(ValueKind::Strings(Separator::Comma).write(&json!(["a,b"])).is_err());
        assert_eq!(ValueKind::Strings(Separator::Line).write(&json!(["a,b", "c"])), Ok("a,b\nc".to_owned()));
        assert!(ValueKind::Strings(Separator::Line).write(&json!([""])).is_err());
        assert!(ValueKind::Boolean.write(&json!("true")).is_err());
    }

    proptest! {
        #[test]
        fn a_written_value_is_read_as_the_same_value(numbers in proptest::collection::vec(any::<i64>(), 1..5), text in "[a-z]{1,9}", flag: bool) {
            for separator in [Separator::Comma, Separator::Line] {
                for (kind, value) in [
                    (ValueKind::Integers(separator), json!(numbers)),
                    (ValueKind::Strings(separator), json!([text, text])),
                    (ValueKind::Boolean, json!(flag)),
                    (ValueKind::Integer, json!(numbers[0])),
                ] {
                    let written = kind.write(&value).expect("written");
                    prop_assert_eq!(kind.read(&written), Ok(Some(value)));
                }
            }
        }
    }
}
