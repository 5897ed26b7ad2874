//! Requests that `/in` received and could not accept. They are kept because Agile CRM does not send them again.

use super::Sqlite;
use super::batch::AdminTx;
use super::credentials::found;
use super::share::within_share;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::inspector::{REJECTED_KEPT_MS, REJECTED_MAX, RejectedBackend, RejectedEntry, RejectedRequest};
use crate::fair_queue::Owner;
use crate::write_queue::{Terms, payload_rows};
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

#[async_trait]
impl RejectedBackend for Sqlite {
    async fn reject(&self, tenant: TenantId, reason: String, body: Bytes, truncated: bool) -> Result<Uuid, StoreError> {
        let id = ids::new_uuid();
        let owner = Owner::from(&tenant);
        let share = self.limits.share.with_a_tenth_more();
        let terms = Terms { owner, rows: 2 + payload_rows(body.len()) };
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "INSERT INTO rejected_requests (tenant, id, received_at_ms, reason, truncated, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            within_share(tx, &tenant, share, |tx| {
                tx.execute(
                    sql,
                    params![&*tenant.0, id, now_ms(), shortened(&reason, REASON_BYTES_MAX), truncated, &body[..]],
                )?;
                forget_oldest(tx, &tenant)?;
                Ok(id)
            })
        };
        self.writer.write(terms, write, |_| {}).await
    }

    async fn rejected_requests(
        &self,
        tenant: TenantId,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT id, received_at_ms, reason, truncated, LENGTH(body) FROM rejected_requests
                       WHERE tenant = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let parameters = params![&*tenant.0, before.unwrap_or(Uuid::max()), limit];
            let rows = statement.query_map(parameters, |row| {
                Ok(RejectedEntry {
                    id: row.get(0)?,
                    received_at_ms: row.get(1)?,
                    reason: row.get(2)?,
                    truncated: row.get(3)?,
                    bytes: row.get(4)?,
                })
            })?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }

    async fn forget_rejected_request(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            forget(tx, &tenant, id)?;
            tx.record(&actor, Some(&tenant), &AuditAction::RejectedRequestDelete(id))
        };
        self.write(&owner, write).await
    }

    async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT id, received_at_ms, reason, truncated, body FROM rejected_requests WHERE tenant = ?1 AND id = ?2";
            let found = connection.query_row(sql, params![&*tenant.0, id], rejected_row).optional()?;
            found.ok_or(StoreError::NotFound("rejected request"))
        };
        self.readers.read(owner, read).await
    }
}

/// Deletes rejected requests of a tenant that are too old or too many. Only the oldest are checked for their age, because each
/// request that arrives deletes more than one.
fn forget_oldest(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM rejected_requests WHERE tenant = ?1 AND received_at_ms < ?2 AND id IN
               (SELECT id FROM rejected_requests WHERE tenant = ?1 ORDER BY id LIMIT 16)";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, now_ms() - REJECTED_KEPT_MS])?;
    let sql = "DELETE FROM rejected_requests WHERE tenant = ?1 AND id <=
               (SELECT id FROM rejected_requests WHERE tenant = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, REJECTED_MAX]).map(drop)
}

/// Deletes a rejected request, within a transaction.
pub(super) fn forget(connection: &Connection, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM rejected_requests WHERE tenant = ?1 AND id = ?2";
    found(connection.execute(sql, params![&*tenant.0, id])?, "rejected request")
}

fn rejected_row(row: &Row<'_>) -> rusqlite::Result<RejectedRequest> {
    Ok(RejectedRequest {
        id: row.get(0)?,
        received_at_ms: row.get(1)?,
        reason: row.get(2)?,
        truncated: row.get(3)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(4)?),
    })
}
