//! API keys and intake tokens in the database, which holds only their hashes.

use super::audit::{Actor, AuditAction};
use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::share::within_share;
use super::{Catalog, Store, StoreError};
use hookloom_model::access::{ApiKey, IntakeToken, KEY_PREFIX, Scope, TOKEN_PREFIX, credential_hash, new_credential};
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of keys whose last use is written in one transaction.
const USED_STEP: usize = 256;

impl Store {
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
        let key = self.put_key(actor, hash, key).await?;
        Ok((key, text))
    }

    /// Makes `text` the only admin key that was given by the operator. Keys given at earlier starts stop working.
    pub async fn give_admin_key(&self, text: &str) -> Result<(), StoreError> {
        const LABEL: &str = "given by HOOKLOOM_ADMIN_KEY";
        let hash = credential_hash(text);
        for old in self.catalog().keys(None).iter().filter(|key| key.label == LABEL) {
            if self.catalog().key(&hash).is_some_and(|same| same.id == old.id) {
                return Ok(());
            }
            self.revoke_key(Actor::Host, None, old.id).await?;
        }
        let key = ApiKey {
            id: ids::new_uuid(),
            tenant: None,
            scopes: Vec::new(),
            hint: "given".to_owned(),
            label: LABEL.to_owned(),
            created_at_ms: now_ms(),
        };
        self.put_key(Actor::Host, hash, key).await.map(drop)
    }

    async fn put_key(&self, actor: Actor, hash: [u8; 32], key: ApiKey) -> Result<ApiKey, StoreError> {
        let owner = Owner::from(key.tenant.as_ref());
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "INSERT INTO keys (id, tenant, hash, hint, scopes, label, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                       ON CONFLICT (hash) DO UPDATE SET id = ?1, label = ?6, revoked_at_ms = NULL";
            let tenant = key.tenant.as_ref().map(|tenant| tenant.0.to_string());
            let scopes = serde_json::to_string(&key.scopes)?;
            let row = params![key.id, tenant, hash, key.hint, scopes, key.label, key.created_at_ms];
            match &key.tenant {
                Some(tenant) => within_share(tx, tenant, share, |tx| Ok(tx.execute(sql, row)?))?,
                None => tx.execute(sql, row)?,
            };
            let action = if key.is_admin() { AuditAction::AdminKeyCreate(&key) } else { AuditAction::KeyCreate(&key) };
            tx.record(&actor, key.tenant.as_ref(), &action)?;
            Ok(key)
        };
        self.change(owner, write, move |catalog, key| catalog.put_key(hash, key.clone())).await
    }

    /// Returns the time of last use of each of these keys, in milliseconds since the epoch, to the minute.
    pub async fn keys_used_at_ms(&self, keys: &[Arc<ApiKey>]) -> Result<HashMap<Uuid, i64>, StoreError> {
        let owner = Owner::from(keys.first().and_then(|key| key.tenant.as_ref()));
        let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
        let catalog = self.catalog.clone();
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached("SELECT used_at_ms FROM keys WHERE id = ?1")?;
            let mut used = HashMap::new();
            for id in ids {
                let written: Option<i64> = statement.query_row([id], |row| row.get(0)).optional()?.flatten();
                used.extend(catalog.used_at_ms(id).or(written).map(|at_ms| (id, at_ms)));
            }
            Ok(used)
        };
        self.readers.read(owner, read).await
    }

    /// Writes the times of last use of keys.
    pub(super) async fn flush_used_keys(&self) -> Result<(), StoreError> {
        let mut used: Vec<(Uuid, i64)> = self.catalog.take_used().into_iter().collect();
        while !used.is_empty() {
            let step = used.split_off(used.len().saturating_sub(USED_STEP));
            let write = move |tx: &AdminTx<'_, '_>| {
                let mut statement = tx.prepare_cached("UPDATE keys SET used_at_ms = ?2 WHERE id = ?1")?;
                step.into_iter().try_for_each(|(id, at_ms)| Ok(statement.execute(params![id, at_ms]).map(drop)?))
            };
            self.write(Owner::Host, write).await?;
        }
        Ok(())
    }

    /// Deletes a key of a tenant (None: an admin key) with its sessions.
    pub async fn revoke_key(&self, actor: Actor, tenant: Option<TenantId>, id: Uuid) -> Result<(), StoreError> {
        let owner = Owner::from(tenant.as_ref());
        let catalog = self.catalog.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let key = catalog.key_by_id(id).filter(|key| key.tenant == tenant).ok_or(StoreError::NotFound("key"))?;
            delete_key(tx, id)?;
            let action = if key.is_admin() { AuditAction::AdminKeyRevoke(&key) } else { AuditAction::KeyRevoke(&key) };
            tx.record(&actor, tenant.as_ref(), &action)
        };
        self.change(owner, write, move |catalog, ()| catalog.remove_key(id)).await
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
        let old = self.catalog.tokens(&tenant).into_iter().find(|token| token.id == id);
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
        let owner = Owner::from(&tenant);
        let token = IntakeToken { id: ids::new_uuid(), tenant, hint, label, created_at_ms: now_ms() };
        let share = self.limits.share;
        let replaced_id = replaces.as_ref().map(|old| old.id);
        let write = move |tx: &AdminTx<'_, '_>| {
            let IntakeToken { id, tenant, hint, label, created_at_ms } = &token;
            within_share(tx, tenant, share, |tx| {
                if let Some(old) = &replaces {
                    end_token(tx, tenant, old.id)?;
                }
                let sql = "INSERT INTO intake_tokens (tenant, id, hash, hint, label, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                Ok(tx.execute(sql, params![&*tenant.0, id, hash, hint, label, created_at_ms])?)
            })?;
            let action = match &replaces {
                Some(before) => AuditAction::IntakeTokenRotate { before, after: &token },
                None => AuditAction::IntakeTokenCreate(&token),
            };
            tx.record(&actor, Some(tenant), &action)?;
            Ok(token)
        };
        let show = move |catalog: &Catalog, token: &IntakeToken| {
            replaced_id.into_iter().for_each(|id| catalog.remove_token(id));
            catalog.put_token(hash, token.clone());
        };
        Ok((self.change(owner, write, show).await?, text))
    }

    /// Deletes an intake token.
    pub async fn revoke_token(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        let owner = Owner::from(&tenant);
        let write = move |tx: &AdminTx<'_, '_>| {
            end_token(tx, &tenant, id)?;
            tx.record(&actor, Some(&tenant), &AuditAction::IntakeTokenRevoke(id))
        };
        self.change(owner, write, move |catalog, ()| catalog.remove_token(id)).await
    }
}

fn end_token(connection: &Connection, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM intake_tokens WHERE tenant = ?1 AND id = ?2";
    found(connection.execute(sql, params![&*tenant.0, id])?, "intake token")
}

/// Deletes a key with its sessions and links. They are deleted first, because the row of the key has their tenant.
fn delete_key(connection: &Connection, id: Uuid) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM sessions WHERE key = ?1",
        "DELETE FROM sign_in_links WHERE key = ?1",
        "DELETE FROM keys WHERE id = ?1",
    ] {
        connection.execute(sql, [id])?;
    }
    Ok(())
}

/// Returns `NotFound` if no row was changed.
pub(super) fn found(rows: usize, what: &'static str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::NotFound(what)) } else { Ok(()) }
}

pub(super) fn load_keys(connection: &Connection) -> Result<Vec<([u8; 32], ApiKey)>, StoreError> {
    let sql = "SELECT hash, id, tenant, scopes, hint, label, created_at_ms FROM keys WHERE revoked_at_ms IS NULL
               AND (tenant IS NULL OR tenant IN (SELECT id FROM tenants WHERE deleting_since_ms IS NULL))";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(3)?, key_row(row)?)))?;
    rows.map(|row| {
        let (hash, scopes, key) = row?;
        Ok((hash, ApiKey { scopes: serde_json::from_str(&scopes)?, ..key }))
    })
    .collect()
}

fn key_row(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    Ok(ApiKey {
        id: row.get(1)?,
        tenant: row.get::<_, Option<String>>(2)?.map(|tenant| TenantId(tenant.into())),
        scopes: Vec::new(),
        hint: row.get(4)?,
        label: row.get(5)?,
        created_at_ms: row.get(6)?,
    })
}

pub(super) fn load_tokens(connection: &Connection) -> Result<Vec<([u8; 32], IntakeToken)>, StoreError> {
    let sql = "SELECT hash, id, tenant, hint, label, created_at_ms FROM intake_tokens WHERE revoked_at_ms IS NULL
               AND tenant IN (SELECT id FROM tenants WHERE deleting_since_ms IS NULL)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let tenant = TenantId(row.get::<_, String>(2)?.into());
        let token =
            IntakeToken { id: row.get(1)?, tenant, hint: row.get(3)?, label: row.get(4)?, created_at_ms: row.get(5)? };
        Ok((row.get(0)?, token))
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}
