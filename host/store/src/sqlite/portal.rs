//! Links and sessions of the portal in the database, in one table.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::CredentialHash;
use crate::backend::portal::{EXPIRED, NewPortalSession, PER_TENANT_MAX, PortalBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::portal::{EndedPortal, PortalLink, PortalSession};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

/// Statement that deletes up to ?2 rows which expired before ?1.
const DELETE_EXPIRED: &str = "DELETE FROM portal_sessions WHERE hash IN
     (SELECT hash FROM portal_sessions WHERE expires_at_ms < ?1 ORDER BY expires_at_ms LIMIT ?2)";

/// Statement that inserts a link or a session.
const INSERT: &str = "INSERT INTO portal_sessions
     (hash, tenant, id, csrf, session_s, read_only, return_url, created_at_ms, expires_at_ms)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Columns of [`link_row`], and the CSRF token.
const COLUMNS: &str = "tenant, id, session_s, read_only, return_url, created_at_ms, expires_at_ms, csrf";

#[async_trait]
impl PortalBackend for Sqlite {
    async fn put_portal_link(&self, actor: Actor, hash: CredentialHash, link: PortalLink) -> Result<(), StoreError> {
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            // Refuses a tenant that is being deleted, and no other.
            tx.usage(&link.tenant, share)?;
            tx.prepare_cached(DELETE_EXPIRED)?.execute(params![now_ms(), EXPIRED])?;
            insert(tx, &hash, &link, None)?;
            delete_surplus(tx, &link.tenant, &hash, "csrf IS NULL")?;
            tx.record(&actor, Some(&link.tenant), &AuditAction::PortalLinkCreate(&link))
        };
        self.write(Owner::Host, write).await
    }

    async fn open_portal_session(
        &self,
        link: CredentialHash,
        new: NewPortalSession,
    ) -> Result<Option<PortalSession>, StoreError> {
        // Anybody may try, so an invalid link costs a read and no commit.
        let read = move |connection: &Connection| {
            let sql = "SELECT 1 FROM portal_sessions WHERE hash = ?1 AND csrf IS NULL";
            Ok(connection.prepare_cached(sql)?.exists([link])?)
        };
        if !self.readers.read(Owner::Host, read).await? {
            return Ok(None);
        }
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = format!("DELETE FROM portal_sessions WHERE hash = ?1 AND csrf IS NULL RETURNING {COLUMNS}");
            let found = tx.query_row(&sql, [link], link_row).optional()?;
            let Some(link) = found.filter(|link| link.expires_at_ms > now_ms()) else { return Ok(None) };
            match tx.usage(&link.tenant, share) {
                Err(StoreError::NotFound(_)) => return Ok(None),
                usage => usage?,
            };
            let session = link.opened(new.csrf, now_ms());
            let row = PortalLink { created_at_ms: session.began_at_ms, expires_at_ms: session.expires_at_ms, ..link };
            insert(tx, &new.hash, &row, Some(&session.csrf))?;
            delete_surplus(tx, &session.tenant, &new.hash, "csrf IS NOT NULL")?;
            let action = AuditAction::PortalSessionOpen(new.from);
            tx.record(&Actor::from(&session.key()), Some(&session.tenant), &action)?;
            Ok(Some(session))
        };
        self.write(Owner::Host, write).await
    }

    async fn portal_session(&self, hash: CredentialHash) -> Result<Option<PortalSession>, StoreError> {
        let now_ms = now_ms();
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM portal_sessions WHERE hash = ?1 AND csrf IS NOT NULL AND expires_at_ms > ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row(params![hash, now_ms], session_row).optional()?)
        };
        self.readers.read(Owner::Host, read).await
    }

    async fn delete_portal_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "DELETE FROM portal_sessions WHERE hash = ?1 AND csrf IS NOT NULL";
            Ok(tx.execute(sql, [hash]).map(drop)?)
        };
        self.write(Owner::Host, write).await
    }

    async fn end_portal(&self, actor: Actor, tenant: TenantId) -> Result<EndedPortal, StoreError> {
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "SELECT COUNT(*) FILTER (WHERE csrf IS NULL), COUNT(*) FILTER (WHERE csrf IS NOT NULL)
                       FROM portal_sessions WHERE tenant = ?1 AND expires_at_ms > ?2";
            let ended = tx.query_row(sql, params![&*tenant.0, now_ms()], |row| {
                Ok(EndedPortal { links: row.get(0)?, sessions: row.get(1)? })
            })?;
            tx.execute("DELETE FROM portal_sessions WHERE tenant = ?1", [&*tenant.0])?;
            tx.record(&actor, Some(&tenant), &AuditAction::PortalEnd(ended))?;
            Ok(ended)
        };
        self.write(Owner::Host, write).await
    }
}

fn insert(tx: &AdminTx<'_, '_>, hash: &CredentialHash, row: &PortalLink, csrf: Option<&str>) -> Result<(), StoreError> {
    let PortalLink { id, tenant, session_s, is_read_only, return_url, created_at_ms, expires_at_ms } = row;
    let values = params![hash, &*tenant.0, id, csrf, session_s, is_read_only, return_url, created_at_ms, expires_at_ms];
    Ok(tx.prepare_cached(INSERT)?.execute(values).map(drop)?)
}

/// Deletes the oldest rows of a kind of a tenant above [`PER_TENANT_MAX`]. The new one is the last of its time.
fn delete_surplus(tx: &AdminTx<'_, '_>, tenant: &TenantId, new: &CredentialHash, kind: &str) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM portal_sessions WHERE hash IN
         (SELECT hash FROM portal_sessions WHERE tenant = ?1 AND {kind}
          ORDER BY created_at_ms DESC, hash = ?2 DESC LIMIT -1 OFFSET ?3)"
    );
    Ok(tx.prepare_cached(&sql)?.execute(params![&*tenant.0, new, PER_TENANT_MAX]).map(drop)?)
}

fn link_row(row: &Row<'_>) -> rusqlite::Result<PortalLink> {
    Ok(PortalLink {
        tenant: TenantId(row.get::<_, String>(0)?.into()),
        id: row.get(1)?,
        session_s: row.get(2)?,
        is_read_only: row.get(3)?,
        return_url: row.get(4)?,
        created_at_ms: row.get(5)?,
        expires_at_ms: row.get(6)?,
    })
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<PortalSession> {
    let PortalLink { id, tenant, is_read_only, return_url, created_at_ms, expires_at_ms, .. } = link_row(row)?;
    let csrf = row.get(7)?;
    Ok(PortalSession { id, tenant, csrf, is_read_only, return_url, began_at_ms: created_at_ms, expires_at_ms })
}
