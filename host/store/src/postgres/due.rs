//! Due deliveries of a lane, page by page.

use super::Postgres;
use super::connection::Connection;
use super::rows::{EVENT, event_row, int, kind, number, settled};
use super::settling;
use crate::StoreError;
use crate::backend::lanes::{DuePage, LaneBackend, LaneRead, PAGE_BYTES_MAX};
use crate::claims::ClaimPage;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::{Subscription, TenantId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Maximum number of rows that one statement reads.
const ROWS_MAX: usize = 256;

/// Next deliveries of a lane in its order, after a due time and an id, without the payloads of their events. The class is the value of a
/// subquery, because the planner turns `(attempts_made > 0) = false` into `attempts_made <= 0`, for which it does not find the index: it
/// would read and sort the whole backlog of first attempts.
const NEXT: &str =
    "SELECT d.id, d.event, d.kind, d.attempts_made, d.budget_spent, d.age_from_ms, d.due_at_ms, octet_length(e.payload)::int8,
            d.settled_events, d.settled_first, d.settles_key IS NOT NULL
     FROM deliveries d JOIN events e ON e.tenant = d.tenant AND e.id = d.event
     WHERE d.tenant = $1 AND d.subscription = $2 AND d.state = 0 AND (d.attempts_made > 0) = (SELECT $3::bool)
       AND (d.due_at_ms, d.id) > ($5, $6)
       AND (d.order_key IS NULL OR NOT EXISTS (
         SELECT 1 FROM deliveries o
         WHERE o.tenant = $1 AND o.subscription = $2 AND o.order_key = d.order_key AND o.state = 0
           AND o.id < d.id AND o.attempts_made < $4))
     ORDER BY d.due_at_ms, d.id LIMIT $7";

#[async_trait]
impl LaneBackend for Postgres {
    async fn due(&self, lane: LaneRead, page: Arc<ClaimPage>) -> Result<DuePage, StoreError> {
        let read = self.lane_readers.read(Owner::from(&lane.tenant), move |connection| {
            Box::pin(async move {
                let selected = select(connection, &lane, &page).await?;
                let events = events(connection, &lane.tenant, &selected.due).await?;
                let with_event = |delivery: DueDelivery| {
                    let event = events.get(&delivery.event)?.clone();
                    Some((delivery, event))
                };
                let due = selected.due.into_iter().filter_map(with_event);
                Ok(DuePage { due: due.collect(), more: selected.more, next_due_at_ms: selected.next_due_at_ms })
            })
        });
        read.await
    }

    async fn end_settling(
        &self,
        subscription: &Subscription,
        deliveries: Vec<(DeliveryId, Arc<Event>)>,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        settling::end(&self.writer, subscription, deliveries).await
    }
}

/// Page without its events.
#[derive(Default)]
struct Selected {
    due: Vec<DueDelivery>,
    more: bool,
    next_due_at_ms: Option<i64>,
    /// Size of the payloads.
    bytes: usize,
}

async fn select(connection: &Connection, lane: &LaneRead, claims: &ClaimPage) -> Result<Selected, StoreError> {
    let LaneRead { tenant, subscription, class, blocks_below, limit, .. } = lane;
    let is_retry = *class as u8 > 0;
    let blocks_below = int(*blocks_below);
    let rows_max = limit.saturating_add(1).min(ROWS_MAX);
    let now_ms = now_ms();
    let mut after = (i64::MIN, Uuid::nil());
    let mut selected = Selected::default();
    loop {
        let params: super::sql_param::SqlParams<'_> =
            &[&&*tenant.0, &subscription.0, &is_retry, &blocks_below, &after.0, &after.1, &int(rows_max)];
        let rows = connection.query(NEXT, params).await?;
        for row in &rows {
            after = (row.try_get(6)?, row.try_get(0)?);
            if selected.is_complete_with(row, lane, claims, now_ms)? {
                return Ok(selected);
            }
        }
        if rows.len() < rows_max {
            return Ok(selected);
        }
    }
}

impl Selected {
    /// Adds a delivery, unless it has a claim. Returns true if the page ends before it.
    fn is_complete_with(
        &mut self,
        row: &Row,
        lane: &LaneRead,
        claims: &ClaimPage,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let due_at_ms = row.try_get(6)?;
        if due_at_ms > now_ms {
            self.next_due_at_ms = Some(due_at_ms);
            return Ok(true);
        }
        if !claims.is_free(DeliveryId(row.try_get(0)?)) {
            return Ok(false);
        }
        if self.due.len() == lane.limit || self.bytes > PAGE_BYTES_MAX {
            self.more = true;
            return Ok(true);
        }
        self.bytes += number::<usize>(row, 7)?;
        self.due.push(DueDelivery {
            id: DeliveryId(row.try_get(0)?),
            tenant: lane.tenant.clone(),
            event: EventId(row.try_get(1)?),
            subscription: lane.subscription,
            kind: kind(row.try_get(2)?),
            attempts_made: number(row, 3)?,
            attempts_in_budget: number(row, 4)?,
            age_from_ms: lane.pauses.shift(row.try_get(5)?),
            settled: settled(row, 8)?,
            is_settling: row.try_get(10)?,
        });
        Ok(false)
    }
}

/// Reads the events of deliveries.
async fn events(
    connection: &Connection,
    tenant: &TenantId,
    due: &[DueDelivery],
) -> Result<HashMap<EventId, Arc<Event>>, StoreError> {
    if due.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = due.iter().map(|delivery| delivery.event.0).collect();
    let sql = format!("SELECT {EVENT} FROM events WHERE tenant = $1 AND id = ANY ($2)");
    let rows = connection.query(&sql, &[&&*tenant.0, &ids]).await?;
    rows.iter().map(|row| event_row(row).map(|event| (event.id, Arc::new(event)))).collect()
}

#[cfg(test)]
mod tests;
