//! Customer of a platform who has a session of the portal.
//!
//! # Guarantees
//! - Only the router of the portal adds a visitor to a request, so that no other route knows the cookie of the portal.
//! - A visitor acts as a key of one tenant, which is stored nowhere and opens no route of the REST API.

use crate::access::{ApiKey, Session};
use crate::api::ApiState;
use crate::api::cookies;
use crate::store::StoreError;
use hookloom_model::portal::PortalSession;
use http::HeaderMap;
use std::sync::Arc;

/// Customer with a session of the portal.
#[derive(Clone)]
pub(super) struct PortalVisitor {
    pub(super) portal: Arc<PortalSession>,
    /// The session as forms need it.
    pub(super) session: Arc<Session>,
    pub(super) key: Arc<ApiKey>,
    pub(super) cookie: String,
}

impl PortalVisitor {
    /// Returns the visitor of the cookie in these headers. None: there is no session.
    pub(super) async fn of(state: &ApiState, headers: &HeaderMap) -> Result<Option<Self>, StoreError> {
        let Some(cookie) = cookies::portal_session(headers) else { return Ok(None) };
        let cookie = cookie.to_owned();
        let found = state.operations.store.portal_session(&cookie).await?;
        Ok(found.map(|portal| PortalVisitor {
            session: Arc::new(Session {
                key: portal.id,
                csrf: portal.csrf.clone(),
                expires_at_ms: portal.expires_at_ms,
            }),
            key: Arc::new(portal.key()),
            portal: Arc::new(portal),
            cookie,
        }))
    }
}
