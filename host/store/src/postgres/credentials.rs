//! API keys and intake tokens in the database, which holds only their hashes.

use super::Postgres;
use super::connection::Connection;
use super::rows::{self, text};
use super::share::ShareCheck;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::{CredentialBackend, CredentialHash};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::access::{ApiKey, IntakeToken};
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

#[async_trait]
impl CredentialBackend for Postgres {
    async fn put_key(&self, actor: Actor, hash: CredentialHash, key: ApiKey) -> Result<ApiKey, StoreError> {
        self.change(
            Owner::from(key.tenant.as_ref()),
            move |tx| {
                Box::pin(async move {
                    write_key(tx, hash, &key).await?;
                    let action =
                        if key.is_admin() { AuditAction::AdminKeyCreate(&key) } else { AuditAction::KeyCreate(&key) };
                    tx.record(&actor, key.tenant.as_ref(), &action).await?;
                    Ok(key)
                })
            },
            move |catalog, key| catalog.put_key(hash, key.clone()),
        )
        .await
    }

    async fn keys_used_at_ms(
        &self,
        tenant: Option<TenantId>,
        keys: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, i64>, StoreError> {
        let read = self.readers.read_one(Owner::from(tenant.as_ref()), move |connection| {
            Box::pin(async move {
                let sql = "SELECT id, used_at_ms FROM keys WHERE id = ANY ($1) AND used_at_ms IS NOT NULL";
                let rows = connection.query(sql, &[&keys]).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
            })
        });
        read.await
    }

    async fn note_keys_used(&self, used: Vec<(Uuid, i64)>) -> Result<(), StoreError> {
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                let (ids, times): (Vec<Uuid>, Vec<i64>) = used.into_iter().unzip();
                let sql = "UPDATE keys k SET used_at_ms = u.at_ms FROM unnest($1::uuid[], $2::int8[]) u (id, at_ms) WHERE k.id = u.id";
                tx.execute(sql, &[&ids, &times]).await.map(drop)
            })
        })
        .await
    }

    async fn revoke_key(&self, actor: Actor, tenant: Option<TenantId>, id: Uuid) -> Result<(), StoreError> {
        self.change(
            Owner::from(tenant.as_ref()),
            move |tx| {
                Box::pin(async move {
                    let key = tx.catalog().key_by_id(id).filter(|key| key.tenant == tenant);
                    let key = key.ok_or(StoreError::NotFound("key"))?;
                    delete_key(tx, id).await?;
                    let action =
                        if key.is_admin() { AuditAction::AdminKeyRevoke(&key) } else { AuditAction::KeyRevoke(&key) };
                    tx.record(&actor, tenant.as_ref(), &action).await
                })
            },
            move |catalog, ()| catalog.remove_key(id),
        )
        .await
    }

    async fn put_token(
        &self,
        actor: Actor,
        hash: CredentialHash,
        token: IntakeToken,
        replaces: Option<Arc<IntakeToken>>,
    ) -> Result<IntakeToken, StoreError> {
        let replaced_id = replaces.as_ref().map(|old| old.id);
        self.change(
            Owner::from(&token.tenant),
            move |tx| {
                Box::pin(async move {
                    write_token(tx, hash, &token, replaced_id).await?;
                    let action = match &replaces {
                        Some(before) => AuditAction::IntakeTokenRotate { before, after: &token },
                        None => AuditAction::IntakeTokenCreate(&token),
                    };
                    tx.record(&actor, Some(&token.tenant), &action).await?;
                    Ok(token)
                })
            },
            move |catalog, token| {
                replaced_id.into_iter().for_each(|id| catalog.remove_token(id));
                catalog.put_token(hash, token.clone());
            },
        )
        .await
    }

    async fn revoke_token(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        self.change(
            Owner::from(&tenant),
            move |tx| {
                Box::pin(async move {
                    end_token(tx, &tenant, id).await?;
                    tx.record(&actor, Some(&tenant), &AuditAction::IntakeTokenRevoke(id)).await
                })
            },
            move |catalog, ()| catalog.remove_token(id),
        )
        .await
    }
}

async fn write_key(tx: &WriteTx, hash: CredentialHash, key: &ApiKey) -> Result<(), StoreError> {
    let check = match &key.tenant {
        Some(tenant) => Some(ShareCheck::begin(tx, tenant, tx.share()).await?),
        None => None,
    };
    let sql =
        "INSERT INTO keys (id, tenant, hash, hint, scopes, label, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (hash) DO UPDATE SET id = EXCLUDED.id, label = EXCLUDED.label";
    let tenant = key.tenant.as_ref().map(|tenant| &*tenant.0);
    let scopes = serde_json::to_string(&key.scopes)?;
    let label = text(&key.label);
    tx.execute(sql, &[&key.id, &tenant, &&hash[..], &key.hint, &scopes, &&*label, &key.created_at_ms]).await?;
    match check {
        Some(check) => check.end(tx).await,
        None => Ok(()),
    }
}

async fn write_token(
    tx: &WriteTx,
    hash: CredentialHash,
    token: &IntakeToken,
    replaces: Option<Uuid>,
) -> Result<(), StoreError> {
    let IntakeToken { id, tenant, hint, label, created_at_ms } = token;
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    if let Some(old) = replaces {
        end_token(tx, tenant, old).await?;
    }
    let sql =
        "INSERT INTO intake_tokens (tenant, id, hash, hint, label, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6)";
    tx.execute(sql, &[&&*tenant.0, id, &&hash[..], hint, &&*text(label), created_at_ms]).await?;
    check.end(tx).await
}

async fn end_token(connection: &Connection, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM intake_tokens WHERE tenant = $1 AND id = $2";
    found(connection.execute(sql, &[&&*tenant.0, &id]).await?, "intake token")
}

/// Deletes a key with its sessions and links. They are deleted first, because the row of the key has their tenant.
async fn delete_key(connection: &Connection, id: Uuid) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM sessions WHERE key = $1",
        "DELETE FROM sign_in_links WHERE key = $1",
        "DELETE FROM keys WHERE id = $1",
    ] {
        connection.execute(sql, &[&id]).await?;
    }
    Ok(())
}

/// Returns `NotFound` if no row was changed.
pub(super) fn found(rows: u64, what: &'static str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::NotFound(what)) } else { Ok(()) }
}

/// Returns these keys, or all, without those of tenants that are being deleted.
pub(super) async fn load_keys(
    connection: &Connection,
    ids: Option<&[Uuid]>,
) -> Result<Vec<(CredentialHash, ApiKey)>, StoreError> {
    let sql = "SELECT hash, id, tenant, scopes, hint, label, created_at_ms FROM keys
               WHERE (tenant IS NULL OR tenant IN (SELECT id FROM tenants WHERE deleting_since_ms IS NULL))
                 AND ($1::uuid[] IS NULL OR id = ANY ($1))";
    connection.query(sql, &[&ids]).await?.iter().map(key_row).collect()
}

fn key_row(row: &Row) -> Result<(CredentialHash, ApiKey), StoreError> {
    let tenant: Option<&str> = row.try_get(2)?;
    let key = ApiKey {
        id: row.try_get(1)?,
        tenant: tenant.map(|tenant| TenantId(tenant.into())),
        scopes: serde_json::from_str(row.try_get(3)?)?,
        hint: row.try_get(4)?,
        label: row.try_get(5)?,
        created_at_ms: row.try_get(6)?,
    };
    Ok((rows::hash(row, 0)?, key))
}

/// Returns these intake tokens, or all, without those of tenants that are being deleted.
pub(super) async fn load_tokens(
    connection: &Connection,
    ids: Option<&[Uuid]>,
) -> Result<Vec<(CredentialHash, IntakeToken)>, StoreError> {
    let sql = "SELECT hash, id, tenant, hint, label, created_at_ms FROM intake_tokens
               WHERE tenant IN (SELECT id FROM tenants WHERE deleting_since_ms IS NULL) AND ($1::uuid[] IS NULL OR id = ANY ($1))";
    connection.query(sql, &[&ids]).await?.iter().map(token_row).collect()
}

fn token_row(row: &Row) -> Result<(CredentialHash, IntakeToken), StoreError> {
    let token = IntakeToken {
        id: row.try_get(1)?,
        tenant: rows::tenant(row, 2)?,
        hint: row.try_get(3)?,
        label: row.try_get(4)?,
        created_at_ms: row.try_get(5)?,
    };
    Ok((rows::hash(row, 0)?, token))
}
