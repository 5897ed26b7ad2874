//! Tests of the steps: one message when an incident opens, one when it is over, none in quiet hours.

use super::*;
use crate::alerts::{IncidentKind, Severity};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

const MINUTE_MS: i64 = 60_000;

fn settings(except_critical: bool) -> AlertSettings {
    // The epoch began at midnight.
    let quiet = json!({"from": "22:00", "to": "07:00", "except_critical": except_critical});
    serde_json::from_value(json!({ "quiet_hours": quiet })).expect("settings")
}

fn judgement(subject: &str, finding: Finding) -> Judgement {
    let kind = IncidentKind::WebhookFailing;
    Judgement { kind, subject: subject.to_owned(), name: subject.to_owned(), finding }
}

fn warning() -> Option<Finding> {
    Some(bad(Severity::Warning))
}

fn critical() -> Option<Finding> {
    Some(bad(Severity::Critical))
}

fn good() -> Option<Finding> {
    Some(Finding::Good("good".to_owned()))
}

fn bad(severity: Severity) -> Finding {
    Finding::Bad { severity, reason: "bad".to_owned(), figures: BTreeMap::new() }
}

/// Incidents of a tenant, as a store keeps them.
#[derive(Default)]
struct Incidents(Vec<Incident>);

impl Incidents {
    fn live(&self) -> Vec<Incident> {
        self.0.iter().filter(|one| one.is_live()).cloned().collect()
    }

    fn step(&mut self, judgements: &[Judgement], settings: &AlertSettings, now_ms: i64) -> Vec<(IncidentId, Message)> {
        let mut messages = Vec::new();
        for IncidentChange { incident, message } in step(&self.live(), judgements, settings, now_ms) {
            messages.extend(message.map(|message| (incident.id, message)));
            match self.0.iter_mut().find(|one| one.id == incident.id) {
                Some(one) => *one = incident,
                None => self.0.push(incident),
            }
        }
        messages
    }
}

/// Steps with the hour of each, the finding of the subject, and the messages that follow.
#[track_caller]
fn check(except_critical: bool, steps: &[(i64, Option<Finding>, &[Message])]) {
    let mut incidents = Incidents::default();
    for (index, (hour, finding, expected)) in steps.iter().enumerate() {
        let judgements: Vec<Judgement> = finding.iter().map(|one| judgement("w", one.clone())).collect();
        let found = incidents.step(&judgements, &settings(except_critical), hour * 60 * MINUTE_MS);
        let found: Vec<Message> = found.into_iter().map(|(_, message)| message).collect();
        assert_eq!(found, *expected, "step {index}: {:?}", incidents.0);
    }
}

#[test]
fn an_incident_has_one_message_and_one_when_it_is_over() {
    check(
        true,
        &[
            (8, good(), &[]),
            (9, warning(), &[Message::Opened]),
            (10, warning(), &[]),
            (11, Some(Finding::Unclear), &[]),
            (12, critical(), &[]),
            (13, good(), &[Message::Closed]),
            (14, good(), &[]),
            (15, Some(Finding::Unclear), &[]),
            (16, warning(), &[Message::Opened]),
            // The webhook was deleted.
            (17, None, &[Message::Closed]),
            (18, None, &[]),
        ],
    );
}

#[test]
fn quiet_hours_hold_messages_back() {
    // Still open in the morning.
    check(true, &[(23, warning(), &[]), (30, warning(), &[]), (31, warning(), &[Message::Opened])]);
    // Over before the morning.
    check(true, &[(23, warning(), &[]), (24, good(), &[]), (31, good(), &[])]);
    // Its message was sent before, over within.
    check(
        true,
        &[(21, warning(), &[Message::Opened]), (23, good(), &[]), (31, Some(Finding::Unclear), &[Message::Closed])],
    );
    // Its message was sent before, over and bad again within: the same incident.
    check(
        true,
        &[
            (21, warning(), &[Message::Opened]),
            (23, good(), &[]),
            (24, warning(), &[]),
            (31, warning(), &[]),
            (32, good(), &[Message::Closed]),
        ],
    );
    check(true, &[(23, critical(), &[Message::Opened]), (24, good(), &[Message::Closed])]);
    check(false, &[(23, critical(), &[]), (31, critical(), &[Message::Opened])]);
    // It becomes critical within.
    check(true, &[(23, warning(), &[]), (24, critical(), &[Message::Opened])]);
}

fn findings() -> impl Strategy<Value = Option<Finding>> {
    prop_oneof![
        Just(None),
        Just(Some(Finding::Unclear)),
        Just(Some(Finding::Good("good".to_owned()))),
        Just(Some(bad(Severity::Warning))),
        Just(Some(bad(Severity::Critical))),
    ]
}

proptest! {
    #[test]
    fn messages_are_in_pairs_and_never_in_quiet_hours(
        steps in proptest::collection::vec((proptest::collection::vec(findings(), 3), 1i64..400), 1..60),
        except_critical: bool,
    ) {
        let settings = settings(except_critical);
        let mut incidents = Incidents::default();
        let mut sent: HashMap<IncidentId, Vec<Message>> = HashMap::new();
        let mut now_ms = 0;
        for (findings, minutes) in steps {
            now_ms += minutes * MINUTE_MS;
            let judgements: Vec<Judgement> = findings
                .into_iter()
                .enumerate()
                .filter_map(|(index, finding)| Some(judgement(&index.to_string(), finding?)))
                .collect();
            for (id, message) in incidents.step(&judgements, &settings, now_ms) {
                let severity = incidents.0.iter().find(|one| one.id == id).expect("it").severity;
                prop_assert!(!settings.is_quiet(severity, now_ms));
                sent.entry(id).or_default().push(message);
            }
            let live = incidents.live();
            for one in &live {
                let same = live.iter().filter(|other| other.subject == one.subject);
                prop_assert_eq!(same.count(), 1, "two incidents of one subject");
            }
            // A step with the same findings changes nothing.
            let again: Vec<IncidentChange> = step(&live, &judgements, &settings, now_ms);
            prop_assert!(again.is_empty(), "{again:?}");
        }
        // All is well, at noon.
        now_ms = (now_ms / (24 * 60 * MINUTE_MS) + 1) * 24 * 60 * MINUTE_MS + 12 * 60 * MINUTE_MS;
        for (id, message) in incidents.step(&[], &settings, now_ms) {
            sent.entry(id).or_default().push(message);
        }
        prop_assert!(incidents.live().is_empty());
        for one in &incidents.0 {
            let expected: &[Message] = match one.opened_notified_at_ms {
                None => &[],
                Some(_) => &[Message::Opened, Message::Closed],
            };
            prop_assert_eq!(sent.get(&one.id).map_or(&[][..], |messages| messages), expected);
        }
    }
}
