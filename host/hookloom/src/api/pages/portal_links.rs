//! Links to the portal on the page *Access*, for operators.

use super::access::Once;
use super::user::{Posted, TenantUser};
use super::{PageError, go_to};
use crate::api::ApiState;
use crate::operations::{Admin, NewPortalLink, Problem};
use crate::plural::counted;
use crate::url_path::UrlPath;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use std::sync::Arc;

fn here(user: &TenantUser) -> UrlPath {
    UrlPath::pages_of(&user.tenant).then("access")
}

/// Creates a link, or ends all links and sessions.
pub(super) async fn act(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let admin = Admin::of(&user.user.key)?;
    let access = user.access(&state)?;
    match user.path.get("action") {
        "create" => {
            let wanted = NewPortalLink { read_only: form.has("read_only"), ..NewPortalLink::default() };
            let made = state.operations.create_portal_link(&access, &admin, wanted).await?;
            let path = UrlPath::local(&made.path).unwrap_or_else(UrlPath::root);
            let once =
                Once::text("Link to the portal, which works once within ten minutes", state.link_for(&headers, &path));
            Ok(state.notes.go_to(&user.user, &here(&user), "", once))
        }
        "end" => {
            let ended = state.operations.end_portal_sessions(&access, &admin).await?;
            let sessions = counted(ended.sessions, "session", "sessions");
            let links = counted(ended.links, "unused link", "unused links");
            Ok(go_to(&here(&user), &format!("The portal is closed: {sessions} and {links} were ended.")))
        }
        _ => Err(Problem::not_found("action").into()),
    }
}
