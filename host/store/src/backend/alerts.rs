//! Alerts: settings, incidents, and e-mails about them.
//!
//! # Guarantees of every backend
//! - A change of an incident, its host event and its e-mails are written in one transaction.
//! - A subject has at most one live incident.
//! - An e-mail that was taken is not taken again before [`EMAIL_LEASE_MS`] have passed, by any host.

use crate::StoreError;
use crate::audit::Actor;
use crate::backend::subscriptions::StateAnswer;
use crate::catalog::Receivers;
use async_trait::async_trait;
use hookloom_model::alerts::{AlertSettings, EmailAddress, Incident, Judgement, Message};
use hookloom_model::ids::{AlertEmailId, IncidentId};
use hookloom_model::subscription::{Tenant, TenantId};
use hookloom_model::url_path::PublicUrl;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Time after which an e-mail that was taken is due again, in milliseconds. Longer than a server may take.
pub(crate) const EMAIL_LEASE_MS: i64 = 120_000;

/// Maximum number of incidents that are kept of a tenant, besides live ones.
pub(crate) const INCIDENTS_KEPT: usize = 500;

/// Maximum number of e-mails that are kept of a tenant, besides those that are due.
pub(crate) const EMAILS_KEPT: usize = 2_000;

/// E-mail to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertEmail {
    /// Id of the e-mail.
    pub id: AlertEmailId,
    /// Incident that it is about. None: it is a test.
    pub incident: Option<IncidentId>,
    /// Address of the recipient.
    pub recipient: EmailAddress,
    /// Line that says what is wrong, or over.
    pub title: String,
    /// Sentences that say what to do.
    pub next_step: String,
    /// Address of the page that shows the subject.
    pub link: String,
    /// Time at which it was written, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Number of attempts.
    pub attempts: u32,
    /// Time at which the mail server accepted it, in milliseconds since the epoch.
    pub sent_at_ms: Option<i64>,
    /// True if it is not tried again.
    pub given_up: bool,
    /// Error of the last attempt.
    pub error: Option<String>,
}

impl AlertEmail {
    /// Returns a new e-mail, which is due at once.
    pub fn new(recipient: &EmailAddress, title: &str, next_step: &str, link: &str, now_ms: i64) -> Self {
        AlertEmail {
            id: AlertEmailId::new(),
            incident: None,
            recipient: recipient.clone(),
            title: title.to_owned(),
            next_step: next_step.to_owned(),
            link: link.to_owned(),
            created_at_ms: now_ms,
            attempts: 0,
            sent_at_ms: None,
            given_up: false,
            error: None,
        }
    }
}

/// Settings of the host that messages depend on.
#[derive(Clone, Debug)]
pub struct AlertTerms {
    /// Address with which links begin.
    pub link_base: PublicUrl,
    /// Writes e-mails: the host has a mail server.
    pub emails: bool,
}

/// Judgements of a tenant's subjects, from which incidents follow.
#[derive(Clone, Debug)]
pub struct IncidentRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Findings of the rules.
    pub judgements: Vec<Judgement>,
    /// Settings of the tenant.
    pub settings: AlertSettings,
    /// Settings of the host.
    pub terms: AlertTerms,
    /// Receivers of the host events.
    pub receivers: Receivers,
    /// Time of the step, in milliseconds since the epoch.
    pub now_ms: i64,
}

/// Row of an incident that is written, with its message.
#[derive(Clone, Debug)]
pub(crate) struct IncidentWrite {
    pub(crate) incident: Incident,
    pub(crate) message: Option<Message>,
}

/// Alerts of tenants.
#[async_trait]
pub trait AlertBackend: Send + Sync {
    /// Replaces the settings of a tenant's alerts.
    async fn put_alert_settings(
        &self,
        actor: Actor,
        tenant: TenantId,
        settings: AlertSettings,
    ) -> Result<Arc<Tenant>, StoreError>;

    /// Returns the incidents of a tenant that are open, or over without their closing message.
    async fn live_incidents(&self, tenant: TenantId) -> Result<Vec<Incident>, StoreError>;

    /// Returns the newest incidents of a tenant, newest first.
    async fn incidents(&self, tenant: TenantId, limit: usize) -> Result<Vec<Incident>, StoreError>;

    /// Opens, changes and closes incidents and writes their messages, as follows from what is live in the transaction.
    async fn write_incidents(&self, request: IncidentRequest) -> Result<StateAnswer, StoreError>;

    /// Writes e-mails of a tenant, which are due at once.
    async fn put_alert_emails(&self, tenant: TenantId, emails: Vec<AlertEmail>) -> Result<(), StoreError>;

    /// Takes at most `limit` due e-mails, each with its tenant.
    async fn take_alert_emails(&self, limit: usize) -> Result<Vec<(TenantId, AlertEmail)>, StoreError>;

    /// Records an attempt. `due_at_ms` is the time of the next one; None: there is none.
    async fn record_alert_email(
        &self,
        tenant: TenantId,
        email: AlertEmail,
        due_at_ms: Option<i64>,
    ) -> Result<(), StoreError>;

    /// Returns the newest e-mails of a tenant, newest first.
    async fn alert_emails(&self, tenant: TenantId, limit: usize) -> Result<Vec<AlertEmail>, StoreError>;
}
