//! Tenants in the database.

use super::Postgres;
use super::connection::Connection;
use super::rows;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::tenants::{TenantBackend, TenantChange};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::subscription::{Tenant, TenantId};
use std::sync::Arc;
use tokio_postgres::Row;

#[async_trait]
impl TenantBackend for Postgres {
    async fn create_tenant(&self, actor: Actor, new: Tenant) -> Result<Tenant, StoreError> {
        self.change(
            Owner::from(&new.id),
            move |tx| {
                Box::pin(async move {
                    let id = &*new.id.0;
                    let sql = "INSERT INTO tenants (id, event_types, limits_max, egress, created_at_ms)
                               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
                    let [names, limits, egress] = texts(&new)?;
                    if tx.execute(sql, &[&id, &names, &limits, &egress, &new.created_at_ms]).await? == 0 {
                        let message = format!("the tenant {id} exists already, or is still being deleted");
                        return Err(StoreError::Conflict(message));
                    }
                    tx.record(&actor, None, &AuditAction::TenantCreate(&new)).await?;
                    Ok(new)
                })
            },
            |catalog, tenant| catalog.put_tenant(tenant.clone()),
        )
        .await
    }

    async fn update_tenant(&self, actor: Actor, id: TenantId, change: TenantChange) -> Result<Arc<Tenant>, StoreError> {
        self.change(
            Owner::from(&id),
            move |tx| {
                Box::pin(async move {
                    let before = tx.catalog().tenant(&id).ok_or(StoreError::NotFound("tenant"))?;
                    let after = change.apply(Tenant::clone(&before))?;
                    let [names, limits, egress] = texts(&after)?;
                    let sql = "UPDATE tenants SET event_types = $2, limits_max = $3, egress = $4 WHERE id = $1";
                    tx.execute(sql, &[&&*after.id.0, &names, &limits, &egress]).await?;
                    tx.record(&actor, None, &AuditAction::TenantUpdate { before: &before, after: &after }).await?;
                    Ok(Arc::new(after))
                })
            },
            |catalog, tenant| catalog.put_tenant(Tenant::clone(tenant)),
        )
        .await
    }
}

fn texts(tenant: &Tenant) -> Result<[String; 3], StoreError> {
    Ok([
        serde_json::to_string(&tenant.event_types)?,
        serde_json::to_string(&tenant.limits_max)?,
        serde_json::to_string(&tenant.egress)?,
    ])
}

/// Returns these tenants, or all, without those that are being deleted.
pub(super) async fn load(connection: &Connection, ids: Option<&[String]>) -> Result<Vec<Tenant>, StoreError> {
    let sql = "SELECT id, event_types, limits_max, egress, created_at_ms, alerts FROM tenants
               WHERE deleting_since_ms IS NULL AND ($1::text[] IS NULL OR id = ANY ($1))";
    connection.query(sql, &[&ids]).await?.iter().map(tenant_row).collect()
}

fn tenant_row(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: rows::tenant(row, 0)?,
        event_types: serde_json::from_str(row.try_get(1)?)?,
        limits_max: serde_json::from_str(row.try_get(2)?)?,
        egress: serde_json::from_str(row.try_get(3)?)?,
        created_at_ms: row.try_get(4)?,
        alerts: serde_json::from_str(row.try_get(5)?)?,
    })
}
