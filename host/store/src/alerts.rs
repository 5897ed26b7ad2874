//! Evaluation of the alerts of each tenant: from figures to incidents and their messages.
//!
//! # Guarantees
//! - The messages about an incident are written in the transaction that changes it ([`backend::alerts`](crate::backend::alerts)).
//! - Each tenant is evaluated by one host: the owner of the shard that a hash of its id names.
//!
//! # Cost
//! An evaluation reads figures of 15 minutes, usage and live incidents of each tenant, and its plugins and newest event only if a rule needs them.
//! It writes only if an incident changes.

mod readings;

use crate::backend::alerts::{AlertEmail, AlertTerms, IncidentRequest, IncidentWrite};
use crate::backend::subscriptions::StateAnswer;
use crate::background::wait;
use crate::new_event::NewEvent;
use crate::{Actor, LiveUpdate, Store, StoreError};
use bytes::Bytes;
use delegate::delegate;
use hookloom_model::alerts::{
    AlertSettings, EmailAddress, Incident, IncidentKind, Judgement, Message, message_text, payload, step,
};
use hookloom_model::clock::{instant, now_ms, since};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::{SubscriptionId, Tenant, TenantId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two evaluations of a tenant.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(30);

impl Store {
    delegate! {
        to self.backend {
            /// Replaces the settings of a tenant's alerts.
            pub async fn put_alert_settings(&self, actor: Actor, tenant: TenantId, settings: AlertSettings) -> Result<Arc<Tenant>, StoreError>;

            /// Returns the incidents of a tenant that are open, or over without their closing message.
            pub async fn live_incidents(&self, tenant: TenantId) -> Result<Vec<Incident>, StoreError>;

            /// Returns the newest incidents of a tenant, newest first.
            pub async fn incidents(&self, tenant: TenantId, limit: usize) -> Result<Vec<Incident>, StoreError>;

            /// Writes e-mails of a tenant, which are due at once.
            pub async fn put_alert_emails(&self, tenant: TenantId, emails: Vec<AlertEmail>) -> Result<(), StoreError>;

            /// Takes at most `limit` due e-mails, each with its tenant.
            pub async fn take_alert_emails(&self, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError>;

            /// Records an attempt of an e-mail. `due_at_ms` is the time of the next one; None: there is none.
            pub async fn record_alert_email(&self, tenant: TenantId, email: AlertEmail, due_at_ms: Option<i64>) -> Result<(), StoreError>;

            /// Returns the newest e-mails of a tenant, newest first.
            pub async fn alert_emails(&self, tenant: TenantId, limit: usize) -> Result<Vec<AlertEmail>, StoreError>;
        }
    }

    /// Evaluates the alerts of each tenant of this host every [`EVALUATION_INTERVAL`], until the store stops.
    pub async fn run_alerts(&self, terms: AlertTerms) {
        loop {
            wait(EVALUATION_INTERVAL).await;
            let mut open: BTreeMap<IncidentKind, u64> = IncidentKind::ALL.map(|kind| (kind, 0)).into();
            for tenant in self.catalog().tenants() {
                if !self.state.claims.ownership.owns_tenant(&tenant.id) {
                    continue;
                }
                let started = instant();
                let evaluated = self.evaluate_alerts(&tenant, &terms).await;
                hookloom_telemetry::alerts_evaluated(since(started));
                match evaluated {
                    Ok(live) => live.iter().filter(|one| one.is_open()).for_each(|one| {
                        *open.entry(one.kind).or_default() += 1;
                    }),
                    Err(StoreError::Stopped) => return,
                    // The tenant is being deleted.
                    Err(StoreError::NotFound(_)) => {}
                    Err(error) if error.is_outage() => {}
                    Err(error) => {
                        let error = hookloom_model::describe(&error);
                        tracing::error!(tenant = %tenant.id, error, "the alerts of a tenant could not be evaluated; trying again");
                    }
                }
            }
            hookloom_telemetry::incidents(open.into_iter().map(|(kind, count)| (kind.as_str(), count)));
        }
    }

    /// Evaluates the alerts of a tenant once, and returns the incidents that are live then.
    pub(crate) async fn evaluate_alerts(
        &self,
        tenant: &Tenant,
        terms: &AlertTerms,
    ) -> Result<Vec<Incident>, StoreError> {
        let id = &tenant.id;
        let live = self.backend.live_incidents(id.clone()).await?;
        let judgements = self.judgements(tenant, &live).await?;
        let now_ms = now_ms();
        if step(&live, &judgements, &tenant.alerts, now_ms).is_empty() {
            return Ok(live);
        }
        let request = IncidentRequest {
            tenant: id.clone(),
            judgements,
            settings: tenant.alerts.clone(),
            terms: terms.clone(),
            receivers: self.catalog().receivers(id),
            now_ms,
        };
        let shared = self.changes.read().await;
        let mut answer = self.backend.write_incidents(request.clone()).await?;
        drop(shared);
        while answer == StateAnswer::Stale {
            let _quiet = self.changes.write().await;
            let receivers = self.catalog().receivers(id);
            answer = self.backend.write_incidents(IncidentRequest { receivers, ..request.clone() }).await?;
        }
        self.publish_live_update(|| LiveUpdate::Incident(id.clone()));
        self.backend.live_incidents(id.clone()).await
    }

    async fn judgements(&self, tenant: &Tenant, live: &[Incident]) -> Result<Vec<Judgement>, StoreError> {
        let now_ms = now_ms();
        let readings = self.alert_readings(tenant, live, now_ms / 1_000).await?;
        Ok(readings.iter().flat_map(|one| one.judge(&tenant.alerts, now_ms)).collect())
    }
}

impl IncidentRequest {
    /// Returns the incidents that change, by those that are live in the transaction.
    pub(crate) fn writes(&self, live: &[Incident]) -> Vec<IncidentWrite> {
        let changed = step(live, &self.judgements, &self.settings, self.now_ms);
        changed.into_iter().map(|one| IncidentWrite { incident: one.incident, message: one.message }).collect()
    }
}

impl IncidentWrite {
    /// Returns the host event of the message.
    pub(crate) fn event(&self, request: &IncidentRequest) -> Option<NewEvent> {
        let message = self.message?;
        let text = message_text(&request.tenant, &self.incident, message);
        let link = request.terms.link_base.link(&text.page);
        Some(NewEvent {
            name: message.event_name().to_owned(),
            module: Module::Incident,
            entity_id: Some(self.incident.id.to_string()),
            payload: Bytes::from(payload(&self.incident, message, &text, &link).to_string()),
        })
    }

    /// Returns the subscription that gets no message, because the incident is about it.
    pub(crate) fn except(&self) -> Option<SubscriptionId> {
        match self.incident.kind {
            IncidentKind::WebhookFailing | IncidentKind::WebhookStopped => {
                self.incident.subject.parse().ok().map(SubscriptionId)
            }
            IncidentKind::PluginFaulting | IncidentKind::ShareFilling | IncidentKind::IntakeSilent => None,
        }
    }

    /// Notes the host event that was accepted.
    pub(crate) fn note_event(&mut self, event: EventId) {
        match self.message {
            Some(Message::Opened) => self.incident.opened_event = Some(event),
            Some(Message::Closed) => self.incident.closed_event = Some(event),
            None => {}
        }
    }

    /// Returns the e-mails of the message, one to each recipient.
    pub(crate) fn emails(&self, request: &IncidentRequest) -> Vec<AlertEmail> {
        let Some(message) = self.message.filter(|_| request.terms.emails) else { return Vec::new() };
        let text = message_text(&request.tenant, &self.incident, message);
        let link = request.terms.link_base.link(&text.page);
        let email = |recipient: &EmailAddress| AlertEmail {
            incident: Some(self.incident.id),
            ..AlertEmail::new(recipient, &text.title, text.next_step, &link, request.now_ms)
        };
        request.settings.recipients.iter().map(email).collect()
    }
}
