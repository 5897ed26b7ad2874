//! Rollouts of versions in the database.

use super::Postgres;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::plugins::RolloutBackend;
use crate::backend::plugins::StoredRollout;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl RolloutBackend for Postgres {
    async fn begin_rollout(&self, actor: Actor, rollout: StoredRollout) -> Result<(), StoreError> {
        todo!()
    }

    async fn end_rollout(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        reason: String,
        counts: Option<String>,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn note_rollout_counts(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
        counts: String,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        todo!()
    }
}
