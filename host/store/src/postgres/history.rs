//! Reads of earlier events: of a delivery, of the same entity.

use super::Postgres;
use super::deliveries::BEFORE;
use super::rows::{EVENT, event_row, text};
use crate::StoreError;
use crate::backend::lanes::HistoryBackend;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DueDelivery;
use hookloom_model::event::Event;
use hookloom_model::subscription::TenantId;
use std::sync::Arc;

#[async_trait]
impl HistoryBackend for Postgres {
    async fn previous(&self, tenant: TenantId, event: &Event) -> Result<Option<Arc<Event>>, StoreError> {
        let Some(entity_id) = event.entity_id.as_deref().map(|id| text(id).into_owned()) else { return Ok(None) };
        let id = event.id;
        let module = event.module.as_str();
        let read = self.lane_readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = format!("SELECT {EVENT} FROM events {BEFORE}");
                let row = connection.query_opt(&sql, &[&&*tenant.0, &id.0, &entity_id, &module]).await?;
                row.map(|row| event_row(&row).map(Arc::new)).transpose()
            })
        });
        read.await
    }

    async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError> {
        let tenant = delivery.tenant.clone();
        let event = delivery.event;
        let read = self.lane_readers.read_one(Owner::from(&delivery.tenant), move |connection| {
            Box::pin(async move {
                let sql = format!("SELECT {EVENT} FROM events WHERE tenant = $1 AND id = $2");
                let row = connection.query_opt(&sql, &[&&*tenant.0, &event.0]).await?;
                row.map(|row| event_row(&row).map(Arc::new)).transpose()
            })
        });
        read.await
    }
}
