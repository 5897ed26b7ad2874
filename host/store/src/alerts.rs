//! Alerts: the look at the figures of each tenant, and what follows from it.
//!
//! # Guarantees
//! - An incident is told in the transaction that changes it ([`backend::alerts`](crate::backend::alerts)).
//! - Each tenant is looked at by one host: the owner of the shard that a hash of its id names.
//!
//! # Cost
//! A look reads figures of 15 minutes, usage and live incidents of each tenant, and its plugins and newest event only if a rule needs them.
//! It writes only if an incident changes.

use crate::backend::alerts::{AlertEmail, AlertTerms, IncidentRequest, IncidentWrite};
use crate::backend::subscriptions::StateAnswer;
use crate::background::wait;
use crate::new_event::NewEvent;
use crate::{Actor, EventFilter, SpanFigures, Store, StoreError};
use bytes::Bytes;
use delegate::delegate;
use hookloom_model::alerts::{
    AlertSettings, Incident, IncidentKind, IntakeReading, Judgement, Message, PluginReading, RECENT_S, Rate, Reading,
    ShareReading, WINDOW_S, WebhookReading, payload, step, words,
};
use hookloom_model::clock::now_ms;
use hookloom_model::event::Module;
use hookloom_model::figures::Figures;
use hookloom_model::ids::AlertEmailId;
use hookloom_model::pauses;
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, Tenant, TenantId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Interval of the looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Number of the newest events among which the newest one of a sender is found: the host's own are few.
const NEWEST_EVENTS: usize = 50;

impl Store {
    delegate! {
        to self.backend {
            /// Replaces the settings of a tenant's alerts.
            pub async fn put_alert_settings(&self, actor: Actor, tenant: TenantId, settings: AlertSettings) -> Result<Arc<Tenant>, StoreError>;

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

    /// Looks at each tenant of this host every [`LOOK_EVERY`], until the store stops.
    pub async fn run_alerts(&self, terms: AlertTerms) {
        loop {
            wait(LOOK_EVERY).await;
            let mut open: BTreeMap<IncidentKind, u64> = IncidentKind::ALL.map(|kind| (kind, 0)).into();
            for tenant in self.catalog().tenants() {
                if !self.state.claims.ownership.owns_tenant(&tenant.id) {
                    continue;
                }
                match self.look(&tenant, &terms).await {
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

    /// Looks at a tenant once, and returns the incidents that are live then.
    pub(crate) async fn look(&self, tenant: &Tenant, terms: &AlertTerms) -> Result<Vec<Incident>, StoreError> {
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
        self.backend.live_incidents(id.clone()).await
    }

    async fn judgements(&self, tenant: &Tenant, live: &[Incident]) -> Result<Vec<Judgement>, StoreError> {
        let now_ms = now_ms();
        let readings = self.readings(tenant, live, now_ms / 1_000).await?;
        Ok(readings.iter().flat_map(|one| one.judge(&tenant.alerts, now_ms)).collect())
    }

    async fn readings(&self, tenant: &Tenant, live: &[Incident], now_s: i64) -> Result<Vec<Reading>, StoreError> {
        let id = &tenant.id;
        let spans = self.figures(id.clone(), now_s - WINDOW_S).await?;
        let subscriptions = self.catalog().subscriptions(id);
        let mut readings: Vec<Reading> =
            subscriptions.iter().map(|one| Reading::Webhook(webhook(one, &spans, now_s))).collect();
        let has_live_plugin = live.iter().any(|one| one.kind == IncidentKind::PluginFaulting);
        if has_live_plugin || subscriptions.iter().any(|one| !one.settings.plugin.0.is_empty()) {
            let plugins = self.plugins_of(id, &subscriptions, &spans).await?;
            readings.extend(plugins.into_iter().map(Reading::Plugin));
        }
        let usage = self.backend.usage(id.clone()).await?;
        readings.push(Reading::Share(ShareReading {
            events: usage.events,
            events_max: usage.events_max,
            bytes: usage.bytes,
            bytes_max: usage.bytes_max,
        }));
        if tenant.alerts.intake_silent.after_hours.is_some() {
            let filter = EventFilter { limit: NEWEST_EVENTS, ..EventFilter::default() };
            let events = self.backend.events(id.clone(), filter).await?;
            let newest = events.iter().find(|one| !one.module.is_hosts());
            readings.push(Reading::Intake(IntakeReading { last_event_at_ms: newest.map(|one| one.received_at_ms) }));
        }
        Ok(readings)
    }

    /// Returns the figures of the versions that are active, pinned, or have faulted.
    async fn plugins_of(
        &self,
        tenant: &TenantId,
        subscriptions: &[Arc<Subscription>],
        spans: &[SpanFigures],
    ) -> Result<Vec<PluginReading>, StoreError> {
        let stored = self.backend.tenant_plugins(tenant.clone()).await?;
        let mut used: BTreeSet<(String, String)> =
            stored.active.iter().map(|one| (one.name.clone(), one.sha256.clone())).collect();
        let steps = subscriptions.iter().flat_map(|one| &one.settings.plugin.0);
        let pinned = steps.filter_map(|one| Some((one.plugin.to_string(), one.pin.as_ref()?.to_string())));
        used.extend(pinned);
        let faulted = spans.iter().flat_map(|one| one.figures.faults.keys());
        used.extend(
            faulted.filter_map(|subject| {
                subject.split_once('@').map(|(name, sha256)| (name.to_owned(), sha256.to_owned()))
            }),
        );
        let reading = |(name, sha256): (String, String)| {
            let subject = PluginReading::subject(&name, &sha256);
            let of_plugin = spans.iter().filter(|one| one.plugin.split('+').any(|plugin| plugin == name));
            let quarantined = stored.quarantined.iter().find(|one| one.sha256 == sha256);
            PluginReading {
                faults: spans.iter().filter_map(|one| one.figures.faults.get(&subject)).sum(),
                judged: of_plugin.map(|one| one.figures.delivered + one.figures.dropped).sum(),
                quarantined: quarantined.map(|one| one.reason.clone()),
                name,
                sha256,
            }
        };
        Ok(used.into_iter().map(reading).collect())
    }
}

fn webhook(subscription: &Subscription, spans: &[SpanFigures], now_s: i64) -> WebhookReading {
    let rate = |from_s: i64| {
        let of_it = spans.iter().filter(|one| one.subscription == subscription.id && one.at_s >= from_s);
        let mut sum = Figures::default();
        of_it.for_each(|one| sum.merge(&one.figures));
        Rate { succeeded: sum.delivered + sum.dropped, failed: sum.failed }
    };
    let settings = &subscription.settings;
    let name = if settings.description.is_empty() {
        settings.url().host_str().unwrap_or_default().to_owned()
    } else {
        settings.description.clone()
    };
    let reason = subscription.state_reason.clone().unwrap_or_default();
    let is_stopped = match subscription.state {
        SubscriptionState::Active => false,
        SubscriptionState::Disabled => true,
        SubscriptionState::Paused => reason.starts_with(pauses::BY_HOST),
    };
    WebhookReading {
        id: subscription.id,
        name,
        state: subscription.state,
        stopped_because: is_stopped.then_some(reason),
        failing_since_ms: subscription.failing_since_ms,
        window: rate(now_s - WINDOW_S),
        recent: rate(now_s - RECENT_S),
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
    /// Returns the host event that tells the incident.
    pub(crate) fn event(&self, request: &IncidentRequest) -> Option<NewEvent> {
        let message = self.message?;
        let words = words(&request.tenant, &self.incident, message);
        let link = request.terms.link_base.link(&words.page);
        Some(NewEvent {
            name: message.event_name().to_owned(),
            module: Module::Incident,
            entity_id: Some(self.incident.id.to_string()),
            payload: Bytes::from(payload(&self.incident, message, &words, &link).to_string()),
        })
    }

    /// Returns the subscription that is not told, because the incident is about it.
    pub(crate) fn except(&self) -> Option<SubscriptionId> {
        match self.incident.kind {
            IncidentKind::WebhookFailing | IncidentKind::WebhookStopped => {
                self.incident.subject.parse().ok().map(SubscriptionId)
            }
            IncidentKind::PluginFaulting | IncidentKind::ShareFilling | IncidentKind::IntakeSilent => None,
        }
    }

    /// Notes the host event that was accepted.
    pub(crate) fn note_event(&mut self, event: hookloom_model::event::EventId) {
        match self.message {
            Some(Message::Opened) => self.incident.opened_event = Some(event),
            Some(Message::Closed) => self.incident.closed_event = Some(event),
            None => {}
        }
    }

    /// Returns the e-mails that tell the incident.
    pub(crate) fn emails(&self, request: &IncidentRequest) -> Vec<AlertEmail> {
        let Some(message) = self.message.filter(|_| request.terms.emails) else { return Vec::new() };
        let words = words(&request.tenant, &self.incident, message);
        let email = |recipient: &hookloom_model::alerts::EmailAddress| AlertEmail {
            id: AlertEmailId::new(),
            incident: Some(self.incident.id),
            recipient: recipient.clone(),
            title: words.title.clone(),
            next_step: words.next_step.to_owned(),
            link: request.terms.link_base.link(&words.page),
            created_at_ms: request.now_ms,
            attempts: 0,
            sent_at_ms: None,
            given_up: false,
            error: None,
        };
        request.settings.recipients.iter().map(email).collect()
    }
}
