//! Texts and events about incidents: what is wrong, what to do next, and where to look.

use super::incident::{Incident, IncidentKind};
use super::step::Message;
use crate::event::{INCIDENT_CLOSED, INCIDENT_OPENED};
use crate::ids::{PluginName, TenantId};
use crate::limits::shortened;
use crate::url_path::UrlPath;
use serde_json::{Value, json};
use uuid::Uuid;

/// Maximum length of a title, in bytes.
const TITLE_BYTES_MAX: usize = 300;

/// Texts about an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageText {
    /// Line that says what is wrong, or over.
    pub title: String,
    /// Sentences that say what to do.
    pub next_step: &'static str,
    /// Page that shows the subject.
    pub page: UrlPath,
}

/// Returns the texts of a message about an incident. They have no control characters.
pub fn message_text(tenant: &TenantId, incident: &Incident, message: Message) -> MessageText {
    let title = match message {
        Message::Opened => format!("{}: {}", what_is_wrong(incident), incident.reason),
        Message::Closed => {
            let reason = incident.closed_reason.as_deref().unwrap_or("it is over");
            format!("{}: {reason}", what_is_over(incident))
        }
    };
    let title: String = title.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    MessageText {
        title: shortened(&title, TITLE_BYTES_MAX),
        next_step: match message {
            Message::Opened => next_step(incident.kind),
            Message::Closed => "Nothing is to be done.",
        },
        page: page(tenant, incident),
    }
}

fn what_is_wrong(incident: &Incident) -> String {
    let name = &incident.name;
    match incident.kind {
        IncidentKind::WebhookFailing => format!("Webhook {name:?} fails"),
        IncidentKind::WebhookStopped => format!("Webhook {name:?} is stopped"),
        IncidentKind::PluginFaulting => format!("Plugin {name} faults"),
        IncidentKind::ShareFilling => "The share of the store fills".to_owned(),
        IncidentKind::IntakeSilent => "The intake is silent".to_owned(),
    }
}

fn what_is_over(incident: &Incident) -> String {
    let name = &incident.name;
    match incident.kind {
        IncidentKind::WebhookFailing => format!("Webhook {name:?} no longer fails"),
        IncidentKind::WebhookStopped => format!("Webhook {name:?} is no longer stopped"),
        IncidentKind::PluginFaulting => format!("Plugin {name} no longer faults"),
        IncidentKind::ShareFilling => "The share of the store has room again".to_owned(),
        IncidentKind::IntakeSilent => "The intake is no longer silent".to_owned(),
    }
}

fn next_step(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::WebhookFailing => {
            "Look at the answers of the receiver in the list of its deliveries. They are retried by the schedule of the webhook. \
             If the receiver does not recover, the host disables the webhook."
        }
        IncidentKind::WebhookStopped => {
            "Correct the receiver or the configuration, and resume the webhook. Then replay the events that it missed."
        }
        IncidentKind::PluginFaulting => {
            "Look at the fault in one of the held deliveries. Activate another version or change the configuration; the deliveries \
             then go on by themselves."
        }
        IncidentKind::ShareFilling => {
            "Delete what is not needed, or let the operator of the host raise tenant_bytes_max or tenant_events_max. New events are \
             refused when the share is used up."
        }
        IncidentKind::IntakeSilent => {
            "Check that the sender is running and has the right intake address, and look at the rejected requests."
        }
    }
}

fn page(tenant: &TenantId, incident: &Incident) -> UrlPath {
    let pages = UrlPath::pages_of(tenant);
    match incident.kind {
        IncidentKind::WebhookFailing | IncidentKind::WebhookStopped => match incident.subject.parse::<Uuid>() {
            Ok(id) => pages.then("webhooks").then(&id),
            Err(_) => pages.then("webhooks"),
        },
        IncidentKind::PluginFaulting => {
            let name = incident.subject.split_once('@').map(|(name, _)| PluginName::parse(name));
            match name {
                Some(Ok(name)) => pages.then("plugins").then(&name),
                _ => pages.then("plugins"),
            }
        }
        IncidentKind::ShareFilling => pages,
        IncidentKind::IntakeSilent => pages.then("rejected"),
    }
}

impl Message {
    /// Returns the name of the host event.
    pub fn event_name(self) -> &'static str {
        match self {
            Message::Opened => INCIDENT_OPENED,
            Message::Closed => INCIDENT_CLOSED,
        }
    }
}

/// Returns the `{eventName, eventData}` of the host event of a message. `link` is the address of the page in the texts.
pub fn payload(incident: &Incident, message: Message, text: &MessageText, link: &str) -> Value {
    json!({
        "eventName": message.event_name(),
        "eventData": {
            "id": incident.id.to_string(),
            "kind": incident.kind,
            "severity": incident.severity,
            "subject": incident.subject,
            "name": incident.name,
            "title": text.title,
            "next_step": text.next_step,
            "link": link,
            "figures": incident.figures,
            "opened_at_ms": incident.opened_at_ms,
            "closed_at_ms": incident.closed_at_ms,
        }
    })
}

/// Returns the JSON Schema of the `eventData` of these events.
pub fn event_schema() -> Value {
    json!({
        "type": "object",
        "required": ["id", "kind", "severity", "subject", "name", "title", "next_step", "link", "figures", "opened_at_ms", "closed_at_ms"],
        "properties": {
            "id": {"type": "string", "format": "uuid", "description": "Id of the incident, the same when it opens and when it is over."},
            "kind": {"enum": IncidentKind::ALL},
            "severity": {"enum": ["warning", "critical"]},
            "subject": {"type": "string", "description": "Id of the webhook, NAME@SHA256 of the plugin version, level of the share, or intake."},
            "name": {"type": "string", "description": "Name of the subject for people."},
            "title": {"type": "string", "description": "Line that says what is wrong, or over."},
            "next_step": {"type": "string", "description": "Sentences that say what to do."},
            "link": {"type": "string", "format": "uri", "description": "Page that shows the subject."},
            "figures": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Figures that opened the incident."},
            "opened_at_ms": {"type": "integer", "description": "Milliseconds since the epoch."},
            "closed_at_ms": {"type": ["integer", "null"], "description": "Milliseconds since the epoch. Null: it is open."}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Severity;
    use crate::ids::IncidentId;
    use std::collections::BTreeMap;

    fn incident(kind: IncidentKind, subject: &str, name: &str, reason: &str) -> Incident {
        Incident {
            id: IncidentId::new(),
            kind,
            subject: subject.to_owned(),
            name: name.to_owned(),
            severity: Severity::Warning,
            reason: reason.to_owned(),
            figures: BTreeMap::from([("failed".to_owned(), 5)]),
            opened_at_ms: 1,
            opened_notified_at_ms: Some(1),
            opened_event: None,
            closed_at_ms: None,
            closed_reason: None,
            closed_notified_at_ms: None,
            closed_event: None,
        }
    }

    #[track_caller]
    fn check(kind: IncidentKind, subject: &str, message: Message, expected: [&str; 2]) {
        let mut one = incident(kind, subject, "Orders \"A\"\r\nBcc: x@example.com", "5 of 5 attempts failed\n");
        one.closed_reason = Some("all is well".to_owned());
        let text = message_text(&TenantId("acme".into()), &one, message);
        assert_eq!([text.title.as_str(), text.page.as_str()], expected);
        assert!(!text.title.chars().any(char::is_control), "{text:?}");
    }

    #[test]
    fn a_title_is_one_line_and_the_page_is_of_the_subject() {
        let name = "\"Orders \\\"A\\\"\\r\\nBcc: x@example.com\"";
        let failing = format!("Webhook {name} fails: 5 of 5 attempts failed ");
        let id = "0190a6f0-0000-7000-8000-00000000000a";
        let of_webhook = "/t/acme/webhooks/0190a6f0-0000-7000-8000-00000000000a";
        check(IncidentKind::WebhookFailing, id, Message::Opened, [&failing, of_webhook]);
        let over = format!("Webhook {name} is no longer stopped: all is well");
        check(IncidentKind::WebhookStopped, id, Message::Closed, [&over, of_webhook]);
        check(IncidentKind::WebhookStopped, "../x", Message::Closed, [&over, "/t/acme/webhooks"]);
        let faults = "Plugin Orders \"A\"  Bcc: x@example.com faults: 5 of 5 attempts failed ";
        check(IncidentKind::PluginFaulting, "redact@00ff", Message::Opened, [faults, "/t/acme/plugins/redact"]);
        let room = "The share of the store has room again: all is well";
        check(IncidentKind::ShareFilling, "warning", Message::Closed, [room, "/t/acme"]);
        let silent = "The intake is silent: 5 of 5 attempts failed ";
        check(IncidentKind::IntakeSilent, "intake", Message::Opened, [silent, "/t/acme/rejected"]);
    }

    #[test]
    fn events_fit_their_schema() {
        let schema = jsonschema::validator_for(&event_schema()).expect("a schema");
        for kind in IncidentKind::ALL {
            for message in [Message::Opened, Message::Closed] {
                let one = incident(kind, "s", "n", "r");
                let text = message_text(&TenantId("t".into()), &one, message);
                let payload = payload(&one, message, &text, "https://hooks.example/t/t");
                assert_eq!(payload["eventName"], message.event_name());
                assert!(schema.is_valid(&payload["eventData"]), "{payload}");
            }
        }
        assert!(!schema.is_valid(&json!({"id": "x"})));
    }
}
