//! Incident: something of a tenant that is or was wrong, and the messages about it.
//!
//! Plain data, stored as JSON.

use crate::ids::{EventId, IncidentId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Kind of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// Most attempts of a webhook fail.
    WebhookFailing,
    /// The host has disabled or paused a webhook.
    WebhookStopped,
    /// A plugin version faults, or is quarantined.
    PluginFaulting,
    /// The tenant's share of the store fills.
    ShareFilling,
    /// No event has been accepted for long.
    IntakeSilent,
}

impl IncidentKind {
    /// All kinds.
    pub const ALL: [IncidentKind; 5] = [
        IncidentKind::WebhookFailing,
        IncidentKind::WebhookStopped,
        IncidentKind::PluginFaulting,
        IncidentKind::ShareFilling,
        IncidentKind::IntakeSilent,
    ];

    /// Returns the name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            IncidentKind::WebhookFailing => "webhook-failing",
            IncidentKind::WebhookStopped => "webhook-stopped",
            IncidentKind::PluginFaulting => "plugin-faulting",
            IncidentKind::ShareFilling => "share-filling",
            IncidentKind::IntakeSilent => "intake-silent",
        }
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Severity of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is wrong, and may become worse.
    Warning,
    /// Events do not arrive until somebody acts, or soon will be refused.
    Critical,
}

impl Severity {
    /// Returns the name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Incident of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Incident {
    /// Id of the incident.
    #[cfg_attr(feature = "openapi", schema(value_type = uuid::Uuid))]
    pub id: IncidentId,
    /// Kind of the incident.
    pub kind: IncidentKind,
    /// Thing that is wrong: the id of a webhook, `NAME@SHA256` of a plugin version, the level of a share (`warning` or `critical`), or `intake`.
    pub subject: String,
    /// Name of the thing for people.
    pub name: String,
    /// Severity, which only rises while the incident is open.
    pub severity: Severity,
    /// Sentence with the figures that opened it.
    pub reason: String,
    /// Figures that opened it, by name.
    pub figures: BTreeMap<String, i64>,
    /// Time at which it opened, in milliseconds since the epoch.
    pub opened_at_ms: i64,
    /// Time at which the opening message was sent. Null: there is none, because of quiet hours.
    pub opened_notified_at_ms: Option<i64>,
    /// Host event of the opening message.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub opened_event: Option<EventId>,
    /// Time at which it closed, in milliseconds since the epoch. Null: it is open.
    pub closed_at_ms: Option<i64>,
    /// Sentence with the reason why it closed.
    pub closed_reason: Option<String>,
    /// Time at which the closing message was sent. Null: there is none, because the incident is open, had no opening message, or because of quiet
    /// hours.
    pub closed_notified_at_ms: Option<i64>,
    /// Host event of the closing message.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub closed_event: Option<EventId>,
}

impl Incident {
    /// Returns true if it is not over.
    pub fn is_open(&self) -> bool {
        self.closed_at_ms.is_none()
    }

    /// Returns true if it is open, or over with an opening message but no closing message yet.
    pub fn is_live(&self) -> bool {
        self.is_open() || (self.opened_notified_at_ms.is_some() && self.closed_notified_at_ms.is_none())
    }
}
