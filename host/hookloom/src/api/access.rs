//! Routes of admin keys, and of a tenant's keys and intake tokens. The text of each is shown once, in the answer to its creation.

use super::ApiState;
use super::extract::{Access, Admin, Item, Json as Input, Params, ToManage};
use super::paging::{Page, PageParams};
use super::problem::Problem;
use crate::access::{ApiKey, IntakeToken, Scope};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// API key.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyBody {
    id: Uuid,
    /// First characters, by which keys are told apart.
    hint: String,
    scopes: Vec<Scope>,
    label: String,
    created_at_ms: i64,
    /// Time of the last use, to the minute. Absent: never used.
    used_at_ms: Option<i64>,
    /// Text of the key, only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

impl KeyBody {
    fn new(key: &ApiKey, used_at_ms: Option<i64>, text: Option<String>) -> Self {
        let ApiKey { id, scopes, hint, label, created_at_ms, .. } = key.clone();
        KeyBody { id, hint, scopes, label, created_at_ms, used_at_ms, key: text }
    }

    async fn list(state: &ApiState, tenant: Option<&TenantId>) -> Result<Vec<Self>, Problem> {
        let keys = state.store.catalog().keys(tenant);
        let used = state.store.keys_used_at_ms(&keys).await?;
        Ok(keys.iter().map(|key| KeyBody::new(key, used.get(&key.id).copied(), None)).collect())
    }
}

/// Key to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// Permissions of the key; `manage` includes the others.
    pub(super) scopes: Vec<Scope>,
    /// Name for people.
    #[serde(default)]
    pub(super) label: String,
}

/// Maximum number of keys, and of intake tokens, of a tenant.
const CREDENTIALS_MAX: usize = 100;

fn checked_label(label: String) -> Result<String, Problem> {
    if label.len() <= 200 { Ok(label) } else { Err(Problem::field("/label", "at most 200 bytes")) }
}

/// Removes repeated scopes.
fn distinct(scopes: Vec<Scope>) -> Vec<Scope> {
    let mut distinct = Vec::new();
    for scope in scopes {
        if !distinct.contains(&scope) {
            distinct.push(scope);
        }
    }
    distinct
}

/// List the tenant's keys.
#[utoipa::path(get, path = "/v1/tenants/{t}/keys", tag = "access", operation_id = "list_keys", params(("t" = String, Path), PageParams), responses((status = 200, body = [KeyBody])))]
pub(super) async fn list_keys(
    access: Access<ToManage>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<KeyBody>, Problem> {
    Ok(page.of(KeyBody::list(&state, Some(&access.tenant)).await?, |key: &KeyBody| key.id.to_string()))
}

/// Create a key.
#[utoipa::path(post, path = "/v1/tenants/{t}/keys", tag = "access", operation_id = "create_key", params(("t" = String, Path)), request_body = NewKey, responses((status = 201, body = KeyBody)))]
pub(super) async fn create_key(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewKey>,
) -> Result<(StatusCode, Json<KeyBody>), Problem> {
    if state.store.catalog().keys(Some(&access.tenant)).len() >= CREDENTIALS_MAX {
        return Err(Problem::too_many("keys", CREDENTIALS_MAX));
    }
    let label = checked_label(new.label)?;
    let actor = access.actor();
    let (key, text) = state.store.create_key(actor, Some(access.tenant), distinct(new.scopes), label).await?;
    Ok((StatusCode::CREATED, Json(KeyBody::new(&key, None, Some(text)))))
}

/// Revoke a key.
#[utoipa::path(delete, path = "/v1/tenants/{t}/keys/{id}", tag = "access", operation_id = "revoke_key", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn revoke_key(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.revoke_key(access.actor(), Some(access.tenant), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Admin key to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAdminKey {
    /// Name for people.
    #[serde(default)]
    label: String,
}

/// List the admin keys.
#[utoipa::path(get, path = "/v1/keys", tag = "access", operation_id = "list_admin_keys", params(PageParams), responses((status = 200, body = [KeyBody])))]
pub(super) async fn list_admin_keys(
    _: Admin,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Page<KeyBody>, Problem> {
    Ok(page.of(KeyBody::list(&state, None).await?, |key: &KeyBody| key.id.to_string()))
}

/// Create an admin key.
#[utoipa::path(post, path = "/v1/keys", tag = "access", operation_id = "create_admin_key", request_body = NewAdminKey, responses((status = 201, body = KeyBody)))]
pub(super) async fn create_admin_key(
    admin: Admin,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewAdminKey>,
) -> Result<(StatusCode, Json<KeyBody>), Problem> {
    let label = checked_label(new.label)?;
    let (key, text) = state.store.create_key(admin.actor(), None, Vec::new(), label).await?;
    Ok((StatusCode::CREATED, Json(KeyBody::new(&key, None, Some(text)))))
}

/// Revoke an admin key, except the last one.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "access", operation_id = "revoke_admin_key", params(("id" = Uuid, Path)), responses((status = 204), (status = 409, body = Problem)))]
pub(super) async fn revoke_admin_key(
    admin: Admin,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    let keys = state.store.catalog().keys(None);
    if keys.len() == 1 && keys[0].id == id {
        return Err(Problem::new(StatusCode::CONFLICT, "last-admin-key", "this is the only admin key")
            .remedy("make another one first: POST /v1/keys"));
    }
    state.store.revoke_key(admin.actor(), None, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Intake token.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenBody {
    id: Uuid,
    /// First characters, by which tokens are told apart.
    hint: String,
    label: String,
    created_at_ms: i64,
    /// Path of the Notify URL for Agile CRM, after the host's public address. Only in the answer to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// Whole address. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl TokenBody {
    /// Returns a token without its text, which is not stored.
    fn known(token: &IntakeToken) -> Self {
        let IntakeToken { id, hint, label, created_at_ms, .. } = token.clone();
        TokenBody { id, hint, label, created_at_ms, path: None, url: None }
    }

    /// Returns a new token with its address.
    fn made(token: &IntakeToken, text: &str, state: &ApiState) -> Self {
        let path = UrlPath::of_intake(text);
        TokenBody { url: state.public_link(&path), path: Some(path.to_string()), ..TokenBody::known(token) }
    }
}

/// Returns the address of an intake token for the pages, without the unknown part.
pub(super) fn shown_address(token: &IntakeToken, state: &ApiState) -> String {
    let base = state.config.public_url.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{base}/in/{}… {}", token.hint, token.label)
}

/// Intake token to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// Name for people.
    #[serde(default)]
    pub(super) label: String,
}

/// List the tenant's intake tokens.
#[utoipa::path(get, path = "/v1/tenants/{t}/intake-tokens", tag = "access", operation_id = "list_intake_tokens", params(("t" = String, Path), PageParams), responses((status = 200, body = [TokenBody])))]
pub(super) async fn list_tokens(
    access: Access<ToManage>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Page<TokenBody> {
    let tokens = state.store.catalog().tokens(&access.tenant);
    page.of(tokens, |token| token.id.to_string()).shown(|token| TokenBody::known(&token))
}

/// Create an intake token.
#[utoipa::path(post, path = "/v1/tenants/{t}/intake-tokens", tag = "access", operation_id = "create_intake_token", params(("t" = String, Path)), request_body = NewToken, responses((status = 201, body = TokenBody)))]
pub(super) async fn create_token(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(new): Input<NewToken>,
) -> Result<(StatusCode, Json<TokenBody>), Problem> {
    if state.store.catalog().tokens(&access.tenant).len() >= CREDENTIALS_MAX {
        return Err(Problem::too_many("intake tokens", CREDENTIALS_MAX));
    }
    let label = checked_label(new.label)?;
    let (token, text) = state.store.create_token(access.actor(), access.tenant, label).await?;
    Ok((StatusCode::CREATED, Json(TokenBody::made(&token, &text, &state))))
}

/// Revoke an intake token.
#[utoipa::path(delete, path = "/v1/tenants/{t}/intake-tokens/{id}", tag = "access", operation_id = "revoke_intake_token", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn revoke_token(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.revoke_token(access.actor(), access.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace an intake token by a new one. The old one stops working at once.
#[utoipa::path(post, path = "/v1/tenants/{t}/intake-tokens/{id}/rotate", tag = "access", operation_id = "rotate_intake_token", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 201, body = TokenBody)))]
pub(super) async fn rotate_token(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<TokenBody>), Problem> {
    let (token, text) = state.store.rotate_token(access.actor(), access.tenant, id).await?;
    Ok((StatusCode::CREATED, Json(TokenBody::made(&token, &text, &state))))
}
