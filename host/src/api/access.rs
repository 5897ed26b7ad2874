//! Routes of admin keys, and of a tenant's keys and intake tokens. Each text is shown once, in the answer to its making.

use super::ApiState;
use super::extract::{Access, Admin, Item, Json as Input, ToManage};
use super::problem::{FieldFault, Problem};
use crate::access::{ApiKey, IntakeToken, Scope};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// A key.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyBody {
    id: Uuid,
    /// The first characters, to tell keys apart.
    hint: String,
    scopes: Vec<Scope>,
    label: String,
    created_at_ms: i64,
    /// The key itself: only in the answer to its making.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl KeyBody {
    fn new(key: &ApiKey, text: Option<String>) -> Self {
        let ApiKey { id, scopes, hint, label, created_at_ms, .. } = key.clone();
        KeyBody { id, hint, scopes, label, created_at_ms, key: text }
    }
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// What it may do; `manage` includes the others.
    scopes: Vec<Scope>,
    /// A name for people.
    #[serde(default)]
    label: String,
}

/// How many keys, and how many intake tokens, a tenant may have.
const CREDENTIALS_MAX: usize = 100;

fn checked_label(label: String) -> Result<String, Problem> {
    let fault = || FieldFault { pointer: "/label".into(), detail: "at most 200 bytes".into() };
    if label.len() <= 200 { Ok(label) } else { Err(Problem::fields(vec![fault()])) }
}

/// The tenant's keys.
#[utoipa::path(get, path = "/v1/tenants/{t}/keys", tag = "access", params(("t" = String, Path)), responses((status = 200, body = [KeyBody])))]
pub(super) async fn list_keys(access: Access<ToManage>, State(state): State<Arc<ApiState>>) -> Json<Vec<KeyBody>> {
    Json(state.store.catalog().keys(Some(&access.tenant)).iter().map(|key| KeyBody::new(key, None)).collect())
}

/// Make a key.
#[utoipa::path(post, path = "/v1/tenants/{t}/keys", tag = "access", params(("t" = String, Path)), request_body = NewKey, responses((status = 201, body = KeyBody)))]
pub(super) async fn create_key(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewKey>,
) -> Result<(StatusCode, Json<KeyBody>), Problem> {
    if state.store.catalog().keys(Some(&access.tenant)).len() >= CREDENTIALS_MAX {
        return Err(Problem::too_many("keys", CREDENTIALS_MAX));
    }
    let (key, text) = state.store.create_key(Some(access.tenant), new.scopes, checked_label(new.label)?).await?;
    Ok((StatusCode::CREATED, Json(KeyBody::new(&key, Some(text)))))
}

/// End a key.
#[utoipa::path(delete, path = "/v1/tenants/{t}/keys/{id}", tag = "access", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn revoke_key(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.revoke_key(Some(access.tenant), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An admin key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAdminKey {
    /// A name for people.
    #[serde(default)]
    label: String,
}

/// The admin keys.
#[utoipa::path(get, path = "/v1/keys", tag = "access", responses((status = 200, body = [KeyBody])))]
pub(super) async fn list_admin_keys(_: Admin, State(state): State<Arc<ApiState>>) -> Json<Vec<KeyBody>> {
    Json(state.store.catalog().keys(None).iter().map(|key| KeyBody::new(key, None)).collect())
}

/// Make an admin key.
#[utoipa::path(post, path = "/v1/keys", tag = "access", request_body = NewAdminKey, responses((status = 201, body = KeyBody)))]
pub(super) async fn create_admin_key(
    _: Admin,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewAdminKey>,
) -> Result<(StatusCode, Json<KeyBody>), Problem> {
    let (key, text) = state.store.create_key(None, Vec::new(), checked_label(new.label)?).await?;
    Ok((StatusCode::CREATED, Json(KeyBody::new(&key, Some(text)))))
}

/// End an admin key, but not the last one.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "access", params(("id" = Uuid, Path)), responses((status = 204), (status = 409, body = Problem)))]
pub(super) async fn revoke_admin_key(
    _: Admin,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    let keys = state.store.catalog().keys(None);
    if keys.len() == 1 && keys[0].id == id {
        return Err(Problem::new(StatusCode::CONFLICT, "last-admin-key", "this is the only admin key")
            .remedy("make another one first: POST /v1/keys"));
    }
    state.store.revoke_key(None, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An intake token.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenBody {
    id: Uuid,
    /// The first characters, to tell tokens apart.
    hint: String,
    label: String,
    created_at_ms: i64,
    /// The path to enter as Notify URL in Agile CRM, behind this host's public address: only in the answer to its making.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl TokenBody {
    fn new(token: &IntakeToken, text: Option<&str>) -> Self {
        let IntakeToken { id, hint, label, created_at_ms, .. } = token.clone();
        TokenBody { id, hint, label, created_at_ms, path: text.map(|text| format!("/in/{text}")) }
    }
}

/// An intake token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// A name for people.
    #[serde(default)]
    label: String,
}

/// The tenant's intake tokens.
#[utoipa::path(get, path = "/v1/tenants/{t}/intake-tokens", tag = "access", params(("t" = String, Path)), responses((status = 200, body = [TokenBody])))]
pub(super) async fn list_tokens(access: Access<ToManage>, State(state): State<Arc<ApiState>>) -> Json<Vec<TokenBody>> {
    Json(state.store.catalog().tokens(&access.tenant).iter().map(|token| TokenBody::new(token, None)).collect())
}

/// Make an intake token.
#[utoipa::path(post, path = "/v1/tenants/{t}/intake-tokens", tag = "access", params(("t" = String, Path)), request_body = NewToken, responses((status = 201, body = TokenBody)))]
pub(super) async fn create_token(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewToken>,
) -> Result<(StatusCode, Json<TokenBody>), Problem> {
    if state.store.catalog().tokens(&access.tenant).len() >= CREDENTIALS_MAX {
        return Err(Problem::too_many("intake tokens", CREDENTIALS_MAX));
    }
    let (token, text) = state.store.create_token(access.tenant, checked_label(new.label)?, None).await?;
    Ok((StatusCode::CREATED, Json(TokenBody::new(&token, Some(&text)))))
}

/// End an intake token.
#[utoipa::path(delete, path = "/v1/tenants/{t}/intake-tokens/{id}", tag = "access", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn revoke_token(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.revoke_token(access.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a new token in place of an old one. The old one stops working at once.
#[utoipa::path(post, path = "/v1/tenants/{t}/intake-tokens/{id}/rotate", tag = "access", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 201, body = TokenBody)))]
pub(super) async fn rotate_token(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<TokenBody>), Problem> {
    let old = state.store.catalog().tokens(&access.tenant).into_iter().find(|token| token.id == id);
    let old = old.ok_or_else(|| Problem::not_found("intake token"))?;
    let (token, text) = state.store.create_token(access.tenant, old.label.clone(), Some(id)).await?;
    Ok((StatusCode::CREATED, Json(TokenBody::new(&token, Some(&text)))))
}
