//! Entries of the log as sentences. Pure.

use super::fields::{self, FieldChange};
use super::things::{Thing, Things, end_of};
use crate::access::GIVEN_BY;
use crate::api::pages::short;
use crate::api::pages::webhook_words::without_query;
use crate::plural::counted;
use crate::store::{Change, grouped};
use serde_json::Value;

/// Sentence about an entry, in the parts that the page shows differently: author, verb, thing and the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sentence {
    pub(super) author: String,
    /// Verb with its objects, up to the thing, such as "changed the rate of the webhook".
    pub(super) verb: String,
    pub(super) thing: Option<Thing>,
    /// Words behind the thing, such as "from 5/s to 10/s".
    pub(super) rest: String,
}

/// Verb, thing and rest of a sentence.
type Words = (String, Option<Thing>, String);

/// Returns the sentence of an entry.
pub(super) fn of(change: &Change, things: &Things) -> Sentence {
    let (kind, act) = change.action.split_once('.').unwrap_or((&change.action, ""));
    let (verb, thing, rest) = match kind {
        "subscription" => of_webhook(act, change, things),
        "delivery" => of_delivery(act, change, things),
        "plugin" => of_plugin(act, change, things),
        "bin" => of_bin(act, change, things),
        "key" | "admin-key" | "session" | "sign-in-link" => of_key(kind, act, change),
        "intake-token" => of_address(act, change, things),
        "tenant" => of_tenant(act, change, things),
        "rejected-request" if act == "resubmit" => {
            ("submitted a refused request again".to_owned(), None, String::new())
        }
        "rejected-request" => ("deleted a refused request".to_owned(), None, String::new()),
        "alerts" => with_fields("alerts", None, change),
        "shard" => ("moved the shard".to_owned(), None, format!(" {}", change.subject)),
        _ => (format!("did {} with", change.action), named(&change.subject), String::new()),
    };
    Sentence { author: author(&change.who), verb, thing, rest }
}

/// Returns the words for a key by the text that the log has of it: label and first characters.
fn author(who: &str) -> String {
    let label = who.rsplit_once(" (").filter(|(_, hint)| hint.ends_with("…)")).map(|(label, _)| label);
    match label {
        // Hosts of before named the key of the environment like this.
        Some("given by HOOKLOOM_ADMIN_KEY") => format!("The key {GIVEN_BY}"),
        Some("made at the first start") => "The first admin key".to_owned(),
        Some(label) if label.to_lowercase().ends_with("key") => label.to_owned(),
        Some(label) => format!("{label}’s key"),
        None => format!("The key {who}"),
    }
}

fn named(name: &str) -> Option<Thing> {
    Some(Thing { name: name.to_owned(), href: String::new() })
}

/// Returns a thing that exists, or one with this name.
fn thing(things: &Things, kind: &'static str, subject: &str, otherwise: String) -> Option<Thing> {
    let existing = things.get(kind, subject).cloned();
    existing.or(Some(Thing { name: otherwise, href: String::new() }))
}

fn of_webhook(act: &str, change: &Change, things: &Things) -> Words {
    let webhook = thing(things, "subscription", &change.subject, old_name(change));
    let simple = |verb: &str, rest: String| (verb.to_owned(), webhook.clone(), rest);
    match act {
        "create" => simple("created the webhook", String::new()),
        "delete" => simple("deleted the webhook", String::new()),
        "rotate-secret" => simple("rotated the signing secret of the webhook", String::new()),
        "test" => simple("sent a test event to the webhook", String::new()),
        "redrive" => simple("redrove ended deliveries of the webhook", selected(change)),
        "replay" => simple("replayed events to the webhook", selected(change)),
        "state" => {
            let verb = match (text(&change.before), text(&change.after)) {
                (_, "paused") => "paused the webhook",
                (_, "disabled") => "disabled the webhook",
                ("disabled", "active") => "enabled the webhook",
                (_, "active") => "resumed the webhook",
                _ => "changed the state of the webhook",
            };
            simple(verb, String::new())
        }
        _ => with_fields("webhook", webhook, change),
    }
}

/// Returns the name of a webhook in the states of an entry.
fn old_name(change: &Change) -> String {
    let state = change.before.as_ref().or(change.after.as_ref());
    let name = field(state, "description").map(str::to_owned);
    name.or_else(|| field(state, "notify_url").map(without_query)).unwrap_or_else(|| end_of(&change.subject))
}

/// Returns the text of a field of a state. None: there is none, or it is empty.
fn field<'a>(state: Option<&'a Value>, name: &str) -> Option<&'a str> {
    state?.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn text(state: &Option<Value>) -> &str {
    state.as_ref().and_then(Value::as_str).unwrap_or_default()
}

fn number(state: &Option<Value>, name: &str) -> Option<u64> {
    state.as_ref().and_then(|state| state.get(name)?.as_u64())
}

fn selected(change: &Change) -> String {
    let count = number(&change.after, "deliveries");
    count.map_or_else(String::new, |count| format!(" ({})", counted(count, "delivery", "deliveries")))
}

/// Maximum number of fields that a sentence names.
const FIELDS_MAX: usize = 3;

/// Maximum length of a value in a sentence, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Returns "changed the rate of the webhook", with the values if one field with short ones was changed.
fn with_fields(noun: &str, thing: Option<Thing>, change: &Change) -> Words {
    let fields = fields::changed(change);
    let names: Vec<String> = fields.iter().map(|field| in_sentence(&field.name)).collect();
    match &fields[..] {
        [one] if is_short(one) => {
            let (verb, rest) = match (one.before.as_str(), one.after.as_str()) {
                ("", after) => ("set", format!(" to {after}")),
                (before, "") => ("removed", format!(" ({before})")),
                (before, after) => ("changed", format!(" from {before} to {after}")),
            };
            (format!("{verb} the {} of the {noun}", names[0]), thing, rest)
        }
        [] => (format!("changed the {noun}"), thing, String::new()),
        few if few.len() <= FIELDS_MAX => {
            (format!("changed the {} of the {noun}", listed(&names)), thing, String::new())
        }
        many => (format!("changed {} settings of the {noun}", grouped(many.len() as u64)), thing, String::new()),
    }
}

fn is_short(field: &FieldChange) -> bool {
    !field.is_hidden && [&field.before, &field.after].iter().all(|text| text.chars().count() <= VALUE_CHARS_MAX)
}

/// Returns a name as it stands within a sentence. Abbreviations keep their capitals.
fn in_sentence(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next();
    let is_abbreviation = letters.clone().next().is_some_and(char::is_uppercase);
    match first {
        Some(first) if !is_abbreviation => first.to_lowercase().chain(letters).collect(),
        _ => name.to_owned(),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}

fn of_delivery(act: &str, change: &Change, things: &Things) -> Words {
    let verb = if act == "cancel" { "cancelled the delivery" } else { "retried the delivery" };
    let delivery = thing(things, "delivery", &change.subject, end_of(&change.subject));
    (verb.to_owned(), delivery, String::new())
}

fn of_plugin(act: &str, change: &Change, things: &Things) -> Words {
    let plugin = thing(things, "plugin", &change.subject, change.subject.clone());
    let sha256 = [&change.after, &change.before].into_iter().map(text).find(|sha256| !sha256.is_empty());
    let version = sha256.map(|sha256| format!(" (version {})", short(sha256))).unwrap_or_default();
    let simple = |verb: &str, rest: String| (verb.to_owned(), plugin.clone(), rest);
    match act {
        "upload" => simple("uploaded and activated a version of the plugin", version),
        "add-version" => simple("uploaded a version of the plugin", version),
        "activate" => simple("activated a version of the plugin", version),
        "delete-version" => simple("deleted a version of the plugin", version),
        "end-rollout" => simple("ended the rollout of the plugin", String::new()),
        "begin-rollout" => {
            let state = change.after.as_ref();
            let kind = state.and_then(|state| state.get("kind")?.as_str()).unwrap_or("rollout");
            let percent = state.and_then(|state| state.get("percent")?.as_f64());
            let part = percent.map_or_else(String::new, |percent| format!(" with {percent} % of its events"));
            simple(&format!("began a {kind} of the plugin"), part)
        }
        "delete" => {
            let versions = change.before.as_ref().and_then(|state| Some(state.get("versions")?.as_array()?.len()));
            let versions = versions.map(|count| format!(" with {}", counted(count as u64, "version", "versions")));
            simple("deleted the plugin", versions.unwrap_or_default())
        }
        _ => with_fields("plugin", plugin, change),
    }
}

fn of_bin(act: &str, change: &Change, things: &Things) -> Words {
    let subject = change.subject.split(['/', ' ']).next().unwrap_or_default();
    let state = change.after.as_ref().or(change.before.as_ref());
    let name = field(state, "name").map_or_else(|| subject.chars().take(6).collect(), str::to_owned);
    let bin = thing(things, "bin", subject, name);
    match act {
        "create" => ("created the bin".to_owned(), bin, String::new()),
        "delete" => ("deleted the bin".to_owned(), bin, String::new()),
        "clear" => ("deleted all requests of the bin".to_owned(), bin, String::new()),
        "forget" => ("deleted a request of the bin".to_owned(), bin, String::new()),
        "replay" => {
            let host = change.subject.split_once(" to ").map_or("", |(_, host)| host);
            ("replayed a request of a bin to".to_owned(), named(host), String::new())
        }
        _ => with_fields("bin", bin, change),
    }
}

fn of_key(kind: &str, act: &str, change: &Change) -> Words {
    let noun = if kind == "admin-key" { "admin key" } else { "key" };
    let scopes = change.after.as_ref().and_then(|state| state.get("scopes")?.as_array());
    let scopes: Vec<String> = scopes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let may = if scopes.is_empty() { String::new() } else { format!(", which may {}", listed(&scopes)) };
    match (kind, act) {
        ("session", _) => ("signed in from".to_owned(), named(&change.subject), String::new()),
        ("sign-in-link", _) => {
            ("created a sign-in link with the key".to_owned(), named(&change.subject), String::new())
        }
        (_, "create") => (format!("created the {noun}"), named(&change.subject), may),
        _ => (format!("revoked the {noun}"), named(&change.subject), String::new()),
    }
}

fn of_address(act: &str, change: &Change, things: &Things) -> Words {
    let state = change.before.as_ref().or(change.after.as_ref());
    let name = field(state, "label").or(field(state, "hint"));
    let name = name.map_or_else(|| end_of(&change.subject), str::to_owned);
    let verb = match act {
        "create" => "created the address",
        "rotate" => "replaced the address",
        _ => "revoked the address",
    };
    (verb.to_owned(), thing(things, "intake-token", &change.subject, name), String::new())
}

fn of_tenant(act: &str, change: &Change, things: &Things) -> Words {
    let tenant = thing(things, "tenant", &change.subject, change.subject.clone());
    match act {
        "create" => ("created the tenant".to_owned(), tenant, String::new()),
        "delete" => {
            let count = |name: &str, one: &str, several: &str| {
                number(&change.before, name).map(|count| counted(count, one, several))
            };
            let parts = [count("subscriptions", "webhook", "webhooks"), count("events", "event", "events")];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            let rest = if parts.is_empty() { String::new() } else { format!(" with {}", listed(&parts)) };
            // A tenant that has this name now is another one.
            ("deleted the tenant".to_owned(), named(&change.subject), rest)
        }
        _ => with_fields("tenant", tenant, change),
    }
}

#[cfg(test)]
mod tests;
