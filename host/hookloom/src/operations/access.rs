//! Admin keys, keys and intake tokens of tenants, and links for signing in. The text of each is shown once, in the answer to its creation.

use super::{Access, Admin, Operations, Problem, ToManage};
use crate::access::{ApiKey, IntakeToken, Scope};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// API key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyBody {
    pub(crate) id: Uuid,
    /// First characters, by which keys are told apart.
    hint: String,
    scopes: Vec<Scope>,
    label: String,
    created_at_ms: i64,
    /// Time of the last use, to the minute. Absent: never used.
    used_at_ms: Option<i64>,
    /// Text of the key, only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl KeyBody {
    fn new(key: &ApiKey, used_at_ms: Option<i64>, text: Option<String>) -> Self {
        let ApiKey { id, scopes, hint, label, created_at_ms, .. } = key.clone();
        KeyBody { id, hint, scopes, label, created_at_ms, used_at_ms, key: text }
    }

    async fn list(operations: &Operations, tenant: Option<&TenantId>) -> Result<Vec<Self>, Problem> {
        let keys = operations.store.catalog().keys(tenant);
        let used = operations.store.keys_used_at_ms(&keys).await?;
        Ok(keys.iter().map(|key| KeyBody::new(key, used.get(&key.id).copied(), None)).collect())
    }
}

/// Key to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// Permissions of the key; `manage` includes the others.
    pub(crate) scopes: Vec<Scope>,
    /// Name for people.
    #[serde(default)]
    pub(crate) label: String,
}

/// Maximum number of keys, and of intake tokens, of a tenant.
pub(crate) const CREDENTIALS_MAX: usize = 100;

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

/// Admin key to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAdminKey {
    /// Name for people.
    #[serde(default)]
    pub(crate) label: String,
}

/// Intake token.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenBody {
    pub(crate) id: Uuid,
    /// First characters, by which tokens are told apart.
    hint: String,
    label: String,
    created_at_ms: i64,
    /// Path of the Notify URL for Agile CRM, after the host's public address. Only in the answer to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Whole address. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl TokenBody {
    /// Returns a token without its text, which is not stored.
    pub(crate) fn known(token: &IntakeToken) -> Self {
        let IntakeToken { id, hint, label, created_at_ms, .. } = token.clone();
        TokenBody { id, hint, label, created_at_ms, path: None, url: None }
    }

    /// Returns a new token with its address.
    fn made(token: &IntakeToken, text: &str, operations: &Operations) -> Self {
        let path = UrlPath::of_intake(text);
        TokenBody { url: operations.public_link(&path), path: Some(path.to_string()), ..TokenBody::known(token) }
    }
}

/// Intake token to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Name for people.
    #[serde(default)]
    pub(crate) label: String,
}

/// Link that signs in once, within a day.
#[derive(Serialize, ToSchema)]
pub(crate) struct LinkBody {
    /// Path after the host's public address.
    path: String,
    /// Whole link. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// Returns the path of a link with this token.
pub(crate) fn sign_in_path(token: &str) -> UrlPath {
    UrlPath::root().then("sign-in").query("token", token)
}

impl Operations {
    /// Lists the tenant's keys.
    pub(crate) async fn list_keys(&self, access: &Access<ToManage>) -> Result<Vec<KeyBody>, Problem> {
        KeyBody::list(self, Some(&access.tenant)).await
    }

    /// Creates a key.
    pub(crate) async fn create_key(&self, access: &Access<ToManage>, new: NewKey) -> Result<KeyBody, Problem> {
        let tenant = access.tenant.clone();
        if self.store.catalog().keys(Some(&tenant)).len() >= CREDENTIALS_MAX {
            return Err(Problem::too_many("keys", CREDENTIALS_MAX));
        }
        let label = checked_label(new.label)?;
        let (key, text) = self.store.create_key(access.actor(), Some(tenant), distinct(new.scopes), label).await?;
        Ok(KeyBody::new(&key, None, Some(text)))
    }

    /// Revokes a key.
    pub(crate) async fn revoke_key(&self, access: &Access<ToManage>, id: Uuid) -> Result<(), Problem> {
        Ok(self.store.revoke_key(access.actor(), Some(access.tenant.clone()), id).await?)
    }

    /// Lists the admin keys.
    pub(crate) async fn list_admin_keys(&self, _: &Admin) -> Result<Vec<KeyBody>, Problem> {
        KeyBody::list(self, None).await
    }

    /// Creates an admin key.
    pub(crate) async fn create_admin_key(&self, admin: &Admin, new: NewAdminKey) -> Result<KeyBody, Problem> {
        let label = checked_label(new.label)?;
        let (key, text) = self.store.create_key(admin.actor(), None, Vec::new(), label).await?;
        Ok(KeyBody::new(&key, None, Some(text)))
    }

    /// Revokes an admin key, except the last one.
    pub(crate) async fn revoke_admin_key(&self, admin: &Admin, id: Uuid) -> Result<(), Problem> {
        let keys = self.store.catalog().keys(None);
        if keys.len() == 1 && keys[0].id == id {
            return Err(Problem::new(StatusCode::CONFLICT, "last-admin-key", "this is the only admin key")
                .remedy("make another one first: POST /v1/keys"));
        }
        Ok(self.store.revoke_key(admin.actor(), None, id).await?)
    }

    /// Lists the tenant's intake tokens.
    pub(crate) fn list_intake_tokens(&self, access: &Access<ToManage>) -> Vec<Arc<IntakeToken>> {
        self.store.catalog().tokens(&access.tenant)
    }

    /// Creates an intake token.
    pub(crate) async fn create_intake_token(
        &self,
        access: &Access<ToManage>,
        new: NewToken,
    ) -> Result<TokenBody, Problem> {
        let tenant = access.tenant.clone();
        if self.store.catalog().tokens(&tenant).len() >= CREDENTIALS_MAX {
            return Err(Problem::too_many("intake tokens", CREDENTIALS_MAX));
        }
        let label = checked_label(new.label)?;
        let (token, text) = self.store.create_token(access.actor(), tenant, label).await?;
        Ok(TokenBody::made(&token, &text, self))
    }

    /// Revokes an intake token.
    pub(crate) async fn revoke_intake_token(&self, access: &Access<ToManage>, id: Uuid) -> Result<(), Problem> {
        Ok(self.store.revoke_token(access.actor(), access.tenant.clone(), id).await?)
    }

    /// Replaces an intake token by a new one. The old one stops working at once.
    pub(crate) async fn rotate_intake_token(&self, access: &Access<ToManage>, id: Uuid) -> Result<TokenBody, Problem> {
        let (token, text) = self.store.rotate_token(access.actor(), access.tenant.clone(), id).await?;
        Ok(TokenBody::made(&token, &text, self))
    }

    /// Returns the address of an intake token for the pages, without the unknown part.
    pub(crate) fn shown_address(&self, token: &IntakeToken) -> String {
        let base = self.config.public_url.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{base}/in/{}… {}", token.hint, token.label)
    }

    /// Creates a link that signs its first user in to the pages with the admin's key.
    pub(crate) async fn create_sign_in_link(&self, admin: &Admin) -> Result<LinkBody, Problem> {
        let token = self.store.create_sign_in_link(admin.actor(), ApiKey::clone(&admin.0)).await?;
        let path = sign_in_path(&token);
        Ok(LinkBody { url: self.public_link(&path), path: path.to_string() })
    }
}
