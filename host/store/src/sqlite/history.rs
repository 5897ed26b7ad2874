//! Reads of earlier events: of a delivery, of the same entity.

use super::Sqlite;
use super::deliveries::{BEFORE, event_row};
use crate::StoreError;
use crate::backend::lanes::HistoryBackend;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DueDelivery;
use hookloom_model::event::Event;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;

#[async_trait]
impl HistoryBackend for Sqlite {
    async fn previous(&self, tenant: TenantId, event: &Event) -> Result<Option<Arc<Event>>, StoreError> {
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

    async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError> {
        let tenant = delivery.tenant.clone();
        let event = delivery.event;
        let events = self.events.clone();
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| events.read(connection, &tenant, event);
        self.lane_readers.read(owner, read).await
    }
}
