//! Rows and JSON are equal to each other.

use super::*;
use proptest::prelude::*;

fn row(field: &str, operator: &str, value: &str) -> FilterRow {
    let operator = OPERATORS.iter().find(|one| one.name == operator).expect(operator);
    FilterRow { field: field.into(), operator, value: value.into() }
}

#[track_caller]
fn check(rows: &[(&str, &str, &str)], filter: &str) {
    let rows: Vec<_> = rows.iter().map(|(field, operator, value)| row(field, operator, value)).collect();
    let filter: Value = serde_json::from_str(filter).expect(filter);
    assert_eq!(filter_of(&rows).as_ref(), Ok(&filter), "the filter of the rows");
    assert_eq!(rows_of(&filter), Some(rows), "the rows of the filter {filter}");
}

#[test]
fn rows_and_json_are_equal() {
    check(&[("probability", "$gte", "75")], r#"{"fields": {"probability": {"$gte": 75}}}"#);
    check(
        &[("stage", "$eq", "won"), ("owner", "$neq", "null")],
        r#"{"fields": {"stage": "won", "owner": {"$neq": null}}}"#,
    );
    check(&[("zip", "$eq", "07")], r#"{"fields": {"zip": "07"}}"#);
    check(&[("phone", "$eq", "\"4915\"")], r#"{"fields": {"phone": "4915"}}"#);
    check(&[("id", "$eq", "12345678901234567890.10")], r#"{"fields": {"id": 12345678901234567890.10}}"#);
    check(&[("note", "$eq", r#"" padded\n""#)], r#"{"fields": {"note": " padded\n"}}"#);
    check(&[("note", "$eq", "\"\"")], r#"{"fields": {"note": ""}}"#);
    check(&[("v", "$gt", "1"), ("v", "$lt", "9")], r#"{"fields": {"v": {"$gt": 1, "$lt": 9}}}"#);
    check(
        &[("t", "$contains", "a"), ("t", "$contains", "b")],
        r#"{"fields": {"t": {"$and": [{"$contains": "a"}, {"$contains": "b"}]}}}"#,
    );
    check(
        &[("s", "$in", r#"won, "a, b", 5, "5", null"#)],
        r#"{"fields": {"s": {"$in": ["won", "a, b", 5, "5", null]}}}"#,
    );
    check(
        &[("mail", "$endsWith", "@x.example "), ("mail", "present", "")],
        r#"{"fields": {"mail": {"$endsWith": "@x.example ", "$exist": true}}}"#,
    );
    check(&[("stage", "unchanged", "")], r#"{"fields": {"stage": {"$changed": false}}}"#);
}

#[test]
fn a_lone_equality_has_a_row() {
    let filter = json!({"fields": {"stage": {"$eq": "won"}}});
    assert_eq!(rows_of(&filter), Some(vec![row("stage", "$eq", "won")]));
}

#[test]
fn other_filters_have_no_rows() {
    for filter in [
        r#"{"eventName": "Contact is Created"}"#,
        r#"{"fields": {"stage": "won"}, "$not": {"fields": {"a": 1}}}"#,
        r#"{"fields": {"owner": {"email": "x"}}}"#,
        r#"{"fields": {"$or": [{"a": 1}, {"b": 2}]}}"#,
        r#"{"fields": {"t": {"$and": [{"$contains": "a"}]}}}"#,
        r#"{"fields": {"t": {"$eq": ["a"]}}}"#,
        r#"{"fields": {"t": {"$in": [["a"]]}}}"#,
        r#"{"fields": {"t": {"$startsWith": "a\nb"}}}"#,
        r#"{"fields": {"t": {"$startsWith": ""}}}"#,
        r#"{"fields": {" t": 1}}"#,
        r#"{"fields": {"": 1}}"#,
        r#"{"fields": {}}"#,
        "[]",
    ] {
        assert_eq!(rows_of(&serde_json::from_str(filter).expect(filter)), None, "{filter}");
    }
}

#[test]
fn faults_have_their_row() {
    let rows = [row("a", "$eq", "1"), FilterRow::blank(), row("b", "$gt", " ")];
    assert_eq!(filter_of(&rows).map_err(|fault| fault.index), Err(2));
    assert_eq!(filter_of(&[row("", "present", "")]).map_err(|fault| fault.detail), Err("choose a field"));
    assert_eq!(filter_of(&[FilterRow::blank()]), Ok(Value::Null));
    assert!(row("a/b", "$regex", "(").is_at("/fields/a~1b/$regex"));
    assert!(row("a", "$eq", "x").is_at("/fields/a") && !row("a", "$eq", "x").is_at("/fields/a/$regex"));
}

/// Returns filters on fields, of which many have rows.
fn filters() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z]{0,3}", "[ \",0-9.e+-]{0,6}", "\\PC{0,4}", Just("null".to_owned())];
    let number = prop_oneof!["-?[1-9][0-9]{0,25}", "[0-9]\\.[0-9]{1,20}", "[1-9]e[0-9]{1,3}"];
    let number = number.prop_map(|text| serde_json::from_str(&text).expect("a number"));
    let scalar =
        prop_oneof![text.prop_map(Value::String), number, Just(Value::Null), any::<bool>().prop_map(Value::Bool)];
    let list = prop::collection::vec(scalar.clone(), 1..4).prop_map(Value::Array);
    let keys =
        prop::sample::select(vec!["$eq", "$neq", "$gt", "$in", "$nin", "$contains", "$endsWith", "$exist", "$changed"]);
    let operators = prop::collection::btree_map(keys, prop_oneof![scalar.clone(), list], 1..3);
    let condition = prop_oneof![scalar, operators.prop_map(|all| json!(all))];
    prop::collection::btree_map("[a-z/ ]{0,3}", condition, 1..4).prop_map(|fields| json!({"fields": fields}))
}

proptest! {
    #[test]
    fn rows_of_any_filter_make_it_again(filter in filters()) {
        if let Some(rows) = rows_of(&filter) {
            prop_assert_eq!(filter_of(&rows), Ok(with_short_equality(&filter)));
        }
    }

    #[test]
    fn any_rows_make_a_filter_with_the_same_meaning(rows in prop::collection::vec(("[a-c]", 0..OPERATORS.len(), "[ \",a0-9.\\\\-]{1,8}"), 1..5)) {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(field, operator, value)| FilterRow { field, operator: &OPERATORS[operator], value })
            .collect();
        if let Ok(filter) = filter_of(&rows) {
            let again = rows_of(&filter).expect("rows of what rows have made");
            prop_assert_eq!(filter_of(&again), Ok(filter));
        }
    }
}
