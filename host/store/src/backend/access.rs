//! API keys, intake tokens, sessions and sign-in links. Only their hashes are stored.

use crate::StoreError;
use crate::audit::Actor;
use async_trait::async_trait;
use hookloom_model::access::{ApiKey, IntakeToken, Session};
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Lifetime of a session.
pub const SESSION_LASTS: Duration = Duration::from_secs(12 * 3_600);

/// Maximum number of sessions of a key, and of its links. The oldest ones are deleted.
pub(crate) const PER_KEY_MAX: usize = 100;

/// Maximum number of expired sessions that a sign-in deletes, and of expired links that a new link deletes. More than it creates.
pub(crate) const EXPIRED: usize = 16;

/// Maximum number of keys whose last use is written at once.
pub(crate) const USED_STEP: usize = 256;

/// Hash of a key, a token, a cookie or a link.
pub type CredentialHash = [u8; 32];

/// Keys and intake tokens.
#[async_trait]
pub trait CredentialBackend: Send + Sync {
    /// Stores a key. A key with the same hash is replaced.
    async fn put_key(&self, actor: Actor, hash: CredentialHash, key: ApiKey) -> Result<ApiKey, StoreError>;

    /// Returns the stored times of last use of these keys, in milliseconds since the epoch.
    async fn keys_used_at_ms(
        &self,
        tenant: Option<TenantId>,
        keys: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, i64>, StoreError>;

    /// Stores times of last use of at most [`USED_STEP`] keys. Keys that are gone are left out.
    async fn note_keys_used(&self, used: Vec<(Uuid, i64)>) -> Result<(), StoreError>;

    /// Deletes a key of a tenant (None: an admin key) with its sessions and links.
    async fn revoke_key(&self, actor: Actor, tenant: Option<TenantId>, id: Uuid) -> Result<(), StoreError>;

    /// Stores an intake token, in the place of another one if one is given.
    async fn put_token(
        &self,
        actor: Actor,
        hash: CredentialHash,
        token: IntakeToken,
        replaces: Option<Arc<IntakeToken>>,
    ) -> Result<IntakeToken, StoreError>;

    /// Deletes an intake token.
    async fn revoke_token(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError>;
}

/// Sessions and sign-in links.
#[async_trait]
pub trait SessionBackend: Send + Sync {
    /// Stores a session of a key, which is the author of the entry, and deletes the oldest sessions of the key above [`PER_KEY_MAX`].
    async fn put_session(
        &self,
        key: Arc<ApiKey>,
        hash: CredentialHash,
        session: Session,
        from: IpAddr,
    ) -> Result<(), StoreError>;

    /// Deletes a session.
    async fn delete_session(&self, hash: CredentialHash) -> Result<(), StoreError>;

    /// Stores a link that signs in once with a key, and deletes the oldest links of the key above [`PER_KEY_MAX`].
    async fn put_sign_in_link(
        &self,
        actor: Actor,
        key: ApiKey,
        hash: CredentialHash,
        expires_at_ms: i64,
    ) -> Result<(), StoreError>;

    /// Deletes a link, and returns its key. None: it does not exist, or it has expired.
    async fn use_sign_in_link(&self, hash: CredentialHash) -> Result<Option<Uuid>, StoreError>;
}
