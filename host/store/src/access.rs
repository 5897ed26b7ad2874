//! API keys, intake tokens, sessions of the pages, and sign-in links that work once. Only their hashes are stored.

use crate::audit::Actor;
use crate::backend::access::{CredentialHash, SESSION_LASTS, USED_STEP};
use crate::{Store, StoreError};
use delegate::delegate;
use hookloom_model::access::{
    ApiKey, GIVEN_BY, GIVEN_HINT, IntakeToken, KEY_PREFIX, SESSION_PREFIX, SIGN_IN_PREFIX, Scope, Session,
    TOKEN_PREFIX, credential_hash, new_credential,
};
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Lifetime of a sign-in link.
const LINK_LASTS: Duration = Duration::from_secs(24 * 3_600);

fn end_of(lasts: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX))
}

impl Store {
    delegate! {
        to self.backend {
            /// Deletes a key of a tenant (None: an admin key) with its sessions.
            pub async fn revoke_key(&self, actor: Actor, tenant: Option<TenantId>, id: Uuid) -> Result<(), StoreError>;

            /// Deletes an intake token.
            pub async fn revoke_token(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError>;
        }
    }

    /// Creates a key and returns its text, which cannot be read again.
    pub async fn create_key(
        &self,
        actor: Actor,
        tenant: Option<TenantId>,
        scopes: Vec<Scope>,
        label: String,
    ) -> Result<(ApiKey, String), StoreError> {
        let (text, hash, hint) = new_credential(KEY_PREFIX);
        let key = ApiKey { id: ids::new_uuid(), tenant, scopes, hint, label, created_at_ms: now_ms() };
        Ok((self.backend.put_key(actor, hash, key).await?, text))
    }

    /// Makes `text` the only admin key that was given by the operator. Keys given at earlier starts stop working.
    pub async fn give_admin_key(&self, text: &str) -> Result<(), StoreError> {
        let hash = credential_hash(text);
        for old in self.catalog().keys(None).iter().filter(|key| key.is_given()) {
            if self.catalog().key(&hash).is_some_and(|same| same.id == old.id) {
                return Ok(());
            }
            self.revoke_key(Actor::Host, None, old.id).await?;
        }
        let key = ApiKey {
            id: ids::new_uuid(),
            tenant: None,
            scopes: Vec::new(),
            hint: GIVEN_HINT.to_owned(),
            label: format!("given by {GIVEN_BY}"),
            created_at_ms: now_ms(),
        };
        self.backend.put_key(Actor::Host, hash, key).await.map(drop)
    }

    /// Returns the time of last use of each of these keys, in milliseconds since the epoch, to the minute.
    pub async fn keys_used_at_ms(&self, keys: &[Arc<ApiKey>]) -> Result<HashMap<Uuid, i64>, StoreError> {
        let tenant = keys.first().and_then(|key| key.tenant.clone());
        let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
        let mut used = self.backend.keys_used_at_ms(tenant, ids.clone()).await?;
        used.extend(ids.into_iter().filter_map(|id| Some((id, self.catalog().used_at_ms(id)?))));
        Ok(used)
    }

    /// Writes the times of last use of keys.
    pub(crate) async fn flush_used_keys(&self) -> Result<(), StoreError> {
        let mut used: Vec<(Uuid, i64)> = self.catalog().take_used().into_iter().collect();
        while !used.is_empty() {
            let step = used.split_off(used.len().saturating_sub(USED_STEP));
            self.backend.note_keys_used(step).await?;
        }
        Ok(())
    }

    /// Creates an intake token and returns its text, which cannot be read again.
    pub async fn create_token(
        &self,
        actor: Actor,
        tenant: TenantId,
        label: String,
    ) -> Result<(IntakeToken, String), StoreError> {
        self.put_token(actor, tenant, label, None).await
    }

    /// Replaces an intake token by a new one with the same label. Returns the new one and its text, which cannot be read again.
    pub async fn rotate_token(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: Uuid,
    ) -> Result<(IntakeToken, String), StoreError> {
        let old = self.catalog().tokens(&tenant).into_iter().find(|token| token.id == id);
        let old = old.ok_or(StoreError::NotFound("intake token"))?;
        self.put_token(actor, tenant, old.label.clone(), Some(old)).await
    }

    async fn put_token(
        &self,
        actor: Actor,
        tenant: TenantId,
        label: String,
        replaces: Option<Arc<IntakeToken>>,
    ) -> Result<(IntakeToken, String), StoreError> {
        let (text, hash, hint) = new_credential(TOKEN_PREFIX);
        let token = IntakeToken { id: ids::new_uuid(), tenant, hint, label, created_at_ms: now_ms() };
        Ok((self.backend.put_token(actor, hash, token, replaces).await?, text))
    }

    /// Signs in with a key, which is the author of the entry, from an address. Returns the text of the cookie, which cannot be read
    /// again.
    pub async fn sign_in(&self, key: Arc<ApiKey>, from: IpAddr) -> Result<String, StoreError> {
        let (text, hash, _) = new_credential(SESSION_PREFIX);
        let (csrf, _, _) = new_credential("");
        let session = Session { key: key.id, csrf, expires_at_ms: end_of(SESSION_LASTS) };
        self.backend.put_session(key, hash, session, from).await?;
        Ok(text)
    }

    /// Ends a session.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), StoreError> {
        self.backend.delete_session(credential_hash(cookie)).await
    }

    /// Creates a link that signs in once with a key, and returns its token.
    pub async fn create_sign_in_link(&self, actor: Actor, key: ApiKey) -> Result<String, StoreError> {
        let (text, hash, _) = new_credential(SIGN_IN_PREFIX);
        self.backend.put_sign_in_link(actor, key, hash, end_of(LINK_LASTS)).await?;
        Ok(text)
    }

    /// Uses a link, and returns its key. None: the link was used, has expired, or does not exist.
    pub async fn use_sign_in_link(&self, token: &str) -> Result<Option<Uuid>, StoreError> {
        let hash: CredentialHash = credential_hash(token);
        self.backend.use_sign_in_link(hash).await
    }
}
