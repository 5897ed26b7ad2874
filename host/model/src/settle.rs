//! Settling: events of one contact or deal that follow each other quickly are delivered once, with the latest state.
//!
//! # Guarantees
//! - The delivery of a burst is due at the latest [`Settle::max_wait_s`] after its first event, however often others follow.
//!
//! Pure: time is an argument. The store decides which delivery waits, and supersedes it.

use crate::ids::EventId;
use serde::{Deserialize, Serialize};

/// Settling of a subscription: events of one contact or deal that follow each other within the quiet time are delivered once, with the
/// latest state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Time without another event of the contact or deal after which its last event is delivered, in seconds: 1 to 3,600.
    pub quiet_s: u32,
    /// Maximum time from the first event of a burst until its delivery is due, in seconds: `quiet_s` to 86,400.
    pub max_wait_s: u32,
    /// Event of a burst that is delivered.
    #[serde(default)]
    pub keep: SettleKeep,
}

/// Event of a burst that is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SettleKeep {
    /// The last one, which has the latest state.
    #[default]
    Last,
}

/// Longest quiet time, in seconds.
const QUIET_S_MAX: u32 = 3_600;

/// Longest wait from the first event, in seconds.
const MAX_WAIT_S_MAX: u32 = 86_400;

/// Value of a [`Settle`] that is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleFault {
    /// Name of the field.
    pub field: &'static str,
    /// Sentence for people.
    pub detail: &'static str,
}

/// Times of a delivery that settles, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleTimes {
    /// Time at which the delivery is due if no other event follows.
    pub due_at_ms: i64,
    /// Latest due time of the burst.
    pub until_ms: i64,
}

impl Settle {
    /// Validates the values, and returns the first fault.
    pub fn check(&self) -> Result<(), SettleFault> {
        if !(1..=QUIET_S_MAX).contains(&self.quiet_s) {
            return Err(SettleFault { field: "quiet_s", detail: "a quiet time is 1 to 3600 s" });
        }
        if !(self.quiet_s..=MAX_WAIT_S_MAX).contains(&self.max_wait_s) {
            return Err(SettleFault { field: "max_wait_s", detail: "the longest wait is quiet_s to 86400 s" });
        }
        Ok(())
    }

    /// Returns the times of the delivery of a burst's first event.
    pub fn times(&self, now_ms: i64) -> SettleTimes {
        let due_at_ms = now_ms.saturating_add(i64::from(self.quiet_s) * 1_000);
        SettleTimes { due_at_ms, until_ms: now_ms.saturating_add(i64::from(self.max_wait_s) * 1_000) }
    }
}

impl SettleTimes {
    /// Returns the times of a delivery that follows one of the same burst, whose latest due time it inherits. So it is due at once if
    /// that time has passed, because the subscription was paused for example.
    pub fn following(self, until_ms: i64) -> SettleTimes {
        let until_ms = until_ms.min(self.until_ms);
        SettleTimes { due_at_ms: self.due_at_ms.min(until_ms), until_ms }
    }
}

/// Events that the delivery of a burst stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledEvents {
    /// Number of events, with the one that is delivered.
    pub count: u64,
    /// First event of the burst.
    pub first: EventId,
}

impl SettledEvents {
    /// Returns the events of a burst that begins with an event.
    pub fn of_first(event: EventId) -> Self {
        SettledEvents { count: 1, first: event }
    }

    /// Returns the events of two deliveries, of which one supersedes the other.
    pub fn and(self, other: SettledEvents) -> Self {
        SettledEvents { count: self.count + other.count, first: self.first.min(other.first) }
    }

    /// Time at which the first event was accepted, in milliseconds since the epoch.
    pub fn since_ms(&self) -> i64 {
        self.first.made_at_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn settle(quiet_s: u32, max_wait_s: u32) -> Settle {
        Settle { quiet_s, max_wait_s, keep: SettleKeep::Last }
    }

    #[track_caller]
    fn check(quiet_s: u32, max_wait_s: u32, expected: Option<&str>) {
        assert_eq!(settle(quiet_s, max_wait_s).check().err().map(|fault| fault.field), expected);
    }

    #[test]
    fn ranges() {
        check(1, 1, None);
        check(10, 60, None);
        check(3_600, 86_400, None);
        check(0, 60, Some("quiet_s"));
        check(3_601, 86_400, Some("quiet_s"));
        check(10, 9, Some("max_wait_s"));
        check(10, 86_401, Some("max_wait_s"));
    }

    #[test]
    fn only_the_last_event_can_be_kept() {
        fn read(text: &str) -> serde_json::Result<Settle> {
            serde_json::from_str(text)
        }
        assert_eq!(read(r#"{"quiet_s": 10, "max_wait_s": 60}"#).expect("the default"), settle(10, 60));
        assert_eq!(read(r#"{"quiet_s": 10, "max_wait_s": 60, "keep": "last"}"#).expect("named"), settle(10, 60));
        assert!(read(r#"{"quiet_s": 10, "max_wait_s": 60, "keep": "first"}"#).is_err());
        assert!(read(r#"{"quiet_s": 10, "max_wait_s": 60, "other": 1}"#).is_err());
    }

    #[test]
    fn events_of_two_deliveries_are_added() {
        let [one, two] = [1, 2].map(|id| EventId(Uuid::from_u128(id)));
        let both = SettledEvents { count: 3, first: one };
        assert_eq!(SettledEvents::of_first(two).and(SettledEvents { count: 2, first: one }), both);
        assert_eq!(SettledEvents { count: 2, first: one }.and(SettledEvents::of_first(two)), both);
    }

    proptest! {
        #[test]
        fn a_burst_is_due_at_the_latest_after_its_longest_wait(
            quiet_s in 1_u32..100, more_s in 0_u32..100, gaps_ms in proptest::collection::vec(0_i64..50_000, 0..20),
        ) {
            let settle = settle(quiet_s, quiet_s + more_s);
            let mut now_ms = 1_000_000;
            let first = settle.times(now_ms);
            let mut times = first;
            for gap_ms in gaps_ms {
                now_ms += gap_ms;
                times = settle.times(now_ms).following(times.until_ms);
                prop_assert_eq!(times.until_ms, first.until_ms);
                prop_assert_eq!(times.due_at_ms, first.until_ms.min(now_ms + i64::from(quiet_s) * 1_000));
            }
            prop_assert!(times.due_at_ms <= times.until_ms);
        }
    }
}
