//! Tests of filters and events that are made to take long, or to be read in two ways.

use super::*;
use serde_json::json;
use std::iter;

/// Returns an event with a list of this length.
fn with_list(length: usize, element: impl Fn(usize) -> Value) -> ParsedEvent {
    let list: Vec<Value> = (0..length).map(element).collect();
    ParsedEvent::new("n", json!({"eventData": {"a": list}}).to_string().as_bytes())
}

fn filter(source: Value) -> Filter {
    Filter::parse(source).expect("a filter")
}

/// Checks that an event takes too many steps, and that everyone says so.
#[track_caller]
fn check_too_large(source: Value, event: &ParsedEvent, previous: Option<&ParsedEvent>) {
    let event = &event.document();
    let previous = previous.map(ParsedEvent::document);
    let previous = previous.as_ref();
    for source in [source.clone(), json!({"$not": source})] {
        let filter = filter(source);
        assert!(!filter.matches(event, previous), "it does not match, and nor does its negation");
        let refusal = filter.refusal(event, previous).expect("refused");
        assert_eq!(
            (refusal.pointer.as_str(), refusal.met.as_str()),
            ("", "an event that takes more than 1048576 steps to compare")
        );
    }
}

#[test]
fn conditions_are_not_multiplied_with_a_long_list() {
    let each: Vec<Value> = (0..FILTER_CONDITIONS_MAX).map(|number| json!({"$lt": -1 - number as i64})).collect();
    let source = json!({"eventData": {"a": {"$or": each}}});
    check_too_large(source.clone(), &with_list(100_000, |number| json!(number)), None);
    let few = with_list(1_000, |number| json!(number));
    assert!(!filter(source.clone()).matches(&few.document(), None));
    assert!(filter(json!({"$not": source})).matches(&few.document(), None));
}

#[test]
fn changes_of_a_long_list_are_not_compared_for_ever() {
    let members: serde_json::Map<String, Value> =
        (0..FILTER_CONDITIONS_MAX).map(|number| (format!("m{number}"), json!({"$changed": false}))).collect();
    let [event, previous] = [0, 1].map(|_| with_list(100_000, |number| json!(number)));
    check_too_large(json!({"eventData": {"a": members}}), &event, Some(&previous));
}

#[test]
fn operands_are_not_multiplied_with_a_long_list() {
    let operands: Vec<Value> = (0..2_500).map(|number| json!(-1 - number)).collect();
    let source = json!({"eventData": {"a": {"$in": operands}}});
    assert!(!filter(source.clone()).matches(&with_list(100_000, |number| json!(number)).document(), None));
    let last = with_list(100_000, |number| if number == 99_999 { json!(-7.0) } else { json!(number) });
    assert!(filter(source).matches(&last.document(), None));
}

#[test]
fn expressions_are_not_multiplied_with_texts() {
    let source = json!({"eventData": {"a": {"$regex": "(?:a?){200}b(?:[ab]{0,40}c){8}$"}}});
    let text = "ab".repeat(REGEX_TEXT_BYTES_MAX / 2);
    let begun = crate::clock::instant();
    check_too_large(source.clone(), &with_list(1_000, |_| json!(text)), None);
    println!("four evaluations of {} texts took {:?}", FILTER_STEPS_MAX / 32 / text.len(), crate::clock::since(begun));
    assert!(!filter(source).matches(&with_list(1, |_| json!(text)).document(), None));
}

#[test]
fn conditions_below_a_long_name_share_its_memory() {
    let long = "n".repeat(10_000);
    let leaves: Vec<Value> =
        (0..40).map(|number| (0..9).fold(json!(number), |inner, _| json!({"$not": inner}))).collect();
    let filter = filter(json!({"fields": {long.as_str(): {"$or": leaves}}}));
    let refusal = filter.refusal(&with_list(1, |_| json!(1)).document(), None);
    assert!(refusal.is_none(), "a condition on an absent value fails, and nine negations are one");
    let refused = Filter::parse(json!({"fields": {long.as_str(): {"$is": 1}}})).expect_err("no operator");
    assert_eq!(refused.pointer, format!("/fields/{long}/$is"));
}

#[track_caller]
fn check_written(text: &str, expected: Result<Value, &str>) {
    let written: WrittenFilter = serde_json::from_str(text).expect("JSON");
    assert_eq!(written.source().map_err(|fault| fault.pointer), expected.map_err(str::to_owned), "{text}");
}

#[test]
fn a_repeated_key_is_a_fault() {
    check_written("null", Ok(Value::Null));
    check_written(
        r#"{"a": [1e400, "x", true, null, -2, 0.5]}"#,
        Ok(serde_json::from_str(r#"{"a":[1e400,"x",true,null,-2,0.5]}"#).expect("JSON")),
    );
    check_written(r#"{"fields": {"a": 1}, "fields": {"b": 2}}"#, Err("/fields"));
    check_written(
        r#"{"$or": [{"eventName": "a"}, {"fields": {"a/b": 1, "c": 2, "a\u002fb": 3}}]}"#,
        Err("/$or/1/fields/a~1b"),
    );
    assert!(serde_json::from_str::<WrittenFilter>("{\"a\": ").is_err());
}

#[test]
fn a_deep_filter_is_not_read_to_its_end() {
    let deep: String = iter::repeat_n("[", 100_000).chain(iter::repeat_n("]", 100_000)).collect();
    check_written(&deep, Err(&"/0".repeat(FILTER_DEPTH_MAX + 1)));
}
