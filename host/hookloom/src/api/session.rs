//! Route that creates links for signing in to the pages.

use super::ApiState;
use super::extract::Admin;
use super::problem::Problem;
use crate::access::ApiKey;
use crate::url_path::UrlPath;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Link that signs in once, within a day.
#[derive(Serialize, ToSchema)]
pub(super) struct LinkBody {
    /// Path after the host's public address.
    path: String,
    /// Whole link. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// Create a link that signs its first user in to the pages with the key of the request.
#[utoipa::path(post, path = "/v1/sign-in-links", tag = "access", operation_id = "create_sign_in_link", responses((status = 201, body = LinkBody)))]
pub(super) async fn create_link(
    admin: Admin,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<LinkBody>), Problem> {
    let token = state.store.create_sign_in_link(admin.actor(), ApiKey::clone(&admin.0)).await?;
    let path = sign_in_path(&token);
    Ok((StatusCode::CREATED, Json(LinkBody { url: state.public_link(&path), path: path.to_string() })))
}

/// Returns the path of a link with this token.
pub fn sign_in_path(token: &str) -> UrlPath {
    UrlPath::root().then("sign-in").query("token", token)
}
