//! Routes of admin keys, of a tenant's keys and intake tokens, and of links for signing in.

use super::ApiState;
use super::extract::{Item, Json as Input, Params};
use super::paging::{Page, PageParams};
use crate::operations::{
    Access, Admin, KeyBody, LinkBody, NewAdminKey, NewKey, NewToken, Problem, ToManage, TokenBody,
};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;
use uuid::Uuid;

/// List the tenant's keys.
#[utoipa::path(get, path = "/v1/tenants/{t}/keys", tag = "access", operation_id = "list_keys", params(("t" = String, Path), PageParams), responses((status = 200, body = [KeyBody])))]
pub(super) async fn list_keys(
    access: Access<ToManage>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<KeyBody>, Problem> {
    Ok(page.of(state.operations.list_keys(&access).await?, |key: &KeyBody| key.id.to_string()))
}

/// Create a key.
#[utoipa::path(post, path = "/v1/tenants/{t}/keys", tag = "access", operation_id = "create_key", params(("t" = String, Path)), request_body = NewKey, responses((status = 201, body = KeyBody)))]
pub(super) async fn create_key(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewKey>,
) -> Result<(StatusCode, Json<KeyBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_key(&access, new).await?)))
}

/// Revoke a key.
#[utoipa::path(delete, path = "/v1/tenants/{t}/keys/{id}", tag = "access", operation_id = "revoke_key", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn revoke_key(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.revoke_key(&access, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the admin keys.
#[utoipa::path(get, path = "/v1/keys", tag = "access", operation_id = "list_admin_keys", params(PageParams), responses((status = 200, body = [KeyBody])))]
pub(super) async fn list_admin_keys(
    admin: Admin,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<KeyBody>, Problem> {
    Ok(page.of(state.operations.list_admin_keys(&admin).await?, |key: &KeyBody| key.id.to_string()))
}

/// Create an admin key.
#[utoipa::path(post, path = "/v1/keys", tag = "access", operation_id = "create_admin_key", request_body = NewAdminKey, responses((status = 201, body = KeyBody)))]
pub(super) async fn create_admin_key(
    admin: Admin,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewAdminKey>,
) -> Result<(StatusCode, Json<KeyBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_admin_key(&admin, new).await?)))
}

/// Revoke an admin key, except the last one.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "access", operation_id = "revoke_admin_key", params(("id" = Uuid, Path)), responses((status = 204), (status = 409, body = Problem)))]
pub(super) async fn revoke_admin_key(
    admin: Admin,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.revoke_admin_key(&admin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the tenant's intake tokens.
#[utoipa::path(get, path = "/v1/tenants/{t}/intake-tokens", tag = "access", operation_id = "list_intake_tokens", params(("t" = String, Path), PageParams), responses((status = 200, body = [TokenBody])))]
pub(super) async fn list_tokens(
    access: Access<ToManage>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Page<TokenBody> {
    let tokens = state.operations.list_intake_tokens(&access);
    page.of(tokens, |token| token.id.to_string()).shown(|token| TokenBody::known(&token))
}

/// Create an intake token.
#[utoipa::path(post, path = "/v1/tenants/{t}/intake-tokens", tag = "access", operation_id = "create_intake_token", params(("t" = String, Path)), request_body = NewToken, responses((status = 201, body = TokenBody)))]
pub(super) async fn create_token(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewToken>,
) -> Result<(StatusCode, Json<TokenBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_intake_token(&access, new).await?)))
}

/// Revoke an intake token.
#[utoipa::path(delete, path = "/v1/tenants/{t}/intake-tokens/{id}", tag = "access", operation_id = "revoke_intake_token", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn revoke_token(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.operations.revoke_intake_token(&access, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace an intake token by a new one. The old one stops working at once.
#[utoipa::path(post, path = "/v1/tenants/{t}/intake-tokens/{id}/rotate", tag = "access", operation_id = "rotate_intake_token", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 201, body = TokenBody)))]
pub(super) async fn rotate_token(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<TokenBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.rotate_intake_token(&access, id).await?)))
}

/// Create a link that signs its first user in to the pages with the key of the request.
#[utoipa::path(post, path = "/v1/sign-in-links", tag = "access", operation_id = "create_sign_in_link", responses((status = 201, body = LinkBody)))]
pub(super) async fn create_link(
    admin: Admin,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<LinkBody>), Problem> {
    Ok((StatusCode::CREATED, Json(state.operations.create_sign_in_link(&admin).await?)))
}
