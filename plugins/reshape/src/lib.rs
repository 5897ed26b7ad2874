//! Reshapes a payload for a receiver's own schema: keeps, leaves out, renames and moves fields, and adds constant ones.
//!
//! Works on any JSON object, so it also fits behind another plugin in a chain: `["flatten", "reshape"]`. Config, all
//! optional, applied in this order; a field is written as a path of keys with dots between them:
//! `keep` (comma list: only these), `leave_out` (comma list), `drop_nulls` (`true`: no field that is null, empty text, list or
//! object), `rename` (one `from: to` a line), `add` (one `path: text` a line).

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value};
use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export};

struct Reshape;

impl Plugin for Reshape {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let Value::Object(mut object) = event.json()? else {
            return Err(Failure::invalid_event("no-object", "the payload is no JSON object"));
        };
        let keep = config::list("keep");
        if !keep.is_empty() {
            let mut kept = Map::new();
            for path in &keep {
                if let Some(value) = take(&mut object, path) {
                    put(&mut kept, path, value)?;
                }
            }
            object = kept;
        }
        for path in config::list("leave_out") {
            take(&mut object, &path);
        }
        if config::parse::<bool>("drop_nulls")?.unwrap_or(false) {
            object.retain(|_, value| !is_nothing(value));
        }
        for (from, to) in pairs("rename")? {
            if let Some(value) = take(&mut object, &from) {
                put(&mut object, &to, value)?;
            }
        }
        for (path, text) in pairs("add")? {
            put(&mut object, &path, Value::String(text))?;
        }
        Ok(Verdict::json(&Value::Object(object)))
    }
}

export!(Reshape, manifest: "manifest.json");

/// The lines of a config value, each `left: right`.
fn pairs(key: &str) -> Result<Vec<(String, String)>, Failure> {
    let text = config::get(key).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once(':') {
            Some((left, right)) if !left.trim().is_empty() => Ok((left.trim().to_owned(), right.trim().to_owned())),
            _ => Err(Failure::bad_config(
                "no-pair",
                format!("config {key:?} has the line {line:?}; write `field: field`"),
            )),
        })
        .collect()
}

/// Takes the value at a path out of an object; an object that is empty then stays.
fn take(object: &mut Map<String, Value>, path: &str) -> Option<Value> {
    match path.split_once('.') {
        // Not `remove`, which would move the last key into the gap.
        None => object.shift_remove(path),
        Some((key, rest)) => take(object.get_mut(key)?.as_object_mut()?, rest),
    }
}

/// Removes empty parts of a value, and returns true if nothing is left.
fn is_nothing(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => {
            // What is in a list has its place by its number, so only empty lists go.
            for item in list.iter_mut() {
                is_nothing(item);
            }
            list.is_empty()
        }
        Value::Object(object) => {
            object.retain(|_, value| !is_nothing(value));
            object.is_empty()
        }
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Puts a value at a path, making the objects on the way.
fn put(object: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), Failure> {
    let Some((key, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), value);
        return Ok(());
    };
    match object.entry(key).or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(inner) => put(inner, rest, value),
        _ => Err(Failure::bad_config("no-object", format!("{path:?} leads through {key:?}, which is no object"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::{Body, testing};

    const PAYLOAD: &str =
        r#"{"eventName":"Contact is Created","eventData":{"id":12345678901234567890,"b":{"c":1,"d":2},"e":null}}"#;

    #[track_caller]
    fn check(config: &[(&str, &str)], expected: Result<&str, &str>) {
        let judged = match testing::run::<Reshape>(PAYLOAD, config) {
            Ok(Verdict::Replace(outgoing)) => match outgoing.body {
                Body::Text(text) => Ok(text),
                Body::Binary(_) => panic!("bytes"),
            },
            Err(Failure::BadConfig(reason)) => Err(reason.message),
            other => panic!("{other:?}"),
        };
        assert_eq!(judged, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn fields_are_kept_left_out_renamed_and_added() {
        check(&[], Ok(PAYLOAD));
        check(
            &[("keep", "eventData.id, eventData.b.d, nowhere")],
            Ok(r#"{"eventData":{"id":12345678901234567890,"b":{"d":2}}}"#),
        );
        check(
            &[("leave_out", "eventData.b, eventData.e, nowhere.at.all")],
            Ok(r#"{"eventName":"Contact is Created","eventData":{"id":12345678901234567890}}"#),
        );
        check(
            &[
                ("keep", "eventName, eventData.id"),
                ("rename", "eventName: type\neventData.id: data.contact.id\neventData: rest"),
            ],
            Ok(r#"{"type":"Contact is Created","data":{"contact":{"id":12345678901234567890}},"rest":{}}"#),
        );
        check(
            &[("keep", "eventName"), ("add", "source.system: agile-crm")],
            Ok(r#"{"eventName":"Contact is Created","source":{"system":"agile-crm"}}"#),
        );
    }

    #[test]
    fn custom_sections_are_dropped() {
        let payload = r#"{"a":null,"b":{"c":"","d":{"e":[]}},"f":[null,{"g":null,"h":0}],"i":false,"j":" "}"#;
        let config = [("drop_nulls", "true")];
        let Ok(Verdict::Replace(outgoing)) = testing::run::<Reshape>(payload, &config) else { panic!("replaced") };
        assert_eq!(outgoing.body, Body::Text(r#"{"f":[null,{"h":0}],"i":false,"j":" "}"#.to_owned()));
    }

    #[test]
    fn a_wrong_config_is_reported() {
        check(&[("rename", "eventName")], Err("config \"rename\" has the line \"eventName\"; write `field: field`"));
        check(&[("add", "eventName.x: 1")], Err("\"eventName.x\" leads through \"eventName\", which is no object"));
    }
}
