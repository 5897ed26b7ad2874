//! Changed fields of an entry of the log, as texts for people. Pure.
//!
//! # Guarantees
//! - Values of headers are not shown, nor those of config keys that are named like a secret, nor the query of a URL: people write
//!   credentials into them.
//! - An absent field and an empty one are the same.

use crate::api::pages::size;
use crate::api::pages::webhook_words::without_query;
use crate::api::pages::webhooks::in_units;
use crate::limits::shortened;
use crate::store::{Change, grouped};
use crate::subscription::Settings;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Field that an entry changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FieldChange {
    /// Name for people, such as "Rate".
    pub(super) name: String,
    /// Value before the change. Empty: there was none.
    pub(super) before: String,
    /// Value after the change. Empty: there is none.
    pub(super) after: String,
    /// True if the values are not shown.
    pub(super) is_hidden: bool,
}

/// Fields that the host keeps for itself, or that another part of the entry has.
const BOOKKEEPING: [&str; 9] = [
    "id",
    "tenant",
    "created_at_ms",
    "config_generation",
    "failing_since_ms",
    "deleting_since_ms",
    "ascii_host",
    "signing_keys",
    "state_reason",
];

/// Text in place of a value that may be secret.
const HIDDEN: &str = "(not shown)";

/// Maximum length of a value, in bytes.
const VALUE_BYTES_MAX: usize = 500;

/// Returns the fields in which the states before and after an entry differ. Of a new webhook: those that are not the default.
pub(super) fn changed(change: &Change) -> Vec<FieldChange> {
    let before = flat(change.before.as_ref());
    let after = flat(change.after.as_ref());
    let defaults = if change.action == "subscription.create" { default_settings() } else { BTreeMap::new() };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&&String| {
        let is_default = !before.contains_key(**name) && after.get(**name) == defaults.get(**name);
        before.get(**name) != after.get(**name) && !is_default
    };
    let field = |name: &String| {
        let is_hidden = is_hidden(name);
        let shown = |value: Option<&Value>| match value {
            None => String::new(),
            Some(_) if is_hidden => HIDDEN.to_owned(),
            Some(value) => shortened(&text(name, value), VALUE_BYTES_MAX),
        };
        FieldChange { name: label(name), before: shown(before.get(name)), after: shown(after.get(name)), is_hidden }
    };
    names.iter().filter(differs).map(|name| field(name)).collect()
}

fn default_settings() -> BTreeMap<String, Value> {
    flat(serde_json::to_value(Settings::new(String::new(), Vec::new())).ok().as_ref())
}

/// Returns the fields of a state by their paths, such as `retry/age_max_s`, without those that are empty. A state that is no object
/// has the empty path.
fn flat(state: Option<&Value>) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    match state {
        Some(Value::Object(object)) => add(&mut fields, "", object),
        Some(value) => _ = fields.insert(String::new(), value.clone()),
        None => {}
    }
    fields.retain(|name, value| !is_blank(value) && !BOOKKEEPING.contains(&name.as_str()));
    fields
}

fn add(fields: &mut BTreeMap<String, Value>, group: &str, object: &Map<String, Value>) {
    for (name, value) in object {
        match value {
            // A filter is shown as a whole, and so is anything deeper.
            Value::Object(inner) if group.is_empty() && name != "filter" => add(fields, name, inner),
            _ if group.is_empty() => _ = fields.insert(name.clone(), value.clone()),
            _ => _ = fields.insert(format!("{group}/{name}"), value.clone()),
        }
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Parts of names of config keys whose values may be secret.
const SECRET_PARTS: [&str; 7] = ["auth", "credential", "key", "pass", "secret", "signature", "token"];

fn is_hidden(name: &str) -> bool {
    let group = name.split_once('/');
    match group {
        Some(("headers", _) | ("reply", "headers")) => true,
        Some(("config", key)) => {
            let key = key.to_ascii_lowercase();
            SECRET_PARTS.iter().any(|part| key.contains(part))
        }
        _ => name == "transport/proxy_authorization" || name == "transport/authorities",
    }
}

/// Names of fields for people.
const LABELS: [(&str, &str); 31] = [
    ("", "State"),
    ("notify_url", "URL"),
    ("modules", "Modules"),
    ("events", "Event names"),
    ("filter", "Filter"),
    ("description", "Name"),
    ("plugin", "Plugins"),
    ("on_plugin_fault", "Action on a plugin fault"),
    ("timeout_ms", "Timeout"),
    ("concurrency", "Requests at once"),
    ("rate_per_s", "Rate"),
    ("disable_after_s", "Time until it is disabled by failures"),
    ("retry/schedule_s", "Retry schedule"),
    ("retry/age_max_s", "Age limit"),
    ("ordering/on_failure", "Order"),
    ("ordering/attempts", "Attempts that later events wait for"),
    ("settle/quiet_s", "Quiet time"),
    ("settle/max_wait_s", "Longest wait"),
    ("transport/proxy", "Forward proxy"),
    ("transport/proxy_authorization", "Proxy authorization"),
    ("transport/authorities", "Certificate authorities"),
    ("transport/client_certificate", "Client certificate"),
    ("url_hosts", "Other hosts"),
    ("url_allow_http", "Use of http by the plugin"),
    ("egress/deny", "Refused addresses"),
    ("egress/only", "Allowed addresses"),
    ("secrets", "Names of the secrets"),
    ("hint", "First characters"),
    ("label", "Name"),
    ("scopes", "Scopes"),
    ("omitted_bytes", "State that was too large to keep"),
];

fn label(name: &str) -> String {
    if let Some((_, label)) = LABELS.iter().find(|(known, _)| *known == name) {
        return (*label).to_owned();
    }
    match name.split_once('/') {
        Some(("config", key)) => format!("Config {key}"),
        Some(("headers", key)) => format!("Header {key}"),
        Some(("limits" | "limits_max", key)) => format!("Plugin limit {key}"),
        Some(("event_types", key)) => format!("Event type {key}"),
        Some((group, key)) => capital(&format!("{group} {key}")),
        None => capital(name),
    }
}

/// Returns a name as words that begin with a capital letter.
fn capital(name: &str) -> String {
    let words = name.replace(['_', '-'], " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns a value in the unit of its field.
fn text(name: &str, value: &Value) -> String {
    let number = value.as_u64();
    match (number, value) {
        (Some(rate), _) if name == "rate_per_s" => format!("{}/s", grouped(rate)),
        (Some(ms), _) if name.ends_with("_ms") && ms.is_multiple_of(1_000) => in_units(ms / 1_000),
        (Some(ms), _) if name.ends_with("_ms") => format!("{} ms", grouped(ms)),
        (Some(seconds), _) if name.ends_with("_s") => in_units(seconds),
        (Some(count), _) if name.ends_with("bytes") || name.ends_with("bytes_per_minute") => size(count),
        (Some(percent), _) if name.ends_with("percent") => format!("{percent} %"),
        (Some(count), _) => grouped(count),
        (None, Value::Bool(is_on)) => if *is_on { "yes" } else { "no" }.to_owned(),
        (None, Value::String(text)) if name == "notify_url" || name == "transport/proxy" => without_query(text),
        (None, Value::String(text)) => text.clone(),
        (None, Value::Array(list)) if list.iter().all(|one| one.is_string() || one.is_u64()) => {
            let unit = if name.ends_with("_s") { name } else { "" };
            list.iter().map(|one| text(unit, one)).collect::<Vec<_>>().join(", ")
        }
        (None, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    fn change(action: &str, before: Value, after: Value) -> Change {
        let [before, after] = [before, after].map(|state| Some(state).filter(|state| !state.is_null()));
        let who = "Anna (hlk_8sQ2…)".to_owned();
        Change { id: Uuid::nil(), at_ms: 0, who, action: action.to_owned(), subject: String::new(), before, after }
    }

    #[track_caller]
    fn check(before: Value, after: Value, expected: &[(&str, &str, &str)]) {
        let fields = changed(&change("subscription.update", before, after));
        let found: Vec<_> = fields.iter().map(|one| (&*one.name, &*one.before, &*one.after)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_changed_field_has_its_unit() {
        check(json!({"rate_per_s": 5}), json!({"rate_per_s": 1_000}), &[("Rate", "5/s", "1,000/s")]);
        check(json!({"rate_per_s": null, "id": 1}), json!({"rate_per_s": 10, "id": 2}), &[("Rate", "", "10/s")]);
        check(json!({"timeout_ms": 15_000}), json!({"timeout_ms": 1_500}), &[("Timeout", "15 s", "1,500 ms")]);
        let retry = [
            json!({"retry": {"schedule_s": [0, 5, 300], "age_max_s": 60}}),
            json!({"retry": {"schedule_s": [0], "age_max_s": 60}}),
        ];
        let [before, after] = retry;
        check(before, after, &[("Retry schedule", "0 s, 5 s, 5 min", "0 s")]);
        check(json!({"limits": {"memory_bytes": 1_024}}), json!({}), &[("Plugin limit memory_bytes", "1.0 KiB", "")]);
        check(
            json!({"modules": ["Contact"]}),
            json!({"modules": ["Contact", "Deal"]}),
            &[("Modules", "Contact", "Contact, Deal")],
        );
        check(json!({"filter": {"a": 1}}), json!({"filter": {"a": 2}}), &[("Filter", "{\"a\":1}", "{\"a\":2}")]);
        check(json!("active"), json!("paused"), &[("State", "active", "paused")]);
        check(
            json!({"url_allow_http": false}),
            json!({"url_allow_http": true}),
            &[("Use of http by the plugin", "no", "yes")],
        );
        check(json!({"a": "", "b": [], "c": {}}), json!({"d": null}), &[]);
    }

    #[test]
    fn no_value_that_may_be_secret_is_shown() {
        let before = json!({"headers": {"x-team": "s3cret"}, "config": {"api_Key": "s3cret", "min": "1"},
            "notify_url": "https://a.example/in?token=s3cret", "transport": {"proxy_authorization": "Basic s3cret"}});
        let after = json!({"headers": {"x-team": "s3cret2", "x-new": "s3cret"}, "config": {"api_Key": "s3cret2", "min": "2"},
            "notify_url": "https://a.example/in?token=s3cret2", "transport": {}});
        let fields = changed(&change("subscription.update", before.clone(), after));
        assert!(!format!("{fields:?}").contains("s3cret"), "{fields:?}");
        let names: Vec<_> = fields.iter().map(|one| one.name.as_str()).collect();
        let expected = ["Config api_Key", "Config min", "Header x-new", "Header x-team", "URL", "Proxy authorization"];
        assert_eq!(names, expected);
        let created = changed(&change("subscription.create", Value::Null, before));
        assert!(!format!("{created:?}").contains("s3cret"), "{created:?}");
    }

    #[test]
    fn a_new_webhook_shows_what_is_not_the_default() {
        let mut settings = serde_json::to_value(Settings::new("https://a.example/".into(), Vec::new())).expect("JSON");
        settings["rate_per_s"] = json!(3);
        let fields = changed(&change("subscription.create", Value::Null, settings));
        let found: Vec<_> = fields.iter().map(|one| (&*one.name, &*one.after)).collect();
        assert_eq!(found, [("URL", "https://a.example/"), ("Rate", "3/s")]);
    }
}
