//! Bins with the requests that they received, and requests that `/in` could not accept.

use crate::audit::Actor;
use crate::backend::inspector::{BinFilter, BinPage, RejectedEntry, RejectedRequest};
use crate::{Store, StoreError};
use bytes::Bytes;
use delegate::delegate;
use hookloom_model::access::new_credential;
use hookloom_model::clock::now_ms;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

impl Store {
    /// Creates a bin.
    pub async fn create_bin(&self, actor: Actor, tenant: TenantId, settings: BinSettings) -> Result<Bin, StoreError> {
        let (text, _, _) = new_credential("");
        // Half of the text is 128 bits.
        let id = serde_json::from_value(text[..22].into())?;
        let bin = Bin { id, settings, created_at_ms: now_ms(), received: 0 };
        self.backend.create_bin(actor, tenant, bin).await
    }

    /// Returns a bin and its tenant, by the id in its URL.
    pub async fn bin_by_url(&self, id: BinId) -> Result<(TenantId, Bin), StoreError> {
        let (tenant, bin) = self.backend.bin_by_url(id).await?;
        // Bins of a tenant that is being deleted still have rows.
        self.catalog().tenant(&tenant).map(|_| (tenant, bin)).ok_or(StoreError::NotFound("bin"))
    }

    /// Deletes requests that are older than the retention of their bin, bin by bin.
    pub(crate) async fn prune_bins(&self) -> Result<(), StoreError> {
        for (tenant, bin) in self.backend.bins_to_prune().await? {
            self.backend.prune_bin(&tenant, bin).await?;
        }
        Ok(())
    }

    delegate! {
        to self.backend {
            /// Replaces the settings of a bin.
            pub async fn update_bin(
                &self,
                actor: Actor,
                tenant: TenantId,
                id: BinId,
                settings: BinSettings,
            ) -> Result<Bin, StoreError>;

            /// Deletes a bin with its requests.
            pub async fn delete_bin(&self, actor: Actor, tenant: TenantId, id: BinId) -> Result<(), StoreError>;

            /// Returns a tenant's bins, newest first.
            pub async fn bins(&self, tenant: TenantId) -> Result<Vec<Bin>, StoreError>;

            /// Returns a bin of a tenant.
            pub async fn bin(&self, tenant: TenantId, id: BinId) -> Result<Bin, StoreError>;

            /// Stores a request, within the share of the bin's tenant. Returns its number in the bin, from 0.
            pub async fn receive_in_bin(
                &self,
                tenant: &TenantId,
                bin: &Bin,
                head: RequestHead,
                body: Bytes,
            ) -> Result<(Uuid, u64), StoreError>;

            /// Returns requests of a bin, newest first. A search reads some megabytes and then returns where to continue.
            pub async fn bin_requests(
                &self,
                tenant: TenantId,
                bin: BinId,
                filter: BinFilter,
            ) -> Result<BinPage, StoreError>;

            /// Returns a request, and the one before it.
            pub async fn bin_request(
                &self,
                tenant: TenantId,
                bin: BinId,
                id: Uuid,
            ) -> Result<(BinRequest, Option<BinRequest>), StoreError>;

            /// Deletes one request of a bin, or all of them.
            pub async fn forget_bin_requests(
                &self,
                actor: Actor,
                tenant: TenantId,
                bin: BinId,
                id: Option<Uuid>,
            ) -> Result<(), StoreError>;

            /// Records that a request of a bin is sent again, to another host. Called before it is sent.
            pub async fn record_bin_replay(
                &self,
                actor: Actor,
                tenant: TenantId,
                request: Uuid,
                host: String,
            ) -> Result<(), StoreError>;

            /// Stores a rejected request, within the tenant's share and a tenth more, and deletes requests that are too old or too
            /// many.
            pub async fn reject(
                &self,
                tenant: TenantId,
                reason: String,
                body: Bytes,
                truncated: bool,
            ) -> Result<Uuid, StoreError>;

            /// Returns a tenant's rejected requests, newest first, older than `before` if it is given.
            pub async fn rejected_requests(
                &self,
                tenant: TenantId,
                before: Option<Uuid>,
                limit: usize,
            ) -> Result<Vec<RejectedEntry>, StoreError>;

            /// Deletes a rejected request.
            pub async fn forget_rejected_request(
                &self,
                actor: Actor,
                tenant: TenantId,
                id: Uuid,
            ) -> Result<(), StoreError>;

            /// Returns a rejected request.
            pub async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError>;
        }
    }
}
