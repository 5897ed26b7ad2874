//! Steps of the wall clock: due times move with the clock.
//!
//! Times in the database are wall clock times, because they outlive the process.
//!
//! # Guarantees
//! - A step back of more than [`STEP_MIN`] moves due times earlier by as much. After a step forward, deliveries that are due by the
//!   new time are due at once.
//! - Ids grow even if the clock is set back ([`follow`](hookloom_model::ids::follow)).
//! - Deliveries are moved in transactions of [`STEP`], between which other writes run.
//!
//! # Limits
//! A delivery whose last attempt was recorded before the step, but at a time that the clock shows again during the move, looks like
//! one that is recorded now and is not moved.

use super::background::let_others_write;
use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::writer::Terms;
use super::{AttemptClass, Store, StoreError, StoreEvent};
use hookloom_model::clock::{self, now_ms};
use hookloom_model::ids;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Interval at which the wall clock is compared with the monotonic one.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Smaller steps are usual corrections of a clock.
const STEP_MIN: Duration = Duration::from_secs(5);

/// Maximum number of deliveries that one transaction moves.
const STEP: usize = 256;

/// Step of the clock: the time after the step, and by how much the clock was set back.
#[derive(Clone, Copy)]
struct ClockStep {
    now_ms: i64,
    back_ms: i64,
}

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
    async fn move_due(&self, step: ClockStep) -> Result<(), StoreError> {
        for subscription in self.catalog().all_subscriptions() {
            if step.back_ms > 0 {
                self.move_due_of(&subscription, AttemptClass::First, step).await?;
                self.move_due_of(&subscription, AttemptClass::Retry, step).await?;
            }
            let _ = self.store_events.send(StoreEvent::Changed(subscription.id));
        }
        Ok(())
    }

    async fn move_due_of(&self, of: &Subscription, class: AttemptClass, step: ClockStep) -> Result<(), StoreError> {
        // Moved deliveries come before this position, so that none is moved twice.
        let mut after = (step.now_ms, Uuid::max());
        loop {
            let tenant = of.tenant.clone();
            let id = of.id;
            let read = move |connection: &Connection| later_than(connection, &tenant, id, class, after);
            let found = self.readers.read(Owner::Host, read).await?;
            let Some(last) = found.last().copied() else { return Ok(()) };
            after = last;
            let tenant = of.tenant.clone();
            let write = move |tx: &AdminTx<'_, '_>| {
                let begun = clock::instant();
                // Rows written since the step have times of the corrected clock.
                let sql = "UPDATE deliveries SET due_at_ms = MAX(?3, due_at_ms - ?4), age_from_ms = MIN(age_from_ms, ?3)
                           WHERE tenant = ?1 AND id = ?2 AND state = 0 AND due_at_ms > ?3 AND NOT updated_at_ms BETWEEN ?3 AND ?5";
                let mut statement = tx.prepare_cached(sql)?;
                for (_, delivery) in found {
                    statement.execute(params![&*tenant.0, delivery, step.now_ms, step.back_ms, now_ms()])?;
                }
                Ok(clock::since(begun))
            };
            let terms = Terms { owner: (&of.tenant).into(), rows: STEP as u64 };
            let took = self.writer.write(terms, write, |_| {}).await?;
            let_others_write(took).await;
        }
    }
}

/// Returns the next deliveries of a lane by due time, each with its due time.
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

/// Tables whose rows are listed and pruned in the order of their ids, and the statements that find their newest ids by an index.
const NEWEST: [(&str, &str); 5] = [
    ("events", "SELECT (SELECT MAX(id) FROM events WHERE tenant = tenants.id) FROM tenants"),
    ("deliveries", "SELECT (SELECT MAX(id) FROM deliveries WHERE tenant = tenants.id) FROM tenants"),
    ("rejected_requests", "SELECT (SELECT MAX(id) FROM rejected_requests WHERE tenant = tenants.id) FROM tenants"),
    ("bin_requests", "SELECT (SELECT MAX(id) FROM bin_requests WHERE bin = bins.id) FROM bins"),
    // The changes of the host itself have the tenant ''.
    (
        "changes",
        "SELECT (SELECT MAX(id) FROM changes WHERE tenant = owners.id)
         FROM (SELECT id FROM tenants UNION ALL SELECT '' AS id) AS owners",
    ),
];

/// Sets the minimum of new ids to the newest stored id. If it cannot be read, ids follow the clock.
pub(super) fn follow_newest(connection: &Connection) -> Result<(), StoreError> {
    for (table, sql) in NEWEST {
        match newest(connection, sql) {
            Ok(newest) => newest.into_iter().for_each(ids::follow),
            Err(error) if error.is_damage() => {
                tracing::error!(table, error = %hookloom_model::describe(&error), "the newest row cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn newest(connection: &Connection, sql: &str) -> Result<Vec<Uuid>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let newest = statement.query_map([], |row| row.get::<_, Option<Uuid>>(0))?;
    Ok(newest.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn new_ids_follow_every_kind_of_row_that_is_ordered_by_its_id() {
        let mut connection = Connection::open_in_memory().expect("a database");
        schema::migrate(&mut connection).expect("the schema");
        let ids: Vec<Uuid> = (0..NEWEST.len() + 1).map(|_| ids::new_uuid()).collect();
        let insert = |sql: &str, id: &Uuid| {
            connection.execute(sql, [id]).unwrap_or_else(|error| panic!("{sql}: {error}"));
        };
        let columns = "'t', ?1, 0, '', 0, x''";
        connection
            .execute("INSERT INTO tenants (id, extra_event_names, created_at_ms) VALUES ('t', '{}', 0)", [])
            .expect("a tenant");
        connection
            .execute("INSERT INTO bins (id, tenant, settings, created_at_ms) VALUES ('b', 't', '{}', 0)", [])
            .expect("a bin");
        insert(
            "INSERT INTO events (tenant, id, name, module, received_at_ms, payload, fan_out) VALUES ('t', ?1, 'n', 'Contact', 0, x'', 1)",
            &ids[0],
        );
        insert(
            "INSERT INTO deliveries (tenant, id, event, subscription, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms) VALUES ('t', ?1, x'', x'', 1, 0, 0, 0, 0)",
            &ids[1],
        );
        insert(&format!("INSERT INTO rejected_requests VALUES ({columns})"), &ids[2]);
        insert("INSERT INTO bin_requests VALUES ('b', ?1, 0, '{}', x'')", &ids[3]);
        insert(
            "INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('t', ?1, 0, '', '', '')",
            &ids[4],
        );
        insert("INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('', ?1, 0, '', '', '')", &ids[5]);
        let mut found: Vec<Uuid> = NEWEST.iter().flat_map(|(_, sql)| newest(&connection, sql).expect("ids")).collect();
        found.sort();
        assert_eq!(found, ids);
    }

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
