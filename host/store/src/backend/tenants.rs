//! Tenants, their usage, and their deletion.

use crate::StoreError;
use crate::audit::Actor;
use crate::usage::{TenantContents, Usage};
use async_trait::async_trait;
use hookloom_model::address::Egress;
use hookloom_model::event_type::{EventType, EventTypes};
use hookloom_model::subscription::{Tenant, TenantId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Change of a tenant's event types.
#[derive(Clone, Debug)]
pub enum EventTypesChange {
    /// All event types, instead of those there are.
    All(EventTypes),
    /// A new event type, or another description of one.
    Put(String, EventType),
    /// Name of an event type that is no longer accepted.
    Remove(String),
}

impl EventTypesChange {
    fn apply(self, types: &EventTypes) -> Result<EventTypes, StoreError> {
        match self {
            EventTypesChange::All(all) => Ok(all),
            EventTypesChange::Put(name, one) => Ok(types.with(&name, one)?),
            EventTypesChange::Remove(name) => types.without(&name).ok_or(StoreError::NotFound("event type")),
        }
    }
}

/// Change of a tenant's settings. An absent setting stays, or is empty in a new tenant.
#[derive(Debug, Default)]
pub struct TenantChange {
    /// Event types of the tenant's own.
    pub event_types: Option<EventTypesChange>,
    /// Limits of plugin calls, lower than the host's.
    pub limits_max: Option<BTreeMap<String, u64>>,
    /// Allowed and denied addresses.
    pub egress: Option<Egress>,
}

impl TenantChange {
    /// Returns the changed tenant.
    ///
    /// # Errors
    /// The event type does not fit, or there is none to remove.
    pub(crate) fn apply(self, mut tenant: Tenant) -> Result<Tenant, StoreError> {
        if let Some(change) = self.event_types {
            tenant.event_types = change.apply(&tenant.event_types)?;
        }
        tenant.limits_max = self.limits_max.unwrap_or(tenant.limits_max);
        tenant.egress = self.egress.unwrap_or(tenant.egress);
        Ok(tenant)
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
