//! Reads of earlier events: of a delivery, of the same entity, of a subscription.

use super::deliveries::{BEFORE, event_row};
use super::fair_queue::Owner;
use super::{Store, StoreError};
use hookloom_model::delivery::{DeliveryKind, DueDelivery};
use hookloom_model::event::Event;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;

impl Store {
    /// Returns the last event of the same entity that was accepted before another one. None: there was none, or it has been pruned.
    pub async fn previous(&self, tenant: TenantId, event: &Event) -> Result<Option<Arc<Event>>, StoreError> {
        let Some(entity_id) = event.entity_id.clone() else { return Ok(None) };
        let id = event.id;
        let module = event.module;
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = format!("SELECT id, name, module, entity_id, received_at_ms, payload FROM events {BEFORE}");
            let entity = params![&*tenant.0, id.0, entity_id, module.as_str()];
            let found = connection.prepare_cached(&sql)?.query_row(entity, event_row).optional()?;
            Ok(found.map(Arc::new))
        };
        match self.lane_readers.read(owner, read).await {
            // The plugin gets no earlier event; otherwise the delivery could wait for a damaged row for ever.
            Err(error) if error.is_damage() => {
                tracing::debug!(event = %id, error = %hookloom_model::describe(&error), "the event before this one cannot be read; plugins see none");
                Ok(None)
            }
            found => found,
        }
    }

    /// Returns the event of a delivery. None: both are gone.
    pub async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError> {
        let tenant = delivery.tenant.clone();
        let event = delivery.event;
        let events = self.events.clone();
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| events.read(connection, &tenant, event);
        self.lane_readers.read(owner, read).await
    }

    /// Returns the last events that were accepted for these subscriptions, newest first, each with its subscription, without test
    /// events.
    pub async fn last_events_of(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT e.id, e.name, e.module, e.entity_id, e.received_at_ms, e.payload, d.id
                       FROM deliveries d INDEXED BY deliveries_of_subscription
                       JOIN events e ON e.tenant = d.tenant AND e.id = d.event
                       WHERE d.tenant = ?1 AND d.subscription = ?2 AND d.kind <> ?4 ORDER BY d.id DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let mut found = Vec::new();
            for id in subscriptions {
                let rows = statement.query_map(params![&*tenant.0, id.0, limit, DeliveryKind::Test as u8], |row| {
                    Ok((row.get::<_, uuid::Uuid>(6)?, Arc::new(event_row(row)?), id))
                })?;
                for row in rows {
                    found.push(row?);
                }
                found.sort_by_key(|(delivery, _, _)| std::cmp::Reverse(*delivery));
                found.truncate(limit);
            }
            Ok(found.into_iter().map(|(_, event, subscription)| (event, subscription)).collect())
        };
        self.readers.read(owner, read).await
    }
}
