//! Quarantined versions in the database.

use super::Postgres;
use crate::StoreError;
use crate::backend::plugins::Quarantine;
use crate::backend::plugins::QuarantineBackend;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl QuarantineBackend for Postgres {
    async fn quarantine(&self, new: Quarantine) -> Result<(), StoreError> {
        todo!()
    }

    async fn release(&self, tenant: TenantId, sha256: String) -> Result<(), StoreError> {
        todo!()
    }

    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        todo!()
    }
}
