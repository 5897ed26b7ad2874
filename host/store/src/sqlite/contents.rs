//! Reads of what a tenant keeps: the counted usage, and its contents by a count of every row.

use super::Sqlite;
use super::usage::kept;
use crate::StoreError;
use crate::backend::tenants::UsageBackend;
use crate::counted_tables::column;
use crate::fair_queue::Owner;
use crate::usage::TenantContents;
use crate::usage::{Usage, UsageKind};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _};

#[async_trait]
impl UsageBackend for Sqlite {
    async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError> {
        // An exact count of millions of rows takes longer than the time limit of a tenant's query.
        self.lane_readers.read(Owner::Host, move |connection| count(connection, &tenant)).await
    }

    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError> {
        let share = self.limits.share;
        let owner = tenant.clone();
        let read = move |connection: &Connection| kept(connection, &tenant);
        Ok(share.of(self.readers.read(&owner, read).await?.ok_or(StoreError::NotFound("tenant"))?))
    }
}

/// Counts the contents of a tenant, which may be being deleted.
fn count(connection: &Connection, tenant: &TenantId) -> Result<TenantContents, StoreError> {
    let sql = "SELECT deleting_since_ms FROM tenants WHERE id = ?1";
    let since = connection.query_row(sql, [&*tenant.0], |row| row.get(0)).optional()?;
    let deleting_since_ms = since.ok_or(StoreError::NotFound("tenant"))?;
    let count = |table: &str| -> Result<u64, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE tenant = ?1");
        Ok(connection.query_row(&sql, [&*tenant.0], |row| row.get(0))?)
    };
    // `usage::kept` returns nothing for a tenant that is being deleted.
    let bytes = UsageKind::ALL.map(column).join(" + ");
    let sql = format!("SELECT MAX(events_kept, 0), MAX({bytes}, 0) FROM ledgers WHERE tenant = ?1");
    let (events, bytes) = connection.query_row(&sql, [&*tenant.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(TenantContents {
        deleting_since_ms,
        events,
        deliveries: count("deliveries")?,
        plugins: count("plugins")?,
        versions: count("plugin_versions")?,
        subscriptions: count("subscriptions")?,
        bins: count("bins")?,
        keys: count("keys")?,
        intake_tokens: count("intake_tokens")?,
        bytes,
        tenant: tenant.to_string(),
    })
}
