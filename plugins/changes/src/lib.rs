//! Passes an update only if something changed, and adds the changes: `changed_fields`, and the earlier values in `previous`.
//!
//! The event is compared with the previous event of the same contact or deal, field by field: a contact's properties by name
//! (custom ones as `custom.NAME`), tags, owner, and every other field. Config `watch`: only these fields count. Config `ignore`:
//! these fields do not count, besides the vendor's bookkeeping. Config `add`: `false` sends the original event. Config
//! `without_previous`: `drop` for events without a previous one; `pass` if absent. Config `derive`: `true` adds `derived_events`,
//! names of the kinds of change: `tag.added`, `deal.won`, `deal.milestone_changed`, …

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value, json};
use hookloom_sdk::{
    Event, Failure, Outgoing, Plugin, Verdict, config, export, history, id_of, number_of, same, text_of,
};
use std::collections::BTreeMap;

struct Changes;

impl Plugin for Changes {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        // An older host may have accepted an unreadable event, which cannot be compared.
        let Some(before) = history::previous().and_then(|before| before.data().ok()) else {
            return match config::get("without_previous").as_deref() {
                None | Some("pass") => Ok(Verdict::Pass),
                Some("drop") => Ok(Verdict::drop("no-previous", "nothing was accepted before of it")),
                Some(other) => Err(Failure::bad_config(
                    "no-choice",
                    format!("without_previous is {other:?}; it can be \"pass\" or \"drop\""),
                )),
            };
        };
        let old = fields(&before);
        let new = fields(&event.data()?);
        let changed: Vec<&str> = changed(&old, &new).into_iter().filter(|name| counts(name)).collect();
        if changed.is_empty() {
            return Ok(Verdict::drop("unchanged", "no field that counts has changed"));
        }
        if !config::parse::<bool>("add")?.unwrap_or(true) {
            return Ok(Verdict::Pass);
        }
        let previous: Map<String, Value> =
            changed.iter().map(|name| ((*name).to_owned(), old.get(*name).cloned().unwrap_or_default())).collect();
        let mut whole = event.json()?;
        whole["changed_fields"] = json!(changed);
        whole["previous"] = Value::Object(previous);
        if config::parse::<bool>("derive")?.unwrap_or(false) {
            whole["derived_events"] = json!(derived(&changed, &old, &new));
        }
        Ok(Verdict::Replace(Outgoing::json(&whole)))
    }
}

export!(Changes, manifest: "manifest.json");

/// Properties that the vendor changes when a contact is opened or when a message is sent to it.
const BOOKKEEPING: [&str; 14] = [
    "updated_time",
    "viewed",
    "viewed_time",
    "cursor",
    "count",
    "tagsWithTime",
    "last_contacted",
    "last_emailed",
    "last_campaign_emaild",
    "last_called",
    "isCurrencyUpdateRequired",
    "note_created_time",
    "contacts",
    "name_lower",
];

fn counts(name: &str) -> bool {
    let watch = config::list("watch");
    let ignore = config::list("ignore");
    let is = |list: &[String]| list.iter().any(|one| one == name);
    if watch.is_empty() { !BOOKKEEPING.contains(&name) && !is(&ignore) } else { is(&watch) && !is(&ignore) }
}

/// Returns everything that can change, by a name for people.
fn fields(data: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for (name, value) in data {
        match (name.as_str(), value) {
            ("properties" | "custom_data", Value::Array(list)) => {
                for (name, values) in named(list, name == "custom_data") {
                    fields.insert(name, if values.len() == 1 { values[0].clone() } else { Value::Array(values) });
                }
            }
            ("tags", Value::Array(list)) => {
                let mut tags: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                tags.sort_unstable();
                fields.insert(name.clone(), json!(tags));
            }
            ("owner", Value::Object(owner)) => {
                let who = owner.get("email").or_else(|| owner.get("id"));
                fields.insert(name.clone(), who.and_then(id_of).map_or(Value::Null, |who| json!(who)));
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields
}

/// Returns the values of properties by name; e-mails and phones may repeat.
fn named(list: &[Value], custom: bool) -> BTreeMap<String, Vec<Value>> {
    let mut named: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for property in list {
        let Some(name) = property.get("name").and_then(Value::as_str) else { continue };
        let is_custom = custom || property.get("type").and_then(Value::as_str) == Some("CUSTOM");
        let name = if is_custom { format!("custom.{name}") } else { name.to_owned() };
        named.entry(name).or_default().push(property.get("value").cloned().unwrap_or_default());
    }
    named
}

/// Returns the names of fields that differ. Absent and null are the same, and so are two spellings of a number.
fn changed<'a>(old: &'a BTreeMap<String, Value>, new: &'a BTreeMap<String, Value>) -> Vec<&'a str> {
    let mut names: Vec<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| {
        let before = old.get(*name).unwrap_or(&Value::Null);
        let after = new.get(*name).unwrap_or(&Value::Null);
        !same(before, after)
    });
    names
}

/// Returns names for these changes: those of the vendor's campaign triggers, in lower case.
fn derived(changed: &[&str], old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) -> Vec<&'static str> {
    fn list(fields: &BTreeMap<String, Value>) -> Vec<Value> {
        fields.get("tags").and_then(Value::as_array).cloned().unwrap_or_default()
    }
    let mut names = Vec::new();
    for field in changed {
        match *field {
            "tags" => {
                let before = list(old);
                let after = list(new);
                names.extend(after.iter().any(|tag| !before.contains(tag)).then_some("tag.added"));
                names.extend(before.iter().any(|tag| !after.contains(tag)).then_some("tag.removed"));
            }
            "milestone" => names.push("deal.milestone_changed"),
            // The vendor sets it when a deal reaches the milestone for won deals of its track, whatever its name.
            "won_date" if new.get("won_date").is_some_and(is_set) => names.push("deal.won"),
            "probability" if new.get("probability").and_then(number_of) == Some(0.0) => names.push("deal.lost"),
            "lead_score" => names.push("score.changed"),
            "owner" => names.push("owner.changed"),
            "email" => names.push("email.changed"),
            _ => {}
        }
    }
    names
}

/// Returns true if a time is present and not zero, which means never.
fn is_set(time: &Value) -> bool {
    text_of(time).is_some() && number_of(time) != Some(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::{Body, testing};

    const BEFORE: &str = r#"{"eventName":"Contact is Created","eventData":{"id":1,"updated_time":0,"lead_score":25,"tags":["b","a"],"owner":{"id":7,"email":"a@x.example"},"properties":[{"name":"title","value":"COO"},{"name":"email","value":"a@x.example"},{"type":"CUSTOM","name":"title","value":"1"}]}}"#;

    #[track_caller]
    fn check(edit: (&str, &str), config: &[(&str, &str)], expected: &str) {
        testing::set_previous(Some(BEFORE));
        assert!(BEFORE.contains(edit.0));
        let found = match testing::run::<Changes>(&BEFORE.replace(edit.0, edit.1), config) {
            Ok(Verdict::Replace(outgoing)) => {
                let Body::Text(text) = outgoing.body else { panic!("text") };
                let whole: Value = hookloom_sdk::json::from_str(&text).expect("JSON");
                format!("{} {}", whole["changed_fields"], whole["previous"])
            }
            Ok(Verdict::Drop(reason)) => reason.code,
            Ok(Verdict::Pass) => "pass".into(),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn changes_are_reported() {
        check(("COO", "CEO"), &[], r#"["title"] {"title":"COO"}"#);
        check(("25", "80"), &[], r#"["lead_score"] {"lead_score":25}"#);
        check(
            (r#"{"type":"CUSTOM","name":"title","value":"1"}"#, r#"{"type":"CUSTOM","name":"size","value":"2"}"#),
            &[],
            r#"["custom.size","custom.title"] {"custom.size":null,"custom.title":"1"}"#,
        );
        check((r#"["b","a"]"#, r#"["a","b","c"]"#), &[], r#"["tags"] {"tags":["a","b"]}"#);
        check((r#"["b","a"]"#, r#"["a","b"]"#), &[], "unchanged");
        check((r#""updated_time":0"#, r#""updated_time":9"#), &[], "unchanged");
        check((r#""id":7,"#, r#""id":7,"pic":"x","#), &[], "unchanged");
        check((r#""id":1"#, r#""id":1.0"#), &[], "unchanged");
        check((":25", ":2.5e1"), &[], "unchanged");
        check((":25", ":25.5"), &[], r#"["lead_score"] {"lead_score":25}"#);
    }

    #[test]
    fn events_are_derived_from_what_changed() {
        #[track_caller]
        fn check(before: &str, after: &str, expected: &[&str]) {
            fn event(data: &str) -> String {
                format!(r#"{{"eventName":"Opportunity is Updated","eventData":{data}}}"#)
            }
            testing::set_previous(Some(&event(before)));
            let judged = testing::run::<Changes>(&event(after), &[("derive", "true")]);
            let Ok(Verdict::Replace(Outgoing { body: Body::Text(text), .. })) = judged else { panic!("{judged:?}") };
            let whole: Value = hookloom_sdk::json::from_str(&text).expect("JSON");
            assert_eq!(whole["derived_events"], json!(expected), "{text}");
        }
        check(r#"{"tags":["a"]}"#, r#"{"tags":["b"]}"#, &["tag.added", "tag.removed"]);
        check(
            r#"{"milestone":"Proposal","won_date":null,"probability":90}"#,
            r#"{"milestone":"Done","won_date":1709287745,"probability":100}"#,
            &["deal.milestone_changed", "deal.won"],
        );
        check(
            r#"{"milestone":"Proposal","probability":90}"#,
            r#"{"milestone":"Lost","probability":0}"#,
            &["deal.milestone_changed", "deal.lost"],
        );
        check(r#"{"lead_score":1,"x":1}"#, r#"{"lead_score":2,"x":2}"#, &["score.changed"]);
        check(r#"{"x":1}"#, r#"{"x":2}"#, &[]);
    }

    #[test]
    fn an_owner_says_what_counts() {
        check(("COO", "CEO"), &[("watch", "lead_score, email")], "unchanged");
        check(("25", "80"), &[("watch", "lead_score, email")], r#"["lead_score"] {"lead_score":25}"#);
        check(("25", "80"), &[("ignore", "lead_score")], "unchanged");
        check(("25", "80"), &[("add", "false")], "pass");
        check(
            (r#""updated_time":0"#, r#""updated_time":9"#),
            &[("watch", "updated_time")],
            r#"["updated_time"] {"updated_time":0}"#,
        );
        testing::set_previous(None);
        assert_eq!(testing::run::<Changes>(BEFORE, &[]), Ok(Verdict::Pass));
        assert!(matches!(testing::run::<Changes>(BEFORE, &[("without_previous", "drop")]), Ok(Verdict::Drop(_))));
        testing::set_previous(Some(r#"{"eventName":"Contact is Created","eventData":{"id":1,"a":"\ud83d"}}"#));
        assert_eq!(testing::run::<Changes>(BEFORE, &[]), Ok(Verdict::Pass), "what cannot be read is no previous event");
    }
}
