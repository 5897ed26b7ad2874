//! Readings, and the rule of each kind of incident.
//!
//! # Guarantees
//! - Of one reading, a rule finds a subject bad, good or unclear, never two of them. Between the bounds of bad and good, it is unclear,
//!   so that an incident neither opens nor closes.

use super::incident::{IncidentKind, Severity};
use super::settings::AlertSettings;
use crate::ids::SubscriptionId;
use crate::plural::counted;
use std::collections::BTreeMap;

/// Span of the figures by which a subject is bad, in seconds.
pub const WINDOW_S: i64 = 15 * 60;

/// Span of the figures by which a webhook is good again, in seconds. So an interruption that is shorter closes no incident.
pub const RECENT_S: i64 = 10 * 60;

/// Part of the recent attempts that may fail of a webhook that is good, in percent.
const GOOD_PERCENT: u64 = 10;

/// Number of percent points below its threshold at which a level of a share closes.
const SHARE_GAP: u64 = 5;

/// Length of the sha256 of a version in a text.
const SHORT_SHA256: usize = 12;

/// Numbers of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Attempts that delivered, or that the plugin dropped.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// State of a webhook, with the reason of the host for a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookState {
    /// It is active.
    Active,
    /// An operator has paused it.
    PausedByOperator,
    /// The host has paused it.
    PausedByHost(String),
    /// The host has disabled it.
    Disabled(String),
}

/// Figures of a webhook.
#[derive(Clone, Debug)]
pub struct WebhookReading {
    /// Id of the webhook.
    pub id: SubscriptionId,
    /// Description, or the host of the Notify URL.
    pub name: String,
    /// State of the webhook.
    pub state: WebhookState,
    /// Time since which the receiver fails, in milliseconds since the epoch.
    pub failing_since_ms: Option<i64>,
    /// Attempts of the last [`WINDOW_S`].
    pub window: Rate,
    /// Attempts of the last [`RECENT_S`].
    pub recent: Rate,
}

/// Figures of a plugin version that is in use.
#[derive(Clone, Debug)]
pub struct PluginReading {
    /// Name of the plugin.
    pub name: String,
    /// sha256 of the version.
    pub sha256: String,
    /// Number of faults within the last [`WINDOW_S`].
    pub faults: u64,
    /// Number of attempts within the last [`WINDOW_S`] in which the plugin, in this version or another one, judged without a fault.
    pub judged: u64,
    /// Reason of the quarantine.
    pub quarantined: Option<String>,
}

/// Usage of a share.
#[derive(Clone, Copy, Debug)]
pub struct ShareReading {
    /// Number of stored events.
    pub events: u64,
    /// Maximum number of events.
    pub events_max: u64,
    /// Size, in bytes.
    pub bytes: u64,
    /// Maximum size, in bytes.
    pub bytes_max: u64,
}

/// Newest event.
#[derive(Clone, Copy, Debug)]
pub struct IntakeReading {
    /// Time at which the newest event that the host did not make was accepted, in milliseconds since the epoch.
    pub last_event_at_ms: Option<i64>,
}

/// Figures of one subject.
#[derive(Clone, Debug)]
pub enum Reading {
    /// A webhook.
    Webhook(WebhookReading),
    /// A plugin version.
    Plugin(PluginReading),
    /// The share of the tenant.
    Share(ShareReading),
    /// The intake of the tenant.
    Intake(IntakeReading),
}

/// State of a subject, as a rule finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An incident opens, or stays open.
    Bad {
        /// Severity of the incident.
        severity: Severity,
        /// Sentence with the figures.
        reason: String,
        /// The figures.
        figures: BTreeMap<String, i64>,
    },
    /// An open incident stays open, and none opens.
    Unclear,
    /// An open incident closes, for this reason.
    Good(String),
}

/// Subject with the state that a rule finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Kind of the incident that would open.
    pub kind: IncidentKind,
    /// Subject of the incident.
    pub subject: String,
    /// Name of the subject for people.
    pub name: String,
    /// State of the subject.
    pub finding: Finding,
}

impl Reading {
    /// Judges the subject by the rules of all kinds that are on.
    pub fn judge(&self, settings: &AlertSettings, now_ms: i64) -> Vec<Judgement> {
        match self {
            Reading::Webhook(webhook) => webhook.judge(settings, now_ms),
            Reading::Plugin(plugin) => plugin.judge(settings).into_iter().collect(),
            Reading::Share(share) => share.judge(settings),
            Reading::Intake(intake) => intake.judge(settings, now_ms).into_iter().collect(),
        }
    }
}

impl WebhookReading {
    fn judge(&self, settings: &AlertSettings, now_ms: i64) -> Vec<Judgement> {
        let judgement =
            |kind, finding| Judgement { kind, subject: self.id.to_string(), name: self.name.clone(), finding };
        let mut judgements = Vec::new();
        if settings.webhook_failing.on {
            judgements.push(judgement(IncidentKind::WebhookFailing, self.failing(settings, now_ms)));
        }
        if settings.webhook_stopped.on {
            judgements.push(judgement(IncidentKind::WebhookStopped, self.stopped()));
        }
        judgements
    }

    fn failing(&self, settings: &AlertSettings, now_ms: i64) -> Finding {
        let Rate { succeeded, failed } = self.recent;
        if succeeded > 0 && failed * 100 <= (succeeded + failed) * GOOD_PERCENT {
            let reason = format!("{} in {} minutes succeeded", share_of(succeeded, succeeded + failed), RECENT_S / 60);
            return Finding::Good(reason);
        }
        if self.state != WebhookState::Active {
            return Finding::Unclear;
        }
        let Rate { succeeded, failed } = self.window;
        let sent = succeeded + failed;
        let of_settings = settings.webhook_failing;
        let mut figures = figures(&[("failed", failed), ("attempts", sent)]);
        if failed >= u64::from(of_settings.failed_min) && failed * 100 >= sent * u64::from(of_settings.failed_percent) {
            let reason = format!("{} in {} minutes failed", share_of(failed, sent), WINDOW_S / 60);
            return Finding::Bad { severity: Severity::Warning, reason, figures };
        }
        match self.failing_since_ms {
            Some(since_ms) if now_ms - since_ms >= WINDOW_S * 1_000 => {
                figures.insert("failing_since_ms".to_owned(), since_ms);
                let minutes = u64::try_from((now_ms - since_ms) / 60_000).unwrap_or(0);
                let reason = format!("no attempt has succeeded for {}", counted(minutes, "minute", "minutes"));
                Finding::Bad { severity: Severity::Warning, reason, figures }
            }
            // Without attempts nobody knows whether the receiver has recovered.
            _ if failed == 0 && succeeded > 0 => {
                Finding::Good(format!("no attempt has failed for {} minutes", WINDOW_S / 60))
            }
            _ => Finding::Unclear,
        }
    }

    fn stopped(&self) -> Finding {
        let reason = match &self.state {
            WebhookState::Active => return Finding::Good("it is active again".to_owned()),
            WebhookState::PausedByOperator => return Finding::Good("an operator has paused it".to_owned()),
            WebhookState::PausedByHost(reason) => format!("the host has paused it: {reason}"),
            WebhookState::Disabled(reason) => format!("the host has disabled it: {reason}"),
        };
        Finding::Bad { severity: Severity::Critical, reason, figures: figures(&[("failed", self.window.failed)]) }
    }
}

impl PluginReading {
    /// Returns the subject of an incident of a version.
    pub fn subject(name: &str, sha256: &str) -> String {
        format!("{name}@{sha256}")
    }

    fn judge(&self, settings: &AlertSettings) -> Option<Judgement> {
        settings.plugin_faulting.on.then(|| Judgement {
            kind: IncidentKind::PluginFaulting,
            subject: PluginReading::subject(&self.name, &self.sha256),
            name: format!("{} {}", self.name, self.sha256.get(..SHORT_SHA256).unwrap_or(&self.sha256)),
            finding: self.faulting(settings),
        })
    }

    fn faulting(&self, settings: &AlertSettings) -> Finding {
        let figures = figures(&[("faults", self.faults), ("judged", self.judged)]);
        if let Some(reason) = &self.quarantined {
            return Finding::Bad {
                severity: Severity::Critical,
                reason: format!("it is quarantined: {reason}"),
                figures,
            };
        }
        if self.faults >= u64::from(settings.plugin_faulting.faults_min) {
            let reason = format!("{} in {} minutes", counted(self.faults, "fault", "faults"), WINDOW_S / 60);
            return Finding::Bad { severity: Severity::Warning, reason, figures };
        }
        if self.faults == 0 && self.judged > 0 {
            let judged = counted(self.judged, "event", "events");
            return Finding::Good(format!("it judged {judged} in {} minutes without a fault", WINDOW_S / 60));
        }
        // A plugin that faults holds its deliveries, so that it is not called again before another version or config.
        Finding::Unclear
    }
}

impl ShareReading {
    fn judge(self, settings: &AlertSettings) -> Vec<Judgement> {
        if !settings.share_filling.on {
            return Vec::new();
        }
        let levels = settings.share_filling.levels().into_iter();
        let judgement = |(severity, percent): (Severity, u32)| Judgement {
            kind: IncidentKind::ShareFilling,
            subject: severity.as_str().to_owned(),
            name: "share of the store".to_owned(),
            finding: self.filling(severity, u64::from(percent)),
        };
        levels.map(judgement).collect()
    }

    fn filling(self, severity: Severity, percent: u64) -> Finding {
        let of_events = percent_of(self.events, self.events_max);
        let of_bytes = percent_of(self.bytes, self.bytes_max);
        let used = of_events.max(of_bytes);
        let what = if of_events > of_bytes { "events" } else { "bytes" };
        if used >= percent {
            let figures = figures(&[
                ("events", self.events),
                ("events_max", self.events_max),
                ("bytes", self.bytes),
                ("bytes_max", self.bytes_max),
            ]);
            let reason = format!("{used} % of its {what} are used");
            return Finding::Bad { severity, reason, figures };
        }
        if used + SHARE_GAP < percent {
            return Finding::Good(format!("{used} % of its {what} are used"));
        }
        Finding::Unclear
    }
}

impl IntakeReading {
    fn judge(self, settings: &AlertSettings, now_ms: i64) -> Option<Judgement> {
        let after_hours = settings.intake_silent.after_hours?;
        let finding = match self.last_event_at_ms {
            None => Finding::Unclear,
            Some(last_ms) => {
                let hours = (now_ms - last_ms) / 3_600_000;
                if hours >= i64::from(after_hours) {
                    let silent = counted(u64::try_from(hours).unwrap_or(0), "hour", "hours");
                    let mut figures = BTreeMap::new();
                    figures.insert("last_event_at_ms".to_owned(), last_ms);
                    let reason = format!("no event was accepted for {silent}");
                    Finding::Bad { severity: Severity::Warning, reason, figures }
                } else {
                    Finding::Good("an event was accepted".to_owned())
                }
            }
        };
        let kind = IncidentKind::IntakeSilent;
        Some(Judgement { kind, subject: "intake".to_owned(), name: "intake".to_owned(), finding })
    }
}

fn figures(all: &[(&str, u64)]) -> BTreeMap<String, i64> {
    all.iter().map(|(name, value)| ((*name).to_owned(), i64::try_from(*value).unwrap_or(i64::MAX))).collect()
}

fn share_of(some: u64, all: u64) -> String {
    format!("{some} of {}", counted(all, "attempt", "attempts"))
}

/// Returns a part in percent, rounded down. The whole of nothing is not used.
fn percent_of(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
