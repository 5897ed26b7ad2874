//! Kinds of the settings in a webhook's form: each turns the JSON of a setting into the text of its field, and back. Pure.

use super::time_text::{in_units, seconds};
use crate::api::pages::forms::{as_lines, pairs};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Kind of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::pages) enum SettingKind {
    /// Whole number.
    Count,
    /// Duration in seconds.
    Duration,
    /// Durations in seconds, separated by commas.
    Durations,
    /// Text in one line. Blank: none.
    Text,
    /// Text of several lines. Blank: none.
    Block,
    /// List of texts, one a line.
    Lines,
    /// Pairs, one a line.
    Pairs,
    YesNo,
    /// One of some values, each with its label. An empty value stands for the absent setting.
    OneOf(&'static [(&'static str, &'static str)]),
}

/// Options of a setting that is on or off.
const YES_NO: [(&str, &str); 2] = [("no", "No"), ("yes", "Yes")];

/// Largest number of a field, which every number of the settings can hold.
const COUNT_MAX: u64 = u32::MAX as u64;

impl SettingKind {
    /// Returns the text of a value. An absent value has none.
    pub(super) fn text(self, value: &Value) -> String {
        match (self, value) {
            (SettingKind::Duration, Value::Number(number)) => number.as_u64().map(in_units).unwrap_or_default(),
            (SettingKind::Durations, Value::Array(list)) => {
                list.iter().filter_map(Value::as_u64).map(in_units).collect::<Vec<_>>().join(", ")
            }
            (SettingKind::Lines, Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
            }
            (SettingKind::Pairs, Value::Object(map)) => as_lines(
                &map.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect(),
            ),
            (SettingKind::YesNo, Value::Bool(is_on)) => YES_NO[usize::from(*is_on)].0.to_owned(),
            (_, Value::String(text)) => text.clone(),
            (_, Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Returns the value of a text. None: it is blank, so the setting has its default.
    ///
    /// # Errors
    /// A sentence for people, if the text does not fit.
    pub(super) fn value(self, text: &str) -> Result<Option<Value>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let value = match self {
            SettingKind::Count => Value::from(count(text)?),
            SettingKind::Duration => Value::from(seconds(text)?),
            SettingKind::Durations => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::from(parts.map(seconds).collect::<Result<Vec<_>, _>>()?)
            }
            SettingKind::Lines => {
                Value::from(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>())
            }
            SettingKind::Pairs => object(pairs(text)?),
            SettingKind::Text | SettingKind::Block => Value::from(text),
            SettingKind::YesNo => Value::from(chosen(&YES_NO, text)? == YES_NO[1].0),
            SettingKind::OneOf(choices) => Value::from(chosen(choices, text)?),
        };
        Ok(Some(value))
    }

    /// Returns the options of a closed set: value and label.
    pub(in crate::api::pages) fn choices(self) -> &'static [(&'static str, &'static str)] {
        match self {
            SettingKind::YesNo => &YES_NO,
            SettingKind::OneOf(choices) => choices,
            _ => &[],
        }
    }

    /// Returns true if the field has several lines.
    pub(in crate::api::pages) fn has_lines(self) -> bool {
        matches!(self, SettingKind::Block | SettingKind::Lines | SettingKind::Pairs)
    }

    /// Returns the class of the field's width.
    pub(in crate::api::pages) fn size(self) -> &'static str {
        match self {
            SettingKind::Count | SettingKind::Duration => "size-sm",
            SettingKind::Durations => "size-xl",
            _ => "size-lg",
        }
    }
}

fn count(text: &str) -> Result<u64, String> {
    // As the pages write it.
    let digits = text.replace([',', ' '], "");
    let number = digits.parse().ok().filter(|number| *number <= COUNT_MAX);
    number.ok_or_else(|| format!("{text:?} is not a whole number from 0 to {COUNT_MAX}"))
}

fn chosen<'a>(choices: &[(&'static str, &str)], text: &'a str) -> Result<&'a str, String> {
    if choices.iter().any(|(value, _)| *value == text) { Ok(text) } else { Err(format!("{text:?} is not a choice")) }
}

fn object(map: BTreeMap<String, String>) -> Value {
    Value::Object(map.into_iter().map(|(name, value)| (name, Value::from(value))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const MODES: SettingKind = SettingKind::OneOf(&[("", "None"), ("block", "Strict")]);

    #[track_caller]
    fn check(kind: SettingKind, text: &str, expected: Option<Value>) {
        assert_eq!(kind.value(text), Ok(expected), "{kind:?} {text:?}");
    }

    #[test]
    fn a_field_is_read_as_the_json_of_its_setting() {
        check(SettingKind::Count, " 1,000 ", Some(json!(1_000)));
        check(SettingKind::Count, " ", None);
        check(SettingKind::Duration, "5 d", Some(json!(432_000)));
        check(SettingKind::Durations, "0, 5 s, 5 min,", Some(json!([0, 5, 300])));
        check(SettingKind::Lines, " a.example \n\nb.example", Some(json!(["a.example", "b.example"])));
        check(SettingKind::Pairs, "x-a: 1\nx-b = c=d", Some(json!({"x-a": "1", "x-b": "c=d"})));
        check(SettingKind::YesNo, "yes", Some(json!(true)));
        check(SettingKind::YesNo, "no", Some(json!(false)));
        check(MODES, "block", Some(json!("block")));
        check(MODES, "", None);
        check(SettingKind::Text, " http://proxy.example:3128 ", Some(json!("http://proxy.example:3128")));
    }

    #[test]
    fn a_fault_says_what_to_write() {
        #[track_caller]
        fn check(kind: SettingKind, text: &str, expected: &str) {
            assert_eq!(kind.value(text), Err(expected.to_owned()));
        }
        check(SettingKind::Count, "many", "\"many\" is not a whole number from 0 to 4294967295");
        check(SettingKind::Count, "4294967296", "\"4294967296\" is not a whole number from 0 to 4294967295");
        check(SettingKind::Durations, "0, soon", "\"soon\" is not a duration: write 30 s, 5 min, 2 h or 5 d");
        check(SettingKind::Pairs, "x-a", "\"x-a\" is not a pair: write key = value");
        check(MODES, "loose", "\"loose\" is not a choice");
    }

    proptest! {
        #[test]
        fn a_value_that_is_shown_comes_back(
            count in 0..=COUNT_MAX,
            list in prop::collection::vec(0..10_000_000_u64, 1..9),
            hosts in prop::collection::vec("[a-z]{1,9}\\.example", 1..5),
            headers in prop::collection::btree_map("[a-z]{1,9}", "[a-z][ =:a-z]{0,9}[a-z]", 1..5),
            is_on: bool,
        ) {
            for (kind, value) in [
                (SettingKind::Count, json!(count)),
                (SettingKind::Duration, json!(count)),
                (SettingKind::Durations, json!(list)),
                (SettingKind::Lines, json!(hosts)),
                (SettingKind::Pairs, json!(headers)),
                (SettingKind::YesNo, json!(is_on)),
            ] {
                prop_assert_eq!(kind.value(&kind.text(&value)), Ok(Some(value)));
            }
        }
    }
}
