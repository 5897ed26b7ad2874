//! Tests of manifests: what is accepted, what is refused and where, and checks of configurations.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn manifest(properties: Value) -> Value {
    json!({"title": "T", "description": "D", "config": {"type": "object", "properties": properties}})
}

fn parse(manifest: &Value) -> Result<Manifest, ManifestError> {
    Manifest::parse(manifest.to_string().as_bytes())
}

#[track_caller]
fn refused(manifest: &Value, part: &str) {
    let error = parse(manifest).expect_err("refused").to_string();
    assert!(error.contains(part), "{error:?} does not contain {part:?}");
}

fn thresholds() -> Value {
    json!({
        "least": {"type": "number", "description": "Least value.\nOf a deal.", "minimum": 0, "maximum": 100, "examples": [75]},
        "milestones": {"type": "array", "items": {"type": "string"}, "default": ["Won"], "maxItems": 2},
        "late": {"description": "Late ones.", "oneOf": [{"const": "drop", "description": "Drops."}, {"const": "pass"}], "default": "drop"},
        "rules": {"type": "array", "x-separator": "line", "items": {"type": "string", "pattern": "^.+ -> .+$"}},
        "count": {"type": "integer"},
        "add": {"type": "boolean", "default": true},
    })
}

#[test]
fn a_manifest_describes_its_keys() {
    let mut whole = manifest(thresholds());
    whole["config"]["required"] = json!(["least"]);
    whole["config"]["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    whole["sample_event"] = json!({"eventName": "Contact is Created", "eventData": {}});
    whole["of_a_later_version"] = json!(1);
    let manifest = parse(&whole).expect("accepted");
    let keys = manifest.schema().expect("compiled").keys;
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["least", "milestones", "late", "rules", "count", "add"]);
    assert_eq!(
        (keys[0].kind, keys[0].required, &*keys[0].description),
        (ValueKind::Number, true, "Least value. Of a deal.")
    );
    assert_eq!((keys[0].maximum.as_deref(), &keys[0].examples[..]), (Some("100"), &["75".to_owned()][..]));
    assert_eq!(keys[2].choices.len(), 2);
    assert_eq!(keys[2].choices[0].description.as_deref(), Some("Drops."));
    assert_eq!(keys[3].kind, ValueKind::Strings(Separator::Line));
    let example: Vec<(String, String)> = manifest.example_config().into_iter().collect();
    let expected = [("add", "true"), ("late", "drop"), ("least", "75"), ("milestones", "Won")];
    assert_eq!(example, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let again = parse(&serde_json::to_value(&manifest).expect("written")).expect("read");
    assert_eq!(again, manifest);
    let bare = parse(&json!({"title": "T", "description": "D"})).expect("no configuration");
    assert!(bare.schema().expect("compiled").keys.is_empty());
}

#[test]
fn hostile_manifests_are_refused_with_the_position() {
    let not_json = Manifest::parse(b"{\"title\": \xff").expect_err("no JSON").to_string();
    assert!(not_json.contains("not readable as JSON"), "{not_json}");
    let large = Manifest::parse(&vec![b' '; BYTES_MAX + 1]).expect_err("large").to_string();
    assert!(large.contains("more than 32768 bytes"), "{large}");
    let deep =
        format!("{{\"title\":\"T\",\"description\":\"D\",\"config\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(Manifest::parse(deep.as_bytes()), Err(ManifestError::Json(_))));
    let nested = (0..DEPTH_MAX + 1).fold(json!(1), |inner, _| json!([inner]));
    refused(&json!({"title": "T", "description": "D", "sample_event": nested}), "nested more than 32 deep");
    refused(&json!({"description": "D"}), "missing field `title`");
    refused(&json!({"title": "a\nb", "description": "D"}), "/title: is one line");
    refused(&json!({"title": "T", "description": "D".repeat(301)}), "/description: has more than 300");
    refused(&json!({"title": "T", "description": "D", "config": []}), "/config: is a JSON Schema");
    refused(&json!({"title": "T", "description": "D", "config": {"type": "array"}}), "/config/type: is \"object\"");
    refused(
        &json!({"title": "T", "description": "D", "sample_event": {"eventName": "x"}}),
        "/sample_event: an event is",
    );
    let many: Map<String, Value> = (0..129).map(|number| (number.to_string(), json!({"type": "string"}))).collect();
    refused(&manifest(Value::Object(many)), "has more than 128 keys");
    refused(&manifest(json!({"": {"type": "string"}})), "a key has 1 to 100 bytes");
    refused(&manifest(json!({"a/b": true})), "/config/properties/a~1b: is a schema");
}

#[test]
fn schemas_that_need_more_than_a_text_are_refused() {
    for keyword in
        ["$ref", "$dynamicRef", "anyOf", "allOf", "not", "if", "patternProperties", "$defs", "contentMediaType"]
    {
        let pointer = format!("/config/properties/k/{keyword}");
        refused(&manifest(json!({"k": {"type": "string", keyword: "#"}})), &pointer);
    }
    let mut remote = manifest(json!({"k": {"$ref": "https://attacker.example/schema.json"}}));
    refused(&remote, "/config/properties/k/$ref: this keyword is not supported here");
    remote["config"]["properties"] = json!({"k": {"$ref": "#/properties/k"}});
    refused(&remote, "/config/properties/k/$ref");
    remote["config"] = json!({"type": "object", "$id": "https://attacker.example/", "$defs": {}});
    refused(&remote, "/config/$id");
    remote["config"] = json!({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"});
    refused(&remote, "/config/$schema");
    refused(&manifest(json!({"k": {"type": "object"}})), "/config/properties/k/type");
    refused(&manifest(json!({"k": {"type": ["string", "null"]}})), "/config/properties/k/type");
    refused(&manifest(json!({"k": {"type": "array"}})), "/config/properties/k/items");
    refused(&manifest(json!({"k": {"type": "array", "items": {"type": "array"}}})), "/config/properties/k/items/type");
    refused(&manifest(json!({"k": {"type": "string", "minLength": "x"}})), "/config/properties/k/minLength");
    refused(&manifest(json!({"k": {"type": "string", "enum": []}})), "/config/properties/k/enum");
    refused(&manifest(json!({"k": {"enum": [1]}})), "/config/properties/k/enum/0");
    refused(&manifest(json!({"k": {"type": "number", "multipleOf": 0}})), "/config/properties/k/multipleOf");
}

#[test]
fn defaults_and_examples_match_their_schema() {
    refused(&manifest(json!({"k": {"type": "integer", "default": "5"}})), "/config/properties/k/default");
    refused(
        &manifest(json!({"k": {"type": "integer", "maximum": 4, "default": 5}})),
        "5 is greater than the maximum of 4",
    );
    refused(&manifest(json!({"k": {"enum": ["a"], "examples": ["b"]}})), "/config/properties/k/examples");
    let listed = json!({"k": {"type": "array", "items": {"type": "string"}, "default": ["a,b"]}});
    refused(&manifest(listed), "contains what divides items");
}

#[test]
fn patterns_cost_linear_time_and_bounded_memory() {
    fn with(pattern: &str) -> Result<Manifest, ManifestError> {
        parse(&manifest(json!({"k": {"type": "string", "pattern": pattern}})))
    }
    refused(&manifest(json!({"k": {"type": "string", "pattern": "("}})), "/config/properties/k/pattern");
    // Backtracking engines take exponential time for the first, and memory for the second.
    let manifest_ = with("^(a+)+$").expect("accepted");
    assert!(with("(?:(?:\\w{100}){100}){100}").is_err());
    assert!(with("(?=a)b").is_err(), "look-around needs backtracking");
    assert!(with(&"a".repeat(501)).is_err());
    let schema = manifest_.schema().expect("compiled");
    let long = BTreeMap::from([("k".to_owned(), format!("{}b", "a".repeat(60_000)))]);
    let begun = crate::clock::instant();
    assert_eq!(schema.faults(&long).len(), 1);
    let took = crate::clock::since(begun);
    assert!(took.as_secs() < 5, "{took:?}");
    let many: Map<String, Value> =
        (0..17).map(|number| (number.to_string(), json!({"type": "string", "pattern": "a"}))).collect();
    refused(&manifest(Value::Object(many)), "at most 16 patterns");
}

#[track_caller]
fn check(config: &[(&str, &str)], expected: &[(&str, &str)]) {
    let mut whole = manifest(thresholds());
    whole["config"]["required"] = json!(["least"]);
    let schema = parse(&whole).expect("accepted").schema().expect("compiled");
    let mut chain = ChainConfig::default();
    chain.add("p", Some(schema));
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let faults = chain.faults(&config);
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, (pointer, part)) in faults.iter().zip(expected) {
        assert!(fault.pointer() == *pointer && fault.detail.contains(part), "{fault:?}: {pointer} {part}");
    }
}

#[test]
fn a_configuration_is_checked_key_by_key() {
    check(&[("least", "75"), ("other", "1"), ("rules", "a -> b\nb, c -> d")], &[]);
    check(&[], &[("/config/least", "the plugin p: is required")]);
    check(&[("least", " ")], &[("/config/least", "is required")]);
    check(&[("least", "many")], &[("/config/least", "\"many\" is not a number")]);
    check(&[("least", "101")], &[("/config/least", "101 is greater than the maximum of 100")]);
    check(&[("least", "1"), ("late", "perhaps")], &[("/config/late", "\"perhaps\" is not one of the choices")]);
    check(&[("least", "1"), ("milestones", "a, b, c")], &[("/config/milestones", "more than 2 items")]);
    check(&[("least", "1"), ("rules", "a -> b\nno rule")], &[("/config/rules", "does not match")]);
    check(
        &[("least", "1"), ("add", "yes"), ("count", "1.5")],
        &[("/config/count", "whole number"), ("/config/add", "true or false")],
    );
}

#[test]
fn a_key_that_no_plugin_of_the_chain_knows_is_a_fault_if_all_are_closed() {
    fn schema(name: &str, closed: bool) -> Option<ConfigSchema> {
        let mut whole = manifest(json!({name: {"type": "string"}}));
        whole["config"]["additionalProperties"] = json!(!closed);
        Some(parse(&whole).expect("accepted").schema().expect("compiled"))
    }
    fn faults(steps: Vec<Option<ConfigSchema>>) -> Vec<ConfigFault> {
        let mut chain = ChainConfig::default();
        steps.into_iter().for_each(|step| chain.add("p", step));
        chain.faults(&BTreeMap::from([("a~/b".to_owned(), "1".to_owned())]))
    }
    assert_eq!(faults(vec![]), []);
    assert_eq!(faults(vec![None, schema("a", true)]), []);
    assert_eq!(faults(vec![schema("b", false), schema("a", true)]), []);
    assert_eq!(faults(vec![schema("b", true), schema("a~/b", true)]), []);
    let both = faults(vec![schema("b", true), schema("a", true)]);
    assert_eq!((both.len(), both[0].pointer()), (1, "/config/a~0~1b".to_owned()));
    assert!(both[0].detail.ends_with("there are b, a"), "{both:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&bytes);
    }

    #[test]
    fn any_config_is_checked_without_a_panic(least in "\\PC{0,20}", rules in "(?s).{0,40}", count in "[-0-9.e]{0,30}") {
        let schema = parse(&manifest(thresholds())).expect("accepted").schema().expect("compiled");
        let config = [("least", least), ("rules", rules), ("count", count)];
        let _ = schema.faults(&config.map(|(key, value)| (key.to_owned(), value)).into());
    }
}

#[test]
fn the_manifests_of_the_example_plugins_are_accepted() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins");
    let folders = std::fs::read_dir(folder).expect("the example plugins").map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = folders.map(|folder| folder.join("manifest.json")).filter(|file| file.exists()).collect();
    assert_eq!(files.len(), 12);
    for file in files {
        let manifest = Manifest::parse(&std::fs::read(&file).expect("read"));
        let manifest = manifest.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let schema = manifest.schema().expect("compiled");
        assert_eq!(schema.faults(&manifest.example_config()), [], "{}", file.display());
        assert!(manifest.sample_event.is_some(), "{}", file.display());
        for key in &schema.keys {
            let says_what = key.title.is_some() && !key.description.is_empty();
            // The form says it for every list.
            assert!(says_what && !key.description.contains("a line"), "{}: {}", file.display(), key.name);
        }
    }
}
