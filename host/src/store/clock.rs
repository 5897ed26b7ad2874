//! A wall clock that is set back: what waits for a moment must not wait for the whole way back again.
//!
//! Times in the database are the wall clock's, because they outlive the process. Promises: a step back of more than
//! [`STEP_MIN`] moves what is due later by as much; after a step forward what is due by then is due at once. Ids grow
//! whatever the clock does ([`follow`](crate::ids::follow)).

use super::batch::Batch;
use super::{Store, StoreError, now_ms};
use crate::ids;
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Smaller steps are a clock that is kept right.
const STEP_MIN: Duration = Duration::from_secs(5);

/// What the clock showed, and when by a clock that nobody sets.
#[derive(Clone, Copy)]
struct Look {
    wall_ms: i64,
    steady: Instant,
}

impl Look {
    fn now() -> Self {
        Look { wall_ms: now_ms(), steady: Instant::now() }
    }

    /// How far the clock was set back since then, in milliseconds.
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
            let (seconds, back_ms) = (back_ms.abs() / 1_000, back_ms.max(0));
            match back_ms {
                0 => tracing::warn!(
                    seconds,
                    "the clock was set forward; deliveries that are due by it are attempted now"
                ),
                _ => tracing::warn!(seconds, "the clock was set back; due times were moved with it"),
            }
            match self.move_due(now.wall_ms, back_ms).await {
                Ok(()) | Err(StoreError::Stopped) => {}
                Err(error) => {
                    tracing::error!(error = %crate::describe(&error), "due times could not be moved; deliveries wait until the clock reaches them");
                }
            }
        }
    }

    /// Moves what is due, and lets every lane look again.
    async fn move_due(&self, now_ms: i64, back_ms: i64) -> Result<(), StoreError> {
        for tenant in self.catalog().tenants() {
            let owner = tenant.id.clone();
            let lanes = self.catalog().subscriptions(&tenant.id).iter().map(|one| one.id).collect();
            let write = move |batch: &Batch<'_>| {
                let sql =
                    "UPDATE deliveries SET due_at_ms = MAX(?2, due_at_ms - ?3), age_from_ms = MIN(age_from_ms, ?2)
                           WHERE tenant = ?1 AND state = 0 AND due_at_ms > ?2";
                Ok(batch.execute(sql, params![&*tenant.id.0, now_ms, back_ms]).map(drop)?)
            };
            self.change_of(&owner, lanes, write, |_, ()| {}).await?;
        }
        Ok(())
    }
}

/// Lets ids follow the newest that an earlier process made.
pub(super) fn follow_newest(connection: &Connection) -> Result<(), StoreError> {
    for table in ["events", "deliveries"] {
        let sql = format!("SELECT (SELECT MAX(id) FROM {table} WHERE tenant = tenants.id) FROM tenants");
        let mut statement = connection.prepare(&sql)?;
        let newest = statement.query_map([], |row| row.get::<_, Option<Uuid>>(0))?;
        for id in newest {
            id?.into_iter().for_each(ids::follow);
        }
    }
    Ok(())
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
