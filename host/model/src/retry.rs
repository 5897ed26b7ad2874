//! Decision after an attempt: delivered, another attempt at a time, dead, and whether the subscription is disabled.
//!
//! # Guarantees
//! - A schedule of n entries gives at most n attempts, and none after the age limit. Only a delivery that has waited for another plugin
//!   version or config gets an attempt without an entry of the schedule, when that comes.
//! - `Retry-After` only delays the next attempt, and never costs the schedule an attempt.
//!
//! Pure: time and jitter are arguments.
//!
//! Source: Standard Webhooks, "Deliverability and reliability": exponential over days with jitter, 2xx succeeds, 3xx fails, 410
//! disables the endpoint, 429, 502 and 504 throttle, `Retry-After` is honoured.

use crate::delivery::{DeliveryKind, DeliveryState, DueDelivery, Outcome, Reason};
use crate::plural::counted;
use serde::{Deserialize, Serialize};

/// Retry schedule of a delivery, with its age limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Delay before each attempt, in seconds. The first entry, usually 0, is the delay before the first attempt.
    pub schedule_s: Vec<u64>,
    /// Maximum age of a delivery at an attempt, in seconds.
    pub age_max_s: u64,
}

/// Example schedule of the specification: ten attempts, the last after 75 h 35 min 5 s.
const STANDARD_SCHEDULE_S: [u64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// Maximum share that is added to each delay, so that receivers which failed together are not retried together.
const JITTER: f64 = 0.1;

/// Divisor of the age limit that is left after an attempt delayed by `Retry-After`, because the attempt may wait for its lane.
const AGE_RESERVE_DIVISOR: u64 = 20;

/// Delay of a delivery whose plugin the host could not run, or whose request it could not send. Its lane is delayed as well, longer
/// each time.
const HOST_FAULT_WAIT_MS: u64 = 1_000;

/// Minimum delay of a plugin's `later`, in milliseconds.
const LATER_MS_MIN: u64 = 1_000;

impl Default for RetryPolicy {
    fn default() -> Self {
        // Five days are sufficient for the whole schedule with its jitter.
        RetryPolicy { schedule_s: STANDARD_SCHEDULE_S.to_vec(), age_max_s: 5 * 86_400 }
    }
}

impl RetryPolicy {
    /// Returns the delay before the first attempt, in milliseconds; usually 0.
    pub fn first_wait_ms(&self) -> i64 {
        let wait_s = self.schedule_s.first().copied().unwrap_or(0);
        i64::try_from(wait_s).unwrap_or(i64::MAX).saturating_mul(1_000)
    }

    /// Validates the policy, and returns its first fault.
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
                Err("age_max_s is 1 to 5184000 (60 days)".into())
            }
            _ => Ok(()),
        }
    }
}

/// Decision after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The delivery has ended.
    End {
        /// Final state.
        state: DeliveryState,
        /// Reason, unless the delivery succeeded.
        reason: Option<Reason>,
    },
    /// The delivery is attempted again, not before `at_ms`.
    Again {
        /// Milliseconds since the epoch.
        at_ms: i64,
        /// True if the attempt that just ended counts against the schedule.
        counts: bool,
        /// Reason of the delay.
        reason: Reason,
    },
    /// The delivery waits for another plugin version or config, until its age limit.
    AwaitPlugin {
        /// Failure of the plugin.
        reason: Reason,
    },
}

/// Inputs of the decision, besides the policy and the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Number of attempts in this budget, including this one.
    pub attempts: u32,
    /// Beginning of the delivery's age, in milliseconds since the epoch.
    pub age_from_ms: i64,
    /// Present time, in milliseconds since the epoch.
    pub now_ms: i64,
    /// Random number from 0 to 1.
    pub jitter: f64,
    /// Maximum delay by `Retry-After`, in milliseconds.
    pub retry_after_max_ms: u64,
}

/// Returns true if an outcome means that the receiver wants no more webhooks (410 Gone).
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

/// Returns the decision for a delivery with a single attempt: a test's.
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
        429 | 502 | 504 => format!("the receiver answered {status}: it asks for fewer requests"),
        _ => format!("the receiver answered {status}"),
    };
    Reason::new("status", message)
}

/// Returns the next entry of the schedule with its jitter, or a later time if the receiver asks for it and the schedule allows it.
fn again(policy: &RetryPolicy, moment: Moment, retry_after_ms: u64, reason: Reason) -> Next {
    let Some(wait_s) = policy.schedule_s.get(moment.attempts as usize) else {
        return dead(Reason::new(
            "attempts-exhausted",
            format!(
                "{} failed; the last one: {}",
                counted(moment.attempts.into(), "attempt", "attempts"),
                reason.message
            ),
        ));
    };
    let wait_ms = wait_s.saturating_mul(1_000);
    let jitter_ms = (wait_ms as f64 * JITTER * moment.jitter.clamp(0.0, 1.0)) as u64;
    let delay_ms = retry_after_ms.min(moment.retry_after_max_ms).min(retry_after_room_ms(policy, moment));
    let at_ms = after(moment.now_ms, (wait_ms + jitter_ms).max(delay_ms));
    if at_ms > age_end_ms(policy, moment) {
        return too_old(policy, &reason);
    }
    Next::Again { at_ms, counts: true, reason }
}

/// Returns the longest delay after which every further entry of the schedule still fits into the age limit, in milliseconds.
fn retry_after_room_ms(policy: &RetryPolicy, moment: Moment) -> u64 {
    let left_ms = u64::try_from(age_end_ms(policy, moment).saturating_sub(moment.now_ms)).unwrap_or(0);
    let reserve_ms = policy.age_max_s.saturating_mul(1_000) / AGE_RESERVE_DIVISOR;
    let further_s = policy
        .schedule_s
        .iter()
        .skip(moment.attempts as usize + 1)
        .fold(0, |sum: u64, wait_s| sum.saturating_add(*wait_s));
    let further_ms = (further_s as f64 * 1_000.0 * (1.0 + JITTER)) as u64;
    left_ms.saturating_sub(reserve_ms).saturating_sub(further_ms)
}

/// Returns the delay that a plugin asks for, which costs no attempt. Only the age limit bounds it, to which the last delay is
/// shortened.
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
        format!("the age limit of {} s was reached; the last attempt: {}", policy.age_max_s, reason.message),
    ))
}

/// Returns the reason to end a waiting delivery that is past its age limit. A test has no age limit.
pub fn too_old_by_now(policy: &RetryPolicy, delivery: &DueDelivery, now_ms: i64) -> Option<Reason> {
    let end_ms = after(delivery.age_from_ms, policy.age_max_s.saturating_mul(1_000));
    let waited =
        || Reason::new("too-old", format!("the age limit of {} s was reached while it waited", policy.age_max_s));
    (delivery.kind != DeliveryKind::Test && now_ms > end_ms).then(waited)
}

/// Returns the time at which the delivery reaches its age limit, in milliseconds since the epoch.
pub fn age_end_ms(policy: &RetryPolicy, moment: Moment) -> i64 {
    after(moment.age_from_ms, policy.age_max_s.saturating_mul(1_000))
}

fn after(start_ms: i64, wait_ms: u64) -> i64 {
    start_ms.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX))
}

/// Parses `Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP date. Other values are ignored.
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
mod tests;
