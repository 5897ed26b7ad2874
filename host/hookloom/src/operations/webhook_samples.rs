//! Events that a webhook would receive, without one having happened: for tests, comparisons and warnings.
//!
//! # Guarantees
//! A sample has a name that the webhook lists, of one of its modules. It is of the vendor's guide, or as the host makes it.
//!
//! # Limits
//! Only the tenant knows what an event of its own type looks like: a test takes the newest one. If there is none, the [`Problem`] says what to do.

use super::samples::SAMPLE_EVENTS;
use super::{Operations, Problem};
use crate::event::{Event, HOST_EVENT_NAMES, Module, VENDOR_EVENT_NAMES, read_envelope, sample_event};
use crate::store::{EventFilter, NewEvent, state_event};
use crate::subscription::{Subscription, SubscriptionState};
use bytes::Bytes;
use hookloom_model::alerts::{Message, message_text, payload, sample_incident};
use hookloom_model::clock::now_ms;

/// Reason in the text of an event that the host has only made as a sample.
const REASON: &str = "this is a test, and nothing is wrong";

impl Operations {
    /// Returns the samples that a webhook would receive, the vendor's first.
    pub(super) fn samples_for(&self, subscription: &Subscription) -> Vec<NewEvent> {
        let vendors = SAMPLE_EVENTS.iter().filter(|sample| is_wanted(subscription, sample.name));
        let vendors =
            vendors.filter_map(|one| self.event_of(subscription, Bytes::from_static(one.payload.as_bytes())).ok());
        let hosts = HOST_EVENT_NAMES.iter().filter(|(name, _)| is_wanted(subscription, name));
        vendors.chain(hosts.filter_map(|(name, module)| self.event_of_host(subscription, name, *module))).collect()
    }

    /// Returns a sample of each module that a webhook would receive, as accepted events.
    pub(super) fn accepted_samples_for(&self, subscription: &Subscription) -> Vec<Event> {
        let mut samples = self.samples_for(subscription);
        samples.sort_by_key(|one| one.module);
        samples.dedup_by_key(|one| one.module);
        samples.into_iter().map(|one| sample_event(one.name, one.module, one.entity_id, one.payload)).collect()
    }

    /// Returns the event of a test. `body`: `{eventName, eventData}`, or nothing.
    pub(super) async fn test_event(&self, subscription: &Subscription, body: Bytes) -> Result<NewEvent, Problem> {
        if !body.is_empty() {
            return self.event_of(subscription, body);
        }
        match self.samples_for(subscription).into_iter().next() {
            Some(sample) => Ok(sample),
            None => self.newest_of_own(subscription).await,
        }
    }

    fn event_of(&self, subscription: &Subscription, body: Bytes) -> Result<NewEvent, Problem> {
        let envelope = read_envelope(&body)?;
        let module = self.store.catalog().module_of(&subscription.tenant, &envelope.name).ok_or_else(|| {
            let names: Vec<&str> = VENDOR_EVENT_NAMES.iter().map(|(name, _)| *name).collect();
            let detail =
                format!("the event name {:?} is not accepted; the vendor's are {}", envelope.name, names.join(", "));
            Problem::field("/eventName", detail)
        })?;
        Ok(NewEvent { name: envelope.name, module, entity_id: envelope.entity_id, payload: envelope.payload })
    }

    /// Returns an event as the host makes it, about this webhook.
    fn event_of_host(&self, subscription: &Subscription, name: &str, module: Module) -> Option<NewEvent> {
        if module == Module::Subscription {
            let states = [SubscriptionState::Disabled, SubscriptionState::Paused].into_iter();
            let changed = states.map(|state| Subscription { state, ..subscription.clone() });
            let changed = changed.map(|one| Subscription { state_reason: Some(REASON.to_owned()), ..one });
            return changed.filter_map(|one| state_event(&one)).find(|event| event.name == name);
        }
        let message = [Message::Opened, Message::Closed].into_iter().find(|message| message.event_name() == name)?;
        let incident = sample_incident(subscription.id, subscription.settings.short_name(), message, REASON, now_ms())?;
        let text = message_text(&subscription.tenant, &incident, message);
        let link = self.config.link_base().link(&text.page);
        Some(NewEvent {
            name: name.to_owned(),
            module,
            entity_id: Some(incident.id.to_string()),
            payload: payload(&incident, message, &text, &link).to_string().into(),
        })
    }

    /// Returns the newest event of a type of the tenant's own that the webhook lists.
    async fn newest_of_own(&self, subscription: &Subscription) -> Result<NewEvent, Problem> {
        for name in &subscription.settings.events {
            let filter = EventFilter { name: Some(name.clone()), limit: 1, ..EventFilter::default() };
            let Some(newest) = self.store.events(subscription.tenant.clone(), filter).await?.pop() else { continue };
            let event = self.store.event(subscription.tenant.clone(), newest.id).await?.event;
            let event = &*event;
            return Ok(NewEvent {
                name: event.name.clone(),
                module: event.module,
                entity_id: event.entity_id.clone(),
                payload: event.payload.clone(),
            });
        }
        let names = subscription.settings.events.join(", ");
        let what = format!("there is no event of {names} yet to test with: send one, or give it as the body");
        Err(Problem::conflict(&what))
    }
}

/// Returns true if a webhook receives incidents, as far as module and name decide.
pub(crate) fn receives_incidents(subscription: &Subscription) -> bool {
    let mut names = HOST_EVENT_NAMES.iter().filter(|(_, module)| *module == Module::Incident);
    names.any(|(name, _)| is_wanted(subscription, name))
}

/// Returns the names of the vendor's samples that a webhook receives.
pub(crate) fn vendor_samples(subscription: &Subscription) -> Vec<&'static str> {
    SAMPLE_EVENTS.iter().map(|sample| sample.name).filter(|name| is_wanted(subscription, name)).collect()
}

/// Returns true if the webhook receives events of this vendor's or host's name, as far as module and name decide.
fn is_wanted(subscription: &Subscription, name: &str) -> bool {
    let known = VENDOR_EVENT_NAMES.iter().chain(&HOST_EVENT_NAMES).find(|(known, _)| *known == name);
    known.is_some_and(|(_, module)| subscription.settings.modules.contains(module)) && subscription.settings.lists(name)
}
