//! Alerts: incidents with their host events and e-mails, in one transaction.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{attempt, operator};
use crate::backend::alerts::EMAIL_LEASE_MS;
use crate::{Actor, AlertTerms, EventFilter, StateChange, StoreError};
use hookloom_model::alerts::{AlertSettings, Incident, IncidentKind};
use hookloom_model::delivery::{Attempt, AttemptOutcome, DeliveryKind, DueDelivery, Reason};
use hookloom_model::event::Module;
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState};
use hookloom_model::url_path::PublicUrl;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

conformance! {
    an_incident_has_one_message_and_one_when_it_is_over,
    only_subscriptions_of_incidents_get_messages_and_not_about_themselves,
    emails_are_taken_once_within_their_lease,
    a_stopped_webhook_is_an_incident,
    settings_are_kept_and_logged,
    incidents_end_with_their_tenant,
    silence_is_of_events_that_the_host_did_not_make,
    a_thousand_webhooks_are_evaluated_in_time,
}

fn terms() -> AlertTerms {
    AlertTerms { link_base: PublicUrl::parse("https://hooks.example").expect("a URL"), emails: true }
}

async fn evaluate(store: &TestStore) -> Vec<Incident> {
    let tenant = store.catalog().tenant(&tenant()).expect("the tenant");
    store.evaluate_alerts(&tenant, &terms()).await.expect("evaluated")
}

async fn set(store: &TestStore, settings: Value) {
    let settings: AlertSettings = serde_json::from_value(settings).expect("settings");
    assert_eq!(settings.faults(), []);
    store.put_alert_settings(operator(), tenant(), settings).await.expect("stored");
}

/// Counts attempts of a subscription as failed or delivered, now.
fn count(store: &TestStore, of: SubscriptionId, outcome: AttemptOutcome, times: usize) {
    let delivery = DueDelivery {
        id: hookloom_model::delivery::DeliveryId::new(),
        tenant: tenant(),
        event: hookloom_model::event::EventId::new(),
        subscription: of,
        kind: DeliveryKind::Usual,
        attempts_made: 0,
        attempts_in_budget: 0,
        age_from_ms: 0,
        settled: None,
        is_settling: false,
    };
    let attempt = Attempt { outcome, ..attempt(&delivery) };
    (0..times).for_each(|_| store.count(&tenant(), of, &attempt));
}

/// Returns the names of the incident events that a subscription has pending.
async fn notified(store: &mut TestStore, of: &Subscription) -> Vec<String> {
    // Their lanes do not run here.
    drop(store.store_events());
    let mut names = Vec::new();
    for claim in store.claims(of).await {
        let event = store.event(tenant(), claim.delivery().event).await.expect("an event");
        assert_eq!(event.event.module, Module::Incident);
        names.push(event.event.name.clone());
    }
    names.sort();
    names
}

async fn emails(store: &TestStore) -> Vec<(String, String)> {
    let all = store.alert_emails(tenant(), 100).await.expect("e-mails");
    let mut all: Vec<_> = all.into_iter().map(|one| (one.recipient.to_string(), one.title)).collect();
    all.sort();
    all
}

async fn an_incident_has_one_message_and_one_when_it_is_over(store: &mut TestStore) {
    set(store, json!({"recipients": ["a@example.com", "b@example.com"]})).await;
    let failing = store.subscribe(json!({"description": "Orders"})).await;
    let watching = store.subscribe(json!({"modules": ["Incident"]})).await;
    assert_eq!(evaluate(store).await, []);
    count(store, failing.id, AttemptOutcome::Failed, 5);
    for _ in 0..3 {
        let live = evaluate(store).await;
        let [incident] = &live[..] else { panic!("{live:?}") };
        assert_eq!((incident.kind, &*incident.subject), (IncidentKind::WebhookFailing, &*failing.id.to_string()));
        assert!(incident.opened_notified_at_ms.is_some() && incident.opened_event.is_some(), "{incident:?}");
        store.pass(60_000);
    }
    // A host writes them every five seconds.
    store.flush_figures().await.expect("written");
    store.reopen().await;
    assert_eq!(evaluate(store).await.len(), 1, "it is durable");
    assert_eq!(emails(store).await.len(), 2);
    store.pass(11 * 60_000);
    count(store, failing.id, AttemptOutcome::Delivered, 1);
    assert_eq!(evaluate(store).await, []);
    assert_eq!(evaluate(store).await, []);
    let opened = "Webhook \"Orders\" fails: 5 of 5 attempts in 15 minutes failed";
    let over = "Webhook \"Orders\" no longer fails: 1 of 1 attempt in 10 minutes succeeded";
    let expected = ["a@example.com", "b@example.com"].into_iter();
    let expected = expected.flat_map(|one| [(one.to_owned(), opened.to_owned()), (one.to_owned(), over.to_owned())]);
    assert_eq!(emails(store).await, expected.collect::<Vec<_>>());
    let watching = store.current(watching.id);
    assert_eq!(notified(store, &watching).await, ["Incident is Closed", "Incident is Opened"]);
    let all = store.incidents(tenant(), 10).await.expect("incidents");
    assert!(all.len() == 1 && !all[0].is_live() && all[0].closed_event.is_some(), "{all:?}");
    store.lawful_ledger().await;
}

async fn only_subscriptions_of_incidents_get_messages_and_not_about_themselves(store: &mut TestStore) {
    let all = store.subscribe(json!({"modules": ["Contact", "Deal", "Subscription"]})).await;
    let failing = store.subscribe(json!({"modules": ["Incident", "Contact"]})).await;
    let other = store.subscribe(json!({"modules": ["Incident"], "events": ["Incident is Opened"]})).await;
    count(store, failing.id, AttemptOutcome::Failed, 9);
    assert_eq!(evaluate(store).await.len(), 1);
    assert_eq!(notified(store, &all).await, [""; 0]);
    assert_eq!(notified(store, &failing).await, [""; 0]);
    assert_eq!(notified(store, &other).await, ["Incident is Opened"]);
    // The receiver of incidents fails as well: one incident more, and no more events of it.
    count(store, other.id, AttemptOutcome::Failed, 9);
    assert_eq!(evaluate(store).await.len(), 2);
    assert_eq!(evaluate(store).await.len(), 2);
    assert_eq!(notified(store, &failing).await, ["Incident is Opened"]);
    let events = store.events(tenant(), EventFilter { limit: 100, ..EventFilter::default() }).await.expect("events");
    assert_eq!(events.len(), 2);
    store.lawful_ledger().await;
}

async fn emails_are_taken_once_within_their_lease(store: &mut TestStore) {
    set(store, json!({"recipients": ["a@example.com", "b@example.com", "c@example.com"]})).await;
    let failing = store.subscribe(json!({})).await;
    assert!(store.take_alert_emails(10).await.expect("none").is_empty());
    count(store, failing.id, AttemptOutcome::Failed, 5);
    evaluate(store).await;
    let mut taken = store.take_alert_emails(2).await.expect("two");
    taken.extend(store.take_alert_emails(2).await.expect("the third"));
    assert_eq!(taken.len(), 3);
    assert!(store.take_alert_emails(10).await.expect("none").is_empty());
    // One is sent, one is tried again in an hour, and one was lost with its host.
    let now_ms = store.now_ms();
    let mut sent = taken[0].1.clone();
    sent.sent_at_ms = Some(now_ms);
    store.record_alert_email(tenant(), sent.clone(), None).await.expect("recorded");
    let mut failed = taken[1].1.clone();
    failed.error = Some("451".to_owned());
    store.record_alert_email(tenant(), failed.clone(), Some(now_ms + HOUR_MS)).await.expect("recorded");
    store.pass(EMAIL_LEASE_MS + 1);
    let again = store.take_alert_emails(10).await.expect("the lost one");
    assert_eq!(again, [taken[2].clone()], "with the same id");
    store.pass(HOUR_MS);
    let again = store.take_alert_emails(10).await.expect("both");
    assert_eq!(again.len(), 2);
    assert!(again.iter().any(|(_, one)| *one == failed), "{again:?}");
}

async fn a_stopped_webhook_is_an_incident(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let by_operator = StateChange::Pause { reason: "holiday".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), of.id, by_operator).await.expect("paused");
    assert_eq!(evaluate(store).await, []);
    let disable = StateChange::Disable { reason: Reason::new("gone", "410"), generation: None };
    store.set_subscription_state(Actor::Host, &tenant(), of.id, disable).await.expect("disabled");
    let live = evaluate(store).await;
    assert_eq!(live.iter().map(|one| one.kind).collect::<Vec<_>>(), [IncidentKind::WebhookStopped]);
    store.set_subscription_state(operator(), &tenant(), of.id, StateChange::Resume).await.expect("resumed");
    assert_eq!(store.current(of.id).state, SubscriptionState::Active);
    assert_eq!(evaluate(store).await, []);
    let all = store.incidents(tenant(), 10).await.expect("incidents");
    assert_eq!(all[0].closed_reason.as_deref(), Some("it is active again"));
}

async fn settings_are_kept_and_logged(store: &mut TestStore) {
    set(store, json!({"recipients": ["a@example.com"], "intake_silent": {"after_hours": 6}})).await;
    store.reopen().await;
    let found = store.catalog().tenant(&tenant()).expect("the tenant").alerts.clone();
    assert_eq!((found.recipients.len(), found.intake_silent.after_hours), (1, Some(6)));
    let (log, _) = store.changes(Some(tenant()), None, 1).await.expect("the log");
    assert_eq!((&*log[0].action, &*log[0].subject), ("alerts.update", "alerts"));
    let after = log[0].after.as_ref().expect("the settings");
    assert_eq!(after["recipients"], json!(["a@example.com"]));
    let missing = store.put_alert_settings(operator(), hookloom_model::ids::TenantId("none".into()), found).await;
    assert!(matches!(missing, Err(StoreError::NotFound("tenant"))), "{missing:?}");
}

async fn incidents_end_with_their_tenant(store: &mut TestStore) {
    set(store, json!({"recipients": ["a@example.com"]})).await;
    let failing = store.subscribe(json!({})).await;
    count(store, failing.id, AttemptOutcome::Failed, 5);
    evaluate(store).await;
    let contents = store.tenant_contents(tenant()).await.expect("contents");
    store.delete_tenant(operator(), tenant(), contents, || ()).await.expect("deleted");
    store.delete_discarded().await.expect("the rest");
    assert!(store.take_alert_emails(10).await.expect("none").is_empty());
    store.add_tenant("t").await;
    assert!(store.incidents(tenant(), 10).await.expect("none").is_empty());
}

async fn silence_is_of_events_that_the_host_did_not_make(store: &mut TestStore) {
    set(store, json!({"intake_silent": {"after_hours": 6}})).await;
    assert_eq!(evaluate(store).await, [], "there was no event yet");
    store.take(super::test_values::many(1)).await;
    store.pass(5 * HOUR_MS);
    assert_eq!(evaluate(store).await, []);
    store.pass(HOUR_MS);
    assert_eq!(evaluate(store).await.len(), 1);
    store.pass(HOUR_MS);
    assert_eq!(evaluate(store).await.len(), 1, "its own event is not of the sender");
    store.take(super::test_values::many(1)).await;
    assert_eq!(evaluate(store).await, []);
}

/// Number of webhooks of the tenant whose evaluation is measured.
const WEBHOOKS: usize = 1_000;

/// Maximum duration of its evaluation, in a build without optimisation and beside other tests. The pause between two evaluations is 30 s.
const EVALUATION_TIME_MAX: Duration = Duration::from_secs(5);

/// Evaluates with a timer, and returns the number of live incidents.
#[expect(clippy::disallowed_methods, reason = "the clock of a case stands still")]
async fn timed(store: &TestStore, what: &str) -> usize {
    let began = Instant::now();
    let live = evaluate(store).await.len();
    let took = began.elapsed();
    println!("{what}: {took:?}");
    assert!(took < EVALUATION_TIME_MAX, "{what}: {took:?}");
    live
}

async fn a_thousand_webhooks_are_evaluated_in_time(store: &mut TestStore) {
    let mut webhooks = Vec::new();
    for number in 0..WEBHOOKS {
        webhooks.push(store.subscribe(json!({"description": format!("webhook {number}")})).await.id);
    }
    for _ in 0..15 {
        webhooks.iter().for_each(|id| count(store, *id, AttemptOutcome::Delivered, 1));
        store.flush_figures().await.expect("written");
        store.pass(60_000);
    }
    assert_eq!(timed(store, "all are well").await, 0);
    webhooks.iter().step_by(10).for_each(|id| count(store, *id, AttemptOutcome::Failed, 50));
    assert_eq!(timed(store, "100 incidents open").await, WEBHOOKS / 10);
    assert_eq!(timed(store, "100 incidents are open").await, WEBHOOKS / 10);
}
