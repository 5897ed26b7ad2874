//! Tenants, and what they keep.

mod deletion;

use super::Memory;
use super::share::{self, bytes_by_kind, record};
use super::tables::{MemoryTables, TenantRow};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::deliveries::Pruned;
use crate::backend::tenants::{TenantBackend, TenantChange, UsageBackend};
use crate::usage::{TenantContents, Usage};
use async_trait::async_trait;
use hookloom_model::subscription::{Tenant, TenantId};
use std::sync::Arc;

#[async_trait]
impl TenantBackend for Memory {
    async fn create_tenant(&self, actor: Actor, new: Tenant) -> Result<Tenant, StoreError> {
        let write = move |tables: &mut MemoryTables| {
            if tables.tenants.contains_key(&new.id) {
                let what = format!("the tenant {} exists already, or is still being deleted", new.id);
                return Err(StoreError::Conflict(what));
            }
            let row = TenantRow {
                tenant: Arc::new(new.clone()),
                deleting_since_ms: None,
                replayed: 0,
                tests: 0,
                fan_out_pruned: 0,
                pruned: Pruned::default(),
            };
            tables.tenants.insert_mut(new.id.clone(), row);
            record(tables, &actor, None, &AuditAction::TenantCreate(&new), self.limits.share)?;
            Ok(new)
        };
        self.write(write, |state, tenant| state.catalog.put_tenant(tenant.clone())).await
    }

    async fn update_tenant(&self, actor: Actor, id: TenantId, change: TenantChange) -> Result<Arc<Tenant>, StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let before = self.state.catalog.tenant(&id).ok_or(StoreError::NotFound("tenant"))?;
            let after = Arc::new(change.apply(Tenant::clone(&before))?);
            if let Some(row) = tables.tenants.get_mut(&id) {
                row.tenant = after.clone();
            }
            let action = AuditAction::TenantUpdate { before: &before, after: &after };
            record(tables, &actor, None, &action, self.limits.share)?;
            Ok(after)
        };
        self.write(write, |state, tenant| state.catalog.put_tenant(Tenant::clone(tenant))).await
    }
}

#[async_trait]
impl UsageBackend for Memory {
    async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError> {
        self.read(move |tables| contents(tables, &tenant)).await
    }

    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError> {
        self.read(move |tables| share::usage(tables, &tenant, self.limits.share)).await
    }
}

/// Counts the contents of a tenant.
fn contents(tables: &MemoryTables, tenant: &TenantId) -> Result<TenantContents, StoreError> {
    let row = tables.tenants.get(tenant).ok_or(StoreError::NotFound("tenant"))?;
    Ok(TenantContents {
        tenant: tenant.to_string(),
        deleting_since_ms: row.deleting_since_ms,
        events: tables.events_of(tenant).count() as u64,
        deliveries: count(tenant, tables.deliveries.keys().map(|(owner, _)| owner)),
        plugins: count(tenant, tables.plugins.keys().map(|(owner, _)| owner)),
        versions: count(tenant, tables.versions.keys().map(|(owner, ..)| owner)),
        subscriptions: count(tenant, tables.subscriptions.values().map(|row| &row.subscription.tenant)),
        bins: count(tenant, tables.bins.values().map(|row| &row.tenant)),
        keys: count(tenant, tables.keys.values().filter_map(|row| row.key.tenant.as_ref())),
        intake_tokens: count(tenant, tables.tokens.values().map(|row| &row.token.tenant)),
        bytes: bytes_by_kind(tables, tenant).iter().sum(),
    })
}

/// Counts a tenant among the owners of rows.
fn count<'t>(tenant: &TenantId, owners: impl Iterator<Item = &'t TenantId>) -> u64 {
    owners.filter(|owner| *owner == tenant).count() as u64
}
