//! Steps of the wall clock: due times move with the clock.
//!
//! Times in the database are wall clock times, because they outlive the process.
//!
//! # Guarantees
//! - A step back of more than [`STEP_MIN`] moves due times earlier by as much. After a step forward, deliveries that are due by the
//!   new time are due at once.
//! - Ids grow even if the clock is set back ([`follow`](hookloom_model::ids::follow)).
//! - Deliveries are moved in transactions of a limited size, between which other writes run.
//!
//! # Limits
//! A delivery whose last attempt was recorded before the step, but at a time that the clock shows again during the move, looks like
//! one that is recorded now and is not moved.

use crate::backend::lanes::AttemptClass;
use crate::backend::upkeep::ClockStep;
use crate::background::let_others_write;
use crate::{Store, StoreError};
use hookloom_model::clock::{self, now_ms};
use hookloom_model::subscription::Subscription;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Interval at which the wall clock is compared with the monotonic one.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Smaller steps are usual corrections of a clock.
const STEP_MIN: Duration = Duration::from_secs(5);

/// Simultaneous readings of the wall clock and of the monotonic clock.
#[derive(Clone, Copy)]
struct ClockReading {
    wall_ms: i64,
    steady: Instant,
}

impl ClockReading {
    fn now() -> Self {
        ClockReading { wall_ms: now_ms(), steady: clock::instant() }
    }

    /// Returns the number of milliseconds by which the wall clock was set back since this reading. Negative if it was set forward.
    fn set_back_ms(self, now: ClockReading) -> i64 {
        let passed_ms = i64::try_from((now.steady - self.steady).as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.saturating_add(passed_ms).saturating_sub(now.wall_ms)
    }
}

impl Store {
    /// Compares the wall clock with the monotonic clock, and moves due times after a step. Never returns.
    pub async fn watch_clock(&self) {
        let mut before = ClockReading::now();
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let now = ClockReading::now();
            let back_ms = before.set_back_ms(now);
            before = now;
            let step_min_ms = i64::try_from(STEP_MIN.as_millis()).unwrap_or(i64::MAX);
            if back_ms.abs() < step_min_ms {
                continue;
            }
            let seconds = back_ms.abs() / 1_000;
            let back_ms = back_ms.max(0);
            match back_ms {
                0 => tracing::warn!(
                    seconds,
                    "the clock was set forward; deliveries that are due by it are attempted now"
                ),
                _ => tracing::warn!(seconds, "the clock was set back; due times were moved with it"),
            }
            match self.move_due(ClockStep { now_ms: now.wall_ms, back_ms }).await {
                Ok(()) | Err(StoreError::Stopped) => {}
                Err(error) => {
                    tracing::error!(error = %hookloom_model::describe(&error), "due times could not be moved; deliveries wait until the clock reaches them");
                }
            }
        }
    }

    /// Moves due times in steps, and publishes all subscriptions as changed, so that their lanes read again.
    pub(crate) async fn move_due(&self, step: ClockStep) -> Result<(), StoreError> {
        // Other hosts move the due times of theirs.
        for subscription in self.catalog().all_subscriptions().into_iter().filter(|one| self.owns(one.id)) {
            if step.back_ms > 0 {
                self.move_due_of(&subscription, AttemptClass::First, step).await?;
                self.move_due_of(&subscription, AttemptClass::Retry, step).await?;
            }
            self.state.publish_change(subscription.id);
        }
        Ok(())
    }

    async fn move_due_of(&self, of: &Subscription, class: AttemptClass, step: ClockStep) -> Result<(), StoreError> {
        // Moved deliveries come before this position, so that none is moved twice.
        let mut after = (step.now_ms, Uuid::max());
        loop {
            let moved = self.backend.move_due(&of.tenant, of.id, class, step, after).await?;
            let Some((next, took)) = moved else { return Ok(()) };
            after = next;
            let_others_write(took).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_distinguished_from_passing_time() {
        let before = ClockReading { wall_ms: 1_000_000, steady: clock::instant() };
        let after =
            |wall_ms, passed_ms| ClockReading { wall_ms, steady: before.steady + Duration::from_millis(passed_ms) };
        assert_eq!(before.set_back_ms(after(1_002_000, 2_000)), 0);
        assert_eq!(before.set_back_ms(after(402_000, 2_000)), 600_000);
        assert!(before.set_back_ms(after(9_000_000, 2_000)) < 0);
    }
}
