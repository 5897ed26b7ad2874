//! Tenants in the database.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::tenants::{TenantBackend, TenantChange};
use async_trait::async_trait;
use hookloom_model::subscription::{Tenant, TenantId};
use rusqlite::{Connection, params};
use std::sync::Arc;

#[async_trait]
impl TenantBackend for Sqlite {
    async fn create_tenant(&self, actor: Actor, new: Tenant) -> Result<Tenant, StoreError> {
        let tenant = new;
        let owner = tenant.id.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "INSERT INTO tenants (id, event_types, limits_max, egress, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
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

    async fn update_tenant(&self, actor: Actor, id: TenantId, change: TenantChange) -> Result<Arc<Tenant>, StoreError> {
        let owner = id.clone();
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let before = state.catalog.tenant(&id).ok_or(StoreError::NotFound("tenant"))?;
            let tenant = change.apply(Tenant::clone(&before))?;
            let [names, limits, egress] = texts(&tenant)?;
            let sql = "UPDATE tenants SET event_types = ?2, limits_max = ?3, egress = ?4 WHERE id = ?1";
            tx.execute(sql, params![&*tenant.id.0, names, limits, egress])?;
            tx.record(&actor, None, &AuditAction::TenantUpdate { before: &before, after: &tenant })?;
            Ok(Arc::new(tenant))
        };
        self.change(&owner, write, |catalog, tenant| catalog.put_tenant(Tenant::clone(tenant))).await
    }
}

fn texts(tenant: &Tenant) -> Result<[String; 3], StoreError> {
    Ok([
        serde_json::to_string(&tenant.event_types)?,
        serde_json::to_string(&tenant.limits_max)?,
        serde_json::to_string(&tenant.egress)?,
    ])
}

pub(super) fn load(connection: &Connection) -> Result<Vec<Tenant>, StoreError> {
    let sql = "SELECT id, event_types, limits_max, egress, created_at_ms, alerts FROM tenants WHERE deleting_since_ms IS NULL";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut tenants = Vec::new();
    while let Some(row) = rows.next()? {
        tenants.push(Tenant {
            id: TenantId(row.get::<_, String>(0)?.into()),
            event_types: serde_json::from_str(&row.get::<_, String>(1)?)?,
            limits_max: serde_json::from_str(&row.get::<_, String>(2)?)?,
            egress: serde_json::from_str(&row.get::<_, String>(3)?)?,
            created_at_ms: row.get(4)?,
            alerts: serde_json::from_str(&row.get::<_, String>(5)?)?,
        });
    }
    Ok(tenants)
}
