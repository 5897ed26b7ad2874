//! The rule for what follows an attempt: delivered, again at a time, dead, and whether the subscription goes on.
//!
//! Pure: time and jitter are passed in. Promises: a schedule of n entries gives at most n attempts; no attempt comes
//! later than the age limit; `Retry-After` only ever makes the next attempt later.
//!
//! Source: Standard Webhooks, "Deliverability and reliability": exponential over days with jitter, 2xx succeeds, 3xx
//! fails, 410 disables the endpoint, 429, 502 and 504 throttle, `Retry-After` is honoured.

use crate::delivery::{DeliveryKind, DeliveryState, DueDelivery, Outcome, Reason};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When a delivery is attempted again, and when it is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Seconds to wait before each attempt; the first entry is before the first one, and is 0 as a rule.
    pub schedule_s: Vec<u64>,
    /// A delivery older than this, in seconds, gets no further attempt.
    pub age_max_s: u64,
}

/// The example schedule of the specification: ten attempts, the last after 75 h 35 min 5 s.
const STANDARD_SCHEDULE_S: [u64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// At most this share is added to each wait, so that receivers which failed together are not retried together.
const JITTER: f64 = 0.1;

/// How long a delivery waits when the host could not run its plugin.
const HOST_FAULT_WAIT_MS: u64 = 5_000;

/// The shortest wait that a plugin can ask for with `later`.
const LATER_MS_MIN: u64 = 1_000;

impl Default for RetryPolicy {
    fn default() -> Self {
        // Five days leave room for the whole schedule with its jitter.
        RetryPolicy { schedule_s: STANDARD_SCHEDULE_S.to_vec(), age_max_s: 5 * 86_400 }
    }
}

impl RetryPolicy {
    /// How long a delivery waits before its first attempt, in milliseconds: not at all, as a rule.
    pub fn first_wait_ms(&self) -> i64 {
        let wait_s = self.schedule_s.first().copied().unwrap_or(0);
        i64::try_from(wait_s).unwrap_or(i64::MAX).saturating_mul(1_000)
    }

    /// What is wrong with the policy, if anything.
    pub fn check(&self) -> Result<(), String> {
        match self {
            _ if self.schedule_s.is_empty() => {
                Err("schedule_s is empty; one entry is one attempt, [0] is at once".into())
            }
            _ if self.schedule_s.len() > 100 => Err("schedule_s has more than 100 entries".into()),
            _ if self.schedule_s.iter().any(|wait| *wait > 30 * 86_400) => {
                Err("schedule_s has a wait over 30 days".into())
            }
            _ if self.age_max_s == 0 || self.age_max_s > 60 * 86_400 => {
                Err("age_max_s is not within 1 and 60 days of seconds".into())
            }
            _ => Ok(()),
        }
    }
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The delivery is at its end.
    End {
        /// How it ended.
        state: DeliveryState,
        /// Why, unless it was delivered.
        reason: Option<Reason>,
    },
    /// It is attempted again, not before `at_ms`.
    Again {
        /// Milliseconds since the epoch.
        at_ms: i64,
        /// Whether the try that just ended counts as an attempt of the schedule.
        counts: bool,
        /// Why.
        reason: Reason,
    },
    /// It waits for another plugin version or config, until its age limit.
    AwaitPlugin {
        /// What the plugin did.
        reason: Reason,
    },
}

/// Everything the rule looks at, beside the policy and the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Attempts made in this budget, this one included.
    pub attempts: u32,
    /// When the delivery's age began, in milliseconds since the epoch.
    pub age_from_ms: i64,
    /// Now, in milliseconds since the epoch.
    pub now_ms: i64,
    /// A random number from 0 to 1.
    pub jitter: f64,
}

/// Whether an outcome means that the receiver wants no more webhooks at all (410 Gone).
pub fn disables_subscription(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered { status: 410, elsewhere: false, .. })
}

/// Decides what follows an attempt.
pub fn next(policy: &RetryPolicy, outcome: &Outcome, moment: Moment) -> Next {
    match outcome {
        Outcome::Answered { status: 200..=299, .. } => Next::End { state: DeliveryState::Delivered, reason: None },
        Outcome::Answered { status: 410, elsewhere: false, .. } => {
            dead(Reason::new("gone", "the receiver answered 410 Gone, so the subscription is disabled"))
        }
        Outcome::Answered { status, retry_after_ms, .. } => {
            again(policy, moment, retry_after_ms.unwrap_or(0), answered(*status))
        }
        Outcome::NoAnswer { kind, detail } => again(policy, moment, 0, Reason::new(kind.as_str(), detail.clone())),
        Outcome::Dropped(reason) => Next::End { state: DeliveryState::Dropped, reason: Some(reason.clone()) },
        Outcome::InvalidEvent(reason) => dead(reason.clone()),
        Outcome::Transient(reason) | Outcome::BadConfig(reason) | Outcome::PluginFault { recurs: false, reason } => {
            again(policy, moment, 0, reason.clone())
        }
        Outcome::PluginFault { recurs: true, reason } if moment.now_ms >= age_end_ms(policy, moment) => {
            too_old(policy, reason)
        }
        Outcome::PluginFault { recurs: true, reason } => Next::AwaitPlugin { reason: reason.clone() },
        Outcome::Later { delay_ms, reason } => later(policy, moment, *delay_ms, reason),
        Outcome::HostFault(reason) => later(policy, moment, HOST_FAULT_WAIT_MS, reason),
    }
}

/// What follows an attempt that is the only one: a test's.
pub fn once(next: Next) -> Next {
    match next {
        Next::Again { reason, .. } | Next::AwaitPlugin { reason } => dead(reason),
        end => end,
    }
}

fn dead(reason: Reason) -> Next {
    Next::End { state: DeliveryState::Dead, reason: Some(reason) }
}

fn answered(status: u16) -> Reason {
    let message = match status {
        300..=399 => format!("the receiver answered {status}: redirects are not followed, update the Notify URL"),
        429 | 502 | 504 => format!("the receiver answered {status}: it wants fewer requests"),
        _ => format!("the receiver answered {status}"),
    };
    Reason::new("status", message)
}

/// The next entry of the schedule with its jitter, but not before the receiver's wish, and not after the age limit.
fn again(policy: &RetryPolicy, moment: Moment, at_least_ms: u64, reason: Reason) -> Next {
    let Some(wait_s) = policy.schedule_s.get(moment.attempts as usize) else {
        return dead(Reason::new(
            "attempts-exhausted",
            format!("{} attempts failed; the last: {}", moment.attempts, reason.message),
        ));
    };
    let wait_ms = wait_s.saturating_mul(1_000);
    let jitter_ms = (wait_ms as f64 * JITTER * moment.jitter.clamp(0.0, 1.0)) as u64;
    let at_ms = after(moment.now_ms, (wait_ms + jitter_ms).max(at_least_ms));
    match at_ms > age_end_ms(policy, moment) {
        true => too_old(policy, &reason),
        false => Next::Again { at_ms, counts: true, reason },
    }
}

/// A plugin's wish does not use up attempts; only the age limit bounds it, to which the last wait is shortened.
fn later(policy: &RetryPolicy, moment: Moment, delay_ms: u64, reason: &Reason) -> Next {
    let end_ms = age_end_ms(policy, moment);
    if moment.now_ms >= end_ms {
        return too_old(policy, reason);
    }
    let at_ms = after(moment.now_ms, delay_ms.max(LATER_MS_MIN)).min(end_ms);
    Next::Again { at_ms, counts: false, reason: reason.clone() }
}

fn too_old(policy: &RetryPolicy, reason: &Reason) -> Next {
    dead(Reason::new(
        "too-old",
        format!("the age limit of {} s is reached; the last: {}", policy.age_max_s, reason.message),
    ))
}

/// Why a delivery that waits for its turn gets none any more: it is past its age limit. A test has no age.
pub fn too_old_by_now(policy: &RetryPolicy, delivery: &DueDelivery, now_ms: i64) -> Option<Reason> {
    let end_ms = after(delivery.age_from_ms, policy.age_max_s.saturating_mul(1_000));
    let waited =
        || Reason::new("too-old", format!("the age limit of {} s was reached while it waited", policy.age_max_s));
    (delivery.kind != DeliveryKind::Test && now_ms > end_ms).then(waited)
}

/// The end of the delivery's life, in milliseconds since the epoch.
pub fn age_end_ms(policy: &RetryPolicy, moment: Moment) -> i64 {
    after(moment.age_from_ms, policy.age_max_s.saturating_mul(1_000))
}

fn after(start_ms: i64, wait_ms: u64) -> i64 {
    start_ms.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX))
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP date. What it does not understand is no wish.
pub fn retry_after_ms(value: &str, now_ms: i64) -> Option<u64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date_ms = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    Some(u64::try_from(date_ms).ok()?.saturating_sub(u64::try_from(now_ms).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::NoAnswer;
    use proptest::prelude::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn moment(attempts: u32) -> Moment {
        Moment { attempts, age_from_ms: NOW_MS, now_ms: NOW_MS, jitter: 0.0 }
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
        check(Outcome::Answered { status: 503, retry_after_ms: Some(u64::MAX), elsewhere: false }, 1, "dead too-old");
        check(Outcome::NoAnswer { kind: NoAnswer::Timeout, detail: "t".into() }, 1, "+5000");
        let reason = || Reason::new("r", "m");
        check(Outcome::Dropped(reason()), 1, "dropped r");
        check(Outcome::InvalidEvent(reason()), 1, "dead r");
        check(Outcome::Transient(reason()), 1, "+5000");
        check(Outcome::BadConfig(reason()), 1, "+5000");
        check(Outcome::PluginFault { recurs: true, reason: reason() }, 1, "await");
        check(Outcome::PluginFault { recurs: false, reason: reason() }, 1, "+5000");
        check(Outcome::HostFault(reason()), 10, "+5000 free");
        check(Outcome::Later { delay_ms: 0, reason: reason() }, 1, "+1000 free");
        check(Outcome::Later { delay_ms: 7_000, reason: reason() }, 99, "+7000 free");
        check(Outcome::Later { delay_ms: u64::MAX, reason: reason() }, 1, "+432000000 free");
    }

    #[test]
    fn what_waits_for_a_plugin_ends_at_the_age_limit() {
        let fault = Outcome::PluginFault { recurs: true, reason: Reason::new("plugin-trap", "m") };
        let policy = RetryPolicy::default();
        let end_ms = age_end_ms(&policy, moment(1));
        let at = |now_ms: i64| brief(&next(&policy, &fault, Moment { now_ms, ..moment(1) }));
        assert_eq!((at(end_ms - 1).as_str(), at(end_ms).as_str()), ("await", "dead too-old"));
    }

    #[test]
    fn the_default_schedule_lasts_at_least_75_hours() {
        let policy = RetryPolicy::default();
        let lasts_ms = |jitter| {
            let (mut now_ms, mut attempts) = (NOW_MS, 1);
            while let Next::Again { at_ms, .. } =
                next(&policy, &status(500), Moment { attempts, age_from_ms: NOW_MS, now_ms, jitter })
            {
                now_ms = at_ms;
                attempts += 1;
            }
            assert_eq!(attempts, 10);
            now_ms - NOW_MS
        };
        let standard_ms = (75 * 3_600 + 35 * 60 + 5) * 1_000;
        assert_eq!(lasts_ms(0.0), standard_ms);
        // With the most jitter a tenth more, and no more than that.
        assert!(lasts_ms(0.5) > standard_ms && lasts_ms(1.0) > lasts_ms(0.5));
        assert!(lasts_ms(1.0) <= standard_ms * 11 / 10);
    }

    #[test]
    fn what_waits_is_too_old_at_its_limit() {
        let policy = RetryPolicy { age_max_s: 10, ..RetryPolicy::default() };
        let delivery = |kind| DueDelivery {
            id: crate::ids::DeliveryId::new(),
            tenant: crate::ids::TenantId("t".into()),
            event: crate::ids::EventId::new(),
            subscription: crate::ids::SubscriptionId::new(),
            kind,
            attempts_made: 0,
            attempts_in_budget: 0,
            age_from_ms: NOW_MS,
        };
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
        fn never_earlier_than_now_never_later_than_the_age_limit(
            schedule_s in proptest::collection::vec(0u64..1_000_000, 1..12),
            age_max_s in 1u64..5_000_000,
            attempts in 1u32..14,
            wish in proptest::option::of(any::<u64>()),
            jitter in 0.0f64..=1.0,
        ) {
            let policy = RetryPolicy { schedule_s, age_max_s };
            let outcome = Outcome::Answered { status: 503, retry_after_ms: wish, elsewhere: false };
            let moment = Moment { attempts, age_from_ms: NOW_MS, now_ms: NOW_MS, jitter };
            match next(&policy, &outcome, moment) {
                Next::Again { at_ms, .. } => {
                    prop_assert!((attempts as usize) < policy.schedule_s.len());
                    prop_assert!(at_ms >= NOW_MS + i64::try_from(wish.unwrap_or(0)).unwrap_or(i64::MAX - NOW_MS));
                    prop_assert!(at_ms <= age_end_ms(&policy, moment));
                }
                Next::End { state, .. } => prop_assert_eq!(state, DeliveryState::Dead),
                Next::AwaitPlugin { .. } => prop_assert!(false, "an answer never waits for a plugin"),
            }
        }
    }
}
