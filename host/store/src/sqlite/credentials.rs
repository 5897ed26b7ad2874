//! API keys and intake tokens in the database, which holds only their hashes.

use super::Sqlite;
use super::batch::AdminTx;
use super::share::within_share;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::{CredentialBackend, CredentialHash};
use crate::catalog::Catalog;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::access::{ApiKey, IntakeToken};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl CredentialBackend for Sqlite {
    async fn put_key(&self, actor: Actor, hash: CredentialHash, key: ApiKey) -> Result<ApiKey, StoreError> {
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

    async fn keys_used_at_ms(
        &self,
        tenant: Option<TenantId>,
        keys: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, i64>, StoreError> {
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached("SELECT used_at_ms FROM keys WHERE id = ?1")?;
            let mut used = HashMap::new();
            for id in keys {
                let at_ms: Option<i64> = statement.query_row([id], |row| row.get(0)).optional()?.flatten();
                used.extend(at_ms.map(|at_ms| (id, at_ms)));
            }
            Ok(used)
        };
        self.readers.read(Owner::from(tenant.as_ref()), read).await
    }

    async fn note_keys_used(&self, used: Vec<(Uuid, i64)>) -> Result<(), StoreError> {
        let write = move |tx: &AdminTx<'_, '_>| {
            let mut statement = tx.prepare_cached("UPDATE keys SET used_at_ms = ?2 WHERE id = ?1")?;
            used.into_iter().try_for_each(|(id, at_ms)| Ok(statement.execute(params![id, at_ms]).map(drop)?))
        };
        self.write(Owner::Host, write).await
    }

    async fn revoke_key(&self, actor: Actor, tenant: Option<TenantId>, id: Uuid) -> Result<(), StoreError> {
        let owner = Owner::from(tenant.as_ref());
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let key =
                state.catalog.key_by_id(id).filter(|key| key.tenant == tenant).ok_or(StoreError::NotFound("key"))?;
            delete_key(tx, id)?;
            let action = if key.is_admin() { AuditAction::AdminKeyRevoke(&key) } else { AuditAction::KeyRevoke(&key) };
            tx.record(&actor, tenant.as_ref(), &action)
        };
        self.change(owner, write, move |catalog, ()| catalog.remove_key(id)).await
    }

    async fn put_token(
        &self,
        actor: Actor,
        hash: CredentialHash,
        token: IntakeToken,
        replaces: Option<Arc<IntakeToken>>,
    ) -> Result<IntakeToken, StoreError> {
        let owner = Owner::from(&token.tenant);
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
        self.change(owner, write, show).await
    }

    async fn revoke_token(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
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
