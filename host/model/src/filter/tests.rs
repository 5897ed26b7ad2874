//! Tests of the language: what matches, what is refused with which pointer, and the laws that hold for all filters.

use super::*;
use crate::event::sample_events;
use proptest::prelude::*;
use serde_json::json;

const CONTACT: &str = r#"{"eventName":"Contact is Updated","eventData":{"id":5,"type":"PERSON","lead_score":12,"tags":["lead","test"],
    "owner":{"email":"ada@example.com"},"huge":9007199254740993,"nothing":null,
    "properties":[{"name":"email","value":"Dana@example.org"},{"name":"email","value":"dana@example.com"},{"name":"Plan","value":"Pro"}]}}"#;

const DEAL: &str = r#"{"eventName":"Opportunity is Updated","eventData":{"id":7,"name":"plane","probability":95.0,"milestone":"Proposal",
    "expected_value":"500","custom_data":[{"name":"Region","value":"EU"}],"lines":[{"sku":"a","count":1},{"sku":"b","count":20}]}}"#;

fn parsed(text: &str) -> ParsedEvent {
    let name = if text.contains("Contact") { "Contact is Updated" } else { "Opportunity is Updated" };
    ParsedEvent::new(name, text.as_bytes())
}

fn filter(text: &str) -> Filter {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Checks whether an event matches, and that the explanation agrees.
#[track_caller]
fn check(event: &str, text: &str, expected: bool) {
    let filter = filter(text);
    let event = parsed(event);
    let event = event.document();
    assert_eq!(filter.matches(&event, None), expected, "{text}");
    assert_eq!(filter.refusal(&event, None).is_none(), expected, "{text}");
}

#[test]
fn values_of_the_event_are_compared() {
    check(CONTACT, r#"{"eventName": "Contact is Updated"}"#, true);
    check(CONTACT, r#"{"eventName": {"$startsWith": "Opportunity"}}"#, false);
    check(CONTACT, r#"{"eventData": {"type": "PERSON", "owner": {"email": {"$endsWith": "@example.com"}}}}"#, true);
    check(CONTACT, r#"{"eventData": {"type": "COMPANY", "owner": {"email": {"$endsWith": "@example.com"}}}}"#, false);
    check(CONTACT, r#"{"eventData": {"huge": 9007199254740992}}"#, false);
    check(CONTACT, r#"{"eventData": {"huge": 9007199254740993.0}}"#, true);
    check(DEAL, r#"{"fields": {"probability": {"$gte": 95, "$lt": 9.6e1}}}"#, true);
    check(DEAL, r#"{"fields": {"probability": {"$gt": 95}}}"#, false);
    check(DEAL, r#"{"fields": {"probability": {"$in": [1, 95]}}}"#, true);
    check(DEAL, r#"{"fields": {"probability": {"$nin": [1, 95]}}}"#, false);
    // Text is text: the vendor sends some numbers as text.
    check(DEAL, r#"{"fields": {"expected_value": {"$gte": 500}}}"#, false);
    check(DEAL, r#"{"fields": {"expected_value": {"$gte": "500"}}}"#, true);
    check(DEAL, r#"{"fields": {"expected_value": 500}}"#, false);
    check(DEAL, r#"{"eventData": {"milestone": {"$regex": "^Prop[a-z]+$"}}}"#, true);
    check(DEAL, r#"{"eventData": {"milestone": {"$regex": "(?i)^won$"}}}"#, false);
}

#[test]
fn fields_are_a_flat_view() {
    check(CONTACT, r#"{"fields": {"Plan": "Pro", "lead_score": {"$gte": 10}}}"#, true);
    check(CONTACT, r#"{"fields": {"email": {"$endsWith": "@example.com"}}}"#, true);
    check(CONTACT, r#"{"fields": {"email": {"$startsWith": "Dana", "$endsWith": "@example.com"}}}"#, false);
    check(CONTACT, r#"{"fields": {"email": {"$neq": "dana@example.com"}}}"#, false);
    check(CONTACT, r#"{"fields": {"email": {"$neq": "eve@example.com"}}}"#, true);
    check(CONTACT, r#"{"fields": {"$or": [{"Plan": "Free"}, {"Plan": "Pro"}]}}"#, true);
    check(CONTACT, r#"{"fields": {"properties": {"$exist": true}}}"#, false);
    check(DEAL, r#"{"fields": {"Region": {"$in": ["EU", "UK"]}, "name": {"$contains": "lan"}}}"#, true);
    check(DEAL, r#"{"fields": {"Region": {"$exist": false}}}"#, false);
}

#[test]
fn one_element_of_a_list_is_enough() {
    check(CONTACT, r#"{"eventData": {"tags": {"$contains": "test"}}}"#, true);
    check(CONTACT, r#"{"$not": {"eventData": {"tags": {"$contains": "test"}}}}"#, false);
    check(CONTACT, r#"{"eventData": {"tags": "lead"}}"#, true);
    check(CONTACT, r#"{"eventData": {"tags": {"$neq": "lead"}}}"#, false);
    check(CONTACT, r#"{"eventData": {"tags": {"$eq": ["lead", "test"]}}}"#, true);
    check(CONTACT, r#"{"eventData": {"tags": {"$eq": ["test", "lead"]}}}"#, false);
    check(DEAL, r#"{"eventData": {"lines": {"sku": "b", "count": {"$gt": 10}}}}"#, true);
    check(DEAL, r#"{"eventData": {"lines": {"sku": "a", "count": {"$gt": 10}}}}"#, false);
}

#[test]
fn what_is_absent_has_no_value() {
    check(CONTACT, r#"{"eventData": {"absent": null}}"#, false);
    check(CONTACT, r#"{"eventData": {"nothing": null}}"#, true);
    check(CONTACT, r#"{"eventData": {"nothing": {"$exist": true}}}"#, true);
    check(CONTACT, r#"{"eventData": {"absent": {"$exist": false}}}"#, true);
    check(CONTACT, r#"{"eventData": {"absent": {"inner": {"$exist": false}}}}"#, true);
    check(CONTACT, r#"{"eventData": {"absent": {"inner": {"$neq": 5}}}}"#, true);
    check(CONTACT, r#"{"eventData": {"absent": {"$gt": 5}}}"#, false);
    check(CONTACT, r#"{"fields": {"absent": {"$nin": ["a"]}}}"#, true);
}

#[test]
fn conditions_combine() {
    check(CONTACT, r#"{"$or": [{"eventName": "x"}, {"fields": {"Plan": "Pro"}}]}"#, true);
    check(CONTACT, r#"{"$and": [{"eventName": "x"}, {"fields": {"Plan": "Pro"}}]}"#, false);
    check(CONTACT, r#"{"fields": {"Plan": {"$or": ["Free", {"$startsWith": "P"}]}}}"#, true);
    check(CONTACT, r#"{"fields": {"Plan": {"$not": {"$startsWith": "P"}}}}"#, false);
    check(CONTACT, r#"{"fields": {"Plan": {"$not": "Free"}}}"#, true);
}

#[track_caller]
fn check_changed(text: &str, before: Option<&str>, expected: bool) {
    let filter = filter(text);
    let deal = parsed(DEAL);
    let before = before.map(parsed);
    let before = before.as_ref().map(ParsedEvent::document);
    assert_eq!(filter.matches(&deal.document(), before.as_ref()), expected, "{text}");
    assert_eq!(filter.refusal(&deal.document(), before.as_ref()).is_none(), expected, "{text}");
}

#[test]
fn changes_are_seen_against_the_event_before() {
    let same_value = DEAL.replace("95.0", "9.5e1");
    let lower = DEAL.replace("95.0", "90");
    let other_region = DEAL.replace("\"EU\"", "\"US\"");
    let other_line = DEAL.replace("20", "21");
    let changed = r#"{"fields": {"probability": {"$changed": true}}}"#;
    check_changed(changed, None, true);
    check_changed(changed, Some(&same_value), false);
    check_changed(changed, Some(&lower), true);
    check_changed(r#"{"fields": {"probability": {"$changed": false}}}"#, Some(&same_value), true);
    check_changed(r#"{"fields": {"probability": {"$changed": true, "$gte": 95}}}"#, Some(&lower), true);
    check_changed(r#"{"fields": {"probability": {"$changed": true, "$lt": 95}}}"#, Some(&lower), false);
    check_changed(r#"{"fields": {"Region": {"$changed": true}}}"#, Some(&other_region), true);
    check_changed(r#"{"eventData": {"lines": {"count": {"$changed": true}}}}"#, Some(&other_line), true);
    check_changed(r#"{"eventData": {"lines": {"$changed": true}}}"#, Some(&other_region), false);
    check_changed(r#"{"$not": {"fields": {"absent": {"$changed": true}}}}"#, Some(&lower), true);
    check_changed(
        r#"{"$or": [{"fields": {"name": "x"}}, {"fields": {"Region": {"$changed": true}}}]}"#,
        Some(&lower),
        false,
    );
}

#[test]
fn only_what_changed_decides_needs_the_event_before() {
    let event = parsed(DEAL);
    let event = event.document();
    let decide = |text: &str| filter(text).decide(&event);
    assert!(matches!(decide(r#"{"fields": {"name": "x", "probability": {"$changed": true}}}"#), Decision::Refuses));
    assert!(matches!(
        decide(r#"{"fields": {"name": "plane", "probability": {"$changed": true}}}"#),
        Decision::Depends(_)
    ));
    assert!(matches!(
        decide(r#"{"$or": [{"fields": {"name": "plane"}}, {"fields": {"probability": {"$changed": true}}}]}"#),
        Decision::Matches
    ));
}

#[track_caller]
fn check_fault(text: &str, pointer: &str, detail: &str) {
    let source = serde_json::from_str(text).expect("JSON");
    let fault = Filter::parse(source).expect_err(text);
    assert_eq!(fault.pointer, pointer, "{text}: {fault}");
    assert!(fault.detail.contains(detail), "{text}: {fault}");
}

#[test]
fn faults_have_their_position() {
    check_fault("[]", "", "an object with conditions is needed here, not a list");
    check_fault("{}", "", "at least one condition");
    check_fault(r#"{"event": 1}"#, "/event", "allowed are eventName, eventData, fields, $and, $or and $not");
    check_fault(
        r#"{"fields": {"a/b": {"$above": 1}}}"#,
        "/fields/a~1b/$above",
        "no operator \"$above\"; allowed are $eq",
    );
    check_fault(r#"{"fields": {"$gt": 1}}"#, "/fields/$gt", "needs a field");
    check_fault(r#"{"fields": {"a": [1]}}"#, "/fields/a", "{\"$in\": […]}");
    check_fault(r#"{"fields": {"a": {}}}"#, "/fields/a", "at least one condition");
    check_fault(r#"{"fields": {"a": {"$gt": true}}}"#, "/fields/a/$gt", "a number or a text is needed here, not true");
    check_fault(r#"{"fields": {"a": {"$exist": 1}}}"#, "/fields/a/$exist", "true or false is needed");
    check_fault(r#"{"fields": {"a": {"$in": []}}}"#, "/fields/a/$in", "at least one element");
    check_fault(
        r#"{"fields": {"a": {"$startsWith": 5}}}"#,
        "/fields/a/$startsWith",
        "a text is needed here, not a number",
    );
    check_fault(r#"{"fields": {"a": {"$regex": "("}}}"#, "/fields/a/$regex", "unclosed group");
    check_fault(r#"{"fields": {"a": {"$regex": "\\w{900}"}}}"#, "/fields/a/$regex", "more than 131072 bytes");
    check_fault(r#"{"$or": [{"eventName": "a"}, {"fields": 5}]}"#, "/$or/1/fields", "not a number");
    check_fault(r#"{"$not": []}"#, "/$not", "not a list");
}

#[test]
fn filters_are_bounded() {
    let deep = (0..FILTER_DEPTH_MAX).fold(json!({"eventName": "a"}), |inner, _| json!({"$not": inner}));
    assert!(Filter::parse(deep).expect_err("too deep").detail.contains("16 levels"));
    let many: Vec<_> = (0..=FILTER_CONDITIONS_MAX).map(|number| json!({"eventName": number})).collect();
    let fault = Filter::parse(json!({"$or": many})).expect_err("too many");
    assert_eq!(
        (fault.pointer.as_str(), fault.detail.as_str()),
        ("/$or/100/eventName", "a filter has at most 100 conditions")
    );
    assert!(Filter::parse(json!({"eventName": "a".repeat(FILTER_BYTES_MAX)})).is_err());
    let regexes: Vec<_> = (0..=FILTER_REGEXES_MAX).map(|_| json!({"eventName": {"$regex": "\\w+@\\w+"}})).collect();
    assert_eq!(Filter::parse(json!({"$or": regexes})).expect_err("too many").pointer, "/$or/4/eventName/$regex");
}

#[test]
fn long_texts_do_not_match_regular_expressions() {
    let filter = filter(r#"{"eventData": {"a": {"$regex": "x"}}}"#);
    for (bytes, expected) in [(REGEX_TEXT_BYTES_MAX, true), (REGEX_TEXT_BYTES_MAX + 1, false)] {
        let event = json!({"eventData": {"a": "x".repeat(bytes)}}).to_string();
        assert_eq!(filter.matches(&ParsedEvent::new("n", event.as_bytes()).document(), None), expected, "{bytes}");
    }
}

#[track_caller]
fn check_refusal(event: &str, text: &str, expected: &str) {
    let refusal = filter(text).refusal(&parsed(event).document(), None).expect(text);
    assert_eq!(refusal.to_string(), expected);
}

#[test]
fn a_refusal_names_the_condition_and_the_value() {
    check_refusal(
        DEAL,
        r#"{"eventData": {"id": 7}, "fields": {"probability": {"$gt": 1, "$lt": 20}}}"#,
        "/fields/probability/$lt 20 met 95.0",
    );
    check_refusal(CONTACT, r#"{"fields": {"email": "x"}}"#, "/fields/email \"x\" met \"Dana@example.org\" and 1 more");
    check_refusal(CONTACT, r#"{"fields": {"absent": "x"}}"#, "/fields/absent \"x\" met nothing");
    check_refusal(
        CONTACT,
        r#"{"eventData": {"tags": {"$neq": "lead"}}}"#,
        "/eventData/tags/$neq \"lead\" met [\"lead\",\"test\"]",
    );
    check_refusal(
        CONTACT,
        r#"{"$or": [{"eventName": "x"}]}"#,
        "/$or [{\"eventName\":\"x\"}] met an event for which none of its alternatives holds",
    );
    check_refusal(
        CONTACT,
        r#"{"$not": {"eventData": {"tags": "lead"}}}"#,
        "/$not {\"eventData\":{\"tags\":\"lead\"}} met an event for which it holds",
    );
    check_refusal(
        CONTACT,
        r#"{"fields": {"Plan": {"$changed": false}}}"#,
        "/fields/Plan/$changed false met another value than before: \"Pro\"",
    );
    check_refusal(DEAL, r#"{"eventData": {"lines": {"sku": "a", "count": 9}}}"#, "/eventData/lines/count 9 met 1");
}

#[test]
fn a_filter_is_written_as_it_was_read() {
    let text = r#"{"fields":{"b":1e+2,"a":{"$gt":123456789012345678901234567890.10}},"$or":[{"eventName":"\"x"}]}"#;
    assert_eq!(serde_json::to_string(&filter(text)).expect("JSON"), text);
}

/// JSON that is close to an event or a filter.
fn near_json() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["a", "b", "ab", "Pro", "Contact is Updated", "^a", ""]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..3).prop_map(|number| json!(number)),
        text.prop_map(|text| json!(text)),
    ];
    let keys = prop::sample::select(vec![
        "eventName",
        "eventData",
        "fields",
        "$and",
        "$or",
        "$not",
        "$eq",
        "$neq",
        "$gt",
        "$gte",
        "$lt",
        "$lte",
        "$in",
        "$nin",
        "$contains",
        "$startsWith",
        "$endsWith",
        "$exist",
        "$regex",
        "$changed",
        "a",
        "b",
        "name",
        "value",
        "properties",
    ]);
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys.clone(), inner), 0..4)
                .prop_map(|entries| { entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }),
        ]
    })
}

proptest! {
    #[test]
    fn values_in_a_list_are_those_that_are_equal(operands in prop::collection::vec(near_json(), 1..5), value in near_json()) {
        let of = |condition: Value| Filter::parse(json!({"eventData": {"a": condition}})).expect("a filter");
        let one_of: Vec<Value> = operands.iter().map(|operand| json!({"$eq": operand})).collect();
        let event = ParsedEvent::new("n", json!({"eventData": {"a": value}}).to_string().as_bytes());
        let event = event.document();
        let listed = of(json!({"$in": operands})).matches(&event, None);
        prop_assert_eq!(of(json!({"$or": one_of})).matches(&event, None), listed);
    }
}

/// Filter that can be parsed.
fn any_filter() -> impl Strategy<Value = Filter> {
    let part = prop_oneof![
        near_json().prop_map(|value| json!({"fields": {"a": value}})),
        near_json().prop_map(|value| json!({"eventData": value})),
        near_json().prop_map(|value| json!({"eventName": {"$or": [value, {"$changed": true}]}})),
        near_json(),
    ];
    let filters = prop::collection::vec(part, 1..3).prop_map(|parts| json!({"$and": parts}));
    filters.prop_filter_map("not a filter", |source| Filter::parse(source).ok())
}

fn any_event() -> impl Strategy<Value = ParsedEvent> {
    let data = prop_oneof![
        near_json(),
        (near_json(), near_json())
            .prop_map(|(own, value)| json!({"a": own, "properties": [{"name": "a", "value": value}]})),
    ];
    data.prop_map(|data| ParsedEvent::new("a", json!({"eventName": "a", "eventData": data}).to_string().as_bytes()))
}

proptest! {
    #[test]
    fn the_laws_hold(filter in any_filter(), event in any_event(), previous in prop::option::of(any_event())) {
        let event = event.document();
        let previous = previous.as_ref().map(ParsedEvent::document);
        let previous = previous.as_ref();
        let matches = filter.matches(&event, previous);
        let negation = Filter::parse(json!({"$not": filter.source()}));
        // It nests one level deeper, and so may be refused.
        if let Ok(negation) = negation {
            prop_assert_eq!(negation.matches(&event, previous), !matches);
        }
        // A trial and an explanation ask for the refusal, the store for the decision and what it depends on.
        prop_assert_eq!(filter.refusal(&event, previous).is_none(), matches);
        prop_assert_eq!(filter.decide(&event).holds(&event, previous), matches);
        if !matches!(filter.decide(&event), Decision::Depends(_)) {
            prop_assert_eq!(filter.matches(&event, None), matches, "it does not depend on the event before");
        }
        let again: Filter = serde_json::from_str(&serde_json::to_string(&filter).expect("JSON")).expect("a filter");
        prop_assert_eq!(again.matches(&event, previous), matches);
        prop_assert_eq!(again, filter);
    }

    #[test]
    fn any_json_is_a_filter_or_has_a_fault(source in near_json()) {
        if let Err(fault) = Filter::parse(source.clone()) {
            prop_assert!(source.pointer(&fault.pointer).is_some(), "{} in {}", fault, source);
        }
    }
}

#[test]
fn samples_match_what_their_fields_say() {
    let events: Vec<ParsedEvent> = sample_events().iter().map(ParsedEvent::of).collect();
    let count = |text: &str| events.iter().filter(|event| filter(text).matches(&event.document(), None)).count();
    assert_eq!(count(r#"{"fields": {"Plan": "Pro"}}"#), 1);
    assert_eq!(count(r#"{"fields": {"probability": {"$gte": 95}}}"#), 1);
}
