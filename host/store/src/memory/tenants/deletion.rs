//! Deletion of tenants, in a single step.

use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::tenants::{DeletionBackend, WorkStep};
use crate::memory::Memory;
use crate::memory::plugins::delete_version_row;
use crate::memory::share::record;
use crate::memory::sorted_table::delete_where;
use crate::memory::tables::MemoryTables;
use crate::usage::TenantContents;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::ids::BinId;
use hookloom_model::subscription::TenantId;
use std::collections::BTreeSet;
use uuid::Uuid;

#[async_trait]
impl DeletionBackend for Memory {
    async fn delete_tenant(&self, actor: Actor, tenant: TenantId, contents: TenantContents) -> Result<(), StoreError> {
        let id = tenant.clone();
        let write = move |tables: &mut MemoryTables| {
            let row = tables.tenants.get_mut(&id).filter(|row| row.deleting_since_ms.is_none());
            row.ok_or(StoreError::NotFound("tenant"))?.deleting_since_ms = Some(now_ms());
            record(tables, &actor, None, &AuditAction::TenantDelete(&contents), self.limits.share)
        };
        self.write(write, move |state, ()| {
            let subscriptions = state.catalog.subscriptions(&tenant);
            state.catalog.remove_tenant(&tenant);
            subscriptions.iter().for_each(|one| state.publish_change(one.id));
        })
        .await
    }

    async fn tenants_being_deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        self.read(|tables| {
            let rows = tables.tenants.iter().filter(|(_, row)| row.deleting_since_ms.is_some());
            Ok(rows.map(|(id, _)| id.clone()).collect())
        })
        .await
    }

    async fn delete_tenant_step(&self, tenant: &TenantId) -> Result<WorkStep, StoreError> {
        let write = |tables: &mut MemoryTables| {
            let begun = clock::instant();
            delete_deliveries(tables, tenant);
            delete_access(tables, tenant);
            delete_plugins(tables, tenant);
            delete_bins(tables, tenant);
            delete_where(&mut tables.subscriptions, |_, row| row.subscription.tenant == *tenant);
            delete_where(&mut tables.incidents, |(owner, _), _| owner == tenant);
            delete_where(&mut tables.alert_emails, |(owner, _), _| owner == tenant);
            delete_where(&mut tables.figures, |(owner, ..), _| owner == tenant);
            delete_where(&mut tables.changes, |(owner, _), _| owner.as_ref() == Some(tenant));
            tables.tenants.remove_mut(tenant);
            Ok(WorkStep { done: true, took: clock::since(begun) })
        };
        self.write(write, |_, _| {}).await
    }
}

/// Deletes the events of a tenant with all that was made of them.
fn delete_deliveries(tables: &mut MemoryTables, tenant: &TenantId) {
    delete_where(&mut tables.attempts, |(owner, ..), _| owner == tenant);
    delete_where(&mut tables.deliveries, |(owner, _), _| owner == tenant);
    delete_where(&mut tables.events, |(owner, _), _| owner == tenant);
    delete_where(&mut tables.answers, |(owner, _), _| owner == tenant);
    delete_where(&mut tables.fan_outs, |(owner, _), _| owner == tenant);
    delete_where(&mut tables.sweeps, |(owner, ..), _| owner == tenant);
}

/// Deletes the keys of a tenant with their sessions and links, its intake tokens, and its links and
/// sessions of the portal.
fn delete_access(tables: &mut MemoryTables, tenant: &TenantId) {
    let keys = tables.keys.iter().filter(|(_, row)| row.key.tenant.as_ref() == Some(tenant));
    let keys: BTreeSet<Uuid> = keys.map(|(id, _)| *id).collect();
    delete_where(&mut tables.sessions, |_, row| keys.contains(&row.session.key));
    delete_where(&mut tables.links, |_, row| keys.contains(&row.key));
    delete_where(&mut tables.keys, |id, _| keys.contains(id));
    delete_where(&mut tables.tokens, |_, row| row.token.tenant == *tenant);
    delete_where(&mut tables.portal, |_, row| row.tenant() == tenant);
}

/// Deletes the plugins of a tenant. The last components from files stay recorded, so that a file does not bring a plugin back.
fn delete_plugins(tables: &mut MemoryTables, tenant: &TenantId) {
    delete_where(&mut tables.quarantine, |(owner, _), _| owner == tenant);
    delete_where(&mut tables.rollouts, |(owner, _), _| owner == tenant);
    delete_where(&mut tables.plugins, |(owner, _), _| owner == tenant);
    let versions = tables.versions.keys().filter(|(owner, ..)| owner == tenant);
    let versions: Vec<_> = versions.cloned().collect();
    versions.iter().for_each(|key| delete_version_row(tables, key));
}

/// Deletes the bins of a tenant with their requests, and its rejected requests.
fn delete_bins(tables: &mut MemoryTables, tenant: &TenantId) {
    let bins = tables.bins.iter().filter(|(_, row)| row.tenant == *tenant);
    let bins: BTreeSet<BinId> = bins.map(|(id, _)| id.clone()).collect();
    delete_where(&mut tables.bin_requests, |(bin, _), _| bins.contains(bin));
    delete_where(&mut tables.bins, |id, _| bins.contains(id));
    delete_where(&mut tables.rejected, |(owner, _), _| owner == tenant);
}
