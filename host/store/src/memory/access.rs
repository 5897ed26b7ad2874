//! API keys, intake tokens, sessions and sign-in links.

use super::Memory;
use super::share::{record, within_share};
use super::sorted_table::delete_where;
use super::tables::{KeyRow, LinkRow, MemoryTables, SessionRow, TokenRow};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::{CredentialBackend, CredentialHash, EXPIRED, PER_KEY_MAX, SessionBackend};
use async_trait::async_trait;
use hookloom_model::access::{ApiKey, IntakeToken, Session};
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl CredentialBackend for Memory {
    async fn put_key(&self, actor: Actor, hash: CredentialHash, key: ApiKey) -> Result<ApiKey, StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            let insert = |tables: &mut MemoryTables| {
                insert_key(tables, hash, &key);
                Ok(())
            };
            match &key.tenant {
                Some(tenant) => within_share(tables, tenant, share, insert)?,
                None => insert(tables)?,
            }
            let action = if key.is_admin() { AuditAction::AdminKeyCreate(&key) } else { AuditAction::KeyCreate(&key) };
            record(tables, &actor, key.tenant.as_ref(), &action, share)?;
            Ok(key)
        };
        self.write(write, move |state, key| state.catalog.put_key(hash, key.clone())).await
    }

    async fn keys_used_at_ms(&self, _: Option<TenantId>, keys: Vec<Uuid>) -> Result<HashMap<Uuid, i64>, StoreError> {
        self.read(move |tables| {
            let used_at_ms = |id: &Uuid| tables.keys.get(id)?.used_at_ms;
            Ok(keys.into_iter().filter_map(|id| Some((id, used_at_ms(&id)?))).collect())
        })
        .await
    }

    async fn note_keys_used(&self, used: Vec<(Uuid, i64)>) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            for (id, at_ms) in used {
                if let Some(row) = tables.keys.get_mut(&id) {
                    row.used_at_ms = Some(at_ms);
                }
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn revoke_key(&self, actor: Actor, tenant: Option<TenantId>, id: Uuid) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let key = self.state.catalog.key_by_id(id).filter(|key| key.tenant == tenant);
            let key = key.ok_or(StoreError::NotFound("key"))?;
            delete_where(&mut tables.sessions, |_, row| row.session.key == id);
            delete_where(&mut tables.links, |_, row| row.key == id);
            tables.keys.remove_mut(&id);
            let action = if key.is_admin() { AuditAction::AdminKeyRevoke(&key) } else { AuditAction::KeyRevoke(&key) };
            record(tables, &actor, tenant.as_ref(), &action, self.limits.share)
        };
        self.write(write, move |state, ()| state.catalog.remove_key(id)).await
    }

    async fn put_token(
        &self,
        actor: Actor,
        hash: CredentialHash,
        token: IntakeToken,
        replaces: Option<Arc<IntakeToken>>,
    ) -> Result<IntakeToken, StoreError> {
        let share = self.limits.share;
        let replaced_id = replaces.as_ref().map(|old| old.id);
        let write = move |tables: &mut MemoryTables| {
            within_share(tables, &token.tenant, share, |tables| {
                if let Some(old) = &replaces {
                    delete_token(tables, &token.tenant, old.id)?;
                }
                tables.tokens.insert_mut(token.id, TokenRow { hash, token: token.clone() });
                Ok(())
            })?;
            let action = match &replaces {
                Some(before) => AuditAction::IntakeTokenRotate { before, after: &token },
                None => AuditAction::IntakeTokenCreate(&token),
            };
            record(tables, &actor, Some(&token.tenant), &action, share)?;
            Ok(token)
        };
        self.write(write, move |state, token| {
            replaced_id.into_iter().for_each(|id| state.catalog.remove_token(id));
            state.catalog.put_token(hash, token.clone());
        })
        .await
    }

    async fn revoke_token(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            delete_token(tables, &tenant, id)?;
            record(tables, &actor, Some(&tenant), &AuditAction::IntakeTokenRevoke(id), self.limits.share)
        };
        self.write(write, move |state, ()| state.catalog.remove_token(id)).await
    }
}

#[async_trait]
impl SessionBackend for Memory {
    async fn put_session(
        &self,
        key: Arc<ApiKey>,
        hash: CredentialHash,
        session: Session,
        from: IpAddr,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            for old in expired(tables.sessions.iter().map(|(hash, row)| (row.session.expires_at_ms, *hash))) {
                tables.sessions.remove_mut(&old);
            }
            tables.sessions.insert_mut(hash, SessionRow { session: session.clone(), created_at_ms: now_ms() });
            let of_key = tables.sessions.iter().filter(|(_, row)| row.session.key == session.key);
            let ended = surplus(of_key.map(|(hash, row)| (row.created_at_ms, *hash)), hash);
            for old in &ended {
                tables.sessions.remove_mut(old);
            }
            let action = AuditAction::SessionSignIn(from);
            record(tables, &Actor::from(&*key), key.tenant.as_ref(), &action, self.limits.share)?;
            Ok((session, ended))
        };
        let written = self.write(write, move |state, (session, ended)| {
            state.catalog.put_session(hash, session.clone());
            ended.iter().for_each(|old| state.catalog.remove_session(old));
        });
        written.await.map(drop)
    }

    async fn delete_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            tables.sessions.remove_mut(&hash);
            Ok(())
        };
        self.write(write, move |state, ()| state.catalog.remove_session(&hash)).await
    }

    async fn put_sign_in_link(
        &self,
        actor: Actor,
        key: ApiKey,
        hash: CredentialHash,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            for old in expired(tables.links.iter().map(|(hash, row)| (row.expires_at_ms, *hash))) {
                tables.links.remove_mut(&old);
            }
            tables.links.insert_mut(hash, LinkRow { key: key.id, expires_at_ms });
            let of_key = tables.links.iter().filter(|(_, row)| row.key == key.id);
            for old in surplus(of_key.map(|(hash, row)| (row.expires_at_ms, *hash)), hash) {
                tables.links.remove_mut(&old);
            }
            record(tables, &actor, None, &AuditAction::SignInLinkCreate(&key), self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn use_sign_in_link(&self, hash: CredentialHash) -> Result<Option<Uuid>, StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let found = tables.links.get(&hash).cloned();
            tables.links.remove_mut(&hash);
            Ok(found.filter(|link| link.expires_at_ms > now_ms()).map(|link| link.key))
        };
        self.write(write, |_, _| {}).await
    }
}

/// Stores a key. The row of a key with the same hash gets another id and label, and keeps the rest.
fn insert_key(tables: &mut MemoryTables, hash: CredentialHash, key: &ApiKey) {
    let same = tables.keys.values().find(|row| row.hash == hash).cloned();
    let row = match same {
        Some(row) => {
            tables.keys.remove_mut(&row.key.id);
            KeyRow { key: ApiKey { id: key.id, label: key.label.clone(), ..row.key }, ..row }
        }
        None => KeyRow { hash, key: key.clone(), used_at_ms: None },
    };
    tables.keys.insert_mut(key.id, row);
}

fn delete_token(tables: &mut MemoryTables, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    if tables.tokens.get(&id).is_none_or(|row| row.token.tenant != *tenant) {
        return Err(StoreError::NotFound("intake token"));
    }
    tables.tokens.remove_mut(&id);
    Ok(())
}

/// Returns what expired first, at most [`EXPIRED`] rows, from times of expiry and hashes.
fn expired(rows: impl Iterator<Item = (i64, CredentialHash)>) -> Vec<CredentialHash> {
    let now_ms = now_ms();
    let mut expired: Vec<_> = rows.filter(|(expires_at_ms, _)| *expires_at_ms < now_ms).collect();
    expired.sort_unstable();
    expired.into_iter().take(EXPIRED).map(|(_, hash)| hash).collect()
}

/// Returns the oldest rows of a key above [`PER_KEY_MAX`], from times and hashes. A new row is the last of its time.
fn surplus(rows: impl Iterator<Item = (i64, CredentialHash)>, new: CredentialHash) -> Vec<CredentialHash> {
    let mut rows: Vec<_> = rows.map(|(at_ms, hash)| (at_ms, hash == new, hash)).collect();
    rows.sort_unstable_by(|one, other| other.cmp(one));
    rows.into_iter().skip(PER_KEY_MAX).map(|(.., hash)| hash).collect()
}
