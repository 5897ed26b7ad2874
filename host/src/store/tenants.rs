//! Tenants in the database.

use super::{Store, StoreError, now_ms};
use crate::event::Module;
use crate::subscription::{Tenant, TenantId};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Store {
    /// Makes a tenant.
    pub async fn create_tenant(
        &self,
        id: TenantId,
        extra_event_names: BTreeMap<String, Module>,
        limits_max: BTreeMap<String, u64>,
    ) -> Result<Tenant, StoreError> {
        let tenant = Tenant { id, extra_event_names, limits_max, created_at_ms: now_ms() };
        let write = move |connection: &Connection| {
            let names = serde_json::to_string(&tenant.extra_event_names)?;
            let limits = serde_json::to_string(&tenant.limits_max)?;
            let sql = "INSERT INTO tenants (id, extra_event_names, limits_max, created_at_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            let made = connection.execute(sql, params![&*tenant.id.0, names, limits, tenant.created_at_ms])?;
            match made {
                0 => Err(StoreError::Conflict(format!("the tenant {} exists already", tenant.id))),
                _ => Ok(tenant),
            }
        };
        self.change(write, |catalog, tenant| catalog.put_tenant(tenant.clone())).await
    }

    /// Changes a tenant: what is not given stays.
    pub async fn update_tenant(
        &self,
        id: TenantId,
        extra_event_names: Option<BTreeMap<String, Module>>,
        limits_max: Option<BTreeMap<String, u64>>,
    ) -> Result<Arc<Tenant>, StoreError> {
        let catalog = self.catalog.clone();
        let write = move |connection: &Connection| {
            let mut tenant = Arc::unwrap_or_clone(catalog.tenant(&id).ok_or(StoreError::NotFound("tenant"))?);
            tenant.extra_event_names = extra_event_names.unwrap_or(tenant.extra_event_names);
            tenant.limits_max = limits_max.unwrap_or(tenant.limits_max);
            let names = serde_json::to_string(&tenant.extra_event_names)?;
            let limits = serde_json::to_string(&tenant.limits_max)?;
            let sql = "UPDATE tenants SET extra_event_names = ?2, limits_max = ?3 WHERE id = ?1";
            connection.execute(sql, params![&*tenant.id.0, names, limits])?;
            Ok(Arc::new(tenant))
        };
        self.change(write, |catalog, tenant| catalog.put_tenant(Tenant::clone(tenant))).await
    }
}

pub(super) fn load(connection: &Connection) -> Result<Vec<Tenant>, StoreError> {
    let mut statement = connection.prepare("SELECT id, extra_event_names, limits_max, created_at_ms FROM tenants")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?))
    })?;
    rows.map(|row| {
        let (id, names, limits, created_at_ms) = row?;
        Ok(Tenant {
            id: TenantId(id.into()),
            extra_event_names: serde_json::from_str(&names)?,
            limits_max: serde_json::from_str(&limits)?,
            created_at_ms,
        })
    })
    .collect()
}
