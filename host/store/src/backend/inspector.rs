//! Bins with the requests that they received, and requests that `/in` rejected.
//!
//! # Guarantees of every backend
//! - A bin keeps no more requests, and for no longer, than its settings allow.
//! - The id of a bin authorizes to send to it, and does not reveal its tenant.

use crate::StoreError;
use crate::audit::Actor;
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

/// Number of bytes of each body that a search covers.
pub(crate) const SEARCHED_BYTES: usize = 64 << 10;

/// Maximum number of bytes that one search reads: some milliseconds. The returned page says where the search continues.
pub(crate) const SEARCH_BYTES_MAX: usize = 4 << 20;

/// Retention of rejected requests, in milliseconds.
pub(crate) const REJECTED_KEPT_MS: i64 = 7 * 86_400_000;

/// Maximum number of rejected requests of a tenant, so that garbage cannot fill the disk. The oldest are deleted first.
pub(crate) const REJECTED_MAX: usize = 1_000;

/// Returns the time before which requests of a bin have expired, in milliseconds since the epoch.
pub(crate) fn oldest_ms(settings: &BinSettings) -> i64 {
    now_ms().saturating_sub(i64::try_from(settings.ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX))
}

/// Maximum number of bins of a tenant.
pub const BINS_MAX: usize = 100;

/// Maximum size of a bin: all its requests with their headers, in bytes. Bounds the memory of a listing, a search or an export of a
/// bin, and the disk that senders can fill.
pub const BIN_BYTES_MAX: u64 = 16 << 20;

/// Page of the requests of a bin.
#[derive(Clone, Debug, Default)]
pub struct BinPage {
    /// Requests, newest first.
    pub requests: Vec<BinRequest>,
    /// Request before which the next page begins. Set if there may be more requests: the page is full, or the search has read
    /// enough.
    pub further: Option<Uuid>,
}

/// Filter of a listing of a bin's requests.
#[derive(Clone, Debug, Default)]
pub struct BinFilter {
    /// Only requests older than this one.
    pub before: Option<Uuid>,
    /// Only requests with this text in the headers or the first 64 KiB of the body. ASCII letters match in either case.
    pub search: Option<String>,
    /// Maximum number of requests.
    pub limit: usize,
}

/// Rejected request.
#[derive(Debug, Clone)]
pub struct RejectedRequest {
    /// Id of the request.
    pub id: Uuid,
    /// Time of receipt, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Reason for the rejection.
    pub reason: String,
    /// True if the body was longer than the kept part, or incomplete.
    pub truncated: bool,
    /// Received body, up to the limit.
    pub body: Bytes,
}

/// Rejected request in a list, without its body.
#[derive(Debug, Clone)]
pub struct RejectedEntry {
    /// Id of the request.
    pub id: Uuid,
    /// Time of receipt, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Reason for the rejection.
    pub reason: String,
    /// True if the body was longer than the kept part, or incomplete.
    pub truncated: bool,
    /// Size of the kept part, in bytes.
    pub bytes: usize,
}

/// Bins and their requests.
#[async_trait]
pub trait BinBackend: Send + Sync {
    /// Stores a new bin.
    async fn create_bin(&self, actor: Actor, tenant: TenantId, bin: Bin) -> Result<Bin, StoreError>;

    /// Replaces the settings of a bin.
    async fn update_bin(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: BinId,
        settings: BinSettings,
    ) -> Result<Bin, StoreError>;

    /// Deletes a bin with its requests.
    async fn delete_bin(&self, actor: Actor, tenant: TenantId, id: BinId) -> Result<(), StoreError>;

    /// Returns a tenant's bins, newest first.
    async fn bins(&self, tenant: TenantId) -> Result<Vec<Bin>, StoreError>;

    /// Returns a bin of a tenant.
    async fn bin(&self, tenant: TenantId, id: BinId) -> Result<Bin, StoreError>;

    /// Returns a bin and its tenant, by the id in its URL. The tenant may be being deleted.
    async fn bin_by_url(&self, id: BinId) -> Result<(TenantId, Bin), StoreError>;

    /// Stores a request with the status that the bin answers, within the share of the bin's tenant. Returns its number in the bin, from 0.
    async fn receive_in_bin(
        &self,
        tenant: &TenantId,
        bin: &Bin,
        head: RequestHead,
        body: Bytes,
    ) -> Result<(Uuid, u64), StoreError>;

    /// Returns requests of a bin, newest first. A search reads some megabytes and then returns where to continue.
    async fn bin_requests(&self, tenant: TenantId, bin: BinId, filter: BinFilter) -> Result<BinPage, StoreError>;

    /// Returns a request, and the one before it.
    async fn bin_request(
        &self,
        tenant: TenantId,
        bin: BinId,
        id: Uuid,
    ) -> Result<(BinRequest, Option<BinRequest>), StoreError>;

    /// Deletes one request of a bin, or all of them.
    async fn forget_bin_requests(
        &self,
        actor: Actor,
        tenant: TenantId,
        bin: BinId,
        id: Option<Uuid>,
    ) -> Result<(), StoreError>;

    /// Records that a request of a bin is sent again, to another host. Called before it is sent.
    async fn record_bin_replay(
        &self,
        actor: Actor,
        tenant: TenantId,
        request: Uuid,
        host: String,
    ) -> Result<(), StoreError>;

    /// Returns the bins with a request that has expired.
    async fn bins_to_prune(&self) -> Result<Vec<(TenantId, Bin)>, StoreError>;

    /// Deletes the expired requests of a bin.
    async fn prune_bin(&self, tenant: &TenantId, bin: Bin) -> Result<(), StoreError>;
}

/// Rejected requests.
#[async_trait]
pub trait RejectedBackend: Send + Sync {
    /// Stores a rejected request, within the tenant's share and a tenth more, and deletes requests that are too old or too many.
    async fn reject(&self, tenant: TenantId, reason: String, body: Bytes, truncated: bool) -> Result<Uuid, StoreError>;

    /// Returns a tenant's rejected requests, newest first, older than `before` if it is given.
    async fn rejected_requests(
        &self,
        tenant: TenantId,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<RejectedEntry>, StoreError>;

    /// Deletes a rejected request.
    async fn forget_rejected_request(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError>;

    /// Returns a rejected request.
    async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError>;
}
