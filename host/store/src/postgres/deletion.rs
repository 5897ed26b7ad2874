//! Deletion of tenants in the database, in steps of about [`STEP_MAX`].
//!
//! # Guarantees
//! - The tenant itself is deleted by the step that finds no other row of it.

use super::Postgres;
use super::connection::Connection;
use super::credentials::found;
use super::rows;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::tenants::{DeletionBackend, WorkStep};
use crate::fair_queue::Owner;
use crate::usage::TenantContents;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::subscription::TenantId;
use std::time::Duration;

/// Maximum duration of a step, which occupies the writer. A single statement may take longer.
const STEP_MAX: Duration = Duration::from_millis(10);

/// Cost of a step for its owner, in rows.
const STEP_ROWS: u64 = 512;

/// Rows of a tenant in a table.
struct TenantRows {
    table: &'static str,
    /// Columns that follow the tenant, or the owner, in an index. Without an order, the planner may read a table from its beginning,
    /// with all rows of other tenants.
    order: &'static str,
    /// Number of rows that a statement deletes: few if they have payloads.
    rows: u32,
    /// Condition of the rows. A table with parts needs one for each part, because a `ctid` is only known within one.
    part: Option<&'static str>,
    /// Table of the rows' owners, and the column with the owner. None: the rows have a column with their tenant.
    owners: Option<(&'static str, &'static str)>,
}

const fn rows_of(table: &'static str, order: &'static str, rows: u32) -> TenantRows {
    TenantRows { table, order, rows, part: None, owners: None }
}

const fn part_of(condition: &'static str, rows: TenantRows) -> TenantRows {
    TenantRows { part: Some(condition), ..rows }
}

const fn owned_by(owners: (&'static str, &'static str), rows: TenantRows) -> TenantRows {
    TenantRows { owners: Some(owners), ..rows }
}

/// Rows of a tenant, besides the versions of its plugins. Rows that identify the tenant of other rows come after them.
const ROWS: [TenantRows; 24] = [
    rows_of("attempts", "delivery, number", 128),
    part_of("state = 0", rows_of("deliveries", "id", 128)),
    part_of("state > 0", rows_of("deliveries", "id", 128)),
    rows_of("events", "id", 16),
    rows_of("fan_outs", "id", 16),
    rows_of("sweeps", "plugin, subscription", 128),
    rows_of("idempotency_keys", "key", 32),
    rows_of("rejected_requests", "id", 16),
    owned_by(("bins", "bin"), rows_of("bin_requests", "id", 16)),
    rows_of("bins", "id", 32),
    rows_of("figures", "span_s, at_s, subscription, plugin", 128),
    rows_of("changes", "id", 32),
    rows_of("incidents", "id", 32),
    rows_of("alert_emails", "id", 32),
    rows_of("subscriptions", "id", 32),
    rows_of("quarantine", "sha256", 128),
    rows_of("rollouts", "name", 128),
    rows_of("rollout_counts", "name, host", 32),
    rows_of("plugins", "name", 128),
    owned_by(("keys", "key"), rows_of("sessions", "created_at_ms", 128)),
    owned_by(("keys", "key"), rows_of("sign_in_links", "expires_at_ms", 128)),
    rows_of("keys", "tenant", 128),
    rows_of("intake_tokens", "id", 128),
    rows_of("portal_sessions", "created_at_ms", 32),
];

impl TenantRows {
    /// Returns the statement that deletes some of the rows of a tenant ($1).
    fn deletion(&self) -> String {
        let TenantRows { table, order, rows, part, owners } = self;
        let part = part.map_or(String::new(), |part| format!(" AND {part}"));
        let some = match owners {
            None => format!("SELECT ctid FROM {table} WHERE tenant = $1{part} ORDER BY {order} LIMIT {rows}"),
            Some((owners, owner)) => format!(
                "SELECT r.ctid FROM {owners} o CROSS JOIN LATERAL
                   (SELECT ctid FROM {table} WHERE {owner} = o.id ORDER BY {order} LIMIT {rows}) r
                 WHERE o.tenant = $1 LIMIT {rows}"
            ),
        };
        format!("DELETE FROM {table} WHERE ctid = ANY (ARRAY({some})){part}")
    }
}

#[async_trait]
impl DeletionBackend for Postgres {
    async fn delete_tenant(&self, actor: Actor, tenant: TenantId, contents: TenantContents) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let pending = self.pending.clone();
        // On the account of the host, because the writes of the tenant end.
        self.change_then(
            Owner::Host,
            move |tx| Box::pin(async move { begin(tx, &actor, &owner, &contents).await }),
            move |state, ()| {
                let subscriptions = state.catalog.subscriptions(&tenant);
                state.catalog.remove_tenant(&tenant);
                pending.forget(&tenant);
                subscriptions.iter().for_each(|one| state.publish_change(one.id));
            },
        )
        .await
    }

    async fn tenants_being_deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        let read = self.readers.read_one(Owner::Host, |connection| {
            Box::pin(async move {
                let sql = "SELECT id FROM tenants WHERE deleting_since_ms IS NOT NULL ORDER BY id";
                connection.query(sql, &[]).await?.iter().map(|row| rows::tenant(row, 0)).collect()
            })
        });
        read.await
    }

    async fn delete_tenant_step(&self, tenant: &TenantId) -> Result<WorkStep, StoreError> {
        let tenant = tenant.clone();
        self.write(Terms { owner: Owner::from(&tenant), rows: STEP_ROWS }, move |tx| {
            Box::pin(async move {
                let begun = clock::instant();
                Ok(WorkStep { done: delete_some(tx, &tenant).await?, took: clock::since(begun) })
            })
        })
        .await
    }
}

/// Begins the deletion of a tenant.
async fn begin(tx: &WriteTx, actor: &Actor, tenant: &TenantId, contents: &TenantContents) -> Result<(), StoreError> {
    let sql = "UPDATE tenants SET deleting_since_ms = $2 WHERE id = $1 AND deleting_since_ms IS NULL";
    found(tx.execute(sql, &[&&*tenant.0, &now_ms()]).await?, "tenant")?;
    tx.record(actor, None, &AuditAction::TenantDelete(contents)).await
}

/// Deletes rows of a tenant for up to [`STEP_MAX`], and finally the tenant. Returns true if the tenant is gone.
async fn delete_some(connection: &Connection, tenant: &TenantId) -> Result<bool, StoreError> {
    let begun = clock::instant();
    // Another host may have deleted the tenant since this one has found it, and its name may be in use again.
    let sql = "SELECT 1 FROM tenants WHERE id = $1 AND deleting_since_ms IS NOT NULL";
    if !connection.exists(sql, &[&&*tenant.0]).await? {
        return Ok(true);
    }
    let mut deleted = 0;
    for rows in ROWS {
        let sql = rows.deletion();
        loop {
            let some = connection.execute(&sql, &[&&*tenant.0]).await?;
            deleted += some;
            // Not while nothing was deleted: the round trips alone may take that long, and the step would never reach the end.
            if deleted > 0 && clock::since(begun) >= STEP_MAX {
                return Ok(false);
            }
            if some < rows.rows.into() {
                break;
            }
        }
    }
    while delete_version(connection, tenant).await? {
        deleted += 1;
        if clock::since(begun) >= STEP_MAX {
            return Ok(false);
        }
    }
    // An outcome may have been written for a delivery whose attempts were deleted already, so the last step must find no rows.
    if deleted > 0 {
        return Ok(false);
    }
    connection.execute("DELETE FROM ledgers WHERE tenant = $1", &[&&*tenant.0]).await?;
    connection.execute("DELETE FROM tenants WHERE id = $1", &[&&*tenant.0]).await?;
    Ok(true)
}

/// Deletes a version of a tenant's plugins, and its component if no other version has the same. Returns false if there is none.
async fn delete_version(connection: &Connection, tenant: &TenantId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM plugin_versions
               WHERE ctid = (SELECT ctid FROM plugin_versions WHERE tenant = $1 ORDER BY name, sha256 LIMIT 1) RETURNING sha256";
    let Some(row) = connection.query_opt(sql, &[&&*tenant.0]).await? else { return Ok(false) };
    let sha256: &str = row.try_get(0)?;
    let sql =
        "DELETE FROM components WHERE sha256 = $1 AND NOT EXISTS (SELECT 1 FROM plugin_versions WHERE sha256 = $1)";
    connection.execute(sql, &[&sha256]).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
