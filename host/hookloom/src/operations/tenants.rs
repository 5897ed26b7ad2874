//! Tenants: creation, settings, figures, and deletion after a confirmation.

use super::problem::event_type_problem;
use super::{Access, Admin, Operations, Problem, ToRead};
use crate::address::Egress;
use crate::event_type::{EventType, EventTypes};
use crate::limits::Limits;
use crate::store::{EventTypesChange, Ledger, StoreError, TenantChange, TenantContents, Usage};
use crate::subscription::{Tenant, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Tenant of the host.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantBody {
    /// Id of the tenant in paths.
    id: String,
    /// Event types of the tenant's own, by event name. `GET …/event-types` has those of the vendor as well, with counts.
    event_types: BTreeMap<String, EventType>,
    /// Limits of plugin calls, lower than the host's maxima.
    limits_max: BTreeMap<String, u64>,
    /// Address ranges that the tenant may call, within those of the host.
    egress: Egress,
    /// Time of the tenant's creation, in milliseconds since the epoch.
    created_at_ms: i64,
}

impl From<&Tenant> for TenantBody {
    fn from(tenant: &Tenant) -> Self {
        TenantBody {
            id: tenant.id.to_string(),
            event_types: tenant.event_types.clone().into(),
            limits_max: tenant.limits_max.clone(),
            egress: tenant.egress.clone(),
            created_at_ms: tenant.created_at_ms,
        }
    }
}

/// Tenant to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTenant {
    /// 1 to 64 of `a-z`, `0-9` and `-`.
    id: String,
    /// Event types of the tenant's own, by event name: at most 100.
    #[serde(default)]
    event_types: BTreeMap<String, EventType>,
    /// Limits of plugin calls, lower than the host's maxima, such as `{"cpu_ms": 20}`.
    #[serde(default)]
    limits_max: BTreeMap<String, u64>,
    /// Address ranges that the tenant may call, within those of the host.
    #[serde(default)]
    egress: Egress,
}

impl NewTenant {
    /// Returns a tenant of which everything but its id has its default.
    pub(crate) fn named(id: &TenantId) -> Self {
        NewTenant {
            id: id.to_string(),
            event_types: BTreeMap::new(),
            limits_max: BTreeMap::new(),
            egress: Egress::default(),
        }
    }
}

/// Changes of a tenant. Absent fields stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantWrite {
    /// Event types of the tenant's own, instead of those there are. `PUT …/event-types/{name}` adds one.
    event_types: Option<BTreeMap<String, EventType>>,
    /// Limits of plugin calls, lower than the host's maxima. They apply at once, also to subscriptions with higher limits.
    limits_max: Option<BTreeMap<String, u64>>,
    /// Address ranges that the tenant may call, within those of the host. They apply from the next attempt on.
    egress: Option<Egress>,
}

impl TenantWrite {
    /// Returns a change of the limits and the address ranges, which leaves the event types.
    pub(crate) fn limits(limits_max: BTreeMap<String, u64>, egress: Egress) -> Self {
        TenantWrite { event_types: None, limits_max: Some(limits_max), egress: Some(egress) }
    }
}

impl Operations {
    /// Lists all tenants.
    pub(crate) fn list_tenants(&self, _: &Admin) -> Vec<Arc<Tenant>> {
        self.store.catalog().tenants()
    }

    /// Creates a tenant.
    pub(crate) async fn create_tenant(&self, admin: &Admin, new: NewTenant) -> Result<TenantBody, Problem> {
        let id = TenantId::parse(&new.id).map_err(|detail| Problem::field("/id", detail))?;
        let change = TenantChange {
            event_types: Some(checked_types(new.event_types)?),
            limits_max: Some(checked_limits(new.limits_max)?),
            egress: Some(checked_egress(new.egress)?),
        };
        Ok((&self.store.create_tenant(admin.actor(), id, change).await?).into())
    }

    /// Returns a tenant.
    pub(crate) fn get_tenant(&self, access: &Access<ToRead>) -> Result<TenantBody, Problem> {
        let tenant = self.store.catalog().tenant(&access.tenant).ok_or_else(|| Problem::not_found("tenant"))?;
        Ok((&*tenant).into())
    }

    /// Changes the event types of a tenant, the limits of its plugins, and its address ranges.
    pub(crate) async fn update_tenant(
        &self,
        admin: &Admin,
        tenant: TenantId,
        change: TenantWrite,
    ) -> Result<TenantBody, Problem> {
        let change = TenantChange {
            event_types: change.event_types.map(checked_types).transpose()?,
            limits_max: change.limits_max.map(checked_limits).transpose()?,
            egress: change.egress.map(checked_egress).transpose()?,
        };
        Ok((&*self.store.update_tenant(admin.actor(), tenant, change).await?).into())
    }

    /// Returns the tenant's stored data by kind, and its share.
    pub(crate) async fn get_usage(&self, access: &Access<ToRead>) -> Result<Usage, Problem> {
        Ok(self.store.usage(access.tenant.clone()).await?)
    }

    /// Returns the number of promised deliveries, and of deliveries in each state.
    pub(crate) async fn get_ledger(&self, access: &Access<ToRead>) -> Result<Ledger, Problem> {
        Ok(self.store.ledger(access.tenant.clone()).await?)
    }

    /// Counts what the deletion of a tenant would delete, or what is left of a tenant that is being deleted.
    pub(crate) async fn get_tenant_deletion(&self, _: &Admin, tenant: &str) -> Result<TenantContents, Problem> {
        Ok(self.store.tenant_contents(named(tenant)?).await?)
    }

    /// Deletes a tenant with everything that belongs to it. `confirmation`: its id again.
    ///
    /// Its keys and intake addresses stop working at once. Everything else is deleted in the background.
    pub(crate) async fn delete_tenant(
        &self,
        admin: &Admin,
        tenant: &str,
        confirmation: Option<&str>,
    ) -> Result<TenantContents, Problem> {
        let tenant = named(tenant)?;
        let contents = self.store.tenant_contents(tenant.clone()).await?;
        if confirmation != Some(&*tenant.0) {
            let detail =
                format!("type the tenant's name to delete it with {} events: confirm={tenant}", contents.events);
            return Err(Problem::field("/confirm", detail));
        }
        let plugins = self.plugins.clone();
        let deleted = tenant.clone();
        let forget = move || plugins.forget_tenant(&deleted);
        self.store.delete_tenant(admin.actor(), tenant.clone(), contents.clone(), forget).await?;
        Ok(self.store.tenant_contents(tenant).await.unwrap_or(contents))
    }
}

/// Returns the tenant with this id for an admin. It may be being deleted.
fn named(id: &str) -> Result<TenantId, Problem> {
    TenantId::parse(id).map_err(|_| Problem::from(StoreError::NotFound("tenant")))
}

fn checked_types(types: BTreeMap<String, EventType>) -> Result<EventTypesChange, Problem> {
    let checked = EventTypes::try_from(types).map_err(|error| event_type_problem("/event_types", &error))?;
    Ok(EventTypesChange::All(checked))
}

/// Maximum number of ranges in each list of a tenant's egress, which are all compared with each dialled address.
const RANGES_MAX: usize = 1_000;

fn checked_egress(egress: Egress) -> Result<Egress, Problem> {
    if egress.deny.len() <= RANGES_MAX && egress.only.len() <= RANGES_MAX {
        return Ok(egress);
    }
    let detail = format!("at most {RANGES_MAX} ranges in each list");
    Err(Problem::field("/egress", detail))
}

fn checked_limits(limits: BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>, Problem> {
    match Limits::HOST_MAX.lowered(&limits) {
        Ok(_) => Ok(limits),
        Err(detail) => Err(Problem::field("/limits_max", detail)),
    }
}
