//! Settings of a tenant's alerts: recipients, kinds with their thresholds, quiet hours.

use super::email::{EmailAddress, RECIPIENTS_MAX};
use super::incident::Severity;
use super::quiet::QuietHours;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Settings of a tenant's alerts. An absent setting has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// E-mail addresses that get the messages: up to 10.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub recipients: Vec<EmailAddress>,
    /// Incidents `webhook-failing`.
    pub webhook_failing: WebhookFailing,
    /// Incidents `webhook-stopped`.
    pub webhook_stopped: WebhookStopped,
    /// Incidents `plugin-faulting`.
    pub plugin_faulting: PluginFaulting,
    /// Incidents `share-filling`.
    pub share_filling: ShareFilling,
    /// Incidents `intake-silent`.
    pub intake_silent: IntakeSilent,
    /// Part of each day in which no message is sent. Absent: messages are sent at once.
    pub quiet_hours: Option<QuietHours>,
}

/// A webhook fails if this part of its attempts within 15 minutes fails, or all for 15 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WebhookFailing {
    /// Opens incidents of this kind.
    pub on: bool,
    /// Part of the attempts that fails, in percent: 20 to 100.
    pub failed_percent: u32,
    /// Minimum number of failed attempts: 1 to 10,000.
    pub failed_min: u32,
}

impl Default for WebhookFailing {
    fn default() -> Self {
        WebhookFailing { on: true, failed_percent: 50, failed_min: 5 }
    }
}

/// A webhook is stopped if the host has disabled or paused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WebhookStopped {
    /// Opens incidents of this kind.
    pub on: bool,
}

impl Default for WebhookStopped {
    fn default() -> Self {
        WebhookStopped { on: true }
    }
}

/// A plugin version faults if it does so this often within 15 minutes, or is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PluginFaulting {
    /// Opens incidents of this kind.
    pub on: bool,
    /// Minimum number of faults: 1 to 10,000.
    pub faults_min: u32,
}

impl Default for PluginFaulting {
    fn default() -> Self {
        PluginFaulting { on: true, faults_min: 3 }
    }
}

/// A share fills if this part of its events or bytes is used. At 95 percent, another incident is critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ShareFilling {
    /// Opens incidents of this kind.
    pub on: bool,
    /// Used part, in percent: 10 to 94.
    pub percent: u32,
}

impl Default for ShareFilling {
    fn default() -> Self {
        ShareFilling { on: true, percent: 80 }
    }
}

impl ShareFilling {
    /// Returns the levels, with their thresholds in percent.
    pub(super) fn levels(self) -> [(Severity, u32); 2] {
        [(Severity::Warning, self.percent), (Severity::Critical, 95)]
    }
}

/// The intake is silent if no event was accepted for this long, after at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct IntakeSilent {
    /// Number of hours: 1 to 720. Absent: incidents of this kind do not open.
    pub after_hours: Option<u32>,
}

/// Value of the settings that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFault {
    /// JSON pointer to the value.
    pub pointer: String,
    /// Sentence for people.
    pub detail: String,
}

impl AlertSettings {
    /// Returns all values that are refused.
    pub fn faults(&self) -> Vec<AlertFault> {
        let mut faults = Vec::new();
        if self.recipients.len() > RECIPIENTS_MAX {
            faults.push(fault("/recipients", format!("a tenant has at most {RECIPIENTS_MAX} recipients")));
        }
        for (index, one) in self.recipients.iter().enumerate() {
            if self.recipients[..index].contains(one) {
                faults.push(fault(&format!("/recipients/{index}"), format!("{one} is a recipient already")));
            }
        }
        let ranges: [(&str, u32, RangeInclusive<u32>); 5] = [
            ("/webhook_failing/failed_percent", self.webhook_failing.failed_percent, 20..=100),
            ("/webhook_failing/failed_min", self.webhook_failing.failed_min, 1..=10_000),
            ("/plugin_faulting/faults_min", self.plugin_faulting.faults_min, 1..=10_000),
            ("/share_filling/percent", self.share_filling.percent, 10..=94),
            ("/intake_silent/after_hours", self.intake_silent.after_hours.unwrap_or(1), 1..=720),
        ];
        for (pointer, value, range) in ranges {
            if !range.contains(&value) {
                faults.push(fault(pointer, format!("{value} is not in {} to {}", range.start(), range.end())));
            }
        }
        if let Some(quiet) = &self.quiet_hours {
            if quiet.from == quiet.to {
                faults.push(fault("/quiet_hours/to", format!("{} is the beginning as well", quiet.to)));
            }
            if !quiet.has_known_zone() {
                let zone = &quiet.time_zone;
                faults.push(fault(
                    "/quiet_hours/time_zone",
                    format!("{zone:?} is not an IANA time zone such as Europe/Berlin"),
                ));
            }
        }
        faults
    }

    /// Returns true if no message about an incident of this severity is sent at a time, in milliseconds since the epoch.
    pub fn is_quiet(&self, severity: Severity, now_ms: i64) -> bool {
        let Some(quiet) = &self.quiet_hours else { return false };
        !(quiet.except_critical && severity == Severity::Critical) && quiet.contain(now_ms)
    }
}

fn fault(pointer: &str, detail: String) -> AlertFault {
    AlertFault { pointer: pointer.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(settings: Value, expected: &[&str]) {
        let settings: AlertSettings = serde_json::from_value(settings).expect("settings");
        let found: Vec<String> = settings.faults().into_iter().map(|one| one.pointer).collect();
        assert_eq!(found, expected, "{settings:?}");
    }

    #[test]
    fn every_fault_is_named_by_its_place() {
        check(json!({}), &[]);
        check(json!({"recipients": ["a@example.com", "b@example.com", "a@example.com"]}), &["/recipients/2"]);
        let many: Vec<String> = (0..11).map(|index| format!("a{index}@example.com")).collect();
        check(json!({ "recipients": many }), &["/recipients"]);
        check(
            json!({"webhook_failing": {"failed_percent": 19, "failed_min": 0}, "plugin_faulting": {"faults_min": 0},
                   "share_filling": {"percent": 95}, "intake_silent": {"after_hours": 0}}),
            &[
                "/webhook_failing/failed_percent",
                "/webhook_failing/failed_min",
                "/plugin_faulting/faults_min",
                "/share_filling/percent",
                "/intake_silent/after_hours",
            ],
        );
        let quiet = json!({"from": "22:00", "to": "22:00", "time_zone": "Mars/Base"});
        check(json!({ "quiet_hours": quiet }), &["/quiet_hours/to", "/quiet_hours/time_zone"]);
        check(json!({"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "America/New_York"}}), &[]);
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        for wrong in [json!({"recipient": []}), json!({"share_filling": {"percents": 1}}), json!({"recipients": ["x"]})]
        {
            assert!(serde_json::from_value::<AlertSettings>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
