//! Requests that `/in` received and could not accept. They are kept because Agile CRM does not send them again.

use super::audit::{Actor, AuditAction};
use super::batch::AdminTx;
use super::credentials::found;
use super::fair_queue::Owner;
use super::share::within_share;
use super::writer::{Terms, payload_rows};
use super::{Store, StoreError};
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

/// Rejected request.
#[derive(Debug, Clone)]
pub struct RejectedRequest {
    /// Id of the request.
    pub id: Uuid,
    /// Time of receipt, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Reason for the rejection.
    pub reason: String,
    /// True if the body was longer than the kept part, or incomplete.
    pub truncated: bool,
    /// Received body, up to the limit.
    pub body: Bytes,
}

/// Rejected request in a list, without its body.
#[derive(Debug, Clone)]
pub struct RejectedEntry {
    /// Id of the request.
    pub id: Uuid,
    /// Time of receipt, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Reason for the rejection.
    pub reason: String,
    /// True if the body was longer than the kept part, or incomplete.
    pub truncated: bool,
    /// Size of the kept part, in bytes.
    pub bytes: usize,
}

/// Retention of rejected requests, in milliseconds.
const KEPT_MS: i64 = 7 * 86_400_000;

/// Maximum number of rejected requests of a tenant, so that garbage cannot fill the disk. The oldest are deleted first.
const KEPT_MAX: u32 = 1_000;

impl Store {
    /// Stores a rejected request, within the tenant's share and a tenth more, and deletes requests that are too old or too many.
    pub async fn reject(
        &self,
        tenant: TenantId,
        reason: String,
        body: Bytes,
        truncated: bool,
    ) -> Result<Uuid, StoreError> {
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

    /// Returns a tenant's rejected requests, newest first, older than `before` if it is given.
    pub async fn rejected_requests(
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

    /// Deletes a rejected request.
    pub async fn forget_rejected_request(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            forget(tx, &tenant, id)?;
            tx.record(&actor, Some(&tenant), &AuditAction::RejectedRequestDelete(id))
        };
        self.write(&owner, write).await
    }

    /// Returns a rejected request.
    pub async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError> {
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
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, now_ms() - KEPT_MS])?;
    let sql = "DELETE FROM rejected_requests WHERE tenant = ?1 AND id <=
               (SELECT id FROM rejected_requests WHERE tenant = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, KEPT_MAX]).map(drop)
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
