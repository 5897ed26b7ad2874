//! Contents of a tenant, as numbers: shown before its deletion, recorded with it, and counted down by it.
//!
//! Exact, so it reads every row: not for a request that a tenant can repeat.

use super::fair_queue::Owner;
use super::{Store, StoreError, UsageKind, usage};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Contents of a tenant, as numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantContents {
    /// Id of the tenant.
    pub tenant: String,
    /// Time at which the deletion began, in milliseconds since the epoch. Absent if the tenant is not being deleted.
    pub deleting_since_ms: Option<i64>,
    /// Number of stored events.
    pub events: u64,
    /// Number of deliveries in all states.
    pub deliveries: u64,
    /// Number of plugins.
    pub plugins: u64,
    /// Number of versions of plugins.
    pub versions: u64,
    /// Number of subscriptions.
    pub subscriptions: u64,
    /// Number of bins.
    pub bins: u64,
    /// Number of API keys.
    pub keys: u64,
    /// Number of intake tokens, each with an address.
    pub intake_tokens: u64,
    /// Size of all data, in bytes, as [`Usage`](super::Usage) counts it.
    pub bytes: u64,
}

impl Store {
    /// Counts the contents of a tenant, which may be being deleted.
    pub async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError> {
        let read = move |connection: &Connection| {
            let sql = "SELECT deleting_since_ms FROM tenants WHERE id = ?1";
            let since = connection.query_row(sql, [&*tenant.0], |row| row.get(0)).optional()?;
            let deleting_since_ms = since.ok_or(StoreError::NotFound("tenant"))?;
            let count = |table: &str| -> Result<u64, StoreError> {
                let sql = format!("SELECT COUNT(*) FROM {table} WHERE tenant = ?1");
                Ok(connection.query_row(&sql, [&*tenant.0], |row| row.get(0))?)
            };
            // `usage::kept` returns nothing for a tenant that is being deleted.
            let bytes = UsageKind::ALL.map(usage::column).join(" + ");
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
        };
        // An exact count of millions of rows takes longer than the time limit of a tenant's query.
        self.lane_readers.read(Owner::Host, read).await
    }
}
