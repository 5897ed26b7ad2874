//! Native unit tests of plugins, without a host.
//!
//! ```
//! use hookloom_sdk::{Event, Failure, Plugin, Verdict, log, testing};
//!
//! struct Greeter;
//!
//! impl Plugin for Greeter {
//!     fn transform(event: &Event) -> Result<Verdict, Failure> {
//!         log::info(format!("hello, {}", event.contact()?.full_name().unwrap_or_default()));
//!         Ok(Verdict::Pass)
//!     }
//! }
//!
//! let payload = r#"{"eventName": "Contact is Created", "eventData": {
//!     "properties": [{"type": "SYSTEM", "name": "first_name", "value": "Dana"}]}}"#;
//! assert_eq!(testing::run::<Greeter>(payload, &[]), Ok(Verdict::Pass));
//! assert_eq!(testing::log(), ["info: hello, Dana"]);
//! ```

use crate::{Event, Failure, Plugin, Verdict};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;

#[derive(Default)]
struct PlayedHost {
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, Vec<u8>>,
    log: Vec<String>,
    previous: Option<Event>,
}

thread_local! {
    static HOST: RefCell<PlayedHost> = RefCell::default();
}

/// Calls a plugin with a payload and a config, as a host would. Discards the log of an earlier call.
///
/// # Errors
/// The failure of the plugin.
pub fn run<P: Plugin>(payload: &str, config: &[(&str, &str)]) -> Result<Verdict, Failure> {
    HOST.with_borrow_mut(|host| {
        host.log.clear();
        host.config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    });
    P::transform(&event(payload))
}

/// Sets a secret of the simulated host, for further calls on this thread.
pub fn set_secret(name: &str, secret: &[u8]) {
    HOST.with_borrow_mut(|host| host.secrets.insert(name.to_owned(), secret.to_vec()));
}

/// Sets the previous event of the same entity, for further calls on this thread.
pub fn set_previous(payload: Option<&str>) {
    HOST.with_borrow_mut(|host| host.previous = payload.map(event));
}

/// Returns the log of the last call on this thread: `level: message`.
pub fn log() -> Vec<String> {
    HOST.with_borrow(|host| host.log.clone())
}

/// Returns an event with this payload, and the other fields as a host would set them.
pub fn event(payload: &str) -> Event {
    let json: Value = crate::value::parse(payload).unwrap_or_default();
    let name = json["eventName"].as_str().unwrap_or_default().to_owned();
    let module = match name.split(' ').next() {
        Some("Contact") => Some("Contact"),
        Some("Opportunity") => Some("Deal"),
        Some("Subscription") => Some("Subscription"),
        Some("Incident") => Some("Incident"),
        _ => None,
    };
    Event {
        id: "0192f0c4-0000-7000-8000-000000000000".to_owned(),
        tenant: "default".to_owned(),
        subscription: "0192f0c4-0000-7000-8000-000000000001".to_owned(),
        module: module.map(str::to_owned),
        entity_id: crate::id_of(&json["eventData"]["id"]).map(std::borrow::Cow::into_owned),
        received_at_ms: 1_709_254_800_000,
        payload: payload.to_owned(),
        attributes: Vec::new(),
        name,
    }
}

pub(crate) fn write(level: &str, message: &str) {
    HOST.with_borrow_mut(|host| host.log.push(format!("{level}: {message}")));
}

pub(crate) fn previous() -> Option<Event> {
    HOST.with_borrow(|host| host.previous.clone())
}

pub(crate) fn config_value(key: &str) -> Option<String> {
    HOST.with_borrow(|host| host.config.get(key).cloned())
}

pub(crate) fn config_entries() -> Vec<(String, String)> {
    HOST.with_borrow(|host| host.config.clone().into_iter().collect())
}

pub(crate) fn hmac(name: &str, data: &[u8]) -> Option<Vec<u8>> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let key = HOST.with_borrow(|host| host.secrets.get(name).cloned())?;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).ok()?;
    mac.update(data);
    Some(mac.finalize().into_bytes().to_vec())
}
