//! Links and sessions of the portal in the database, in one table.

use super::Postgres;
use super::connection::Connection;
use super::rows::{int, number, tenant as tenant_in};
use super::share::usage_of;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::CredentialHash;
use crate::backend::portal::{EXPIRED, NewPortalSession, PER_TENANT_MAX, PortalBackend};
use crate::caps::Caps;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::portal::{EndedPortal, PortalLink, PortalSession};
use hookloom_model::subscription::TenantId;
use tokio_postgres::Row;

/// Statement that deletes up to $2 rows which expired before $1.
const DELETE_EXPIRED: &str = "DELETE FROM portal_sessions WHERE hash IN
     (SELECT hash FROM portal_sessions WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2)";

/// Statement that inserts a link or a session.
const INSERT: &str = "INSERT INTO portal_sessions
     (hash, tenant, id, csrf, session_s, read_only, return_url, created_at_ms, expires_at_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Columns of [`link_row`], and the CSRF token.
const COLUMNS: &str = "tenant, id, session_s, read_only, return_url, created_at_ms, expires_at_ms, csrf";

#[async_trait]
impl PortalBackend for Postgres {
    async fn put_portal_link(&self, actor: Actor, hash: CredentialHash, link: PortalLink) -> Result<(), StoreError> {
        let share = self.limits.share;
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                // Refuses a tenant that is being deleted, and no other.
                usage_of(tx, &link.tenant, share).await?;
                tx.execute(DELETE_EXPIRED, &[&now_ms(), &int(EXPIRED)]).await?;
                insert(tx, &hash, &link, None).await?;
                delete_surplus(tx, &link.tenant, &hash, "csrf IS NULL").await?;
                tx.record(&actor, Some(&link.tenant), &AuditAction::PortalLinkCreate(&link)).await
            })
        })
        .await
    }

    async fn open_portal_session(
        &self,
        link: CredentialHash,
        new: NewPortalSession,
    ) -> Result<Option<PortalSession>, StoreError> {
        // Anybody may try, so an invalid link costs a read and no commit.
        let exists = self.readers.read_one(Owner::Host, move |connection| {
            Box::pin(async move {
                let sql = "SELECT 1 FROM portal_sessions WHERE hash = $1 AND csrf IS NULL";
                connection.exists(sql, &[&&link[..]]).await
            })
        });
        if !exists.await? {
            return Ok(None);
        }
        let share = self.limits.share;
        self.write(Owner::Host, move |tx| Box::pin(async move { open(tx, link, &new, share).await })).await
    }

    async fn portal_session(&self, hash: CredentialHash) -> Result<Option<PortalSession>, StoreError> {
        let now_ms = now_ms();
        let read = self.readers.read_one(Owner::Host, move |connection| {
            Box::pin(async move { read_session(connection, hash, now_ms).await })
        });
        read.await
    }

    async fn delete_portal_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM portal_sessions WHERE hash = $1 AND csrf IS NOT NULL";
                tx.execute(sql, &[&&hash[..]]).await.map(drop)
            })
        })
        .await
    }

    async fn end_portal(&self, actor: Actor, tenant: TenantId) -> Result<EndedPortal, StoreError> {
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM portal_sessions WHERE tenant = $1 RETURNING csrf IS NULL, expires_at_ms > $2";
                let mut ended = EndedPortal::default();
                for row in tx.query(sql, &[&&*tenant.0, &now_ms()]).await? {
                    let worked = u64::from(row.try_get::<_, bool>(1)?);
                    if row.try_get(0)? {
                        ended.links += worked;
                    } else {
                        ended.sessions += worked;
                    }
                }
                tx.record(&actor, Some(&tenant), &AuditAction::PortalEnd(ended)).await?;
                Ok(ended)
            })
        })
        .await
    }
}

/// Deletes a link, and stores its session.
async fn open(
    tx: &WriteTx,
    link: CredentialHash,
    new: &NewPortalSession,
    share: Caps,
) -> Result<Option<PortalSession>, StoreError> {
    let sql = format!("DELETE FROM portal_sessions WHERE hash = $1 AND csrf IS NULL RETURNING {COLUMNS}");
    let Some(row) = tx.query_opt(&sql, &[&&link[..]]).await? else { return Ok(None) };
    let link = link_row(&row)?;
    if link.expires_at_ms <= now_ms() {
        return Ok(None);
    }
    match usage_of(tx, &link.tenant, share).await {
        Err(StoreError::NotFound(_)) => return Ok(None),
        usage => drop(usage?),
    }
    let session = link.opened(new.csrf.clone(), now_ms());
    let row = PortalLink { created_at_ms: session.began_at_ms, expires_at_ms: session.expires_at_ms, ..link };
    insert(tx, &new.hash, &row, Some(&session.csrf)).await?;
    delete_surplus(tx, &session.tenant, &new.hash, "csrf IS NOT NULL").await?;
    let action = AuditAction::PortalSessionOpen(new.from);
    tx.record(&Actor::from(&session.key()), Some(&session.tenant), &action).await?;
    Ok(Some(session))
}

async fn read_session(
    connection: &Connection,
    hash: CredentialHash,
    now_ms: i64,
) -> Result<Option<PortalSession>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM portal_sessions WHERE hash = $1 AND csrf IS NOT NULL AND expires_at_ms > $2");
    let Some(row) = connection.query_opt(&sql, &[&&hash[..], &now_ms]).await? else { return Ok(None) };
    let PortalLink { id, tenant, is_read_only, return_url, created_at_ms, expires_at_ms, .. } = link_row(&row)?;
    let csrf = row.try_get(7)?;
    Ok(Some(PortalSession { id, tenant, csrf, is_read_only, return_url, began_at_ms: created_at_ms, expires_at_ms }))
}

async fn insert(tx: &WriteTx, hash: &CredentialHash, row: &PortalLink, csrf: Option<&str>) -> Result<(), StoreError> {
    let PortalLink { id, tenant, session_s, is_read_only, return_url, created_at_ms, expires_at_ms } = row;
    let session_s = i64::from(*session_s);
    tx.execute(
        INSERT,
        &[
            &&hash[..],
            &&*tenant.0,
            id,
            &csrf,
            &session_s,
            is_read_only,
            &return_url.as_deref(),
            created_at_ms,
            expires_at_ms,
        ],
    )
    .await
    .map(drop)
}

/// Deletes the oldest rows of a kind of a tenant above [`PER_TENANT_MAX`]. The new one is the last of its time.
async fn delete_surplus(tx: &WriteTx, tenant: &TenantId, new: &CredentialHash, kind: &str) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM portal_sessions WHERE hash IN
         (SELECT hash FROM portal_sessions WHERE tenant = $1 AND {kind}
          ORDER BY created_at_ms DESC, (hash = $2) DESC, hash DESC OFFSET $3)"
    );
    tx.execute(&sql, &[&&*tenant.0, &&new[..], &int(PER_TENANT_MAX)]).await.map(drop)
}

fn link_row(row: &Row) -> Result<PortalLink, StoreError> {
    Ok(PortalLink {
        tenant: tenant_in(row, 0)?,
        id: row.try_get(1)?,
        session_s: number(row, 2)?,
        is_read_only: row.try_get(3)?,
        return_url: row.try_get(4)?,
        created_at_ms: row.try_get(5)?,
        expires_at_ms: row.try_get(6)?,
    })
}
