//! Routes of links to the portal.

use super::ApiState;
use super::extract::Json as Input;
use crate::operations::{Access, Admin, NewPortalLink, PortalEndBody, PortalLinkBody, Problem, ToManage};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

/// Create a link that signs its first user in to the portal of the tenant.
#[utoipa::path(post, path = "/v1/tenants/{t}/portal-links", tag = "access", operation_id = "create_portal_link", params(("t" = String, Path)), request_body = NewPortalLink, responses((status = 201, body = PortalLinkBody)))]
pub(super) async fn create(
    access: Access<ToManage>,
    admin: Admin,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewPortalLink>,
) -> Result<(StatusCode, Json<PortalLinkBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_portal_link(&access, &admin, new).await?)))
}

/// End all links and sessions of the tenant's portal.
#[utoipa::path(delete, path = "/v1/tenants/{t}/portal-links", tag = "access", operation_id = "end_portal_sessions", params(("t" = String, Path)), responses((status = 200, body = PortalEndBody)))]
pub(super) async fn end(
    access: Access<ToManage>,
    admin: Admin,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<PortalEndBody>, Problem> {
    Ok(Json(state.operations.end_portal_sessions(&access, &admin).await?))
}
