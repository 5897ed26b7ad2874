//! A wall clock that is set back: what waits for a moment must not wait for the whole way back again.
//!
//! Times in the database are the wall clock's, because they outlive the process. Promises: a step back of more than
//! [`STEP_MIN`] moves what is due later by as much; after a step forward what is due by then is due at once. Ids grow
//! whatever the clock does ([`follow`](crate::ids::follow)). However much is pending, it is moved in transactions of [`STEP`]
//! deliveries, between which others write.
//!
//! Limits: a delivery whose last attempt was recorded by the clock as it was before, but at a time that the clock shows again while
//! this goes on, cannot be told from one that is recorded now, and is not moved.

use super::background::let_others_write;
use super::batch::Batch;
use super::fair_queue::Owner;
use super::writer::{Terms, WriteMode};
use super::{AttemptClass, News, Store, StoreError, now_ms};
use crate::ids;
use crate::subscription::{Subscription, SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Interval at which the wall clock is compared with the monotonic one.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Smaller steps are a clock that is kept right.
const STEP_MIN: Duration = Duration::from_secs(5);

/// Maximum number of deliveries that one transaction moves.
const STEP: usize = 256;

/// A step of the clock: what it showed after it, and how far it was set back.
#[derive(Clone, Copy)]
struct ClockStep {
    now_ms: i64,
    back_ms: i64,
}

/// Simultaneous readings of the wall clock and of the monotonic clock.
#[derive(Clone, Copy)]
struct Look {
    wall_ms: i64,
    steady: Instant,
}

impl Look {
    fn now() -> Self {
        Look { wall_ms: now_ms(), steady: Instant::now() }
    }

    /// Returns the number of milliseconds by which the wall clock was set back since this reading; negative: it was set forward.
    fn set_back_ms(self, now: Look) -> i64 {
        let passed_ms = i64::try_from((now.steady - self.steady).as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.saturating_add(passed_ms).saturating_sub(now.wall_ms)
    }
}

impl Store {
    /// Watches the clock for ever.
    pub async fn keep_time(&self) {
        let mut before = Look::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Look::now();
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
                    tracing::error!(error = %crate::describe(&error), "due times could not be moved; deliveries wait until the clock reaches them");
                }
            }
        }
    }

    /// Moves what is due in steps, and lets every lane look again.
    async fn move_due(&self, step: ClockStep) -> Result<(), StoreError> {
        for subscription in self.catalog().all_subscriptions() {
            if step.back_ms > 0 {
                self.move_due_of(&subscription, AttemptClass::First, step).await?;
                self.move_due_of(&subscription, AttemptClass::Retry, step).await?;
            }
            let _ = self.news.send(News::Changed(subscription.id));
        }
        Ok(())
    }

    async fn move_due_of(&self, of: &Subscription, class: AttemptClass, step: ClockStep) -> Result<(), StoreError> {
        // What is moved comes to stand before it, and so is not moved twice.
        let mut after = (step.now_ms, Uuid::max());
        loop {
            let tenant = of.tenant.clone();
            let id = of.id;
            let read = move |connection: &Connection| later_than(connection, &tenant, id, class, after);
            let found = self.readers.read(Owner::Host, read).await?;
            let Some(last) = found.last().copied() else { return Ok(()) };
            after = last;
            let tenant = of.tenant.clone();
            let write = move |batch: &Batch<'_>| {
                let begun = Instant::now();
                // What was written since then was written by the clock as it is now.
                let sql = "UPDATE deliveries SET due_at_ms = MAX(?3, due_at_ms - ?4), age_from_ms = MIN(age_from_ms, ?3)
                           WHERE tenant = ?1 AND id = ?2 AND state = 0 AND due_at_ms > ?3 AND NOT updated_at_ms BETWEEN ?3 AND ?5";
                let mut statement = batch.prepare_cached(sql)?;
                for (_, delivery) in found {
                    statement.execute(params![&*tenant.0, delivery, step.now_ms, step.back_ms, now_ms()])?;
                }
                Ok(begun.elapsed())
            };
            let terms = Terms { owner: (&of.tenant).into(), mode: WriteMode::Shared, rows: STEP as u64 };
            let took = self.writer.write(terms, write, |_| {}).await?;
            let_others_write(took).await;
        }
    }
}

/// The next deliveries of a lane by when they are due, each with that time.
fn later_than(
    connection: &Connection,
    tenant: &TenantId,
    subscription: SubscriptionId,
    class: AttemptClass,
    (due_at_ms, id): (i64, Uuid),
) -> Result<Vec<(i64, Uuid)>, StoreError> {
    let sql = "SELECT due_at_ms, id FROM deliveries INDEXED BY deliveries_due
               WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND (attempts_made > 0) = ?3
                 AND due_at_ms >= ?4 AND (due_at_ms > ?4 OR id > ?5)
               ORDER BY due_at_ms, id LIMIT ?6";
    let mut statement = connection.prepare_cached(sql)?;
    let of = params![&*tenant.0, subscription.0, class as u8, due_at_ms, id, STEP];
    let found = statement.query_map(of, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Lets ids follow the newest that an earlier process made. Where that cannot be read they follow the clock.
pub(super) fn follow_newest(connection: &Connection) -> Result<(), StoreError> {
    for table in ["events", "deliveries"] {
        match newest(connection, table) {
            Ok(newest) => newest.into_iter().for_each(ids::follow),
            Err(error) if error.is_damage() => {
                tracing::error!(table, error = %crate::describe(&error), "the newest row cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn newest(connection: &Connection, table: &str) -> Result<Vec<Uuid>, StoreError> {
    let sql = format!("SELECT (SELECT MAX(id) FROM {table} WHERE tenant = tenants.id) FROM tenants");
    let mut statement = connection.prepare(&sql)?;
    let newest = statement.query_map([], |row| row.get::<_, Option<Uuid>>(0))?;
    Ok(newest.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_told_from_time_that_passes() {
        let before = Look { wall_ms: 1_000_000, steady: Instant::now() };
        let after = |wall_ms, passed_ms| Look { wall_ms, steady: before.steady + Duration::from_millis(passed_ms) };
        assert_eq!(before.set_back_ms(after(1_002_000, 2_000)), 0);
        assert_eq!(before.set_back_ms(after(402_000, 2_000)), 600_000);
        assert!(before.set_back_ms(after(9_000_000, 2_000)) < 0);
    }
}
