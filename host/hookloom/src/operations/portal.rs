//! Links to the portal, in which a customer of a platform sees one tenant.
//!
//! # Guarantees
//! - A link is not one of the tenant's keys: neither their maximum number nor a used-up share refuses one.

use super::{Access, Admin, Operations, Problem, ToManage, fault};
use crate::store::PortalTerms;
use crate::url_path::UrlPath;
use hookloom_model::portal::{self, EndedPortal, LINK_S, LINK_S_RANGE, SESSION_S, SESSION_S_RANGE};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use utoipa::ToSchema;
use uuid::Uuid;

/// Link to the portal to create.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewPortalLink {
    /// Time in which the link can be used, in seconds: 10 to 86,400. Absent: 600.
    pub(crate) expires_in_s: Option<u32>,
    /// Duration of the session that the link begins, in seconds: 60 to 86,400. Absent: 3,600.
    pub(crate) session_s: Option<u32>,
    /// True: the session sees everything of the portal and changes nothing.
    pub(crate) read_only: bool,
    /// Page of the platform that the portal leads back to, at one of the origins of the setting `portal_origins`.
    pub(crate) return_url: Option<String>,
}

/// Link that signs in to the portal of a tenant once.
#[derive(Serialize, ToSchema)]
pub(crate) struct PortalLinkBody {
    /// Id of the link and of its session, for the change log.
    id: Uuid,
    /// Path after the host's public address.
    pub(crate) path: String,
    /// Whole link. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Time from which the link does not work, in milliseconds since the epoch.
    expires_at_ms: i64,
    /// Duration of the session that the link begins, in seconds.
    session_s: u32,
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_url: Option<String>,
}

/// Links and sessions of the portal that were ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct PortalEndBody {
    /// Links that were not used.
    pub(crate) links: u64,
    /// Sessions that were open.
    pub(crate) sessions: u64,
}

impl From<EndedPortal> for PortalEndBody {
    fn from(ended: EndedPortal) -> Self {
        PortalEndBody { links: ended.links, sessions: ended.sessions }
    }
}

/// Returns the path of a link with this token.
fn portal_path(token: &str) -> UrlPath {
    UrlPath::root().then("portal").then("sign-in").query("token", token)
}

impl Operations {
    /// Creates a link that signs its first user in to the portal of the tenant.
    pub(crate) async fn create_portal_link(
        &self,
        access: &Access<ToManage>,
        admin: &Admin,
        new: NewPortalLink,
    ) -> Result<PortalLinkBody, Problem> {
        let mut faults = Vec::new();
        let mut within = |pointer: &str, given: Option<u32>, default: u32, range: RangeInclusive<u32>| {
            let value = given.unwrap_or(default);
            if !range.contains(&value) {
                faults.push(fault(pointer, format!("is {value}; it is between {} and {}", range.start(), range.end())));
            }
            value
        };
        let expires_in_s = within("/expires_in_s", new.expires_in_s, LINK_S, LINK_S_RANGE);
        let session_s = within("/session_s", new.session_s, SESSION_S, SESSION_S_RANGE);
        let return_url = new.return_url.map(|url| portal::return_url(&url, &self.config.portal_origins)).transpose();
        let return_url = return_url.unwrap_or_else(|detail| {
            faults.push(fault("/return_url", detail));
            None
        });
        if !faults.is_empty() {
            return Err(Problem::fields(faults));
        }
        let tenant = access.tenant.clone();
        let terms = PortalTerms { tenant, expires_in_s, session_s, is_read_only: new.read_only, return_url };
        let (link, token) = self.store.create_portal_link(admin.actor(), terms).await?;
        let path = portal_path(&token);
        Ok(PortalLinkBody {
            id: link.id,
            url: self.public_link(&path),
            path: path.to_string(),
            expires_at_ms: link.expires_at_ms,
            session_s: link.session_s,
            read_only: link.is_read_only,
            return_url: link.return_url,
        })
    }

    /// Ends all links and sessions of the tenant's portal.
    pub(crate) async fn end_portal_sessions(
        &self,
        access: &Access<ToManage>,
        admin: &Admin,
    ) -> Result<PortalEndBody, Problem> {
        Ok(self.store.end_portal(admin.actor(), access.tenant.clone()).await?.into())
    }
}
