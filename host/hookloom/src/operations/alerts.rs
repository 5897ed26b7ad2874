//! Alerts: settings of a tenant, its incidents, and a test of its messages.
//!
//! A test reaches everybody who gets messages: the recipients of e-mails, and the webhooks of the module `Incident`.

use super::{Access, Operations, Problem, ToManage, ToRead, fault};
use crate::delivery::DeliveryId;
use crate::event::Module;
use crate::ids::AlertEmailId;
use crate::store::{AlertEmail, NewEvent};
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState};
use crate::url_path::UrlPath;
use hookloom_model::alerts::{AlertSettings, EmailAddress, Incident, Message, message_text};
use hookloom_model::clock::now_ms;
use serde::Serialize;
use utoipa::ToSchema;

/// Maximum number of incidents of an answer: all that are kept.
const INCIDENTS_MAX: usize = 1_000;

/// Maximum number of e-mails that are shown with the incidents.
const EMAILS_MAX: usize = 2_500;

/// Settings of a tenant's alerts.
#[derive(Serialize, ToSchema)]
pub(crate) struct AlertsBody {
    #[serde(flatten)]
    #[schema(inline)]
    pub(crate) settings: AlertSettings,
    /// True if the host has a mail server. Otherwise there are no recipients, and webhooks only get messages.
    pub(crate) email: bool,
}

/// State of an e-mail.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EmailState {
    /// It has not been sent.
    Pending,
    /// The mail server has accepted it.
    Sent,
    /// The mail server has refused it, or has failed for a day.
    GivenUp,
}

/// E-mail to a recipient.
#[derive(Serialize, ToSchema)]
pub(crate) struct AlertEmailBody {
    /// Id of the e-mail, part of its `Message-ID`.
    #[schema(value_type = uuid::Uuid)]
    id: AlertEmailId,
    /// E-mail address.
    #[schema(value_type = String)]
    pub(crate) recipient: EmailAddress,
    /// Subject of the e-mail.
    title: String,
    /// State of the e-mail.
    pub(crate) state: EmailState,
    /// Number of attempts.
    attempts: u32,
    /// Time at which the mail server accepted it, in milliseconds since the epoch.
    sent_at_ms: Option<i64>,
    /// Error of the last attempt.
    pub(crate) error: Option<String>,
}

impl From<AlertEmail> for AlertEmailBody {
    fn from(email: AlertEmail) -> Self {
        let state = match (email.sent_at_ms, email.given_up) {
            (Some(_), _) => EmailState::Sent,
            (None, true) => EmailState::GivenUp,
            (None, false) => EmailState::Pending,
        };
        AlertEmailBody {
            id: email.id,
            recipient: email.recipient,
            title: email.title,
            state,
            attempts: email.attempts,
            sent_at_ms: email.sent_at_ms,
            error: email.error,
        }
    }
}

/// Incident with its texts, and with its e-mails.
#[derive(Serialize, ToSchema)]
pub(crate) struct IncidentBody {
    #[serde(flatten)]
    #[schema(inline)]
    pub(crate) incident: Incident,
    /// Line that says what is wrong, or over.
    pub(crate) title: String,
    /// Sentences that say what to do.
    pub(crate) next_step: &'static str,
    /// Path of the page that shows the subject.
    pub(crate) page: String,
    /// E-mails about it.
    pub(crate) emails: Vec<AlertEmailBody>,
}

/// Messages that test the alerts of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct AlertTestBody {
    /// E-mails that were written, one to each recipient.
    pub(crate) emails: Vec<AlertEmailBody>,
    /// One for each active webhook that receives incidents.
    pub(crate) deliveries: Vec<AlertTestDelivery>,
}

/// Delivery that tests a webhook of incidents.
#[derive(Serialize, ToSchema)]
pub(crate) struct AlertTestDelivery {
    /// Id of the delivery. Null: it could not be made.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(crate) id: Option<DeliveryId>,
    /// Id of the webhook.
    #[schema(value_type = uuid::Uuid)]
    subscription: SubscriptionId,
    /// Description of the webhook, or the host of its URL.
    pub(crate) name: String,
    /// Reason why it could not be made, such as a share that is used up.
    pub(crate) error: Option<String>,
}

impl Operations {
    /// Returns the settings of a tenant's alerts.
    pub(crate) fn get_alerts(&self, access: &Access<ToRead>) -> Result<AlertsBody, Problem> {
        let tenant = self.store.catalog().tenant(&access.tenant).ok_or_else(|| Problem::not_found("tenant"))?;
        Ok(AlertsBody { settings: tenant.alerts.clone(), email: self.config.has_mail_server() })
    }

    /// Replaces the settings of a tenant's alerts.
    pub(crate) async fn put_alerts(
        &self,
        access: &Access<ToManage>,
        settings: AlertSettings,
    ) -> Result<AlertsBody, Problem> {
        let mut faults: Vec<_> = settings.faults().into_iter().map(|one| fault(&one.pointer, one.detail)).collect();
        if !settings.recipients.is_empty() && !self.config.has_mail_server() {
            faults.push(fault("/recipients", "the host has no mail server: its operator sets smtp_url and mail_from"));
        }
        if !faults.is_empty() {
            return Err(Problem::fields(faults));
        }
        let tenant = self.store.put_alert_settings(access.actor(), access.tenant.clone(), settings).await?;
        Ok(AlertsBody { settings: tenant.alerts.clone(), email: self.config.has_mail_server() })
    }

    /// Lists the incidents of a tenant, newest first: those that are open, and the last 500.
    pub(crate) async fn list_incidents(&self, access: &Access<ToRead>) -> Result<Vec<IncidentBody>, Problem> {
        let incidents = self.store.incidents(access.tenant.clone(), INCIDENTS_MAX).await?;
        let emails = self.store.alert_emails(access.tenant.clone(), EMAILS_MAX).await?;
        let body = |incident: Incident| {
            let message = if incident.is_open() { Message::Opened } else { Message::Closed };
            let text = message_text(&access.tenant, &incident, message);
            let of_it = emails.iter().filter(|one| one.incident == Some(incident.id));
            IncidentBody {
                emails: of_it.cloned().map(AlertEmailBody::from).collect(),
                title: text.title,
                next_step: text.next_step,
                page: text.page.to_string(),
                incident,
            }
        };
        Ok(incidents.into_iter().map(body).collect())
    }

    /// Writes an e-mail to each recipient of the tenant, and makes a delivery for each active webhook of incidents.
    pub(crate) async fn test_alerts(&self, access: &Access<ToManage>) -> Result<AlertTestBody, Problem> {
        let tenant = self.store.catalog().tenant(&access.tenant).ok_or_else(|| Problem::not_found("tenant"))?;
        let subscriptions = self.store.catalog().subscriptions(&access.tenant);
        let active = subscriptions.iter().filter(|one| one.state == SubscriptionState::Active);
        let webhooks: Vec<_> = active.filter_map(|one| Some((one, self.incident_for(one)?))).collect();
        let recipients = &tenant.alerts.recipients;
        if recipients.is_empty() && webhooks.is_empty() {
            let what = "the alerts of this tenant have no recipients, and no active webhook of the module Incident";
            return Err(Problem::conflict(what));
        }
        let link = self.config.link_base().link(&UrlPath::pages_of(&access.tenant));
        let next_step = "Nothing is to be done: somebody tries whether alerts arrive.";
        let now_ms = now_ms();
        let email = |recipient| AlertEmail::new(recipient, "Test of the alerts", next_step, &link, now_ms);
        let emails: Vec<AlertEmail> = recipients.iter().map(email).collect();
        self.store.put_alert_emails(access.tenant.clone(), emails.clone()).await?;
        let mut deliveries = Vec::new();
        for (webhook, incident) in webhooks {
            let made = self.store.test(access.actor(), webhook, incident).await.map_err(Problem::from);
            let (id, error) = match made {
                Ok(id) => (Some(id), None),
                Err(problem) => (None, Some(problem.detail)),
            };
            let name = webhook.settings.short_name();
            deliveries.push(AlertTestDelivery { id, subscription: webhook.id, name, error });
        }
        Ok(AlertTestBody { emails: emails.into_iter().map(AlertEmailBody::from).collect(), deliveries })
    }

    /// Returns a sample of an incident, if the webhook receives incidents.
    fn incident_for(&self, webhook: &Subscription) -> Option<NewEvent> {
        self.samples_for(webhook).into_iter().find(|event| event.module == Module::Incident)
    }
}
