//! Retention in the database: steps of pruning.

use super::Postgres;
use crate::StoreError;
use crate::backend::tenants::WorkStep;
use crate::backend::upkeep::PruneStep;
use crate::backend::upkeep::RetentionBackend;
use async_trait::async_trait;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl RetentionBackend for Postgres {
    async fn prune_events(
        &self,
        tenant: &TenantId,
        after: Option<EventId>,
        before_ms: i64,
    ) -> Result<PruneStep, StoreError> {
        todo!()
    }

    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<WorkStep, StoreError> {
        todo!()
    }
}
