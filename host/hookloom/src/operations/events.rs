//! Events: what senders get back, and what is kept of each.

use super::explain::{Known, explain};
use super::intake::AcceptedEntry;
use super::{Access, DeliveryBody, Explanation, Operations, Problem, ToRead};
use crate::clock::now_ms;
use crate::delivery::DeliveryKind;
use crate::event::{EventId, Module};
use crate::filter::{Filter, ParsedEvent, Refusal};
use crate::store::{DeliveryView, EventFilter, EventSummary, EventView};
use crate::subscription::{Subscription, SubscriptionId, TenantId};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Answer to accepted events.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedBody {
    /// Accepted events, in the order of the request.
    events: Vec<AcceptedEvent>,
}

/// Accepted event.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedEvent {
    id: Uuid,
    /// Number of matching subscriptions. An event without any is stored as well.
    deliveries: usize,
    /// Note on an event that is treated unusually: `eventData.id` is longer than 255 bytes, so it keeps no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl AcceptedBody {
    /// Returns the id of the first event. There is always one.
    pub(crate) fn first_id(&self) -> Uuid {
        self.events.first().map(|event| event.id).unwrap_or_default()
    }
}

impl From<Vec<AcceptedEntry>> for AcceptedBody {
    fn from(accepted: Vec<AcceptedEntry>) -> Self {
        fn one(AcceptedEntry { accepted, note }: AcceptedEntry) -> AcceptedEvent {
            AcceptedEvent { id: accepted.event.0, deliveries: accepted.deliveries, note }
        }
        AcceptedBody { events: accepted.into_iter().map(one).collect() }
    }
}

/// Event with its deliveries.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventBody {
    id: Uuid,
    name: String,
    module: Module,
    /// `eventData.id` as text. Absent: there is none of at most 255 bytes.
    entity_id: Option<String>,
    /// Reason why the event has no entity although `eventData.id` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    received_at_ms: i64,
    /// Previous event of the same contact or deal.
    previous: Option<Uuid>,
    /// Number of deliveries that were made when the event was accepted.
    fan_out: usize,
    /// The event as it was sent.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    deliveries: Vec<DeliveryBody>,
    /// Explanation for each subscription of the tenant: why the event was delivered, or why not.
    subscriptions: Vec<Explanation>,
}

/// Event in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventListItem {
    id: Uuid,
    name: String,
    module: Module,
    /// `eventData.id` as text. Absent: there is none of at most 255 bytes.
    entity_id: Option<String>,
    received_at_ms: i64,
    /// Number of deliveries at acceptance.
    fan_out: usize,
    /// Size of the event as it was sent, in bytes.
    bytes: u64,
}

impl From<EventSummary> for EventListItem {
    fn from(summary: EventSummary) -> Self {
        let EventSummary { id, name, module, entity_id, received_at_ms, fan_out, bytes } = summary;
        EventListItem { id: id.0, name, module, entity_id, received_at_ms, fan_out, bytes }
    }
}

/// Page of events.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// Events without payloads, newest first.
    events: Vec<EventListItem>,
    /// The `cursor` of the next page. Absent on the last one.
    cursor: Option<Uuid>,
}

impl Operations {
    /// Lists events, newest first.
    pub(crate) async fn list_events(&self, access: &Access<ToRead>, filter: EventFilter) -> Result<EventPage, Problem> {
        let limit = filter.limit;
        let events = self.store.events(access.tenant.clone(), filter).await?;
        let cursor = (events.len() == limit).then(|| events.last().map(|event| event.id.0)).flatten();
        Ok(EventPage { events: events.into_iter().map(Into::into).collect(), cursor })
    }

    /// Returns an event with its deliveries.
    pub(crate) async fn get_event(&self, access: &Access<ToRead>, id: EventId) -> Result<EventBody, Problem> {
        let view = self.store.event(access.tenant.clone(), id).await?;
        let subscriptions = self.explained(&access.tenant, &view).await?;
        let payload = RawValue::from_string(view.event.text().to_owned()).map_err(crate::store::StoreError::from)?;
        Ok(EventBody {
            id: view.event.id.0,
            name: view.event.name.clone(),
            module: view.event.module,
            entity_id: view.event.entity_id.clone(),
            note: view.event.entity_note(),
            received_at_ms: view.event.received_at_ms,
            previous: view.previous.map(|id| id.0),
            fan_out: view.fan_out,
            payload,
            deliveries: view.deliveries.into_iter().map(DeliveryBody::from).collect(),
            subscriptions,
        })
    }

    /// Returns the condition that refuses an event, for each subscription with a filter and without a delivery of the event.
    async fn refusals(
        &self,
        tenant: &TenantId,
        view: &EventView,
        deliveries: &HashMap<SubscriptionId, &DeliveryView>,
    ) -> Result<HashMap<SubscriptionId, Refusal>, Problem> {
        let subscriptions = self.store.catalog().subscriptions(tenant);
        let without = subscriptions.iter().filter(|one| !deliveries.contains_key(&one.id));
        let filters: Vec<_> = without.filter_map(|one| Some((one.id, one.settings.filter.clone()?))).collect();
        if filters.is_empty() {
            return Ok(HashMap::new());
        }
        let previous = match view.previous {
            Some(_) => self.store.previous(tenant.clone(), &view.event).await?,
            None => None,
        };
        let event = view.event.clone();
        let refusals = self.cpu.run(Some(tenant), move || {
            let previous = previous.as_deref().map(ParsedEvent::of);
            let previous = previous.as_ref().map(ParsedEvent::document);
            let event = ParsedEvent::of(&event);
            let document = event.document();
            let refusal_of =
                |(id, filter): (SubscriptionId, Filter)| Some((id, filter.refusal(&document, previous.as_ref())?));
            filters.into_iter().filter_map(refusal_of).collect()
        });
        Ok(refusals.await?)
    }

    /// Explains the state of an event for each subscription of its tenant.
    pub(crate) async fn explained(&self, tenant: &TenantId, view: &EventView) -> Result<Vec<Explanation>, Problem> {
        let attempts = self.store.attempts_of_event(tenant.clone(), view.event.id).await?;
        let earlier = self.store.earlier_ones(tenant.clone(), view.event.id).await?;
        // The newest of several deliveries counts, and comes first: a replay says more than the delivery before it.
        let deliveries: HashMap<_, _> = view.deliveries.iter().rev().map(|one| (one.subscription, one)).collect();
        let chains = self.settled_chains(tenant, &deliveries).await?;
        let note = view.event.entity_note();
        let refusals = self.refusals(tenant, view, &deliveries).await?;
        let is_test = view.deliveries.iter().any(|one| one.kind == DeliveryKind::Test);
        let one = |subscription: &Arc<Subscription>| {
            let delivery = deliveries.get(&subscription.id).copied();
            let known = Known {
                delivery,
                attempts: delivery.and_then(|delivery| attempts.get(&delivery.id)).map_or(&[], Vec::as_slice),
                behind: delivery.and_then(|delivery| earlier.get(&delivery.id)).copied(),
                chain: delivery.and_then(|delivery| chains.get(&delivery.id)),
                lane: self.lanes.status(subscription.id),
                note: note.as_deref(),
                refusal: refusals.get(&subscription.id),
                is_test,
            };
            explain(&view.event, subscription, &known, now_ms())
        };
        Ok(self.store.catalog().subscriptions(tenant).iter().map(one).collect())
    }
}
