//! What is due in a lane, page by page.

use super::deliveries::{event_row, kind};
use super::fair_queue::Owner;
use super::{Due, Store, StoreError, now_ms};
use crate::delivery::{DeliveryId, DueDelivery};
use crate::event::Event;
use crate::subscription::{Ordering, Subscription, SubscriptionId, TenantId};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashSet;
use std::sync::Arc;

/// One page of what is due in a lane.
#[derive(Debug)]
pub struct DuePage {
    /// Due deliveries, the longest due first.
    pub due: Vec<Due>,
    /// Whether more is due than fits the page.
    pub more: bool,
    /// When the next delivery after these becomes due, if there is one.
    pub next_due_at_ms: Option<i64>,
    /// The tenant's newest delivery when the page was read: whatever is no newer was seen by the page, or is no longer
    /// pending, or is still in the store.
    pub newest: Option<DeliveryId>,
}

/// Which deliveries of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Those that were not attempted yet.
    First = 0,
    /// The others.
    Further = 1,
}

/// A page ends when its payloads have this many bytes together, so that a lane's memory is bounded.
const PAGE_BYTES_MAX: usize = 1 << 20;

impl Store {
    /// What is due in a lane now, but for what is under way already: at most `limit` deliveries, the longest due first.
    pub async fn due(
        &self,
        subscription: &Subscription,
        turn: Turn,
        limit: usize,
        skip: HashSet<DeliveryId>,
    ) -> Result<DuePage, StoreError> {
        let (tenant, id) = (subscription.tenant.clone(), subscription.id);
        // An earlier delivery of the same entity holds a later one up as long as it had fewer attempts than this.
        let blocks_below = match subscription.settings.ordering {
            None => 0,
            Some(Ordering::Block) => u32::MAX,
            Some(Ordering::SkipAfter { attempts }) => attempts,
        };
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| due_page(connection, &tenant, id, turn, blocks_below, limit, &skip);
        self.lane_readers.read(owner, read).await
    }

    /// The event of a delivery. None: both are gone.
    pub async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError> {
        let (tenant, event) = (delivery.tenant.clone(), delivery.event);
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql =
                "SELECT id, name, module, entity_id, received_at_ms, payload FROM events WHERE tenant = ?1 AND id = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row(params![&*tenant.0, event.0], event_row).optional()?.map(Arc::new))
        };
        self.lane_readers.read(owner, read).await
    }
}

fn due_page(
    connection: &Connection,
    tenant: &TenantId,
    subscription: SubscriptionId,
    turn: Turn,
    blocks_below: u32,
    limit: usize,
    skip: &HashSet<DeliveryId>,
) -> Result<DuePage, StoreError> {
    let now_ms = now_ms();
    let sql = "SELECT MAX(id) FROM deliveries WHERE tenant = ?1";
    let newest: Option<uuid::Uuid> = connection.prepare_cached(sql)?.query_row([&*tenant.0], |row| row.get(0))?;
    let sql = "SELECT e.id, e.name, e.module, e.entity_id, e.received_at_ms, e.payload,
                      d.id, d.attempts_made, d.budget_spent, d.age_from_ms, d.due_at_ms, d.kind
               FROM deliveries d INDEXED BY deliveries_due JOIN events e ON e.tenant = d.tenant AND e.id = d.event
               WHERE d.tenant = ?1 AND d.subscription = ?2 AND d.state = 0 AND (d.attempts_made > 0) = ?4
                 AND (d.order_key IS NULL OR NOT EXISTS (
                   SELECT 1 FROM deliveries o INDEXED BY deliveries_in_order
                   WHERE o.tenant = ?1 AND o.subscription = ?2 AND o.order_key = d.order_key AND o.state = 0
                     AND o.id < d.id AND o.attempts_made < ?5))
               ORDER BY d.due_at_ms, d.id LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows_max = limit + skip.len() + 1;
    let mut rows = statement.query(params![&*tenant.0, subscription.0, rows_max, turn as u8, blocks_below])?;
    let mut page = DuePage { due: Vec::new(), more: false, next_due_at_ms: None, newest: newest.map(DeliveryId) };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let due_at_ms = row.get(10)?;
        if due_at_ms > now_ms {
            page.next_due_at_ms = Some(due_at_ms);
            break;
        }
        if skip.contains(&DeliveryId(row.get(6)?)) {
            continue;
        }
        if page.due.len() == limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let event = event_row(row)?;
        bytes += event.payload.len();
        let delivery = DueDelivery {
            id: DeliveryId(row.get(6)?),
            tenant: tenant.clone(),
            event: event.id,
            subscription,
            kind: kind(row.get(11)?),
            attempts_made: row.get(7)?,
            attempts_in_budget: row.get(8)?,
            age_from_ms: row.get(9)?,
        };
        page.due.push(Due { delivery, event: Arc::new(event) });
    }
    Ok(page)
}
