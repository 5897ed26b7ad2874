//! Tenants, their usage, and their deletion.

use crate::StoreError;
use crate::audit::Actor;
use crate::usage::{TenantContents, Usage};
use async_trait::async_trait;
use hookloom_model::address::Egress;
use hookloom_model::event::Module;
use hookloom_model::subscription::{Tenant, TenantId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Change of a tenant's settings by an admin. An absent setting stays, or is empty in a new tenant.
#[derive(Debug, Default)]
pub struct TenantChange {
    /// Accepted event names besides the vendor's.
    pub extra_event_names: Option<BTreeMap<String, Module>>,
    /// Limits of plugin calls, lower than the host's.
    pub limits_max: Option<BTreeMap<String, u64>>,
    /// Allowed and denied addresses.
    pub egress: Option<Egress>,
}

impl TenantChange {
    pub(crate) fn apply(self, mut tenant: Tenant) -> Tenant {
        tenant.extra_event_names = self.extra_event_names.unwrap_or(tenant.extra_event_names);
        tenant.limits_max = self.limits_max.unwrap_or(tenant.limits_max);
        tenant.egress = self.egress.unwrap_or(tenant.egress);
        tenant
    }
}

/// Outcome of a step of background work.
#[derive(Clone, Copy, Debug)]
pub struct WorkStep {
    /// True if nothing is left.
    pub done: bool,
    /// Time for which the step occupied the writer.
    pub took: Duration,
}

/// Tenants and their settings.
#[async_trait]
pub trait TenantBackend: Send + Sync {
    /// Stores a new tenant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the id is taken, or its last tenant is still being deleted.
    async fn create_tenant(&self, actor: Actor, new: Tenant) -> Result<Tenant, StoreError>;

    /// Changes a tenant.
    async fn update_tenant(&self, actor: Actor, id: TenantId, change: TenantChange) -> Result<Arc<Tenant>, StoreError>;
}

/// Deletion of tenants.
#[async_trait]
pub trait DeletionBackend: Send + Sync {
    /// Begins the deletion of a tenant. Its keys, addresses and subscriptions end at once. The entry with its contents is added to
    /// the host's log, because the tenant's log is deleted.
    async fn delete_tenant(&self, actor: Actor, tenant: TenantId, contents: TenantContents) -> Result<(), StoreError>;

    /// Returns the tenants that are being deleted.
    async fn tenants_being_deleted(&self) -> Result<Vec<TenantId>, StoreError>;

    /// Deletes some rows of a tenant that is being deleted. The last step deletes the tenant itself, whose id is free then.
    async fn delete_tenant_step(&self, tenant: &TenantId) -> Result<WorkStep, StoreError>;
}

/// Usage and contents of tenants.
#[async_trait]
pub trait UsageBackend: Send + Sync {
    /// Counts the contents of a tenant, which may be being deleted.
    async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError>;

    /// Returns the storage that a tenant uses, as of the last commit.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]: there is no such tenant.
    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError>;
}
