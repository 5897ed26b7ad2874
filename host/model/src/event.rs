//! Events: the model of an event, its module and its bytes, and the parser of the envelope.
//!
//! This module has the only parser of `{eventName, eventData}`. It checks the envelope, and of `eventData` only that plugins can
//! read it. It keeps the received bytes, with their key order, numbers, blanks and nulls. It knows neither storage, HTTP nor
//! plugins.
//!
//! The format is the vendor's: exactly two top-level keys, a string and an object; four event names; "Opportunity" in a name means
//! the module Deal.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::ids::EventId;

mod batch;
mod entity;
mod envelope;
mod json;

pub use batch::read_batch;
pub use entity::{ENTITY_ID_BYTES_MAX, oversized_entity_id_note};
pub use envelope::{Envelope, EnvelopeError, read_envelope};
pub use json::{HANDED_ON_DEPTH_MAX, Unreadable, check_readable, is_readable};

/// Kind of entity that an event is about, as in the vendor's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Module {
    /// A person or a company.
    Contact,
    /// A deal; event names call it "Opportunity".
    Deal,
    /// A subscription of this host. Such events are made by the host, for example `Subscription is Disabled`.
    Subscription,
    /// An incident of the tenant. Such events are made by the host, for example `Incident is Opened`.
    Incident,
}

impl Module {
    /// All modules.
    pub const ALL: [Module; 4] = [Module::Contact, Module::Deal, Module::Subscription, Module::Incident];

    /// Returns the name of the module.
    pub fn as_str(self) -> &'static str {
        match self {
            Module::Contact => "Contact",
            Module::Deal => "Deal",
            Module::Subscription => "Subscription",
            Module::Incident => "Incident",
        }
    }

    /// Returns true if the host makes the events of the module.
    pub fn is_hosts(self) -> bool {
        matches!(self, Module::Subscription | Module::Incident)
    }

    /// Returns the module of a name.
    pub fn parse(name: &str) -> Option<Module> {
        Module::ALL.into_iter().find(|module| module.as_str() == name)
    }
}

/// Event names that Agile CRM sends. Other names are accepted only if a tenant has an event type of this
/// name.
pub const VENDOR_EVENT_NAMES: [(&str, Module); 4] = [
    ("Contact is Created", Module::Contact),
    ("Contact is Updated", Module::Contact),
    ("Opportunity is Created", Module::Deal),
    ("Opportunity is Updated", Module::Deal),
];

/// Event names of the host's own events, with their modules.
pub const HOST_EVENT_NAMES: [(&str, Module); 4] = [
    (SUBSCRIPTION_DISABLED, Module::Subscription),
    (SUBSCRIPTION_PAUSED, Module::Subscription),
    (INCIDENT_OPENED, Module::Incident),
    (INCIDENT_CLOSED, Module::Incident),
];

/// Name of the event that the host makes when it disables a subscription.
pub const SUBSCRIPTION_DISABLED: &str = "Subscription is Disabled";

/// Name of the event that the host makes when it pauses a subscription.
pub const SUBSCRIPTION_PAUSED: &str = "Subscription is Paused";

/// Name of the event that the host makes when an incident opens.
pub const INCIDENT_OPENED: &str = "Incident is Opened";

/// Name of the event that the host makes when an incident is over.
pub const INCIDENT_CLOSED: &str = "Incident is Closed";

/// Sample event of each vendor module, from the vendor's guide, for dry runs and tests.
pub const SAMPLES: [(Module, &str); 2] = [
    (Module::Contact, include_str!("event/sample_contact.json")),
    (Module::Deal, include_str!("event/sample_deal.json")),
];

/// Returns the samples as accepted events, with a constant time.
pub fn sample_events() -> Vec<Event> {
    fn sample((module, text): (Module, &'static str)) -> Option<Event> {
        let envelope = read_envelope(&Bytes::from_static(text.trim_ascii().as_bytes())).ok()?;
        Some(sample_event(envelope.name, module, envelope.entity_id, envelope.payload))
    }
    SAMPLES.into_iter().filter_map(sample).collect()
}

/// Returns a sample as an accepted event, with a constant id and time.
pub fn sample_event(name: String, module: Module, entity_id: Option<String>, payload: Bytes) -> Event {
    Event {
        id: EventId(uuid::Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0001)),
        name,
        module,
        entity_id,
        received_at_ms: 1_709_287_745_000,
        payload,
    }
}

/// Accepted event, which plugins judge and receivers get.
#[derive(Clone, Debug)]
pub struct Event {
    /// Id of the event.
    pub id: EventId,
    /// Value of `eventName`.
    pub name: String,
    /// Module of the event name.
    pub module: Module,
    /// `eventData.id` as text, if there is one of at most [`ENTITY_ID_BYTES_MAX`]. A number is written in plain digits.
    pub entity_id: Option<String>,
    /// Time of acceptance, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Exact bytes: valid UTF-8, valid JSON, and readable by plugins unless an older host accepted the event.
    pub payload: Bytes,
}

impl Event {
    /// Returns the payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("an event is accepted only if its bytes are UTF-8")
    }

    /// Returns true if plugins can read the payload. An older host accepted some that they cannot read.
    pub fn is_readable(&self) -> bool {
        is_readable(&self.payload)
    }

    /// Returns a note about the entity, if `eventData.id` is too long to be an entity id.
    pub fn entity_note(&self) -> Option<String> {
        if self.entity_id.is_some() {
            return None;
        }
        read_envelope(&self.payload).ok()?.oversized_entity_id.map(oversized_entity_id_note)
    }
}
