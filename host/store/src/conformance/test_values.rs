//! Values of the cases: settings, events, attempts and plugin versions.

use crate::{Actor, AttemptRecord, NewEvent, NewSubscription, PluginVersion};
use bytes::Bytes;
use hookloom_model::delivery::{Attempt, DeliveryState, DueDelivery, Reason};
use hookloom_model::event::Module;
use hookloom_model::retry::Next;
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{LoadedSettings, Settings};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Age limit of the attempts of the cases, in milliseconds since the epoch.
pub(super) const AGE_END_MS: i64 = 1_800_000_000_000;

/// Returns settings for contacts, with further ones.
pub(super) fn settings(more: Value) -> Settings {
    let mut all = json!({"notify_url": "http://a.example/", "modules": ["Contact"]});
    for (name, value) in more.as_object().expect("an object") {
        all[name] = value.clone();
    }
    serde_json::from_value(all).expect("settings")
}

/// Returns a subscription with these settings, one secret and a signing key.
pub(super) fn subscription_of(settings: Settings) -> NewSubscription {
    let secrets = BTreeMap::from([("token".to_owned(), b"s3cret".to_vec().into())]);
    NewSubscription {
        settings: LoadedSettings::new(settings, secrets).expect("a URL"),
        signing: vec![SigningKey::current(SigningSecret::generate())],
    }
}

/// Returns the key that makes the changes of a case.
pub(super) fn operator() -> Actor {
    Actor::Key("operator (hlk_1234…)".to_owned())
}

/// Returns an event of a module and an entity. An empty entity is none.
pub(super) fn event_of(module: Module, entity: &str) -> NewEvent {
    NewEvent {
        name: format!("{} is Created", module.as_str()),
        module,
        entity_id: (!entity.is_empty()).then(|| entity.to_owned()),
        payload: Bytes::from_static(b"{}"),
    }
}

/// Returns an event of a contact.
pub(super) fn contact(entity: &str) -> NewEvent {
    event_of(Module::Contact, entity)
}

/// Returns many events without an entity.
pub(super) fn many(count: usize) -> Vec<NewEvent> {
    vec![contact(""); count]
}

/// Returns the attempt of a delivery that comes next, for the first config.
pub(super) fn attempt(delivery: &DueDelivery) -> Attempt {
    let number = delivery.attempts_made + 1;
    let attempt = json!({"number": number, "started_at_ms": 0, "config_generation": 1, "outcome": "failed",
        "echoed": false, "log": ["a line"], "response": "an answer", "status": 500});
    serde_json::from_value(attempt).expect("an attempt")
}

/// Returns the record of a delivery's next attempt.
pub(super) fn record(delivery: &DueDelivery, next: Next) -> Arc<AttemptRecord> {
    Arc::new(AttemptRecord { attempt: attempt(delivery), next, age_end_ms: AGE_END_MS, disables: None })
}

/// Consequence of an attempt that ends its delivery.
pub(super) fn end(state: DeliveryState) -> Next {
    let reason = (state != DeliveryState::Delivered).then(|| Reason::new("test", "ended by a test"));
    Next::End { state, reason }
}

/// Consequence of an attempt that counts and is followed by another one.
pub(super) fn again(at_ms: i64) -> Next {
    Next::Again { at_ms, counts: true, reason: Reason::new("status", "the receiver answered 500") }
}

/// Consequence of an attempt whose delivery waits for another plugin version or config.
pub(super) fn await_plugin() -> Next {
    Next::AwaitPlugin { reason: Reason::new("trap", "the plugin trapped") }
}

/// Returns a component, by the bytes that it consists of.
pub(super) fn component(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Returns the version of a component.
pub(super) fn version(text: &'static str) -> PluginVersion {
    let sha256 = hex::encode(Sha256::digest(text));
    PluginVersion { report: format!("report of {text}"), ..PluginVersion::example(sha256, text.len() as u64) }
}
