//! Drops duplicates, late events, and echoes of the receiver's changes. Other events pass without a change.
//!
//! - A duplicate has the same event name and the same data as the previous event of the same contact or deal, except for the
//!   vendor's bookkeeping. Config `duplicates`: `pass` passes them.
//! - A late event has an older `updated_time` than the previous event. Config `late`: `pass` passes them.
//! - An echo is caused by your synchronisation, which config `own_tags`, `own_owners` (e-mail addresses or ids) or `own_fields`
//!   (`sync_origin = hookloom`, one a line, custom properties) identifies.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value};
use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export, history, id_of, number_of, same, text_of};

struct Guard;

impl Plugin for Guard {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let data = event.data()?;
        if let Some(echo) = echo(&data)? {
            return Ok(Verdict::drop("echo", echo));
        }
        let Some(before) = history::previous() else { return Ok(Verdict::Pass) };
        // An older host may have accepted an unreadable event, which cannot be compared.
        let Ok(old) = before.data() else { return Ok(Verdict::Pass) };
        if dropped("late")? && updated(&data) < updated(&old) {
            return Ok(Verdict::drop("late", format!("the event {} is of a later update", before.id)));
        }
        if dropped("duplicates")? && before.name == event.name && same(&essence(data), &essence(old)) {
            return Ok(Verdict::drop("duplicate", format!("the event {} said the same", before.id)));
        }
        Ok(Verdict::Pass)
    }
}

export!(Guard, manifest: "manifest.json");

fn dropped(key: &str) -> Result<bool, Failure> {
    match config::get(key).as_deref() {
        None | Some("drop") => Ok(true),
        Some("pass") => Ok(false),
        Some(other) => {
            Err(Failure::bad_config("no-choice", format!("{key} is {other:?}; it can be \"drop\" or \"pass\"")))
        }
    }
}

/// Returns the time of the last update, or of the creation of an entity that was never updated.
fn updated(data: &Map<String, Value>) -> Option<i64> {
    let time = |name: &str| data.get(name).and_then(number_of).map(|time| time as i64).filter(|time| *time > 0);
    time("updated_time").or_else(|| time("created_time"))
}

/// Returns the data without the vendor's bookkeeping.
fn essence(mut data: Map<String, Value>) -> Value {
    data.retain(|name, _| !["viewed", "viewed_time", "cursor", "count"].contains(&name.as_str()));
    Value::Object(data)
}

fn echo(data: &Map<String, Value>) -> Result<Option<String>, Failure> {
    let tags = data.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let own_tags = config::list("own_tags");
    if let Some(tag) = tags.into_iter().find(|tag| own_tags.iter().any(|known| known.eq_ignore_ascii_case(tag))) {
        return Ok(Some(format!("it has the tag {tag:?}")));
    }
    let own_owners = config::list("own_owners");
    let owner = ["email", "id"].into_iter().filter_map(|key| id_of(data.get("owner")?.get(key)?)).map(String::from);
    if let Some(owner) =
        owner.into_iter().find(|owner| own_owners.iter().any(|known| known.eq_ignore_ascii_case(owner)))
    {
        return Ok(Some(format!("its owner is {owner}")));
    }
    for rule in config::list("own_fields") {
        let (name, value) = rule.split_once('=').ok_or_else(|| {
            Failure::bad_config("no-rule", format!("{rule:?} in own_fields is no rule; write `sync_origin = hookloom`"))
        })?;
        if custom_values(data, name.trim()).any(|found| found.eq_ignore_ascii_case(value.trim())) {
            return Ok(Some(format!("{} is {}", name.trim(), value.trim())));
        }
    }
    Ok(None)
}

/// Returns the values of a custom property.
fn custom_values(data: &Map<String, Value>, name: &str) -> impl Iterator<Item = String> {
    let list = |key: &str| data.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of_contact = list("properties").iter().filter(|one| one.get("type").and_then(Value::as_str) == Some("CUSTOM"));
    let both = of_contact.chain(list("custom_data"));
    both.filter(move |one| one.get("name").and_then(Value::as_str) == Some(name))
        .filter_map(|one| text_of(one.get("value")?).map(String::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::testing;

    const EVENT: &str = r#"{"eventName":"Contact is Updated","eventData":{"id":1,"created_time":100,"updated_time":200,"viewed":{"viewed_time":0},"tags":["Lead","Synced"],"owner":{"id":7,"email":"bot@x.example"},"properties":[{"type":"CUSTOM","name":"sync_origin","value":"hookloom"},{"name":"sync_origin","value":"other"}]}}"#;

    #[track_caller]
    fn check(edit: (&str, &str), config: &[(&str, &str)], expected: &str) {
        testing::set_previous(Some(EVENT));
        assert!(EVENT.contains(edit.0));
        let found = match testing::run::<Guard>(&EVENT.replace(edit.0, edit.1), config) {
            Ok(Verdict::Pass) => "pass".into(),
            Ok(Verdict::Drop(reason)) => reason.code,
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected, "{edit:?}");
    }

    #[test]
    fn duplicates_and_what_is_late() {
        check(("", ""), &[], "duplicate");
        check(("\"viewed_time\":0", "\"viewed_time\":9"), &[], "duplicate");
        check(("\"id\":1,", "\"id\":1.0,"), &[], "duplicate");
        check(("Updated", "Created"), &[], "pass");
        check(("Lead", "Hot"), &[], "pass");
        check(("200", "199"), &[], "late");
        check(("200", "0"), &[], "late");
        check(("200", "201"), &[], "pass");
        check(("", ""), &[("duplicates", "pass")], "pass");
        check(("200", "199"), &[("late", "pass")], "pass");
        testing::set_previous(None);
        assert_eq!(testing::run::<Guard>(EVENT, &[]), Ok(Verdict::Pass));
        testing::set_previous(Some(r#"{"eventName":"Contact is Updated","eventData":{"id":1,"a":"\ud83d"}}"#));
        assert_eq!(testing::run::<Guard>(EVENT, &[]), Ok(Verdict::Pass), "what cannot be read is no previous event");
    }

    #[test]
    fn echoes() {
        check(("200", "201"), &[("own_tags", "synced")], "echo");
        check(("200", "201"), &[("own_tags", "none")], "pass");
        check(("200", "201"), &[("own_owners", "7")], "echo");
        check(("200", "201"), &[("own_owners", "Bot@x.example")], "echo");
        check(("200", "201"), &[("own_fields", "sync_origin = Hookloom")], "echo");
        check(("200", "201"), &[("own_fields", "sync_origin = other")], "pass");
        assert!(matches!(testing::run::<Guard>(EVENT, &[("own_fields", "sync")]), Err(Failure::BadConfig(_))));
    }
}
