//! Page of alerts: open incidents with the action that helps, past ones, who gets messages, the rules, and quiet hours.
//!
//! # Limits
//! It shows the newest [`PAST_MAX`] past incidents. `hookloom alerts list` has all that are kept.

mod form;

use super::user::{Posted, TenantUser};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::api::ApiState;
use crate::operations::{AlertEmailBody, EmailState, IncidentBody, Problem, ToRead, receives_incidents};
use crate::plural::counted;
use crate::subscription::{Subscription, SubscriptionState};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use form::AlertForm;
use hookloom_model::alerts::{IncidentKind, QuietHours};
use http::StatusCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Maximum number of past incidents on the page.
const PAST_MAX: usize = 50;

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    frame: Frame,
    open: Vec<OpenIncident>,
    past: Vec<PastIncident>,
    /// Webhooks that receive incidents.
    webhooks: Vec<IncidentWebhook>,
    has_mail_server: bool,
    /// True if saved recipients or webhooks can get a test.
    can_test: bool,
    form: AlertForm,
    time_zones: Vec<String>,
}

/// Incident that is open, with what helps.
struct OpenIncident {
    severity: &'static str,
    title: String,
    next_step: &'static str,
    opened: DisplayTime,
    /// Page that shows the subject, and the words of the button that opens it.
    href: String,
    action: &'static str,
    messages: Messages,
}

/// Incident that is over.
struct PastIncident {
    severity: &'static str,
    title: String,
    opened: DisplayTime,
    lasted: String,
    href: String,
    messages: Messages,
}

/// Messages about an incident.
struct Messages {
    /// Sentence that says which messages were sent.
    summary: String,
    /// Sentences about e-mails that were not sent.
    faults: Vec<String>,
}

/// Webhook that receives incidents.
struct IncidentWebhook {
    href: String,
    name: String,
}

/// Shows the page.
pub(super) async fn page(user: TenantUser, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    let settings = state.operations.get_alerts(&user.access::<ToRead>(&state)?)?.settings;
    page_with(&user, &state, Frame::new(&user, &state, "Alerts").watching("incidents"), AlertForm::of(&settings)).await
}

async fn page_with(user: &TenantUser, state: &ApiState, frame: Frame, form: AlertForm) -> Result<HtmlPage, PageError> {
    let access = user.access::<ToRead>(state)?;
    let saved = state.operations.get_alerts(&access)?;
    let incidents = state.operations.list_incidents(&access).await?;
    let (open, past): (Vec<_>, Vec<_>) = incidents.into_iter().partition(|one| one.incident.is_open());
    let subscriptions = state.operations.store.catalog().subscriptions(&user.tenant);
    let receiving = subscriptions.iter().filter(|one| receives_incidents(one));
    let receiving: Vec<_> = receiving.collect();
    let can_test =
        !saved.settings.recipients.is_empty() || receiving.iter().any(|one| one.state == SubscriptionState::Active);
    let page = AlertsPage {
        frame,
        open: open.into_iter().map(OpenIncident::from).collect(),
        past: past.into_iter().take(PAST_MAX).map(PastIncident::from).collect(),
        webhooks: receiving.into_iter().map(|one| webhook(user, one)).collect(),
        has_mail_server: saved.email,
        can_test,
        form,
        time_zones: QuietHours::time_zones(),
    };
    render(state, Some(&user.tenant), page).await
}

/// Saves the settings.
pub(super) async fn save(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let access = user.access(&state)?;
    let saved = async { state.operations.put_alerts(&access, form::settings(&form)?).await };
    match saved.await {
        Ok(_) => Ok(go_to(&here(&user), "The alerts were saved.")),
        Err(problem) => {
            let frame = Frame::new(&user, &state, "Alerts").answering();
            let page = page_with(&user, &state, frame, AlertForm::refused(&form, &problem)).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

/// Sends a test message to each recipient and webhook.
pub(super) async fn test(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, .. } = posted;
    let sent = state.operations.test_alerts(&user.access(&state)?).await;
    let flash = match sent {
        Ok(sent) => {
            let made = sent.deliveries.iter().filter(|one| one.id.is_some()).count();
            let count = counted((sent.emails.len() + made) as u64, "test message is", "test messages are");
            let failed = sent.deliveries.iter().filter_map(|one| Some((&one.name, one.error.as_deref()?)));
            let failed = failed.map(|(name, error)| format!(" None could be sent to the webhook {name:?}: {error}."));
            format!("{count} on the way.{}", failed.collect::<String>())
        }
        Err(problem) => return Err(not_tested(problem)),
    };
    Ok(go_to(&here(&user), &flash))
}

fn not_tested(problem: Problem) -> PageError {
    problem.remedy("add a recipient or a webhook of incidents").into()
}

fn here(user: &TenantUser) -> UrlPath {
    UrlPath::pages_of(&user.tenant).then("alerts")
}

fn webhook(user: &TenantUser, subscription: &Subscription) -> IncidentWebhook {
    let href = UrlPath::pages_of(&user.tenant).then("webhooks").then(&subscription.id).to_string();
    IncidentWebhook { href, name: subscription.settings.short_name() }
}

impl From<IncidentBody> for OpenIncident {
    fn from(body: IncidentBody) -> Self {
        let held_back = body.incident.opened_notified_at_ms.is_none();
        let messages = if held_back {
            Messages { summary: "Held back until the quiet hours end.".to_owned(), faults: Vec::new() }
        } else {
            Messages::of(&body)
        };
        OpenIncident {
            severity: body.incident.severity.as_str(),
            title: body.title,
            next_step: body.next_step,
            opened: DisplayTime::at_ms(body.incident.opened_at_ms),
            action: action(body.incident.kind),
            href: body.page,
            messages,
        }
    }
}

impl From<IncidentBody> for PastIncident {
    fn from(body: IncidentBody) -> Self {
        let closed_at_ms = body.incident.closed_at_ms.unwrap_or(body.incident.opened_at_ms);
        PastIncident {
            severity: body.incident.severity.as_str(),
            messages: Messages::of(&body),
            title: body.title,
            opened: DisplayTime::at_ms(body.incident.opened_at_ms),
            lasted: lasted(closed_at_ms - body.incident.opened_at_ms),
            href: body.page,
        }
    }
}

impl Messages {
    fn of(body: &IncidentBody) -> Messages {
        let incident = &body.incident;
        if incident.opened_notified_at_ms.is_none() {
            return Messages { summary: "No message: it was over within quiet hours.".to_owned(), faults: Vec::new() };
        }
        let events = [incident.opened_event, incident.closed_event].into_iter().flatten().count() as u64;
        let sent = body.emails.iter().filter(|one| one.state == EmailState::Sent).count() as u64;
        let emails = match body.emails.len() as u64 {
            0 => String::new(),
            all if sent == all => format!(", {}", counted(all, "e-mail", "e-mails")),
            all => format!(", {sent} of {}", counted(all, "e-mail", "e-mails")),
        };
        Messages {
            summary: format!("Sent: {}{emails}", counted(events, "event", "events")),
            faults: faults(&body.emails),
        }
    }
}

/// Returns a sentence about the e-mails that have the same error and were not sent.
fn faults(emails: &[AlertEmailBody]) -> Vec<String> {
    let mut recipients: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for email in emails {
        let what = match email.state {
            EmailState::Sent => continue,
            EmailState::Pending => "Tried again",
            EmailState::GivenUp => "Given up",
        };
        if let Some(error) = &email.error {
            recipients.entry((what, error)).or_default().insert(email.recipient.as_str());
        }
    }
    let mut sentences = Vec::new();
    for ((what, error), to) in recipients {
        let to: Vec<&str> = to.into_iter().collect();
        sentences.push(format!("{what}, to {}: {error}", to.join(", ")));
    }
    sentences
}

/// Returns the words of the button that leads to the subject of an incident.
pub(super) fn action(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::WebhookFailing | IncidentKind::WebhookStopped => "Open the webhook",
        IncidentKind::PluginFaulting => "Open the plugin",
        IncidentKind::ShareFilling => "See what is stored",
        IncidentKind::IntakeSilent => "See rejected requests",
    }
}

/// Returns a duration in a unit for people.
fn lasted(ms: i64) -> String {
    let minutes = u64::try_from(ms / 60_000).unwrap_or_default();
    match minutes {
        0 => "under a minute".to_owned(),
        1..120 => counted(minutes, "minute", "minutes"),
        120..2_880 => counted(minutes / 60, "hour", "hours"),
        _ => counted(minutes / 1_440, "day", "days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(minutes: i64, expected: &str) {
        assert_eq!(lasted(minutes * 60_000 + 59_999), expected);
    }

    #[test]
    fn durations_have_one_unit() {
        check(0, "under a minute");
        check(1, "1 minute");
        check(119, "119 minutes");
        check(120, "2 hours");
        check(2_879, "47 hours");
        check(2_880, "2 days");
    }
}
