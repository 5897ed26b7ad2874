//! Bins and their requests in the database.

use super::Postgres;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::inspector::BinBackend;
use crate::backend::inspector::BinFilter;
use crate::backend::inspector::BinPage;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::Bin;
use hookloom_model::inspector::BinRequest;
use hookloom_model::inspector::BinSettings;
use hookloom_model::inspector::RequestHead;
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

#[async_trait]
impl BinBackend for Postgres {
    async fn create_bin(&self, actor: Actor, tenant: TenantId, bin: Bin) -> Result<Bin, StoreError> {
        todo!()
    }

    async fn update_bin(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: BinId,
        settings: BinSettings,
    ) -> Result<Bin, StoreError> {
        todo!()
    }

    async fn delete_bin(&self, actor: Actor, tenant: TenantId, id: BinId) -> Result<(), StoreError> {
        todo!()
    }

    async fn bins(&self, tenant: TenantId) -> Result<Vec<Bin>, StoreError> {
        todo!()
    }

    async fn bin(&self, tenant: TenantId, id: BinId) -> Result<Bin, StoreError> {
        todo!()
    }

    async fn bin_by_url(&self, id: BinId) -> Result<(TenantId, Bin), StoreError> {
        todo!()
    }

    async fn receive_in_bin(
        &self,
        tenant: &TenantId,
        bin: &Bin,
        head: RequestHead,
        body: Bytes,
    ) -> Result<(Uuid, u64), StoreError> {
        todo!()
    }

    async fn bin_requests(&self, tenant: TenantId, bin: BinId, filter: BinFilter) -> Result<BinPage, StoreError> {
        todo!()
    }

    async fn bin_request(
        &self,
        tenant: TenantId,
        bin: BinId,
        id: Uuid,
    ) -> Result<(BinRequest, Option<BinRequest>), StoreError> {
        todo!()
    }

    async fn forget_bin_requests(
        &self,
        actor: Actor,
        tenant: TenantId,
        bin: BinId,
        id: Option<Uuid>,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn record_bin_replay(
        &self,
        actor: Actor,
        tenant: TenantId,
        request: Uuid,
        host: String,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn bins_to_prune(&self) -> Result<Vec<(TenantId, Bin)>, StoreError> {
        todo!()
    }

    async fn prune_bin(&self, tenant: &TenantId, bin: Bin) -> Result<(), StoreError> {
        todo!()
    }
}
