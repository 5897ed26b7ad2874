//! Alerts in the database.

use super::Postgres;
use super::accept::accept_one;
use super::connection::Connection;
use super::new_events::NewRows;
use super::previous_events::latest;
use super::rows::{int, text};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::alerts::{
    AlertBackend, AlertEmail, EMAIL_LEASE_MS, EMAILS_KEPT, INCIDENTS_KEPT, IncidentRequest, IncidentWrite,
};
use crate::backend::subscriptions::StateAnswer;
use crate::commits::IntakeCommit;
use crate::fair_queue::Owner;
use crate::store_event::NewDeliveries;
use async_trait::async_trait;
use hookloom_model::alerts::{AlertSettings, Incident};
use hookloom_model::clock::now_ms;
use hookloom_model::event::EventId;
use hookloom_model::subscription::{Tenant, TenantId};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio_postgres::Row;

#[async_trait]
impl AlertBackend for Postgres {
    async fn put_alert_settings(
        &self,
        actor: Actor,
        tenant: TenantId,
        settings: AlertSettings,
    ) -> Result<Arc<Tenant>, StoreError> {
        self.change(
            Owner::from(&tenant),
            move |tx| {
                Box::pin(async move {
                    let before = tx.catalog().tenant(&tenant).ok_or(StoreError::NotFound("tenant"))?;
                    let text = serde_json::to_string(&settings)?;
                    tx.execute("UPDATE tenants SET alerts = $2 WHERE id = $1", &[&&*tenant.0, &text]).await?;
                    let action = AuditAction::AlertsUpdate { before: &before.alerts, after: &settings };
                    tx.record(&actor, Some(&tenant), &action).await?;
                    Ok(Arc::new(Tenant { alerts: settings, ..Tenant::clone(&before) }))
                })
            },
            |catalog, tenant| catalog.put_tenant(Tenant::clone(tenant)),
        )
        .await
    }

    async fn live_incidents(&self, tenant: TenantId) -> Result<Vec<Incident>, StoreError> {
        let read = self
            .readers
            .read_one(Owner::from(&tenant), move |connection| Box::pin(async move { live(connection, &tenant).await }));
        read.await
    }

    async fn incidents(&self, tenant: TenantId, limit: usize) -> Result<Vec<Incident>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT record FROM incidents WHERE tenant = $1 ORDER BY id DESC LIMIT $2";
                records(&connection.query(sql, &[&&*tenant.0, &int(limit)]).await?)
            })
        });
        read.await
    }

    async fn write_incidents(&self, request: IncidentRequest) -> Result<StateAnswer, StoreError> {
        let tenant = request.tenant.clone();
        let written = self.change_then(
            Owner::from(&request.tenant),
            move |tx| Box::pin(async move { write(tx, &request).await }),
            move |state, written: &mut IntakeCommit<(StateAnswer, usize)>| {
                state.publish_accepted(&tenant, written.answer.1, std::mem::take(&mut written.new_deliveries));
            },
        );
        Ok(written.await?.answer.0)
    }

    async fn put_alert_emails(&self, tenant: TenantId, emails: Vec<AlertEmail>) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| Box::pin(async move { put_emails(tx, &tenant, &emails).await }))
            .await
    }

    async fn take_alert_emails(&self, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError> {
        let is_due = self.readers.read_one(Owner::Host, |connection| {
            Box::pin(async move {
                let sql = "SELECT 1 FROM alert_emails WHERE due_at_ms <= $1 LIMIT 1";
                Ok(connection.query_opt(sql, &[&now_ms()]).await?.is_some())
            })
        });
        if !is_due.await? {
            return Ok(Vec::new());
        }
        self.write(Owner::Host, move |tx| Box::pin(async move { take_emails(tx, limit).await })).await
    }

    async fn record_alert_email(
        &self,
        tenant: TenantId,
        email: AlertEmail,
        due_at_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move {
                let sql = "UPDATE alert_emails SET record = $3, due_at_ms = $4 WHERE tenant = $1 AND id = $2";
                let record = serde_json::to_string(&email)?;
                tx.execute(sql, &[&&*tenant.0, &email.id.0, &record, &due_at_ms]).await.map(drop)
            })
        })
        .await
    }

    async fn alert_emails(&self, tenant: TenantId, limit: usize) -> Result<Vec<AlertEmail>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT record FROM alert_emails WHERE tenant = $1 ORDER BY id DESC LIMIT $2";
                records(&connection.query(sql, &[&&*tenant.0, &int(limit)]).await?)
            })
        });
        read.await
    }
}

fn records<T: DeserializeOwned>(rows: &[Row]) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?)).collect()
}

async fn live(connection: &Connection, tenant: &TenantId) -> Result<Vec<Incident>, StoreError> {
    let sql = "SELECT record FROM incidents WHERE tenant = $1 AND live = 1 ORDER BY id";
    records(&connection.query(sql, &[&&*tenant.0]).await?)
}

async fn write(tx: &WriteTx, request: &IncidentRequest) -> Result<IntakeCommit<(StateAnswer, usize)>, StoreError> {
    let tenant = &request.tenant;
    if !tx.catalog().is_current(tenant, &request.receivers) {
        return Ok(IntakeCommit::nothing((StateAnswer::Stale, 0)));
    }
    if tx.catalog().tenant(tenant).is_none() {
        return Err(StoreError::NotFound("tenant"));
    }
    let mut new_deliveries = NewDeliveries::default();
    let mut events = 0;
    for mut one in request.writes(&live(tx, tenant).await?) {
        if let Some(event) = accept_event(tx, request, &one, &mut new_deliveries).await? {
            one.note_event(event);
            events += 1;
        }
        put_emails(tx, tenant, &one.emails(request)).await?;
        put(tx, tenant, &one).await?;
    }
    prune(tx, tenant).await?;
    Ok(IntakeCommit { answer: (StateAnswer::Done, events), new_deliveries })
}

/// Accepts the host event of a message.
async fn accept_event(
    tx: &WriteTx,
    request: &IncidentRequest,
    one: &IncidentWrite,
    new_deliveries: &mut NewDeliveries,
) -> Result<Option<EventId>, StoreError> {
    let Some(event) = one.event(request) else { return Ok(None) };
    let tenant = &request.tenant;
    let mut rows = NewRows::default();
    let claims = &tx.state().claims;
    let receivers = request.receivers.match_host_event(&event);
    let previous = if receivers.needs_previous() { latest(tx, tenant, &event).await? } else { None };
    let receivers = receivers.resolve(&event.name, &event.payload, previous.as_deref());
    let written = accept_one(&mut rows, claims, &receivers, event, one.except(), new_deliveries);
    let id = written.accepted().event;
    rows.insert(tx, tenant).await?;
    Ok(Some(id))
}

async fn put(connection: &Connection, tenant: &TenantId, one: &IncidentWrite) -> Result<(), StoreError> {
    let incident = &one.incident;
    let sql = "INSERT INTO incidents (tenant, id, kind, subject, live, record) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (tenant, id) DO UPDATE SET live = EXCLUDED.live, record = EXCLUDED.record";
    let record = serde_json::to_string(incident)?;
    let record = text(&record);
    let live = i16::from(incident.is_live());
    let kind = incident.kind.as_str();
    connection.execute(sql, &[&&*tenant.0, &incident.id.0, &kind, &incident.subject, &live, &record]).await.map(drop)
}

async fn put_emails(connection: &Connection, tenant: &TenantId, emails: &[AlertEmail]) -> Result<(), StoreError> {
    let sql = "INSERT INTO alert_emails (tenant, id, due_at_ms, record) VALUES ($1, $2, $3, $4)";
    for email in emails {
        let record = serde_json::to_string(email)?;
        let record = text(&record);
        connection.execute(sql, &[&&*tenant.0, &email.id.0, &email.created_at_ms, &record]).await?;
    }
    Ok(())
}

/// Deletes what is older than the newest rows, except what is live or due.
async fn prune(connection: &Connection, tenant: &TenantId) -> Result<(), StoreError> {
    for (table, done, kept) in
        [("incidents", "live = 0", INCIDENTS_KEPT), ("alert_emails", "due_at_ms IS NULL", EMAILS_KEPT)]
    {
        let sql = format!(
            "DELETE FROM {table} WHERE tenant = $1 AND {done}
             AND id <= (SELECT id FROM {table} WHERE tenant = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)"
        );
        connection.execute(&sql, &[&&*tenant.0, &int(kept)]).await?;
    }
    Ok(())
}

async fn take_emails(tx: &WriteTx, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError> {
    let now_ms = now_ms();
    let sql = "UPDATE alert_emails SET due_at_ms = $2 WHERE (tenant, id) IN
                 (SELECT tenant, id FROM alert_emails WHERE due_at_ms <= $1 ORDER BY due_at_ms LIMIT $3 FOR UPDATE SKIP LOCKED)
               RETURNING tenant, record";
    let rows = tx.query(sql, &[&now_ms, &(now_ms + EMAIL_LEASE_MS), &int(limit)]).await?;
    let taken = rows.iter().map(|row| Ok((super::rows::tenant(row, 0)?, serde_json::from_str(row.try_get(1)?)?)));
    taken.collect()
}
