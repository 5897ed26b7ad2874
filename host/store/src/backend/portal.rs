//! Links and sessions of the portal. Only hashes of their texts are stored.

use super::access::CredentialHash;
use crate::StoreError;
use crate::audit::Actor;
use async_trait::async_trait;
use hookloom_model::portal::{EndedPortal, PortalLink, PortalSession};
use hookloom_model::subscription::TenantId;
use std::net::IpAddr;

/// Maximum number of unused links of a tenant, and of its sessions. The oldest ones are deleted.
pub const PER_TENANT_MAX: usize = 200;

/// Maximum number of expired rows that a new link deletes. More than it creates.
pub(crate) const EXPIRED: usize = 16;

/// Credentials of a session that begins.
#[derive(Clone, Debug)]
pub struct NewPortalSession {
    /// Hash of the cookie.
    pub hash: CredentialHash,
    /// CSRF token.
    pub csrf: String,
    /// Address of the client.
    pub from: IpAddr,
}

/// Links and sessions of the portal.
#[async_trait]
pub trait PortalBackend: Send + Sync {
    /// Stores a link, also if the tenant's share is used up, and deletes the oldest links of the tenant above [`PER_TENANT_MAX`].
    async fn put_portal_link(&self, actor: Actor, hash: CredentialHash, link: PortalLink) -> Result<(), StoreError>;

    /// Deletes a link, and stores the session that begins with it. Deletes the oldest sessions of the tenant above
    /// [`PER_TENANT_MAX`]. None: the link does not exist, or it has expired.
    async fn open_portal_session(
        &self,
        link: CredentialHash,
        new: NewPortalSession,
    ) -> Result<Option<PortalSession>, StoreError>;

    /// Returns the session of a cookie, unless it has expired.
    async fn portal_session(&self, hash: CredentialHash) -> Result<Option<PortalSession>, StoreError>;

    /// Deletes a session.
    async fn delete_portal_session(&self, hash: CredentialHash) -> Result<(), StoreError>;

    /// Deletes all links and sessions of a tenant.
    async fn end_portal(&self, actor: Actor, tenant: TenantId) -> Result<EndedPortal, StoreError>;
}
