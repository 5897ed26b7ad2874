//! Tenants in the database.

use super::audit::{Actor, AuditAction};
use super::batch::AdminTx;
use super::{Store, StoreError};
use hookloom_model::address::Egress;
use hookloom_model::clock::now_ms;
use hookloom_model::event::Module;
use hookloom_model::subscription::{Tenant, TenantId};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    fn apply(self, mut tenant: Tenant) -> Tenant {
        tenant.extra_event_names = self.extra_event_names.unwrap_or(tenant.extra_event_names);
        tenant.limits_max = self.limits_max.unwrap_or(tenant.limits_max);
        tenant.egress = self.egress.unwrap_or(tenant.egress);
        tenant
    }
}

impl Store {
    /// Creates a tenant.
    pub async fn create_tenant(&self, actor: Actor, id: TenantId, change: TenantChange) -> Result<Tenant, StoreError> {
        let blank = Tenant {
            id,
            extra_event_names: BTreeMap::new(),
            limits_max: BTreeMap::new(),
            egress: Egress::default(),
            created_at_ms: now_ms(),
        };
        let tenant = change.apply(blank);
        let owner = tenant.id.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "INSERT INTO tenants (id, extra_event_names, limits_max, egress, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
            let [names, limits, egress] = texts(&tenant)?;
            let sql_of_counters = "INSERT INTO ledgers (tenant) VALUES (?1) ON CONFLICT DO NOTHING";
            tx.execute(sql_of_counters, [&*tenant.id.0])?;
            match tx.execute(sql, params![&*tenant.id.0, names, limits, egress, tenant.created_at_ms])? {
                0 => Err(StoreError::Conflict(format!(
                    "the tenant {} exists already, or is still being deleted",
                    tenant.id
                ))),
                _ => {
                    tx.record(&actor, None, &AuditAction::TenantCreate(&tenant))?;
                    Ok(tenant)
                }
            }
        };
        self.change(&owner, write, |catalog, tenant| catalog.put_tenant(tenant.clone())).await
    }

    /// Changes a tenant.
    pub async fn update_tenant(
        &self,
        actor: Actor,
        id: TenantId,
        change: TenantChange,
    ) -> Result<Arc<Tenant>, StoreError> {
        let owner = id.clone();
        let catalog = self.catalog.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let before = catalog.tenant(&id).ok_or(StoreError::NotFound("tenant"))?;
            let tenant = change.apply(Tenant::clone(&before));
            let [names, limits, egress] = texts(&tenant)?;
            let sql = "UPDATE tenants SET extra_event_names = ?2, limits_max = ?3, egress = ?4 WHERE id = ?1";
            tx.execute(sql, params![&*tenant.id.0, names, limits, egress])?;
            tx.record(&actor, None, &AuditAction::TenantUpdate { before: &before, after: &tenant })?;
            Ok(Arc::new(tenant))
        };
        self.change(&owner, write, |catalog, tenant| catalog.put_tenant(Tenant::clone(tenant))).await
    }
}

fn texts(tenant: &Tenant) -> Result<[String; 3], StoreError> {
    Ok([
        serde_json::to_string(&tenant.extra_event_names)?,
        serde_json::to_string(&tenant.limits_max)?,
        serde_json::to_string(&tenant.egress)?,
    ])
}

pub(super) fn load(connection: &Connection) -> Result<Vec<Tenant>, StoreError> {
    let sql =
        "SELECT id, extra_event_names, limits_max, egress, created_at_ms FROM tenants WHERE deleting_since_ms IS NULL";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut tenants = Vec::new();
    while let Some(row) = rows.next()? {
        tenants.push(Tenant {
            id: TenantId(row.get::<_, String>(0)?.into()),
            extra_event_names: serde_json::from_str(&row.get::<_, String>(1)?)?,
            limits_max: serde_json::from_str(&row.get::<_, String>(2)?)?,
            egress: serde_json::from_str(&row.get::<_, String>(3)?)?,
            created_at_ms: row.get(4)?,
        });
    }
    Ok(tenants)
}
