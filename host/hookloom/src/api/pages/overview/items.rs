//! Items of what needs attention: the sentence, the urgency and the action of each kind. Pure.

use crate::api::pages::alerts::action;
use crate::api::pages::webhook_words::name;
use crate::api::pages::webhooks::health::WebhookHealth;
use crate::api::pages::{DisplayTime, short, size};
use crate::figures::Figures;
use crate::ids::PluginName;
use crate::pauses::BY_HOST;
use crate::plural::counted;
use crate::store::{DamageReport, FleetReport, Halt, HaltedVersion, RejectedEntry, TAKEN_BACK, Usage, grouped};
use crate::subscription::{Subscription, TenantId};
use crate::url_path::UrlPath;
use hookloom_model::alerts::{Incident, IncidentKind, Message, Severity, message_text};

/// Success of the last two hours from which on a webhook does not fail, in percent.
const RECOVERED_MIN: f64 = 50.0;

/// Used part of the share from which on it fills, and is nearly used up, in percent.
const FILLING_MIN: u64 = 80;
const NEARLY_FULL_MIN: u64 = 95;

/// Section of the overview with what is stored.
const STORAGE: &str = "#storage";

/// Urgency of an item, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Events do not arrive until somebody acts, or will soon be refused.
    Critical,
    /// Something is wrong, and may become worse.
    Warning,
    /// Somebody wanted it, and may have forgotten it.
    Notice,
}

/// Thing that needs attention.
pub(super) struct AttentionItem {
    pub(super) urgency: Urgency,
    pub(super) sentence: String,
    /// Time that belongs to it, after its label.
    pub(super) time: Option<(&'static str, DisplayTime)>,
    /// Page on which the action is done.
    pub(super) href: String,
    pub(super) action: &'static str,
}

impl AttentionItem {
    pub(super) fn new(urgency: Urgency, sentence: String, href: String, action: &'static str) -> Self {
        AttentionItem { urgency, sentence, time: None, href, action }
    }

    /// Adds a time.
    pub(super) fn noting(self, label: &'static str, at: DisplayTime) -> Self {
        AttentionItem { time: Some((label, at)), ..self }
    }

    /// Adds the time since which it is so, if that is known, in milliseconds since the epoch.
    pub(super) fn noting_since(self, since_ms: Option<i64>) -> Self {
        match since_ms {
            Some(since_ms) => self.noting("since", DisplayTime::at_ms(since_ms)),
            None => self,
        }
    }

    /// Returns the word of the urgency, which is also its class.
    pub(super) fn word(&self) -> &'static str {
        match self.urgency {
            Urgency::Critical => "critical",
            Urgency::Warning => "warning",
            Urgency::Notice => "info",
        }
    }
}

/// Returns the item of an open incident.
pub(super) fn incident(tenant: &TenantId, incident: &Incident) -> AttentionItem {
    let text = message_text(tenant, incident, Message::Opened);
    let urgency = match incident.severity {
        Severity::Critical => Urgency::Critical,
        Severity::Warning => Urgency::Warning,
    };
    // The page of a share is the overview itself.
    let href = if incident.kind == IncidentKind::ShareFilling { STORAGE.to_owned() } else { text.page.to_string() };
    AttentionItem::new(urgency, one_stop(text.title), href, action(incident.kind))
        .noting("opened", DisplayTime::at_ms(incident.opened_at_ms))
}

/// Returns the item of a webhook that is stopped or fails, by its figures of the last day and of the last two hours. None: it works.
pub(super) fn webhook(
    subscription: &Subscription,
    health: WebhookHealth,
    [day, recent]: [&Figures; 2],
    waits: u64,
) -> Option<AttentionItem> {
    let name = name(subscription);
    let reason = subscription.state_reason.as_deref().unwrap_or_default();
    let waiting =
        if waits == 1 { "1 delivery waits".to_owned() } else { format!("{} deliveries wait", grouped(waits)) };
    let (urgency, sentence) = match health {
        WebhookHealth::Disabled => {
            (Urgency::Critical, format!("Webhook {name:?} is disabled, and gets no events: {reason}."))
        }
        WebhookHealth::Paused => match reason.strip_prefix(BY_HOST) {
            Some(why) => (Urgency::Critical, format!("The host has paused webhook {name:?}, and {waiting}: {why}.")),
            None => {
                let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                (Urgency::Notice, format!("Webhook {name:?} is paused{why}, and {waiting}."))
            }
        },
        WebhookHealth::Waiting => {
            let waiting = if waits == 0 { String::new() } else { format!(", and {waiting}") };
            let sentence = format!("The receiver of webhook {name:?} fails, so nothing is sent for a while{waiting}.");
            (Urgency::Warning, sentence)
        }
        WebhookHealth::Failing if recent.success().is_none_or(|success| success < RECOVERED_MIN) => {
            let attempts = counted(day.delivered + day.failed, "attempt", "attempts");
            let sentence =
                format!("Webhook {name:?} fails: {} of {attempts} in the last day failed.", grouped(day.failed));
            (Urgency::Warning, sentence)
        }
        WebhookHealth::Failing | WebhookHealth::Degraded | WebhookHealth::Idle | WebhookHealth::Healthy => return None,
    };
    let href = UrlPath::pages_of(&subscription.tenant).then("webhooks").then(&subscription.id);
    Some(AttentionItem::new(urgency, one_stop(sentence), href.to_string(), "Open the webhook"))
}

/// Replaces the stops at the end of a sentence by one, because reasons end with one or not.
fn one_stop(sentence: String) -> String {
    format!("{}.", sentence.trim_end_matches(['.', ' ', ':']))
}

/// Returns the item of a version that does not judge.
pub(super) fn halted(tenant: &TenantId, halted: &HaltedVersion) -> AttentionItem {
    match halted.halt {
        Halt::Quarantined => quarantine(tenant, &halted.name, &halted.sha256, &halted.reason),
        Halt::TakenBack => {
            let why = halted.reason.strip_prefix(TAKEN_BACK).unwrap_or(&halted.reason);
            let sentence =
                format!("The canary {} of plugin {} was taken back: {why}.", short(&halted.sha256), halted.name);
            AttentionItem::new(
                Urgency::Warning,
                one_stop(sentence),
                plugin_page(tenant, &halted.name),
                "See the rollout",
            )
        }
    }
}

/// Returns the item of a quarantined version that is in use.
pub(super) fn quarantine(tenant: &TenantId, name: &str, sha256: &str, reason: &str) -> AttentionItem {
    let sentence =
        format!("Version {} of plugin {name} is quarantined, and its deliveries wait: {reason}.", short(sha256));
    AttentionItem::new(Urgency::Critical, one_stop(sentence), plugin_page(tenant, name), "Open the plugin")
}

/// Returns the item of a version that has faulted.
pub(super) fn faults(tenant: &TenantId, name: &str, sha256: &str, count: u64) -> AttentionItem {
    let times = counted(count, "time", "times");
    let sentence = format!("Version {} of plugin {name} faulted {times} within two hours.", short(sha256));
    AttentionItem::new(Urgency::Warning, sentence, plugin_page(tenant, name), "Open the plugin")
}

/// Returns the item of a plugin's file that cannot be used.
pub(super) fn broken_file(tenant: &TenantId, name: &str, problem: &str) -> AttentionItem {
    let sentence = format!("The file of plugin {name} in the plugins folder cannot be used: {problem}.");
    let href = UrlPath::pages_of(tenant).then("plugins").to_string();
    AttentionItem::new(Urgency::Warning, one_stop(sentence), href, "See the plugins")
}

fn plugin_page(tenant: &TenantId, name: &str) -> String {
    let pages = UrlPath::pages_of(tenant).then("plugins");
    match PluginName::parse(name) {
        Ok(name) => pages.then(&name).to_string(),
        Err(_) => pages.to_string(),
    }
}

/// Returns the item of a share that fills. None: there is room.
pub(super) fn share(usage: &Usage) -> Option<AttentionItem> {
    let Usage { events, events_max, bytes, bytes_max, .. } = *usage;
    let of_bytes = percent_of(bytes, bytes_max);
    let of_events = percent_of(events, events_max);
    let used = of_bytes.max(of_events);
    let what = if of_events > of_bytes {
        format!("{} of {} events", grouped(events), grouped(events_max))
    } else {
        format!("{} of {}", size(bytes), size(bytes_max))
    };
    let urgency = match used {
        0..FILLING_MIN => return None,
        FILLING_MIN..NEARLY_FULL_MIN => Urgency::Warning,
        _ => Urgency::Critical,
    };
    let sentence =
        format!("{used} % of the tenant's share are used ({what}). New events are refused when it is used up.");
    Some(AttentionItem::new(urgency, sentence, STORAGE.to_owned(), "See what is stored"))
}

/// Returns the item of damaged rows. None: there are none.
pub(super) fn damage(report: &DamageReport) -> Option<AttentionItem> {
    let sentence = if report.rows.is_empty() {
        let object = report.objects.first()?;
        format!("A page of the database is damaged, in {}. Everything else goes on.", object.name)
    } else {
        let rows = counted(report.rows.len() as u64, "row of the database is", "rows of the database are");
        format!("{rows} damaged and set apart. Everything else goes on.")
    };
    Some(AttentionItem::new(Urgency::Critical, sentence, "#damage".to_owned(), "See the damage"))
}

/// Returns the item of refused requests, newest first, of which at most `counted_max` are counted. None: there are none.
pub(super) fn refused_requests(
    tenant: &TenantId,
    refused: &[RejectedEntry],
    counted_max: usize,
) -> Option<AttentionItem> {
    let newest = refused.first()?;
    let count = counted(refused.len() as u64, "request", "requests");
    let at_least = if refused.len() == counted_max { "At least " } else { "" };
    let verb = if refused.len() == 1 { "was" } else { "were" };
    let sentence =
        format!("{at_least}{count} to the intake {verb} refused in the last day. The newest: {}.", newest.reason);
    let href = UrlPath::pages_of(tenant).then("rejected").to_string();
    let item = AttentionItem::new(Urgency::Warning, one_stop(sentence), href, "See refused requests");
    Some(item.noting("newest", DisplayTime::at_ms(newest.received_at_ms)))
}

/// Returns the items of hosts that lag behind, have ended, or were lost since a time, in milliseconds since the epoch.
pub(super) fn hosts(fleet: &FleetReport, since_ms: i64) -> Vec<AttentionItem> {
    fn item(urgency: Urgency, sentence: String) -> AttentionItem {
        AttentionItem::new(urgency, sentence, UrlPath::root().then("fleet").to_string(), "See the hosts")
    }
    let mut items = Vec::new();
    for one in fleet.hosts.iter().map(|one| &one.host) {
        let host = format!("Host {} ({})", one.number, one.name);
        match one.changes_behind {
            _ if one.has_ended => {
                let sentence = format!("{host} has ended without leaving. Another host takes over its webhooks.");
                items.push(item(Urgency::Critical, sentence));
            }
            Some(behind @ 1..) => {
                let changes = counted(behind, "change is", "changes are");
                items.push(item(Urgency::Warning, format!("{host} lags: {changes} not in force there.")));
            }
            Some(0) | None => {}
        }
    }
    for one in fleet.lost.iter().filter(|one| one.lost_at_ms > since_ms) {
        let sentence =
            format!("Host {} ({}) was lost, and has not come back. Others deliver for it.", one.number, one.name);
        items.push(item(Urgency::Warning, sentence).noting("lost", DisplayTime::at_ms(one.lost_at_ms)));
    }
    items
}

/// Returns a part in percent, rounded down. The whole of nothing is not used.
fn percent_of(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{HostReport, LostHost, SharingHost};

    #[test]
    fn a_share_fills_by_bytes_or_events() {
        #[track_caller]
        fn check(events: u64, bytes: u64, expected: Option<(Urgency, &str)>) {
            let usage = Usage { events, events_max: 1_000, bytes, bytes_max: 4_096, by_kind: Vec::new() };
            let found = share(&usage);
            let found = found.as_ref().map(|one| (one.urgency, one.sentence.split('.').next().unwrap_or_default()));
            assert_eq!(found, expected);
        }
        check(0, 0, None);
        check(799, 3_276, None);
        check(800, 0, Some((Urgency::Warning, "80 % of the tenant's share are used (800 of 1,000 events)")));
        check(0, 4_096, Some((Urgency::Critical, "100 % of the tenant's share are used (4")));
        check(950, 4_000, Some((Urgency::Critical, "97 % of the tenant's share are used (3")));
    }

    #[test]
    fn a_sentence_has_one_stop() {
        for (sentence, expected) in
            [("it fails.", "it fails."), ("it fails..", "it fails."), ("it is so: .", "it is so."), ("a", "a.")]
        {
            assert_eq!(one_stop(sentence.to_owned()), expected);
        }
    }

    #[test]
    fn hosts_that_lag_or_are_gone_are_named() {
        fn host(number: i16, changes_behind: Option<u64>, has_ended: bool) -> HostReport {
            let host = SharingHost {
                number,
                name: "blue".to_owned(),
                version: String::new(),
                started_at_ms: 0,
                lease_ms: Some(1),
                has_ended,
                changes_behind,
                attempts: crate::store::AttemptLoad::default(),
                is_this: false,
            };
            HostReport { host, shards: 0, subscriptions: 0, pending: 0 }
        }
        fn lost(number: i16, lost_at_ms: i64) -> LostHost {
            LostHost { number, name: "red".to_owned(), version: String::new(), lost_at_ms }
        }
        let fleet = FleetReport {
            hosts: vec![host(1, Some(0), false), host(2, Some(3), false), host(3, Some(9), true), host(4, None, false)],
            shards: Vec::new(),
            lost: vec![lost(5, 11), lost(6, 10)],
        };
        let items = hosts(&fleet, 10);
        let found: Vec<_> = items.iter().map(|one| (one.urgency, one.sentence.as_str())).collect();
        let expected = [
            (Urgency::Warning, "Host 2 (blue) lags: 3 changes are not in force there."),
            (Urgency::Critical, "Host 3 (blue) has ended without leaving. Another host takes over its webhooks."),
            (Urgency::Warning, "Host 5 (red) was lost, and has not come back. Others deliver for it."),
        ];
        assert_eq!(found, expected);
    }
}
