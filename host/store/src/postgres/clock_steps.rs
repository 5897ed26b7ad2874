//! Due times that move with the clock, and ids that follow the newest stored ones.
//!
//! # Guarantees
//! - A step of the clock moves at most [`STEP`] due times in one write.
//! - New ids are greater than every stored id of a row that is listed or pruned in the order of its ids.

use super::Postgres;
use super::connection::Connection;
use super::rows::int;
use crate::StoreError;
use crate::backend::lanes::AttemptClass;
use crate::backend::upkeep::{ClockBackend, ClockStep, DuePosition, STEP};
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::ids;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::time::Duration;
use uuid::Uuid;

#[async_trait]
impl ClockBackend for Postgres {
    async fn move_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        class: AttemptClass,
        step: ClockStep,
        after: DuePosition,
    ) -> Result<Option<(DuePosition, Duration)>, StoreError> {
        let owner = tenant.clone();
        let read = self.readers.read_one(Owner::Host, move |connection| {
            Box::pin(async move { later_than(connection, &owner, id, class, after).await })
        });
        let found = read.await?;
        let Some(last) = found.last().copied() else { return Ok(None) };
        let deliveries: Vec<Uuid> = found.into_iter().map(|(_, delivery)| delivery).collect();
        let tenant = tenant.clone();
        let written = self.write(Terms { owner: Owner::from(&tenant), rows: STEP as u64 }, move |tx| {
            Box::pin(async move { move_some(tx, &tenant, &deliveries, step).await })
        });
        Ok(Some((last, written.await?)))
    }
}

/// Returns the next deliveries of a lane by due time, each with its due time.
async fn later_than(
    connection: &Connection,
    tenant: &TenantId,
    subscription: SubscriptionId,
    class: AttemptClass,
    after: DuePosition,
) -> Result<Vec<DuePosition>, StoreError> {
    let is_retry = class as u8 > 0;
    let sql = "SELECT due_at_ms, id FROM deliveries
               WHERE tenant = $1 AND subscription = $2 AND state = 0 AND (attempts_made > 0) = (SELECT $3::bool) AND (due_at_ms, id) > ($4, $5)
               ORDER BY due_at_ms, id LIMIT $6";
    let found =
        connection.query(sql, &[&&*tenant.0, &subscription.0, &is_retry, &after.0, &after.1, &int(STEP)]).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Moves the due times of deliveries with the clock. Rows that were written since the step have times of the corrected clock.
async fn move_some(
    connection: &Connection,
    tenant: &TenantId,
    deliveries: &[Uuid],
    step: ClockStep,
) -> Result<Duration, StoreError> {
    let begun = clock::instant();
    let sql = "UPDATE deliveries SET due_at_ms = greatest($3, due_at_ms - $4), age_from_ms = least(age_from_ms, $3),
                      settles_until_ms = CASE WHEN settles_until_ms IS NOT NULL THEN greatest($3, settles_until_ms - $4) END
               WHERE tenant = $1 AND id = ANY ($2) AND state = 0 AND due_at_ms > $3 AND NOT updated_at_ms BETWEEN $3 AND $5";
    connection.execute(sql, &[&&*tenant.0, &deliveries, &step.now_ms, &step.back_ms, &now_ms()]).await?;
    Ok(clock::since(begun))
}

/// Queries of the newest ids of the tables whose rows are listed or pruned in the order of their ids. Each looks up one row in an
/// index for each owner, because no index has the ids of all owners in one order.
const NEWEST: [&str; 5] = [
    "SELECT n.id FROM tenants o CROSS JOIN LATERAL (SELECT id FROM events WHERE tenant = o.id ORDER BY id DESC LIMIT 1) n",
    "SELECT n.id FROM tenants o CROSS JOIN LATERAL (SELECT id FROM deliveries WHERE tenant = o.id ORDER BY id DESC LIMIT 1) n",
    "SELECT n.id FROM tenants o CROSS JOIN LATERAL (SELECT id FROM rejected_requests WHERE tenant = o.id ORDER BY id DESC LIMIT 1) n",
    "SELECT n.id FROM bins o CROSS JOIN LATERAL (SELECT id FROM bin_requests WHERE bin = o.id ORDER BY id DESC LIMIT 1) n",
    // The changes of the host itself have the tenant ''.
    "SELECT n.id FROM (SELECT id FROM tenants UNION ALL SELECT '') o
     CROSS JOIN LATERAL (SELECT id FROM changes WHERE tenant = o.id ORDER BY id DESC LIMIT 1) n",
];

/// Lets new ids follow the newest stored ones, even if the clock was set back while no host ran.
pub(super) async fn follow_newest(connection: &Connection) -> Result<(), StoreError> {
    newest(connection).await?.into_iter().for_each(ids::follow);
    Ok(())
}

async fn newest(connection: &Connection) -> Result<Vec<Uuid>, StoreError> {
    let mut found = Vec::new();
    for sql in NEWEST {
        for row in connection.query(sql, &[]).await? {
            found.push(row.try_get(0)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
