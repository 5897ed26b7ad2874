//! Values of Agile CRM: numbers as texts, texts as numbers, blanks around them, nulls for absent values.

use crate::Decimal;
use serde::Deserialize as _;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Parses JSON of any depth. The host bounds the depth of an event, and an earlier plugin of the chain may have wrapped it.
pub(crate) fn parse(json: &str) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.disable_recursion_limit();
    let value = Value::deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

/// Returns a value as text: a trimmed string, a number as written, or a boolean as `true` or `false`. None for null, blank and
/// nested values.
pub fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(Cow::Borrowed),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns an id as text, as the host compares ids: a trimmed string, or a number in plain digits, so that `57`, `57.0` and `5.7E1`
/// are the same id.
pub fn id_of(value: &Value) -> Option<Cow<'_, str>> {
    let text = text_of(value)?;
    if !value.is_number() || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some(text);
    }
    Some(Decimal::parse(&text).and_then(|number| number.plain()).map_or(text, Cow::Owned))
}

/// Returns true if two values mean the same. Numbers are compared exactly by value, and objects without their order.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(left), Value::Number(right)) => left == right || Decimal::of(one) == Decimal::of(other),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same(left, right)))
        }
        _ => one == other,
    }
}

/// Returns the number of a JSON number, or of a text with one.
pub fn number_of(value: &Value) -> Option<f64> {
    text_of(value)?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Returns the value at a path of keys, such as `owner.email`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// Returns the value of a key in an object of the vendor. Most have a handful of short keys, and `eventData` some dozens: comparing
/// them is faster than hashing one.
pub(crate) fn under<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.iter().find_map(|(other, value)| (other == key).then_some(value))
}

impl Decimal {
    /// Returns the number of a JSON number, or of a text with one.
    pub fn of(value: &Value) -> Option<Self> {
        Decimal::parse(&text_of(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn loose_values() {
        #[track_caller]
        fn check(value: &Value, text: Option<&str>, number: Option<f64>) {
            assert_eq!((text_of(value).as_deref(), number_of(value)), (text, number), "{value}");
        }
        check(&json!(" 75 "), Some("75"), Some(75.0));
        check(&json!(75), Some("75"), Some(75.0));
        check(&serde_json::from_str("50000.0").expect("a number"), Some("50000.0"), Some(50_000.0));
        check(&json!("on"), Some("on"), None);
        check(&json!(""), None, None);
        check(&json!("  "), None, None);
        check(&json!("NaN"), Some("NaN"), None);
        check(&json!(null), None, None);
        check(&json!(true), Some("true"), None);
        check(&json!([1]), None, None);
    }

    #[test]
    fn ids_are_spelled_in_one_way() {
        #[track_caller]
        fn check(json: &str, expected: Option<&str>) {
            assert_eq!(id_of(&parse(json).expect("JSON")).as_deref(), expected, "{json}");
        }
        for same in ["5701666712059904", "5.701666712059904E15", "5701666712059904.0", "\"5701666712059904\""] {
            check(same, Some("5701666712059904"));
        }
        check("\" 57.0 \"", Some("57.0"));
        check("-0", Some("0"));
        check("1e400", Some("1e+400"));
        check("null", None);
    }

    #[test]
    fn values_are_compared_by_value() {
        #[track_caller]
        fn check(one: &str, other: &str, expected: bool) {
            assert_eq!(same(&parse(one).expect("JSON"), &parse(other).expect("JSON")), expected, "{one} {other}");
        }
        check("[1, {\"a\": 50000.0, \"b\": null}]", "[1.0, {\"b\": null, \"a\": 5e4}]", true);
        check("9007199254740993", "9007199254740992", false);
        check("{\"a\": 1}", "{\"b\": 1}", false);
        check("{\"a\": 1}", "{\"a\": 1, \"b\": null}", false);
        check("[1, 2]", "[2, 1]", false);
        check("75", "\"75\"", false);
        check("true", "true", true);
    }

    #[test]
    fn json_is_read_at_any_depth() {
        fn deep(depth: usize) -> String {
            format!("{}{}", "[".repeat(depth), "]".repeat(depth))
        }
        assert_eq!(parse(&deep(256)).expect("JSON").to_string(), deep(256));
        assert!(parse("[1] 2").is_err() && parse("").is_err());
    }
}
