//! Agile CRM's loose values: numbers as texts, texts as numbers, blanks around them, nulls for nothing.

use serde_json::{Map, Value};
use std::borrow::Cow;

/// A value as text: a string trimmed, a number as it was written, a boolean in words. Null, blank and nested values are
/// none.
pub fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(Cow::Borrowed),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value as a number: a number, or a text that is one.
pub fn number_of(value: &Value) -> Option<f64> {
    text_of(value)?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The value at a path of keys, such as `owner.email`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// The value under a key of one of the vendor's objects. Most have a handful of short keys, and `eventData` some dozens:
/// comparing them takes less than hashing one does.
pub(crate) fn under<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.iter().find_map(|(other, value)| (other == key).then_some(value))
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
}
