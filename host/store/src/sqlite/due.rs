//! Due deliveries of a lane, page by page.

mod past_damage;

use super::Sqlite;
use super::batch::AdminTx;
use super::deliveries::{event_row, kind, settled};
use super::event_cache::EventCache;
use super::partial_read::PartialRead;
use crate::StoreError;
use crate::backend::lanes::{DuePage, LaneBackend, LaneRead, PAGE_BYTES_MAX};
use crate::claims::ClaimPage;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::Subscription;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use std::collections::HashSet;
use std::sync::Arc;

#[async_trait]
impl LaneBackend for Sqlite {
    async fn due(&self, lane: LaneRead, page: Arc<ClaimPage>) -> Result<DuePage, StoreError> {
        let owner = Owner::from(&lane.tenant);
        let known = self.damage.clone();
        let tenant = lane.tenant.clone();
        let id = lane.subscription;
        let events = self.events.clone();
        let read = move |connection: &Connection| match due_page(connection, &lane, &page, &events) {
            Err(error) if known.note(&error) => Ok(past_damage::due_page(connection, &lane, &page, &known)),
            page => Ok(PartialRead::of(page?)),
        };
        let page = self.lane_readers.read(owner, read).await?;
        self.set_apart(page.damaged).await;
        self.end_without_event(&tenant, id, page.without_event).await?;
        Ok(page.value)
    }

    async fn end_settling(
        &self,
        subscription: &Subscription,
        deliveries: Vec<(DeliveryId, Arc<Event>)>,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        let tenant = subscription.tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE deliveries SET settles_key = NULL WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let mut statement = tx.prepare_cached(sql)?;
            let mut ended = HashSet::new();
            for (id, _) in deliveries {
                if statement.execute(params![&*tenant.0, id.0])? > 0 {
                    ended.insert(id);
                }
            }
            Ok(ended)
        };
        self.write(&subscription.tenant, write).await
    }
}

/// Columns of [`LaneRead::delivery`].
const DELIVERY_COLUMNS: &str = "d.id, d.attempts_made, d.budget_spent, d.age_from_ms, d.due_at_ms, d.kind, d.settled_events, d.settled_first, d.settles_key IS NOT NULL";

impl LaneRead {
    fn due(&self, row: &Row<'_>) -> rusqlite::Result<(DueDelivery, Arc<Event>)> {
        let event = event_row(row)?;
        let delivery = self.delivery(row, 6, event.id)?;
        Ok((delivery, Arc::new(event)))
    }

    /// Reads the delivery of an event, whose columns begin at `first` in the order of [`DELIVERY_COLUMNS`].
    fn delivery(&self, row: &Row<'_>, first: usize, event: EventId) -> rusqlite::Result<DueDelivery> {
        Ok(DueDelivery {
            id: DeliveryId(row.get(first)?),
            tenant: self.tenant.clone(),
            event,
            subscription: self.subscription,
            kind: kind(row.get(first + 5)?),
            attempts_made: row.get(first + 1)?,
            attempts_in_budget: row.get(first + 2)?,
            age_from_ms: self.pauses.shift(row.get(first + 3)?),
            settled: settled(row, first + 6)?,
            is_settling: row.get(first + 8)?,
        })
    }
}

fn due_page(
    connection: &Connection,
    lane: &LaneRead,
    claims: &ClaimPage,
    events: &EventCache,
) -> Result<DuePage, StoreError> {
    let now_ms = now_ms();
    let LaneRead { tenant, subscription, class, blocks_below, limit, .. } = lane;
    let sql = format!(
        "SELECT {DELIVERY_COLUMNS}, d.event
         FROM deliveries d INDEXED BY deliveries_due
         WHERE d.tenant = ?1 AND d.subscription = ?2 AND d.state = 0 AND (d.attempts_made > 0) = ?3
           AND (d.order_key IS NULL OR NOT EXISTS (
             SELECT 1 FROM deliveries o INDEXED BY deliveries_in_order
             WHERE o.tenant = ?1 AND o.subscription = ?2 AND o.order_key = d.order_key AND o.state = 0
               AND o.id < d.id AND o.attempts_made < ?4))
         ORDER BY d.due_at_ms, d.id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![&*tenant.0, subscription.0, *class as u8, blocks_below])?;
    let mut page = DuePage::default();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let due_at_ms = row.get(4)?;
        if due_at_ms > now_ms {
            page.next_due_at_ms = Some(due_at_ms);
            break;
        }
        if !claims.is_free(DeliveryId(row.get(0)?)) {
            continue;
        }
        if page.due.len() == *limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let id = EventId(row.get(9)?);
        // A delivery without its event is a damaged row, and must be an error.
        let event = events.read(connection, tenant, id)?;
        let event = event.ok_or_else(|| rusqlite::Error::InvalidColumnType(9, "event".into(), Type::Null))?;
        bytes += event.payload.len();
        page.due.push((lane.delivery(row, 0, id)?, event));
    }
    Ok(page)
}
