//! Rejected requests in the database. They are kept because Agile CRM does not send them again.
//!
//! # Guarantees
//! - A tenant keeps at most [`REJECTED_MAX`] of them, within its share and a tenth more. Hosts that store some at the same moment may
//!   keep a few more, until the next one arrives.
//!
//! # Limits
//! Old requests are deleted only when another one arrives.

use super::Postgres;
use super::connection::Connection;
use super::credentials::found;
use super::rows::{int, number, text};
use super::share::ShareCheck;
use super::transaction::WriteTx;
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
use tokio_postgres::Row;
use uuid::Uuid;

#[async_trait]
impl RejectedBackend for Postgres {
    async fn reject(&self, tenant: TenantId, reason: String, body: Bytes, truncated: bool) -> Result<Uuid, StoreError> {
        let terms = Terms { owner: Owner::from(&tenant), rows: 2 + payload_rows(body.len()) };
        // Beside the transactions of other hosts, as intake is, because senders choose how often.
        let written = self.writer.run_intake(
            terms,
            None,
            move |tx| {
                Box::pin(async move {
                    let check = ShareCheck::begin(tx, &tenant, tx.share().with_a_tenth_more()).await?;
                    let id = insert(tx, &tenant, &reason, &body, truncated).await?;
                    forget_oldest(tx, &tenant).await?;
                    check.end(tx).await?;
                    Ok(id)
                })
            },
            |_, _| {},
        );
        written.await
    }

    async fn rejected_requests(
        &self,
        tenant: TenantId,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql =
                    "SELECT id, received_at_ms, reason, truncated, octet_length(body)::int8 FROM rejected_requests
                           WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
                let before = before.unwrap_or(Uuid::max());
                connection.query(sql, &[&&*tenant.0, &before, &int(limit)]).await?.iter().map(entry_row).collect()
            })
        });
        read.await
    }

    async fn forget_rejected_request(&self, actor: Actor, tenant: TenantId, id: Uuid) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                forget(tx, &tenant, id).await?;
                tx.record(&actor, Some(&tenant), &AuditAction::RejectedRequestDelete(id)).await
            })
        })
        .await
    }

    async fn rejected_request(&self, tenant: TenantId, id: Uuid) -> Result<RejectedRequest, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT id, received_at_ms, reason, truncated, body FROM rejected_requests
                           WHERE tenant = $1 AND id = $2";
                let row = connection.query_opt(sql, &[&&*tenant.0, &id]).await?;
                request_row(&row.ok_or(StoreError::NotFound("rejected request"))?)
            })
        });
        read.await
    }
}

async fn insert(
    tx: &WriteTx,
    tenant: &TenantId,
    reason: &str,
    body: &Bytes,
    truncated: bool,
) -> Result<Uuid, StoreError> {
    let id = ids::new_uuid();
    let sql = "INSERT INTO rejected_requests (tenant, id, received_at_ms, reason, truncated, body)
               VALUES ($1, $2, $3, $4, $5, $6)";
    let reason = shortened(&text(reason), REASON_BYTES_MAX);
    tx.execute(sql, &[&&*tenant.0, &id, &now_ms(), &reason, &truncated, &&body[..]]).await?;
    Ok(id)
}

/// Deletes rejected requests of a tenant that are too old or too many. Only the oldest are checked for their age, because each
/// request that arrives deletes more than one. Rows that another host is deleting are left to it.
async fn forget_oldest(connection: &Connection, tenant: &TenantId) -> Result<(), StoreError> {
    // An array, because a subquery that locks rows may run more than once.
    let sql = "DELETE FROM rejected_requests WHERE tenant = $1 AND received_at_ms < $2 AND id = ANY (ARRAY(
                 SELECT id FROM rejected_requests WHERE tenant = $1 ORDER BY id LIMIT 16 FOR UPDATE SKIP LOCKED))";
    connection.execute(sql, &[&&*tenant.0, &(now_ms() - REJECTED_KEPT_MS)]).await?;
    let sql = "DELETE FROM rejected_requests WHERE tenant = $1 AND id = ANY (ARRAY(
                 SELECT id FROM rejected_requests WHERE tenant = $1 AND id <=
                   (SELECT id FROM rejected_requests WHERE tenant = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)
                 FOR UPDATE SKIP LOCKED))";
    connection.execute(sql, &[&&*tenant.0, &int(REJECTED_MAX)]).await.map(drop)
}

/// Deletes a rejected request.
///
/// # Errors
/// [`StoreError::NotFound`]: it does not exist.
pub(super) async fn forget(connection: &Connection, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM rejected_requests WHERE tenant = $1 AND id = $2";
    found(connection.execute(sql, &[&&*tenant.0, &id]).await?, "rejected request")
}

fn entry_row(row: &Row) -> Result<RejectedEntry, StoreError> {
    Ok(RejectedEntry {
        id: row.try_get(0)?,
        received_at_ms: row.try_get(1)?,
        reason: row.try_get(2)?,
        truncated: row.try_get(3)?,
        bytes: number(row, 4)?,
    })
}

fn request_row(row: &Row) -> Result<RejectedRequest, StoreError> {
    Ok(RejectedRequest {
        id: row.try_get(0)?,
        received_at_ms: row.try_get(1)?,
        reason: row.try_get(2)?,
        truncated: row.try_get(3)?,
        body: Bytes::copy_from_slice(row.try_get(4)?),
    })
}
