//! Links and sessions of the portal.
//!
//! # Guarantees
//! - A link works once: the transaction that deletes it stores its session.
//! - A session is looked up in the database at each request, so that its end is in force at every host at once.
//! - Links and sessions of a tenant that is being deleted do not work.

use crate::audit::Actor;
use crate::backend::portal::NewPortalSession;
use crate::{Store, StoreError};
use hookloom_model::access::{credential_hash, new_credential};
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::portal::{EndedPortal, PORTAL_LINK_PREFIX, PORTAL_SESSION_PREFIX, PortalLink, PortalSession};
use hookloom_model::subscription::TenantId;
use std::net::IpAddr;

/// Terms of a portal link.
#[derive(Clone, Debug)]
pub struct PortalTerms {
    /// Tenant of the portal.
    pub tenant: TenantId,
    /// Lifetime of the link, in seconds.
    pub expires_in_s: u32,
    /// Lifetime of the session, in seconds.
    pub session_s: u32,
    /// True if the session may change nothing.
    pub is_read_only: bool,
    /// Page of the platform that the portal leads back to.
    pub return_url: Option<String>,
}

impl Store {
    /// Creates a link that signs in once to the portal of a tenant, and returns its token, which cannot be read again.
    pub async fn create_portal_link(
        &self,
        actor: Actor,
        terms: PortalTerms,
    ) -> Result<(PortalLink, String), StoreError> {
        let PortalTerms { tenant, expires_in_s, session_s, is_read_only, return_url } = terms;
        let (token, hash, _) = new_credential(PORTAL_LINK_PREFIX);
        let created_at_ms = now_ms();
        let link = PortalLink {
            id: ids::new_uuid(),
            tenant,
            session_s,
            is_read_only,
            return_url,
            created_at_ms,
            expires_at_ms: created_at_ms.saturating_add(i64::from(expires_in_s) * 1_000),
        };
        self.backend.put_portal_link(actor, hash, link.clone()).await?;
        Ok((link, token))
    }

    /// Uses a link from an address. Returns the session and the text of its cookie, which cannot be read again. None: the link was
    /// used, has expired, or does not exist.
    pub async fn open_portal_session(
        &self,
        token: &str,
        from: IpAddr,
    ) -> Result<Option<(PortalSession, String)>, StoreError> {
        let (cookie, hash, _) = new_credential(PORTAL_SESSION_PREFIX);
        let (csrf, ..) = new_credential("");
        let new = NewPortalSession { hash, csrf, from };
        let opened = self.backend.open_portal_session(credential_hash(token), new).await?;
        Ok(opened.map(|session| (session, cookie)))
    }

    /// Returns the session of a cookie, unless it has ended or its tenant is being deleted.
    pub async fn portal_session(&self, cookie: &str) -> Result<Option<PortalSession>, StoreError> {
        if !cookie.starts_with(PORTAL_SESSION_PREFIX) {
            return Ok(None);
        }
        let found = self.backend.portal_session(credential_hash(cookie)).await?;
        Ok(found.filter(|session| self.catalog().tenant(&session.tenant).is_some()))
    }

    /// Ends a session.
    pub async fn end_portal_session(&self, cookie: &str) -> Result<(), StoreError> {
        self.backend.delete_portal_session(credential_hash(cookie)).await
    }

    /// Ends all links and sessions of a tenant.
    pub async fn end_portal(&self, actor: Actor, tenant: TenantId) -> Result<EndedPortal, StoreError> {
        self.backend.end_portal(actor, tenant).await
    }
}
