//! Bins in the database. Their requests are in [`bin_requests`](super::bin_requests).
//!
//! # Guarantees
//! - A request is written and deleted while the row of its bin exists, because that row has its tenant.

use super::Postgres;
use super::bin_requests::{forget, page, prune, receive, with_the_one_before};
use super::connection::Connection;
use super::rows::{self, number};
use super::share::ShareCheck;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::inspector::{BINS_MAX, BinBackend, BinFilter, BinPage, oldest_ms};
use crate::fair_queue::Owner;
use crate::write_queue::{Terms, payload_rows};
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use tokio_postgres::Row;
use uuid::Uuid;

/// Columns of [`bin_row`].
const BIN: &str = "b.tenant, b.id, b.settings, b.created_at_ms, b.received";

#[async_trait]
impl BinBackend for Postgres {
    async fn create_bin(&self, actor: Actor, tenant: TenantId, bin: Bin) -> Result<Bin, StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                create(tx, &tenant, &bin).await?;
                tx.record(&actor, Some(&tenant), &AuditAction::BinCreate(&bin)).await?;
                Ok(bin)
            })
        })
        .await
    }

    async fn update_bin(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: BinId,
        settings: BinSettings,
    ) -> Result<Bin, StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                let before = find_of(tx, &tenant, &id).await?;
                update(tx, &tenant, &id, &settings).await?;
                let action = AuditAction::BinUpdate { id: &id, before: &before.settings, after: &settings };
                tx.record(&actor, Some(&tenant), &action).await?;
                Ok(Bin { settings, ..before })
            })
        })
        .await
    }

    async fn delete_bin(&self, actor: Actor, tenant: TenantId, id: BinId) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                find_of(tx, &tenant, &id).await?;
                // Before the bin, whose row has their tenant.
                forget(tx, &id, None).await?;
                tx.execute("DELETE FROM bins WHERE id = $1", &[&&*id]).await?;
                tx.record(&actor, Some(&tenant), &AuditAction::BinDelete(&id)).await
            })
        })
        .await
    }

    async fn bins(&self, tenant: TenantId) -> Result<Vec<Bin>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = format!("SELECT {BIN} FROM bins b WHERE b.tenant = $1 ORDER BY b.created_at_ms DESC, b.id");
                let rows = connection.query(&sql, &[&&*tenant.0]).await?;
                rows.iter().map(|row| Ok(bin_row(row)?.1)).collect()
            })
        });
        read.await
    }

    async fn bin(&self, tenant: TenantId, id: BinId) -> Result<Bin, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move { find_of(connection, &tenant, &id).await })
        });
        read.await
    }

    async fn bin_by_url(&self, id: BinId) -> Result<(TenantId, Bin), StoreError> {
        let read =
            self.readers.read_one(Owner::Host, move |connection| Box::pin(async move { find(connection, &id).await }));
        read.await?.ok_or(StoreError::NotFound("bin"))
    }

    async fn receive_in_bin(
        &self,
        tenant: &TenantId,
        bin: &Bin,
        head: RequestHead,
        body: Bytes,
    ) -> Result<(Uuid, u64), StoreError> {
        let tenant = tenant.clone();
        let bin = bin.clone();
        self.write(Terms { owner: Owner::from(&tenant), rows: 2 + payload_rows(body.len()) }, move |tx| {
            Box::pin(async move { receive(tx, &tenant, &bin, &head, &body).await })
        })
        .await
    }

    async fn bin_requests(&self, tenant: TenantId, bin: BinId, filter: BinFilter) -> Result<BinPage, StoreError> {
        let read = self.readers.read(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let bin = find_of(connection, &tenant, &bin).await?;
                page(connection, &bin, &filter).await
            })
        });
        read.await
    }

    async fn bin_request(
        &self,
        tenant: TenantId,
        bin: BinId,
        id: Uuid,
    ) -> Result<(BinRequest, Option<BinRequest>), StoreError> {
        let read = self.readers.read(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                find_of(connection, &tenant, &bin).await?;
                with_the_one_before(connection, &bin, id).await
            })
        });
        read.await
    }

    async fn forget_bin_requests(
        &self,
        actor: Actor,
        tenant: TenantId,
        bin: BinId,
        id: Option<Uuid>,
    ) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                find_of(tx, &tenant, &bin).await?;
                let action = match (forget(tx, &bin, id).await?, id) {
                    (0, Some(_)) => return Err(StoreError::NotFound("request")),
                    (_, Some(request)) => AuditAction::BinForget { bin: &bin, request },
                    (_, None) => AuditAction::BinClear(&bin),
                };
                tx.record(&actor, Some(&tenant), &action).await
            })
        })
        .await
    }

    async fn record_bin_replay(
        &self,
        actor: Actor,
        tenant: TenantId,
        request: Uuid,
        host: String,
    ) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                let action = AuditAction::BinReplay { request, host: &host };
                tx.record(&actor, Some(&tenant), &action).await
            })
        })
        .await
    }

    async fn bins_to_prune(&self) -> Result<Vec<(TenantId, Bin)>, StoreError> {
        // It looks at the bins of all tenants, which may take longer than a query of one tenant.
        let read = self
            .lane_readers
            .read_one(Owner::Host, |connection| Box::pin(async move { with_expired_requests(connection).await }));
        read.await
    }

    async fn prune_bin(&self, tenant: &TenantId, bin: Bin) -> Result<(), StoreError> {
        self.write(Owner::from(tenant), move |tx| Box::pin(async move { prune(tx, &bin.id, &bin.settings).await }))
            .await
    }
}

async fn create(tx: &WriteTx, tenant: &TenantId, bin: &Bin) -> Result<(), StoreError> {
    let row = tx.query_one("SELECT COUNT(*) FROM bins WHERE tenant = $1", &[&&*tenant.0]).await?;
    if number::<usize>(&row, 0)? >= BINS_MAX {
        return Err(StoreError::Conflict(format!("a tenant has at most {BINS_MAX} bins")));
    }
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    let sql = "INSERT INTO bins (id, tenant, settings, created_at_ms) VALUES ($1, $2, $3, $4)";
    let settings = serde_json::to_string(&bin.settings)?;
    tx.execute(sql, &[&&*bin.id, &&*tenant.0, &settings, &bin.created_at_ms]).await?;
    check.end(tx).await
}

/// Replaces the settings of a bin, and deletes the requests that they do not allow.
async fn update(tx: &WriteTx, tenant: &TenantId, id: &BinId, settings: &BinSettings) -> Result<(), StoreError> {
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    let text = serde_json::to_string(settings)?;
    tx.execute("UPDATE bins SET settings = $2 WHERE id = $1", &[&&**id, &text]).await?;
    prune(tx, id, settings).await?;
    check.end(tx).await
}

async fn find(connection: &Connection, id: &BinId) -> Result<Option<(TenantId, Bin)>, StoreError> {
    let sql = format!("SELECT {BIN} FROM bins b WHERE b.id = $1");
    connection.query_opt(&sql, &[&&**id]).await?.as_ref().map(bin_row).transpose()
}

/// Returns a bin of a tenant.
///
/// # Errors
/// [`StoreError::NotFound`]: it does not exist, or another tenant has it.
async fn find_of(connection: &Connection, tenant: &TenantId, id: &BinId) -> Result<Bin, StoreError> {
    let found = find(connection, id).await?.filter(|(owner, _)| owner == tenant);
    found.map(|(_, bin)| bin).ok_or(StoreError::NotFound("bin"))
}

/// Returns the bins whose oldest request has expired: only these, because each costs a write.
async fn with_expired_requests(connection: &Connection) -> Result<Vec<(TenantId, Bin)>, StoreError> {
    let sql = format!(
        "SELECT {BIN}, o.received_at_ms FROM bins b CROSS JOIN LATERAL
         (SELECT r.received_at_ms FROM bin_requests r WHERE r.bin = b.id ORDER BY r.id LIMIT 1) o"
    );
    let mut expired = Vec::new();
    for row in connection.query(&sql, &[]).await? {
        let (tenant, bin) = bin_row(&row)?;
        if row.try_get::<_, i64>(5)? < oldest_ms(&bin.settings) {
            expired.push((tenant, bin));
        }
    }
    Ok(expired)
}

/// Reads a bin and its tenant from the columns of [`BIN`], which are the first ones.
fn bin_row(row: &Row) -> Result<(TenantId, Bin), StoreError> {
    let bin = Bin {
        id: serde_json::from_value(row.try_get::<_, &str>(1)?.into())?,
        settings: serde_json::from_str(row.try_get(2)?)?,
        created_at_ms: row.try_get(3)?,
        received: number(row, 4)?,
    };
    Ok((rows::tenant(row, 0)?, bin))
}
