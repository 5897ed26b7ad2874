//! Event types: the event names that a tenant accepts, with what is known of each.
//!
//! The vendor's and the host's are always there. A tenant has up to 100 of its own, which its managers add, describe and remove.

use super::{Access, Operations, Problem, ToManage, ToRead};
use crate::event::{
    INCIDENT_CLOSED, INCIDENT_OPENED, Module, SUBSCRIPTION_DISABLED, SUBSCRIPTION_PAUSED, VENDOR_EVENT_NAMES,
};
use crate::event_type::EventType;
use crate::store::{EventTypesChange, NameCount, TenantChange};
use hookloom_model::alerts::event_schema;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Number of newest events among which the events of each type are counted.
pub(crate) const EVENTS_COUNTED: usize = 10_000;

/// Sender of the events of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EventOrigin {
    /// Agile CRM.
    AgileCrm,
    /// The host itself.
    Host,
    /// Applications of the tenant's own.
    Custom,
}

impl EventOrigin {
    /// Returns the name for people.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            EventOrigin::AgileCrm => "Agile CRM",
            EventOrigin::Host => "Hookloom",
            EventOrigin::Custom => "you",
        }
    }
}

/// Event type of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventTypeBody {
    /// Event name.
    pub(crate) name: String,
    /// Module of the events.
    pub(crate) module: Module,
    /// Text for people.
    pub(crate) description: String,
    /// JSON Schema of `eventData`, if the tenant has given one.
    #[schema(value_type = Option<Object>)]
    pub(crate) schema: Option<Map<String, Value>>,
    /// Sender of the events. Only event types of origin `custom` can be changed.
    pub(crate) origin: EventOrigin,
    /// Number of events with this name among the tenant's newest 10,000.
    pub(crate) recent_events: u64,
    /// Time at which the newest one was accepted, in milliseconds since the epoch. Null: none of the newest 10,000 has this name.
    pub(crate) last_received_at_ms: Option<i64>,
}

impl EventTypeBody {
    fn new(name: &str, module: Module, description: &str, origin: EventOrigin) -> Self {
        EventTypeBody {
            name: name.to_owned(),
            module,
            description: description.to_owned(),
            schema: None,
            origin,
            recent_events: 0,
            last_received_at_ms: None,
        }
    }

    fn custom(name: &str, one: &EventType) -> Self {
        let body = EventTypeBody::new(name, one.module, &one.description, EventOrigin::Custom);
        EventTypeBody { schema: one.schema.clone(), ..body }
    }

    fn counted(self, counts: &[NameCount]) -> Self {
        match counts.iter().find(|one| one.name == self.name) {
            Some(count) => EventTypeBody {
                recent_events: count.events,
                last_received_at_ms: Some(count.last_received_at_ms),
                ..self
            },
            None => self,
        }
    }
}

impl Operations {
    /// Lists the event types of a tenant: the vendor's, the host's, and its own by name.
    pub(crate) async fn list_event_types(&self, access: &Access<ToRead>) -> Result<Vec<EventTypeBody>, Problem> {
        let tenant = self.store.catalog().tenant(&access.tenant).ok_or_else(|| Problem::not_found("tenant"))?;
        let counts = self.store.name_counts(access.tenant.clone(), EVENTS_COUNTED).await?;
        let own = tenant.event_types.iter().map(|(name, one)| EventTypeBody::custom(name, one));
        Ok(built_in().chain(own).map(|one| one.counted(&counts)).collect())
    }

    /// Returns an event type by its name.
    pub(crate) async fn get_event_type(&self, access: &Access<ToRead>, name: &str) -> Result<EventTypeBody, Problem> {
        let all = self.list_event_types(access).await?;
        all.into_iter().find(|one| one.name == name).ok_or_else(|| Problem::not_found("event type"))
    }

    /// Adds an event type, or describes one anew.
    pub(crate) async fn put_event_type(
        &self,
        access: &Access<ToManage>,
        name: &str,
        one: EventType,
    ) -> Result<EventTypeBody, Problem> {
        let body = EventTypeBody::custom(name, &one);
        self.change_event_types(access, EventTypesChange::Put(name.to_owned(), one)).await?;
        Ok(body.counted(&self.store.name_counts(access.tenant.clone(), EVENTS_COUNTED).await?))
    }

    /// Removes an event type. Events that were accepted stay.
    pub(crate) async fn delete_event_type(&self, access: &Access<ToManage>, name: &str) -> Result<(), Problem> {
        self.change_event_types(access, EventTypesChange::Remove(name.to_owned())).await
    }

    async fn change_event_types(&self, access: &Access<ToManage>, change: EventTypesChange) -> Result<(), Problem> {
        let change = TenantChange { event_types: Some(change), ..TenantChange::default() };
        self.store.update_tenant(access.actor(), access.tenant.clone(), change).await?;
        Ok(())
    }
}

/// Returns the event types that every tenant has.
fn built_in() -> impl Iterator<Item = EventTypeBody> {
    let vendors = VENDOR_EVENT_NAMES.into_iter().map(|(name, module)| {
        let what = match module {
            Module::Contact => "contact",
            Module::Deal | Module::Subscription | Module::Incident => "deal",
        };
        let done = if name.ends_with("Created") { "was created" } else { "was changed" };
        EventTypeBody::new(name, module, &format!("A {what} {done} in Agile CRM."), EventOrigin::AgileCrm)
    });
    let hosts = [
        (
            SUBSCRIPTION_DISABLED,
            "The host disabled a webhook, because its receiver answered 410 or failed for too long.",
        ),
        (SUBSCRIPTION_PAUSED, "The host paused a webhook, because its plugin reported a wrong configuration."),
    ];
    let hosts = hosts
        .into_iter()
        .map(|(name, description)| EventTypeBody::new(name, Module::Subscription, description, EventOrigin::Host));
    let incidents = [
        (INCIDENT_OPENED, "Something is wrong with a webhook, a plugin, the share or the intake."),
        (INCIDENT_CLOSED, "An incident is over."),
    ];
    let incidents = incidents.into_iter().map(|(name, description)| {
        let body = EventTypeBody::new(name, Module::Incident, description, EventOrigin::Host);
        EventTypeBody { schema: event_schema().as_object().cloned(), ..body }
    });
    vendors.chain(hosts).chain(incidents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_types_say_what_happened() {
        let all: Vec<(String, String)> = built_in().map(|one| (one.name, one.description)).collect();
        assert_eq!(all.len(), 8);
        assert_eq!(all[3], ("Opportunity is Updated".to_owned(), "A deal was changed in Agile CRM.".to_owned()));
    }
}
