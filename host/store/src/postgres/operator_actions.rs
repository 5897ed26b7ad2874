//! Operator actions on deliveries in the database: retry, cancel, redrive, replay, test.

use super::Postgres;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::intake::NewEvent;
use crate::backend::operator_actions::EndedDeliveries;
use crate::backend::operator_actions::OperatorBackend;
use crate::backend::operator_actions::ReplayableEvents;
use crate::backend::operator_actions::Selected;
use crate::backend::operator_actions::Span;
use crate::backend::operator_actions::StepEntry;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::EventId;
use hookloom_model::subscription::SubscriptionId;
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

#[async_trait]
impl OperatorBackend for Postgres {
    async fn retry(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        todo!()
    }

    async fn cancel(&self, actor: Actor, tenant: TenantId, id: DeliveryId) -> Result<(), StoreError> {
        todo!()
    }

    async fn count_ended(&self, of: EndedDeliveries, span: Span) -> Result<u64, StoreError> {
        todo!()
    }

    async fn select_ended(
        &self,
        of: EndedDeliveries,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<DeliveryId>, StoreError> {
        todo!()
    }

    async fn redrive(
        &self,
        of: EndedDeliveries,
        ids: Vec<DeliveryId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        todo!()
    }

    async fn count_replayable(&self, of: ReplayableEvents, span: Span) -> Result<u64, StoreError> {
        todo!()
    }

    async fn select_replayable(
        &self,
        of: ReplayableEvents,
        from: Uuid,
        to: Uuid,
    ) -> Result<Selected<EventId>, StoreError> {
        todo!()
    }

    async fn replay(
        &self,
        of: ReplayableEvents,
        ids: Vec<EventId>,
        entry: Option<StepEntry>,
    ) -> Result<u64, StoreError> {
        todo!()
    }

    async fn test(
        &self,
        actor: Actor,
        tenant: TenantId,
        subscription: SubscriptionId,
        new: NewEvent,
    ) -> Result<DeliveryId, StoreError> {
        todo!()
    }
}
