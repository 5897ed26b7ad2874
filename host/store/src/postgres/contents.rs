//! Reads of what a tenant keeps: the counted usage, and its contents by a count of every row.

use super::Postgres;
use super::connection::Connection;
use super::ledger::sum_of;
use super::rows::number;
use super::usage::kept;
use crate::StoreError;
use crate::backend::tenants::UsageBackend;
use crate::counted_tables::column;
use crate::fair_queue::Owner;
use crate::usage::{TenantContents, Usage, UsageKind};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl UsageBackend for Postgres {
    async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError> {
        // An exact count of millions of rows takes longer than the time limit of a tenant's query.
        let read = self
            .lane_readers
            .read_one(Owner::Host, move |connection| Box::pin(async move { count(connection, &tenant).await }));
        read.await
    }

    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError> {
        let read = self
            .readers
            .read_one(Owner::from(&tenant), move |connection| Box::pin(async move { kept(connection, &tenant).await }));
        Ok(self.limits.share.of(read.await?.ok_or(StoreError::NotFound("tenant"))?))
    }
}

/// Counts the contents of a tenant, which may be being deleted: [`kept`] returns nothing for it then.
async fn count(connection: &Connection, tenant: &TenantId) -> Result<TenantContents, StoreError> {
    let bytes = UsageKind::ALL.map(|kind| sum_of(&column(kind))).join(" + ");
    let sql = format!(
        "SELECT t.deleting_since_ms, {}, {bytes},
                (SELECT COUNT(*) FROM deliveries WHERE tenant = $1),
                (SELECT COUNT(*) FROM plugins WHERE tenant = $1),
                (SELECT COUNT(*) FROM plugin_versions WHERE tenant = $1),
                (SELECT COUNT(*) FROM subscriptions WHERE tenant = $1),
                (SELECT COUNT(*) FROM bins WHERE tenant = $1),
                (SELECT COUNT(*) FROM keys WHERE tenant = $1),
                (SELECT COUNT(*) FROM intake_tokens WHERE tenant = $1)
         FROM tenants t LEFT JOIN ledgers l ON l.tenant = t.id WHERE t.id = $1 GROUP BY t.id",
        sum_of("events_kept")
    );
    let row = connection.query_opt(&sql, &[&&*tenant.0]).await?.ok_or(StoreError::NotFound("tenant"))?;
    Ok(TenantContents {
        tenant: tenant.to_string(),
        deleting_since_ms: row.try_get(0)?,
        events: number(&row, 1)?,
        bytes: number(&row, 2)?,
        deliveries: number(&row, 3)?,
        plugins: number(&row, 4)?,
        versions: number(&row, 5)?,
        subscriptions: number(&row, 6)?,
        bins: number(&row, 7)?,
        keys: number(&row, 8)?,
        intake_tokens: number(&row, 9)?,
    })
}
