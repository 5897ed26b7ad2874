//! Settings of alerts, incidents and their e-mails.

use super::intake::{accept_one, resolve};
use super::tables::{AlertEmailRow, MemoryTables};
use super::{Memory, share};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::alerts::{AlertBackend, AlertEmail, EMAIL_LEASE_MS, EMAILS_KEPT, INCIDENTS_KEPT, IncidentRequest};
use crate::backend::subscriptions::StateAnswer;
use crate::commits::IntakeCommit;
use crate::host_state::HostState;
use crate::store_event::NewDeliveries;
use async_trait::async_trait;
use hookloom_model::alerts::{AlertSettings, Incident};
use hookloom_model::clock::now_ms;
use hookloom_model::ids::{AlertEmailId, IncidentId};
use hookloom_model::subscription::{Tenant, TenantId};
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl AlertBackend for Memory {
    async fn put_alert_settings(
        &self,
        actor: Actor,
        tenant: TenantId,
        settings: AlertSettings,
    ) -> Result<Arc<Tenant>, StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let before = self.state.catalog.tenant(&tenant).ok_or(StoreError::NotFound("tenant"))?;
            let after = Arc::new(Tenant { alerts: settings, ..Tenant::clone(&before) });
            if let Some(row) = tables.tenants.get_mut(&tenant) {
                row.tenant = after.clone();
            }
            let action = AuditAction::AlertsUpdate { before: &before.alerts, after: &after.alerts };
            share::record(tables, &actor, Some(&tenant), &action, self.limits.share)?;
            Ok(after)
        };
        self.write(write, |state, tenant| state.catalog.put_tenant(Tenant::clone(tenant))).await
    }

    async fn live_incidents(&self, tenant: TenantId) -> Result<Vec<Incident>, StoreError> {
        self.read(move |tables| Ok(live(tables, &tenant))).await
    }

    async fn incidents(&self, tenant: TenantId, limit: usize) -> Result<Vec<Incident>, StoreError> {
        self.read(move |tables| Ok(incidents_of(tables, &tenant).rev().take(limit).cloned().collect())).await
    }

    async fn write_incidents(&self, request: IncidentRequest) -> Result<StateAnswer, StoreError> {
        let tenant = request.tenant.clone();
        let publish = move |state: &HostState, written: &mut IntakeCommit<(StateAnswer, usize)>| {
            state.publish_accepted(&tenant, written.answer.1, std::mem::take(&mut written.new_deliveries));
        };
        Ok(self.write(|tables| self.write_incidents_in(tables, &request), publish).await?.answer.0)
    }

    async fn put_alert_emails(&self, tenant: TenantId, emails: Vec<AlertEmail>) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            put_emails(tables, &tenant, emails);
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn take_alert_emails(&self, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError> {
        let write = |tables: &mut MemoryTables| {
            let now_ms = now_ms();
            let due = tables.alert_emails.iter().filter_map(|(key, row)| Some((row.due_at_ms?, key.clone())));
            let mut due: Vec<_> = due.filter(|(due_at_ms, _)| *due_at_ms <= now_ms).collect();
            due.sort();
            let mut taken = Vec::new();
            for (_, key) in due.into_iter().take(limit) {
                if let Some(row) = tables.alert_emails.get_mut(&key) {
                    row.due_at_ms = Some(now_ms + EMAIL_LEASE_MS);
                    taken.push((key.0, row.email.clone()));
                }
            }
            Ok(taken)
        };
        self.write(write, |_, _| {}).await
    }

    async fn record_alert_email(
        &self,
        tenant: TenantId,
        email: AlertEmail,
        due_at_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            if let Some(row) = tables.alert_emails.get_mut(&(tenant, email.id)) {
                *row = AlertEmailRow { email, due_at_ms };
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn alert_emails(&self, tenant: TenantId, limit: usize) -> Result<Vec<AlertEmail>, StoreError> {
        let read = move |tables: &MemoryTables| {
            Ok(emails_of(tables, &tenant).rev().take(limit).map(|row| row.email.clone()).collect())
        };
        self.read(read).await
    }
}

impl Memory {
    fn write_incidents_in(
        &self,
        tables: &mut MemoryTables,
        request: &IncidentRequest,
    ) -> Result<IntakeCommit<(StateAnswer, usize)>, StoreError> {
        let tenant = &request.tenant;
        if !self.state.catalog.is_current(tenant, &request.receivers) {
            return Ok(IntakeCommit::nothing((StateAnswer::Stale, 0)));
        }
        if self.state.catalog.tenant(tenant).is_none() {
            return Err(StoreError::NotFound("tenant"));
        }
        let mut new_deliveries = NewDeliveries::default();
        let mut events = 0;
        for mut one in request.writes(&live(tables, tenant)) {
            if let Some(event) = one.event(request) {
                let receivers = resolve(tables, request.receivers.match_host_event(&event), tenant, &event);
                let except = one.except();
                let others = receivers.iter().filter(|other| Some(other.id) != except);
                let accepted = accept_one(tables, &self.state.claims, tenant, event, others, &mut new_deliveries);
                one.note_event(accepted.event);
                events += 1;
            }
            put_emails(tables, tenant, one.emails(request));
            tables.incidents.insert_mut((tenant.clone(), one.incident.id), one.incident);
        }
        prune(tables, tenant);
        Ok(IntakeCommit { answer: (StateAnswer::Done, events), new_deliveries })
    }
}

fn incidents_of<'t>(
    tables: &'t MemoryTables,
    tenant: &TenantId,
) -> impl DoubleEndedIterator<Item = &'t Incident> + use<'t> {
    let [first, last] = [Uuid::nil(), Uuid::max()].map(|id| (tenant.clone(), IncidentId(id)));
    tables.incidents.range(first..=last).map(|(_, one)| one)
}

fn emails_of<'t>(
    tables: &'t MemoryTables,
    tenant: &TenantId,
) -> impl DoubleEndedIterator<Item = &'t AlertEmailRow> + use<'t> {
    let [first, last] = [Uuid::nil(), Uuid::max()].map(|id| (tenant.clone(), AlertEmailId(id)));
    tables.alert_emails.range(first..=last).map(|(_, row)| row)
}

fn live(tables: &MemoryTables, tenant: &TenantId) -> Vec<Incident> {
    incidents_of(tables, tenant).filter(|one| one.is_live()).cloned().collect()
}

fn put_emails(tables: &mut MemoryTables, tenant: &TenantId, emails: Vec<AlertEmail>) {
    for email in emails {
        let due_at_ms = Some(email.created_at_ms);
        tables.alert_emails.insert_mut((tenant.clone(), email.id), AlertEmailRow { email, due_at_ms });
    }
}

/// Deletes what is older than the newest rows, except what is live or due.
fn prune(tables: &mut MemoryTables, tenant: &TenantId) {
    let old = incidents_of(tables, tenant).rev().skip(INCIDENTS_KEPT).filter(|one| !one.is_live());
    let old: Vec<IncidentId> = old.map(|one| one.id).collect();
    for id in old {
        tables.incidents.remove_mut(&(tenant.clone(), id));
    }
    let old = emails_of(tables, tenant).rev().skip(EMAILS_KEPT).filter(|row| row.due_at_ms.is_none());
    let old: Vec<AlertEmailId> = old.map(|row| row.email.id).collect();
    for id in old {
        tables.alert_emails.remove_mut(&(tenant.clone(), id));
    }
}
