//! Alerts in the database.

use super::Sqlite;
use super::accept::accept_one;
use super::batch::AdminTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::alerts::{
    AlertBackend, AlertEmail, EMAIL_LEASE_MS, EMAILS_KEPT, INCIDENTS_KEPT, IncidentRequest, IncidentWrite,
};
use crate::backend::subscriptions::StateAnswer;
use crate::commits::IntakeCommit;
use crate::fair_queue::Owner;
use crate::host_state::HostState;
use crate::store_event::NewDeliveries;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::alerts::{AlertSettings, Incident};
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::{Tenant, TenantId};
use rusqlite::{Connection, Params, params};
use serde::de::DeserializeOwned;
use std::sync::Arc;

#[async_trait]
impl AlertBackend for Sqlite {
    async fn put_alert_settings(
        &self,
        actor: Actor,
        tenant: TenantId,
        settings: AlertSettings,
    ) -> Result<Arc<Tenant>, StoreError> {
        let owner = tenant.clone();
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let before = state.catalog.tenant(&tenant).ok_or(StoreError::NotFound("tenant"))?;
            let text = serde_json::to_string(&settings)?;
            tx.execute("UPDATE tenants SET alerts = ?2 WHERE id = ?1", params![&*tenant.0, text])?;
            let action = AuditAction::AlertsUpdate { before: &before.alerts, after: &settings };
            tx.record(&actor, Some(&tenant), &action)?;
            Ok(Arc::new(Tenant { alerts: settings, ..Tenant::clone(&before) }))
        };
        self.change(&owner, write, |catalog, tenant| catalog.put_tenant(Tenant::clone(tenant))).await
    }

    async fn live_incidents(&self, tenant: TenantId) -> Result<Vec<Incident>, StoreError> {
        self.readers.read(Owner::from(&tenant), move |connection| live(connection, &tenant)).await
    }

    async fn incidents(&self, tenant: TenantId, limit: usize) -> Result<Vec<Incident>, StoreError> {
        let read = move |connection: &Connection| {
            let sql = "SELECT record FROM incidents WHERE tenant = ?1 ORDER BY id DESC LIMIT ?2";
            records(connection, sql, params![&*tenant.0, limit])
        };
        self.readers.read(Owner::Host, read).await
    }

    async fn write_incidents(&self, request: IncidentRequest) -> Result<StateAnswer, StoreError> {
        let terms = Terms::small((&request.tenant).into());
        let tenant = request.tenant.clone();
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| write(tx, &request, &state);
        let state = self.state.clone();
        let then = move |written: &mut IntakeCommit<(StateAnswer, usize)>| {
            let deliveries = std::mem::take(&mut written.new_deliveries);
            state.publish_accepted(&tenant, written.answer.1, deliveries);
        };
        Ok(self.writer.change(terms, write, then).await?.answer.0)
    }

    async fn put_alert_emails(&self, tenant: TenantId, emails: Vec<AlertEmail>) -> Result<(), StoreError> {
        let owner = tenant.clone();
        self.write(&owner, move |tx| put_emails(tx, &tenant, &emails)).await
    }

    async fn take_alert_emails(&self, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError> {
        if !self.readers.read(Owner::Host, has_due_email).await? {
            return Ok(Vec::new());
        }
        self.write(Owner::Host, move |tx| take_emails(tx, limit)).await
    }

    async fn record_alert_email(
        &self,
        tenant: TenantId,
        email: AlertEmail,
        due_at_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE alert_emails SET record = ?3, due_at_ms = ?4 WHERE tenant = ?1 AND id = ?2";
            let row = params![&*tenant.0, email.id.0, serde_json::to_string(&email)?, due_at_ms];
            Ok(tx.execute(sql, row).map(drop)?)
        };
        self.write(&owner, write).await
    }

    async fn alert_emails(&self, tenant: TenantId, limit: usize) -> Result<Vec<AlertEmail>, StoreError> {
        let read = move |connection: &Connection| {
            let sql = "SELECT record FROM alert_emails WHERE tenant = ?1 ORDER BY id DESC LIMIT ?2";
            records(connection, sql, params![&*tenant.0, limit])
        };
        self.readers.read(Owner::Host, read).await
    }
}

fn records<T: DeserializeOwned>(connection: &Connection, sql: &str, row: impl Params) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(row, |row| row.get::<_, String>(0))?;
    rows.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
}

fn live(connection: &Connection, tenant: &TenantId) -> Result<Vec<Incident>, StoreError> {
    records(connection, "SELECT record FROM incidents WHERE tenant = ?1 AND live = 1 ORDER BY id", [&*tenant.0])
}

fn write(
    tx: &AdminTx<'_, '_>,
    request: &IncidentRequest,
    state: &HostState,
) -> Result<IntakeCommit<(StateAnswer, usize)>, StoreError> {
    let tenant = &request.tenant;
    if !state.catalog.is_current(tenant, &request.receivers) {
        return Ok(IntakeCommit::nothing((StateAnswer::Stale, 0)));
    }
    if state.catalog.tenant(tenant).is_none() {
        return Err(StoreError::NotFound("tenant"));
    }
    let mut new_deliveries = NewDeliveries::default();
    let mut events = 0;
    for mut one in request.writes(&live(tx, tenant)?) {
        if let Some(event) = one.event(request) {
            let receivers = request.receivers.match_host_event(&event);
            let accepted =
                accept_one(&tx.intake(), state, receivers, tenant, event, one.except(), &mut new_deliveries)?;
            one.note_event(accepted.event);
            events += 1;
        }
        put_emails(tx, tenant, &one.emails(request))?;
        put(tx, tenant, &one)?;
    }
    prune(tx, tenant)?;
    Ok(IntakeCommit { answer: (StateAnswer::Done, events), new_deliveries })
}

fn put(connection: &Connection, tenant: &TenantId, one: &IncidentWrite) -> Result<(), StoreError> {
    let incident = &one.incident;
    let sql = "INSERT INTO incidents (tenant, id, kind, subject, live, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (tenant, id) DO UPDATE SET live = ?5, record = ?6";
    let record = serde_json::to_string(incident)?;
    let row = params![&*tenant.0, incident.id.0, incident.kind.as_str(), incident.subject, incident.is_live(), record];
    Ok(connection.prepare_cached(sql)?.execute(row).map(drop)?)
}

fn put_emails(connection: &Connection, tenant: &TenantId, emails: &[AlertEmail]) -> Result<(), StoreError> {
    let sql = "INSERT INTO alert_emails (tenant, id, due_at_ms, record) VALUES (?1, ?2, ?3, ?4)";
    for email in emails {
        let row = params![&*tenant.0, email.id.0, email.created_at_ms, serde_json::to_string(email)?];
        connection.prepare_cached(sql)?.execute(row)?;
    }
    Ok(())
}

/// Deletes what is older than the newest rows, except what is live or due.
fn prune(connection: &Connection, tenant: &TenantId) -> Result<(), StoreError> {
    for (table, done, kept) in
        [("incidents", "live = 0", INCIDENTS_KEPT), ("alert_emails", "due_at_ms IS NULL", EMAILS_KEPT)]
    {
        let sql = format!(
            "DELETE FROM {table} WHERE tenant = ?1 AND {done} AND id <= (SELECT id FROM {table} WHERE tenant = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
        );
        connection.prepare_cached(&sql)?.execute(params![&*tenant.0, kept])?;
    }
    Ok(())
}

fn has_due_email(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM alert_emails WHERE due_at_ms IS NOT NULL AND due_at_ms <= ?1";
    Ok(connection.prepare_cached(sql)?.exists([now_ms()])?)
}

fn take_emails(tx: &AdminTx<'_, '_>, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError> {
    let now_ms = now_ms();
    let sql = "SELECT tenant, record FROM alert_emails WHERE due_at_ms IS NOT NULL AND due_at_ms <= ?1 ORDER BY due_at_ms LIMIT ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let rows =
        statement.query_map(params![now_ms, limit], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut taken = Vec::new();
    for row in rows {
        let (tenant, record) = row?;
        let email: AlertEmail = serde_json::from_str(&record)?;
        let sql = "UPDATE alert_emails SET due_at_ms = ?3 WHERE tenant = ?1 AND id = ?2";
        tx.prepare_cached(sql)?.execute(params![tenant, email.id.0, now_ms + EMAIL_LEASE_MS])?;
        taken.push((TenantId(tenant.into()), email));
    }
    Ok(taken)
}
