//! Tests of the decision after an attempt.

use super::*;
use crate::delivery::NoAnswer;
use proptest::prelude::*;

const NOW_MS: i64 = 1_700_000_000_000;

const DAY_MS: u64 = 86_400_000;

fn moment(attempts: u32) -> Moment {
    Moment { attempts, age_from_ms: NOW_MS, now_ms: NOW_MS, jitter: 0.0, retry_after_max_ms: DAY_MS }
}

fn status(status: u16) -> Outcome {
    Outcome::Answered { status, retry_after_ms: None, elsewhere: false }
}

fn brief(next: &Next) -> String {
    match next {
        Next::End { state, reason } => {
            format!("{} {}", state.as_str(), reason.as_ref().map_or("", |reason| &reason.code)).trim().to_owned()
        }
        Next::Again { at_ms, counts, .. } => format!("+{}{}", at_ms - NOW_MS, if *counts { "" } else { " free" }),
        Next::AwaitPlugin { .. } => "await".into(),
    }
}

#[test]
fn the_status_table() {
    #[track_caller]
    fn check(outcome: Outcome, attempts: u32, expected: &str) {
        assert_eq!(brief(&next(&RetryPolicy::default(), &outcome, moment(attempts))), expected, "{outcome:?}");
    }
    check(status(200), 1, "delivered");
    check(status(204), 10, "delivered");
    check(status(299), 1, "delivered");
    check(status(301), 1, "+5000");
    check(status(400), 1, "+5000");
    check(status(404), 2, "+300000");
    check(status(410), 1, "dead gone");
    check(Outcome::Answered { status: 410, retry_after_ms: None, elsewhere: true }, 1, "+5000");
    check(status(500), 9, "+86400000");
    check(status(500), 10, "dead attempts-exhausted");
    check(Outcome::Answered { status: 429, retry_after_ms: Some(60_000), elsewhere: false }, 1, "+60000");
    check(Outcome::Answered { status: 503, retry_after_ms: Some(1_000), elsewhere: false }, 2, "+300000");
    check(Outcome::Answered { status: 503, retry_after_ms: Some(u64::MAX), elsewhere: false }, 1, "+86400000");
    check(Outcome::Answered { status: 404, retry_after_ms: Some(u64::MAX), elsewhere: false }, 1, "+86400000");
    check(Outcome::NoAnswer { kind: NoAnswer::Timeout, detail: "t".into() }, 1, "+5000");
    fn reason() -> Reason {
        Reason::new("r", "m")
    }
    check(Outcome::Dropped(reason()), 1, "dropped r");
    check(Outcome::InvalidEvent(reason()), 1, "dead r");
    check(Outcome::Transient(reason()), 1, "+5000");
    check(Outcome::BadConfig(reason()), 1, "+5000");
    check(Outcome::PluginFault { recurs: true, reason: reason() }, 1, "await");
    check(Outcome::PluginFault { recurs: false, reason: reason() }, 1, "+5000");
    check(Outcome::HostFault(reason()), 10, "+1000 free");
    check(Outcome::Later { delay_ms: 0, reason: reason() }, 1, "+1000 free");
    check(Outcome::Later { delay_ms: 7_000, reason: reason() }, 99, "+7000 free");
    check(Outcome::Later { delay_ms: u64::MAX, reason: reason() }, 1, "+432000000 free");
}

#[test]
fn a_delivery_that_waits_for_a_plugin_ends_at_the_age_limit() {
    let fault = Outcome::PluginFault { recurs: true, reason: Reason::new("plugin-trap", "m") };
    let policy = RetryPolicy::default();
    let end_ms = age_end_ms(&policy, moment(1));
    let at = |now_ms: i64| brief(&next(&policy, &fault, Moment { now_ms, ..moment(1) }));
    assert_eq!((at(end_ms - 1).as_str(), at(end_ms).as_str()), ("await", "dead too-old"));
}

#[test]
fn a_fault_at_the_last_attempt_waits_and_the_attempt_after_it_is_the_last() {
    let fault = Outcome::PluginFault { recurs: true, reason: Reason::new("plugin-trap", "m") };
    let policy = RetryPolicy { schedule_s: vec![0], ..RetryPolicy::default() };
    assert_eq!(brief(&next(&policy, &fault, moment(1))), "await");
    assert_eq!(brief(&next(&policy, &status(500), moment(2))), "dead attempts-exhausted");
}

#[test]
fn the_default_schedule_lasts_at_least_75_hours() {
    let policy = RetryPolicy::default();
    let lasts_ms = |jitter| {
        let mut now_ms = NOW_MS;
        let mut attempts = 1;
        while let Next::Again { at_ms, .. } = next(&policy, &status(500), Moment { now_ms, jitter, ..moment(attempts) })
        {
            now_ms = at_ms;
            attempts += 1;
        }
        assert_eq!(attempts, 10);
        now_ms - NOW_MS
    };
    let standard_ms = (75 * 3_600 + 35 * 60 + 5) * 1_000;
    assert_eq!(lasts_ms(0.0), standard_ms);
    // With the maximum jitter, a tenth longer at most.
    assert!(lasts_ms(0.5) > standard_ms && lasts_ms(1.0) > lasts_ms(0.5));
    assert!(lasts_ms(1.0) <= standard_ms * 11 / 10);
}

#[test]
fn retry_after_costs_no_attempt() {
    let long = Outcome::Answered { status: 429, retry_after_ms: Some(10 * DAY_MS), elsewhere: false };
    #[track_caller]
    fn check(policy: &RetryPolicy, outcome: &Outcome, expected_attempts: u32) {
        for jitter in [0.0, 1.0] {
            let mut now_ms = NOW_MS;
            let mut attempts = 1;
            while let Next::Again { at_ms, .. } = next(policy, outcome, Moment { now_ms, jitter, ..moment(attempts) }) {
                assert!(at_ms <= age_end_ms(policy, moment(1)));
                now_ms = at_ms;
                attempts += 1;
            }
            assert_eq!(attempts, expected_attempts);
        }
    }
    check(&RetryPolicy::default(), &long, 10);
    check(&RetryPolicy { schedule_s: vec![0, 5, 5], age_max_s: 60 }, &long, 3);
    check(&RetryPolicy { schedule_s: vec![0, 0], age_max_s: 1 }, &long, 2);
    // A schedule that does not fit ends where it would without the header.
    check(&RetryPolicy { schedule_s: vec![0, 40, 40], age_max_s: 60 }, &long, 2);
    let short = RetryPolicy { schedule_s: vec![0, 5, 5], age_max_s: 60 };
    assert_eq!(brief(&next(&short, &long, moment(1))), "+51500", "60 s without a twentieth and the last entry");
}

#[test]
fn a_waiting_delivery_is_too_old_at_its_limit() {
    let policy = RetryPolicy { age_max_s: 10, ..RetryPolicy::default() };
    fn delivery(kind: DeliveryKind) -> DueDelivery {
        DueDelivery {
            settled: None,
            is_settling: false,
            id: crate::ids::DeliveryId::new(),
            tenant: crate::ids::TenantId("t".into()),
            event: crate::ids::EventId::new(),
            subscription: crate::ids::SubscriptionId::new(),
            kind,
            attempts_made: 0,
            attempts_in_budget: 0,
            age_from_ms: NOW_MS,
        }
    }
    let at = |kind, ms| too_old_by_now(&policy, &delivery(kind), NOW_MS + ms).map(|reason| reason.code);
    assert_eq!(at(DeliveryKind::Usual, 10_000), None);
    assert_eq!(at(DeliveryKind::Replay, 10_001), Some("too-old".to_owned()));
    assert_eq!(at(DeliveryKind::Test, 99_999), None);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    assert_eq!(retry_after_ms("120", NOW_MS), Some(120_000));
    assert_eq!(retry_after_ms(" 0 ", NOW_MS), Some(0));
    assert_eq!(retry_after_ms("Tue, 14 Nov 2023 22:13:30 GMT", NOW_MS), Some(10_000));
    assert_eq!(retry_after_ms("Tue, 14 Nov 2000 22:13:30 GMT", NOW_MS), Some(0));
    assert_eq!(retry_after_ms("soon", NOW_MS), None);
    assert_eq!(retry_after_ms("-1", NOW_MS), None);
}

proptest! {
    #[test]
    fn never_earlier_than_the_schedule_never_later_than_the_age_limit(
        schedule_s in proptest::collection::vec(0u64..1_000_000, 1..12),
        age_max_s in 1u64..5_000_000,
        attempts in 1u32..14,
        retry_after in any::<u64>(),
        jitter in 0.0f64..=1.0,
    ) {
        let policy = RetryPolicy { schedule_s, age_max_s };
        let answered = |retry_after_ms| Outcome::Answered { status: 503, retry_after_ms, elsewhere: false };
        let moment = Moment { jitter, ..moment(attempts) };
        match (next(&policy, &answered(None), moment), next(&policy, &answered(Some(retry_after)), moment)) {
            (Next::Again { at_ms: usual_ms, .. }, Next::Again { at_ms, .. }) => {
                prop_assert!((attempts as usize) < policy.schedule_s.len());
                prop_assert!(at_ms >= usual_ms && at_ms <= age_end_ms(&policy, moment));
                prop_assert!(at_ms <= usual_ms.max(NOW_MS + i64::try_from(retry_after.min(DAY_MS)).unwrap_or(i64::MAX)));
            }
            (Next::End { state, reason }, delayed) => {
                prop_assert_eq!(state, DeliveryState::Dead);
                prop_assert_eq!(delayed, Next::End { state, reason });
            }
            (usual, delayed) => prop_assert!(false, "{:?} became {:?}", usual, delayed),
        }
    }
}
