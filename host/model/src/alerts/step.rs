//! Step of a tenant's incidents: which ones open and close, and the messages about them.
//!
//! # Guarantees
//! - Called again with its own result and the same arguments, it changes nothing.

use super::incident::{Incident, IncidentKind, Severity};
use super::reading::{Finding, Judgement};
use super::settings::AlertSettings;
use crate::ids::{IncidentId, SubscriptionId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Reason why an incident closes whose subject is judged no longer.
const GONE: &str = "it does not exist any more, is not in use, or alerts of this kind were turned off";

/// Message about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// It has opened.
    Opened,
    /// It is over.
    Closed,
}

/// Changed incident, with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentChange {
    /// The incident after the change.
    pub incident: Incident,
    /// Message to send. None: it changes only, because of quiet hours for example.
    pub message: Option<Message>,
}

/// Returns the incidents of a tenant that change, as new rows or instead of those with the same id. `live` are those that are open or
/// over without their closing message.
pub fn step(live: &[Incident], judgements: &[Judgement], settings: &AlertSettings, now_ms: i64) -> Vec<IncidentChange> {
    let mut changed = Vec::new();
    let found: HashMap<_, _> = judgements.iter().map(|one| ((one.kind, &*one.subject), one)).collect();
    let subjects: HashSet<_> = live.iter().map(|one| (one.kind, &*one.subject)).collect();
    for incident in live {
        let judgement = found.get(&(incident.kind, &*incident.subject)).copied();
        let next = notified(advance(incident.clone(), judgement, now_ms), settings, now_ms);
        if next.incident != *incident {
            changed.push(next);
        }
    }
    for judgement in judgements {
        let is_live = subjects.contains(&(judgement.kind, &*judgement.subject));
        if !is_live && let Some(new) = opened(judgement, now_ms) {
            changed.push(notified(new, settings, now_ms));
        }
    }
    changed
}

/// Returns the incident that a judgement opens.
fn opened(judgement: &Judgement, now_ms: i64) -> Option<Incident> {
    let Finding::Bad { severity, reason, figures } = &judgement.finding else { return None };
    Some(Incident {
        id: IncidentId::new(),
        kind: judgement.kind,
        subject: judgement.subject.clone(),
        name: judgement.name.clone(),
        severity: *severity,
        reason: reason.clone(),
        figures: figures.clone(),
        opened_at_ms: now_ms,
        opened_notified_at_ms: None,
        opened_event: None,
        closed_at_ms: None,
        closed_reason: None,
        closed_notified_at_ms: None,
        closed_event: None,
    })
}

/// Returns the incident of a test message: the webhook fails, or no longer does.
pub fn sample_incident(
    webhook: SubscriptionId,
    name: String,
    message: Message,
    reason: &str,
    now_ms: i64,
) -> Option<Incident> {
    let judgement = Judgement {
        kind: IncidentKind::WebhookFailing,
        subject: webhook.to_string(),
        name,
        finding: Finding::Bad { severity: Severity::Warning, reason: reason.to_owned(), figures: BTreeMap::new() },
    };
    let incident = opened(&judgement, now_ms)?;
    Some(match message {
        Message::Opened => incident,
        Message::Closed => Incident { closed_at_ms: Some(now_ms), closed_reason: Some(reason.to_owned()), ..incident },
    })
}

/// Returns a live incident after a judgement of its subject. One that is over, without its closing message, opens again.
fn advance(mut incident: Incident, judgement: Option<&Judgement>, now_ms: i64) -> Incident {
    match (judgement.map(|one| &one.finding), incident.is_open()) {
        (Some(Finding::Bad { severity, .. }), is_open) => {
            incident.severity = incident.severity.max(*severity);
            if !is_open {
                incident.closed_at_ms = None;
                incident.closed_reason = None;
            }
        }
        (Some(Finding::Good(reason)), true) => close(&mut incident, reason, now_ms),
        (None, true) => close(&mut incident, GONE, now_ms),
        (Some(Finding::Unclear), _) | (Some(Finding::Good(_)) | None, false) => {}
    }
    incident
}

fn close(incident: &mut Incident, reason: &str, now_ms: i64) {
    incident.closed_at_ms = Some(now_ms);
    incident.closed_reason = Some(reason.to_owned());
}

/// Adds the message that is due, unless the hour is quiet.
fn notified(mut incident: Incident, settings: &AlertSettings, now_ms: i64) -> IncidentChange {
    let message = match (incident.is_open(), incident.opened_notified_at_ms) {
        (true, None) => Some(Message::Opened),
        (false, Some(_)) if incident.closed_notified_at_ms.is_none() => Some(Message::Closed),
        _ => None,
    };
    let message = message.filter(|_| !settings.is_quiet(incident.severity, now_ms));
    match message {
        Some(Message::Opened) => incident.opened_notified_at_ms = Some(now_ms),
        Some(Message::Closed) => incident.closed_notified_at_ms = Some(now_ms),
        None => {}
    }
    IncidentChange { incident, message }
}

#[cfg(test)]
mod tests;
