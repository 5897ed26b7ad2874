//! Tests of the rules: figures in, finding out.

use super::*;
use serde_json::json;
use uuid::Uuid;

const NOW_MS: i64 = 1_800_000_000_000;

fn webhook(window: (u64, u64), recent: (u64, u64)) -> WebhookReading {
    WebhookReading {
        id: SubscriptionId(Uuid::nil()),
        name: "Orders".to_owned(),
        state: WebhookState::Active,
        failing_since_ms: None,
        window: Rate { succeeded: window.0, failed: window.1 },
        recent: Rate { succeeded: recent.0, failed: recent.1 },
    }
}

/// Returns `bad`, `unclear` or `good`, each with its reason.
fn shown(finding: &Finding) -> String {
    match finding {
        Finding::Bad { severity, reason, .. } => format!("bad, {severity}: {reason}"),
        Finding::Unclear => "unclear".to_owned(),
        Finding::Good(reason) => format!("good: {reason}"),
    }
}

#[track_caller]
fn check(reading: impl Into<Reading>, expected: &[&str]) {
    let reading = reading.into();
    let found = reading.judge(&AlertSettings::default(), NOW_MS);
    let found: Vec<String> = found.iter().map(|one| shown(&one.finding)).collect();
    assert_eq!(found, expected, "{reading:?}");
}

impl From<WebhookReading> for Reading {
    fn from(one: WebhookReading) -> Self {
        Reading::Webhook(one)
    }
}

impl From<PluginReading> for Reading {
    fn from(one: PluginReading) -> Self {
        Reading::Plugin(one)
    }
}

impl From<ShareReading> for Reading {
    fn from(one: ShareReading) -> Self {
        Reading::Share(one)
    }
}

#[test]
fn a_webhook_fails_by_its_share_of_failed_attempts() {
    let active = "good: it is active again";
    check(webhook((0, 0), (0, 0)), &["unclear", active]);
    check(webhook((1, 0), (0, 0)), &["good: no attempt has failed for 15 minutes", active]);
    check(webhook((0, 4), (0, 4)), &["unclear", active]);
    check(webhook((0, 5), (0, 5)), &["bad, warning: 5 of 5 attempts in 15 minutes failed", active]);
    check(webhook((5, 5), (5, 5)), &["bad, warning: 5 of 10 attempts in 15 minutes failed", active]);
    check(webhook((6, 5), (6, 5)), &["unclear", active]);
    // The failures are older than the recent minutes.
    check(webhook((1, 500), (1, 0)), &["good: 1 of 1 attempt in 10 minutes succeeded", active]);
    check(webhook((10, 500), (9, 1)), &["good: 9 of 10 attempts in 10 minutes succeeded", active]);
    check(webhook((10, 500), (8, 1)), &["bad, warning: 500 of 510 attempts in 15 minutes failed", active]);
}

fn failing_for(minutes: i64) -> WebhookReading {
    WebhookReading { failing_since_ms: Some(NOW_MS - minutes * 60_000), ..webhook((0, 1), (0, 0)) }
}

#[test]
fn a_webhook_with_few_events_fails_by_the_time() {
    let active = "good: it is active again";
    check(failing_for(14), &["unclear", active]);
    check(failing_for(15), &["bad, warning: no attempt has succeeded for 15 minutes", active]);
    // The breaker lets no attempt through.
    let quiet = WebhookReading { window: Rate::default(), ..failing_for(90) };
    check(quiet, &["bad, warning: no attempt has succeeded for 90 minutes", active]);
}

fn stopped(state: WebhookState) -> WebhookReading {
    WebhookReading { state, failing_since_ms: Some(0), ..webhook((0, 9), (0, 0)) }
}

#[test]
fn a_webhook_is_stopped_by_the_host_only() {
    let disabled = stopped(WebhookState::Disabled("410".to_owned()));
    check(disabled, &["unclear", "bad, critical: the host has disabled it: 410"]);
    let paused = stopped(WebhookState::PausedByHost("bad-config".to_owned()));
    check(paused, &["unclear", "bad, critical: the host has paused it: bad-config"]);
    check(stopped(WebhookState::PausedByOperator), &["unclear", "good: an operator has paused it"]);
}

fn plugin(faults: u64, judged: u64, quarantined: Option<&str>) -> PluginReading {
    let quarantined = quarantined.map(str::to_owned);
    PluginReading { name: "redact".to_owned(), sha256: "0".repeat(64), faults, judged, quarantined }
}

#[test]
fn a_version_faults_until_it_judges_without_a_fault() {
    check(plugin(0, 0, None), &["unclear"]);
    check(plugin(2, 100, None), &["unclear"]);
    check(plugin(3, 100, None), &["bad, warning: 3 faults in 15 minutes"]);
    check(plugin(0, 1, None), &["good: it judged 1 event in 15 minutes without a fault"]);
    check(plugin(0, 9, Some("SIGSEGV")), &["bad, critical: it is quarantined: SIGSEGV"]);
}

fn share(events: u64, bytes: u64) -> ShareReading {
    ShareReading { events, events_max: 1_000, bytes, bytes_max: 1_000 }
}

#[test]
fn a_share_fills_by_events_or_bytes() {
    check(share(0, 0), &["good: 0 % of its bytes are used", "good: 0 % of its bytes are used"]);
    check(share(740, 10), &["good: 74 % of its events are used", "good: 74 % of its events are used"]);
    check(share(750, 10), &["unclear", "good: 75 % of its events are used"]);
    check(share(10, 800), &["bad, warning: 80 % of its bytes are used", "good: 80 % of its bytes are used"]);
    check(share(10, 900), &["bad, warning: 90 % of its bytes are used", "unclear"]);
    check(share(10, 950), &["bad, warning: 95 % of its bytes are used", "bad, critical: 95 % of its bytes are used"]);
    check(
        ShareReading { events: 5, events_max: 0, bytes: 0, bytes_max: u64::MAX },
        &["bad, warning: 500 % of its events are used", "bad, critical: 500 % of its events are used"],
    );
}

fn ago(hours: i64) -> Option<i64> {
    Some(NOW_MS - hours * 3_600_000)
}

#[test]
fn silence_is_judged_by_the_hours_of_the_tenant() {
    #[track_caller]
    fn check(last_event_at_ms: Option<i64>, after_hours: Option<u32>, expected: Option<&str>) {
        let settings = json!({"intake_silent": {"after_hours": after_hours}});
        let settings: AlertSettings = serde_json::from_value(settings).expect("settings");
        let found = Reading::Intake(IntakeReading { last_event_at_ms }).judge(&settings, NOW_MS);
        assert_eq!(found.first().map(|one| shown(&one.finding)).as_deref(), expected);
    }
    check(ago(100), None, None);
    check(None, Some(6), Some("unclear"));
    check(ago(5), Some(6), Some("good: an event was accepted"));
    check(ago(6), Some(6), Some("bad, warning: no event was accepted for 6 hours"));
}

#[test]
fn kinds_that_are_off_are_not_judged() {
    let off = json!({"webhook_failing": {"on": false}, "webhook_stopped": {"on": false}, "plugin_faulting": {"on": false},
                     "share_filling": {"on": false}});
    let off: AlertSettings = serde_json::from_value(off).expect("settings");
    let readings = [
        Reading::Webhook(webhook((0, 50), (0, 50))),
        Reading::Share(ShareReading { events: 9, events_max: 9, bytes: 9, bytes_max: 9 }),
        Reading::Intake(IntakeReading { last_event_at_ms: Some(0) }),
    ];
    assert!(readings.iter().all(|one| one.judge(&off, NOW_MS).is_empty()));
}
