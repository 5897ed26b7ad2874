//! Numbers of pending deliveries by subscription, and the oldest of them.
//!
//! # Guarantees
//! - The numbers are those of the last commit. They are counted from the index when the store opens, and then changed by each write
//!   that makes or ends deliveries. A write that is undone changes nothing.
//! - Neither the writer nor pages nor metrics read a backlog to know its size.
//!
//! # Limits
//! The oldest delivery is exact among deliveries that have been attempted. The others become due in the order in which they were
//! made, so the oldest is searched among the first [`FIRST`] that are due. An older delivery can be behind them, until it is due,
//! only if an edit has just shortened the initial delay, the host has put deliveries off, or the subscription settles bursts, of which one
//! that lasts is due before a later one.

use super::Sqlite;
use super::damage::Damage;
use crate::StoreError;
use crate::backend::deliveries::BacklogBackend;
use crate::fair_queue::Owner;
use crate::pending_counts::{Counts, PendingCounts};
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use uuid::Uuid;

/// Number of deliveries without an attempt that are searched for the oldest.
const FIRST: usize = 64;

/// Oldest of the first deliveries in the index of due deliveries, which begins with deliveries without an attempt, by due time. A
/// condition on that column would read the table, and would fail on a damaged page of the table.
const OLDEST_OF_FIRST: &str = "SELECT MIN(id) FROM (SELECT id FROM deliveries INDEXED BY deliveries_due
     WHERE tenant = ?1 AND subscription = ?2 AND state = 0 LIMIT ?3)";

/// Oldest of the deliveries that have been attempted.
const OLDEST_OF_RETRIED: &str = "SELECT MIN(id) FROM deliveries INDEXED BY deliveries_retried
     WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin = ?3";

/// Counts the pending deliveries of a database. If the index cannot be read to its end, counts what precedes the damage; the repair
/// of the index counts again.
pub(super) fn count_pending(connection: &Connection, damage: &Damage) -> PendingCounts {
    let mut counts = Counts::new();
    if let Err(error) = count_all(connection, &mut counts) {
        tracing::error!(error = %hookloom_model::describe(&error), "pending deliveries could not all be counted");
        damage.note(&error);
    }
    PendingCounts::of_counts(counts)
}

/// Counts group by group, so that a group that cannot be read does not affect those before it.
fn count_all(connection: &Connection, counts: &mut Counts) -> Result<(), StoreError> {
    let sql = "SELECT tenant, subscription, COUNT(*) FROM deliveries INDEXED BY deliveries_due WHERE state = 0
               AND tenant NOT IN (SELECT id FROM tenants WHERE deleting_since_ms IS NOT NULL) GROUP BY tenant, subscription";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        counts.entry(tenant).or_default().insert(SubscriptionId(row.get(1)?), row.get(2)?);
    }
    Ok(())
}

#[async_trait]
impl BacklogBackend for Sqlite {
    fn pending(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64> {
        self.pending.of(tenant)
    }

    async fn oldest_pending(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
    ) -> Result<HashMap<SubscriptionId, i64>, StoreError> {
        self.oldest_pending_by(Owner::from(&tenant), tenant, subscriptions).await
    }

    async fn oldest_pending_for_host(&self, tenant: TenantId) -> Result<Option<i64>, StoreError> {
        let all = self.pending.of(&tenant).into_keys().collect();
        Ok(self.oldest_pending_by(Owner::Host, tenant, all).await?.into_values().min())
    }
}

impl Sqlite {
    async fn oldest_pending_by(
        &self,
        owner: Owner,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
    ) -> Result<HashMap<SubscriptionId, i64>, StoreError> {
        if subscriptions.is_empty() {
            return Ok(HashMap::new());
        }
        let read = move |connection: &Connection| {
            let mut found = HashMap::new();
            for id in subscriptions {
                if let Some(oldest) = oldest(connection, &tenant, id)? {
                    found.insert(id, DeliveryId(oldest).made_at_ms());
                }
            }
            Ok(found)
        };
        self.readers.read(owner, read).await
    }
}

fn oldest(connection: &Connection, tenant: &TenantId, id: SubscriptionId) -> Result<Option<Uuid>, StoreError> {
    let of = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> Result<Option<Uuid>, StoreError> {
        Ok(connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
    };
    let found = [
        of(OLDEST_OF_FIRST, params![&*tenant.0, id.0, FIRST])?,
        of(OLDEST_OF_RETRIED, params![&*tenant.0, id.0, 0])?,
        of(OLDEST_OF_RETRIED, params![&*tenant.0, id.0, 1])?,
    ];
    Ok(found.into_iter().flatten().min())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    /// Rows of deliveries: id, attempts made, awaiting a plugin, due time, state.
    fn check(rows: &[(u128, u32, bool, i64, u8)], expected: Option<u128>) {
        let connection = Connection::open_in_memory().expect("a database");
        schema::make(&connection, schema::newest()).expect("the schema");
        let tenant = TenantId("t".into());
        let subscription = SubscriptionId(Uuid::nil());
        for (id, attempts, awaits, due_at_ms, state) in rows {
            let sql = "INSERT INTO deliveries (tenant, id, event, subscription, state, due_at_ms, awaiting_plugin, attempts_made, age_from_ms, created_at_ms, updated_at_ms)
                       VALUES ('t', ?1, ?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0)";
            let row = params![Uuid::from_u128(*id), subscription.0, state, due_at_ms, awaits, attempts];
            connection.execute(sql, row).expect("a delivery");
        }
        let found = oldest(&connection, &tenant, subscription).expect("a look");
        assert_eq!(found.map(|id| id.as_u128()), expected, "{rows:?}");
        let counted = count_pending(&connection, &Damage::default()).of(&tenant);
        let pending = rows.iter().filter(|row| row.4 == 0).count() as u64;
        assert_eq!(counted.get(&subscription).copied().unwrap_or(0), pending, "{rows:?}");
    }

    #[test]
    fn the_oldest_is_found_whatever_it_waits_for() {
        check(&[], None);
        check(&[(1, 0, false, 5, 1), (2, 3, false, 5, 4)], None);
        check(&[(2, 0, false, 7, 0), (3, 0, false, 8, 0)], Some(2));
        check(&[(2, 0, false, 7, 0), (1, 2, false, 900, 0), (3, 1, false, 5, 0)], Some(1));
        check(&[(2, 0, false, 7, 0), (3, 2, false, 5, 0), (1, 1, true, 9_000, 0)], Some(1));
        // A delivery that was put off without an attempt is behind a newer one that is due earlier.
        check(&[(1, 0, false, 90, 0), (2, 0, false, 7, 0)], Some(1));
    }

    #[test]
    fn the_oldest_is_found_without_a_look_at_the_table() {
        let connection = Connection::open_in_memory().expect("a database");
        schema::make(&connection, schema::newest()).expect("the schema");
        for sql in [OLDEST_OF_FIRST, OLDEST_OF_RETRIED] {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
            let steps = plan.query_map(params!["t", Uuid::nil(), 0], |row| row.get::<_, String>(3)).expect("its steps");
            let steps: Vec<String> = steps.map(|step| step.expect("a step")).collect();
            assert!(steps.iter().any(|step| step.contains("USING COVERING INDEX")), "{steps:?}");
        }
    }
}
