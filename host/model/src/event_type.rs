//! Event types of a tenant's own: event names besides those of the vendor and the host, with what the tenant says about each.
//!
//! # Guarantees
//! - [`EventTypes`] holds only names that an intake can accept: none of the vendor's or the host's, none with control characters.
//! - Number and size are bounded, because all event types of all tenants are in memory.
//!
//! # Limits
//! A schema describes events to people and programs. Intake does not check events against it, because the vendor sends nothing
//! twice: a refused event would be lost.

use crate::event::{HOST_EVENT_NAMES, Module, VENDOR_EVENT_NAMES};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// Maximum number of event types of a tenant.
pub const EVENT_TYPES_MAX: usize = 100;

/// Maximum length of a name, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// Maximum length of a description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1_000;

/// Maximum size of all event types of a tenant as JSON, in bytes.
pub const BYTES_MAX: usize = 256 << 10;

/// Event type of a tenant's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EventType {
    /// Module of the events: `Contact` or `Deal`. Subscriptions select events by module.
    pub module: Module,
    /// Text for people: up to 1,000 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of `eventData`, for people and programs. Events are not checked against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub schema: Option<Map<String, Value>>,
}

/// Reason why event types are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventTypeError {
    /// The name is too short, too long, or has control characters.
    #[error("an event name has 1 to {NAME_BYTES_MAX} bytes, without control characters")]
    Name {
        /// Refused name.
        name: String,
    },
    /// The vendor or the host sends events with this name.
    #[error("{name:?} is an event name of {}", if *.is_hosts { "the host" } else { "Agile CRM" })]
    Taken {
        /// Refused name.
        name: String,
        /// True if the name is one of the host's.
        is_hosts: bool,
    },
    /// The module is the host's.
    #[error("events of the module {} are made by the host only", .module.as_str())]
    Module {
        /// Name of the event type.
        name: String,
        /// Refused module.
        module: Module,
    },
    /// The description is too long.
    #[error("a description has at most {DESCRIPTION_BYTES_MAX} bytes")]
    Description {
        /// Name of the event type.
        name: String,
    },
    /// There are more than [`EVENT_TYPES_MAX`].
    #[error("a tenant has at most {EVENT_TYPES_MAX} event types")]
    TooMany,
    /// All together are larger than [`BYTES_MAX`].
    #[error("all event types of a tenant have at most {} KiB as JSON", BYTES_MAX >> 10)]
    TooLarge,
}

impl EventTypeError {
    /// Returns the name of the refused event type, and the refused field in it. None: the fault is of all together.
    pub fn place(&self) -> Option<(&str, Option<&'static str>)> {
        match self {
            EventTypeError::Name { name } | EventTypeError::Taken { name, .. } => Some((name, None)),
            EventTypeError::Module { name, .. } => Some((name, Some("module"))),
            EventTypeError::Description { name } => Some((name, Some("description"))),
            EventTypeError::TooMany | EventTypeError::TooLarge => None,
        }
    }
}

/// Event types of one tenant, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, EventType>", into = "BTreeMap<String, EventType>")]
pub struct EventTypes(BTreeMap<String, EventType>);

impl EventTypes {
    /// Returns the event type with this name.
    pub fn get(&self, name: &str) -> Option<&EventType> {
        self.0.get(name)
    }

    /// Returns all, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &EventType)> {
        self.0.iter().map(|(name, one)| (name.as_str(), one))
    }

    /// Returns all with one more, or with another description of it.
    ///
    /// # Errors
    /// The event type does not fit, or there are too many.
    pub fn with(&self, name: &str, one: EventType) -> Result<EventTypes, EventTypeError> {
        let mut all = self.0.clone();
        all.insert(name.to_owned(), one);
        EventTypes::try_from(all)
    }

    /// Returns all without this one. None: there is none with this name.
    pub fn without(&self, name: &str) -> Option<EventTypes> {
        let mut all = self.0.clone();
        all.remove(name).map(|_| EventTypes(all))
    }
}

impl TryFrom<BTreeMap<String, EventType>> for EventTypes {
    type Error = EventTypeError;

    fn try_from(all: BTreeMap<String, EventType>) -> Result<Self, EventTypeError> {
        for (name, one) in &all {
            check_one(name, one)?;
        }
        if all.len() > EVENT_TYPES_MAX {
            return Err(EventTypeError::TooMany);
        }
        let bytes = serde_json::to_vec(&all).map_or(usize::MAX, |text| text.len());
        if bytes > BYTES_MAX {
            return Err(EventTypeError::TooLarge);
        }
        Ok(EventTypes(all))
    }
}

impl From<EventTypes> for BTreeMap<String, EventType> {
    fn from(types: EventTypes) -> Self {
        types.0
    }
}

fn check_one(name: &str, one: &EventType) -> Result<(), EventTypeError> {
    let name = name.to_owned();
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(EventTypeError::Name { name });
    }
    if VENDOR_EVENT_NAMES.iter().any(|(taken, _)| *taken == name) {
        return Err(EventTypeError::Taken { name, is_hosts: false });
    }
    if HOST_EVENT_NAMES.iter().any(|(taken, _)| *taken == name) {
        return Err(EventTypeError::Taken { name, is_hosts: true });
    }
    if one.module.is_hosts() {
        return Err(EventTypeError::Module { name, module: one.module });
    }
    if one.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(EventTypeError::Description { name });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(module: Module) -> EventType {
        EventType { module, description: String::new(), schema: None }
    }

    #[track_caller]
    fn check(name: &str, one: Value, expected: Result<(), &str>) {
        let one: EventType = serde_json::from_value(one).expect("an event type");
        let found = EventTypes::default().with(name, one).map(drop).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{name:?}");
    }

    #[test]
    fn an_event_type_fits_or_is_refused_in_words() {
        check("Ticket is Created", json!({"module": "Deal"}), Ok(()));
        check("Ticket", json!({"module": "Deal", "description": "A ticket", "schema": {"type": "object"}}), Ok(()));
        check(&"é".repeat(100), json!({"module": "Contact"}), Ok(()));
        let name = Err("an event name has 1 to 200 bytes, without control characters");
        check("", json!({"module": "Deal"}), name);
        check(&"x".repeat(201), json!({"module": "Deal"}), name);
        check("a\nb", json!({"module": "Deal"}), name);
        let vendors = Err("\"Contact is Created\" is an event name of Agile CRM");
        check("Contact is Created", json!({"module": "Contact"}), vendors);
        let hosts = Err("\"Subscription is Paused\" is an event name of the host");
        check("Subscription is Paused", json!({"module": "Contact"}), hosts);
        let module = Err("events of the module Subscription are made by the host only");
        check("x", json!({"module": "Subscription"}), module);
        let description = Err("a description has at most 1000 bytes");
        check("x", json!({"module": "Deal", "description": "x".repeat(1_001)}), description);
        let large = json!({"module": "Deal", "schema": {"description": "x".repeat(BYTES_MAX)}});
        check("x", large, Err("all event types of a tenant have at most 256 KiB as JSON"));
    }

    #[test]
    fn their_number_is_bounded() {
        let many = (0..EVENT_TYPES_MAX).map(|index| (format!("Type {index}"), of(Module::Deal)));
        let full = EventTypes::try_from(BTreeMap::from_iter(many)).expect("they fit");
        assert_eq!(full.with("one more", of(Module::Deal)), Err(EventTypeError::TooMany));
        assert_eq!(full.with("Type 0", of(Module::Contact)).expect("there").get("Type 0"), Some(&of(Module::Contact)));
        assert_eq!(full.without("Type 0").expect("it was there").iter().count(), EVENT_TYPES_MAX - 1);
        assert_eq!(full.without("unknown"), None);
    }

    #[test]
    fn what_is_stored_is_read_again_and_checked() {
        let all = EventTypes::default().with("x", of(Module::Deal)).expect("it fits");
        let text = serde_json::to_string(&all).expect("JSON");
        assert_eq!(text, r#"{"x":{"module":"Deal"}}"#);
        assert_eq!(serde_json::from_str::<EventTypes>(&text).expect("event types"), all);
        let wrong = serde_json::from_str::<EventTypes>(r#"{"x":{"module":"Subscription"}}"#);
        assert!(wrong.is_err(), "{wrong:?}");
    }
}
