//! Lists of events in the database.

use super::Postgres;
use crate::StoreError;
use crate::backend::deliveries::EventBackend;
use crate::backend::deliveries::EventFilter;
use crate::backend::deliveries::EventSummary;
use async_trait::async_trait;
use hookloom_model::event::Event;
use hookloom_model::event::Module;
use hookloom_model::subscription::SubscriptionId;
use hookloom_model::subscription::TenantId;
use std::sync::Arc;

#[async_trait]
impl EventBackend for Postgres {
    async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        todo!()
    }

    async fn recent_events(
        &self,
        tenant: TenantId,
        modules: Vec<Module>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        todo!()
    }

    async fn last_events_of(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError> {
        todo!()
    }
}
