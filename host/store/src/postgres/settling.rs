//! Settling of deliveries in a database that several hosts write to.
//!
//! # Guarantees
//! - Of the events of one contact or deal that two hosts accept at the same time, one finds the delivery of the other.
//! - A delivery whose settling has ended is not superseded by any host, and one that was superseded is not taken up by its owner: both are
//!   decided under the lock of its contact or deal.
//! - Hosts do not wait for each other in a circle: a transaction takes the locks of all its writes first, in their order.
//!
//! # Theory of operation
//! Any host accepts an event, and only the owner of a subscription attempts its deliveries. The row decides between the two: it has a key
//! while it may be superseded, and the owner takes the key away, in a fenced transaction, before it attempts the delivery. Advisory
//! locks of the transaction are needed because a delivery that ends moves to another part of the table, which PostgreSQL answers with an
//! error to who waits for the row.
//!
//! # Limits
//! There are [few locks](super::settling_lock), so that transactions fill no table of the server. Two entities may share one, and then their hosts wait for
//! each other as if they were one entity. A write that is alone in the fleet takes none.

use super::job::SharedLocks;
use super::rows::{corrupt, int, number};
use super::settling_lock::SettlingLock;
use super::transaction::WriteTx;
use super::writer_handle::Writer;
use crate::StoreError;
use crate::fair_queue::Owner;
use crate::order_key::OrderKey;
use crate::settling::{Settling, Survivor, WaitingDelivery};
use crate::store_event::NewDelivery;
use crate::write_queue::{Terms, WriteMode};
use hookloom_model::delivery::{DeliveryId, DeliveryState, DueDelivery};
use hookloom_model::event::{Event, EventId};
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Ends the settling of claimed deliveries, and returns those that are pending still.
pub(super) async fn end(
    writer: &Writer,
    subscription: &Subscription,
    deliveries: Vec<(DeliveryId, Arc<Event>)>,
) -> Result<HashSet<DeliveryId>, StoreError> {
    let keys = deliveries.iter().filter_map(|(_, event)| OrderKey::of_event(event));
    let locks: BTreeSet<SettlingLock> = keys.map(|key| SettlingLock::of(subscription.id, key)).collect();
    let shared = SharedLocks { row: None, settling: locks.into_iter().collect() };
    let tenant = subscription.tenant.clone();
    let ids: Vec<Uuid> = deliveries.iter().map(|(id, _)| id.0).collect();
    let terms = Terms { owner: Owner::from(&tenant), rows: ids.len() as u64 };
    let written = writer.run_sharing(
        WriteMode::Outcome,
        terms,
        shared,
        move |tx| {
            Box::pin(async move {
                let sql = "UPDATE deliveries SET settles_key = NULL WHERE tenant = $1 AND id = ANY ($2) AND state = 0 RETURNING id";
                let rows = tx.query(sql, &[&&*tenant.0, &ids]).await?;
                rows.iter().map(|row| Ok(DeliveryId(row.try_get(0)?))).collect()
            })
        },
        |_, _| {},
    );
    written.await
}

/// New delivery of a burst.
pub(super) struct SettlingRow {
    pub(super) new: NewDelivery,
    pub(super) settling: Settling,
    pub(super) order_key: Option<OrderKey>,
}

/// Subscription and entity of a burst.
type Burst = (SubscriptionId, [u8; 16]);

/// Delivery that waits: one that is stored, or a new one, by its index.
#[derive(Clone, Copy)]
struct WaitingRow {
    waiting: WaitingDelivery,
    new: Option<usize>,
}

/// Changes that new deliveries make.
#[derive(Default)]
struct SettlingPlan {
    rows: Vec<PlannedRow>,
    /// Stored deliveries that new ones supersede.
    superseded: Vec<(DeliveryId, DueDelivery)>,
    /// Stored deliveries that stand for new ones.
    standing: HashMap<DeliveryId, StandingRow>,
}

/// Stored delivery that stands for new ones.
struct StandingRow {
    tenant: TenantId,
    settled: SettledEvents,
}

struct PlannedRow {
    new: NewDelivery,
    order_key: Option<OrderKey>,
    superseded_by: Option<DeliveryId>,
}

impl SettlingPlan {
    /// Adds new deliveries in their order, each after the one that waits for the same burst.
    fn of(rows: &[&SettlingRow], mut waiting: HashMap<Burst, WaitingRow>) -> Self {
        let mut plan = SettlingPlan::default();
        for row in rows {
            let burst = (row.new.delivery.subscription, row.settling.key.0);
            let mut new = row.new.clone();
            let mut superseded_by = None;
            if let Some(known) = waiting.get_mut(&burst) {
                match new.meet(&mut known.waiting) {
                    Survivor::New => plan.supersede(known, &new),
                    Survivor::Waiting => {
                        superseded_by = Some(known.waiting.id);
                        plan.stand_for_more(known, &new.delivery.tenant);
                    }
                }
            }
            if superseded_by.is_none()
                && let Some(own) = new.as_waiting()
            {
                waiting.insert(burst, WaitingRow { waiting: own, new: Some(plan.rows.len()) });
            }
            plan.rows.push(PlannedRow { new, order_key: row.order_key, superseded_by });
        }
        plan
    }

    fn supersede(&mut self, known: &WaitingRow, by: &NewDelivery) {
        match known.new {
            Some(index) => self.rows[index].superseded_by = Some(by.delivery.id),
            None => self.superseded.push((known.waiting.id, by.delivery.clone())),
        }
    }

    fn stand_for_more(&mut self, known: &WaitingRow, tenant: &TenantId) {
        match known.new {
            Some(index) => self.rows[index].new.delivery.settled = Some(known.waiting.settled),
            None => {
                let row = StandingRow { tenant: tenant.clone(), settled: known.waiting.settled };
                self.standing.insert(known.waiting.id, row);
            }
        }
    }
}

/// Inserts the deliveries of bursts, and ends those that they supersede. The transaction has the locks of their entities, or is alone.
pub(super) async fn insert_all(tx: &WriteTx, rows: &[&SettlingRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let plan = SettlingPlan::of(rows, waiting(tx, rows).await?);
    stand_for_more(tx, &plan.standing).await?;
    supersede(tx, &plan.superseded).await?;
    insert(tx, &plan.rows).await?;
    for (_, by) in &plan.superseded {
        tx.count_pending(&by.tenant, by.subscription, -1);
    }
    for row in plan.rows.iter().filter(|row| row.superseded_by.is_none()) {
        tx.count_pending(&row.new.delivery.tenant, row.new.delivery.subscription, 1);
    }
    Ok(())
}

/// Finds the deliveries that wait for the bursts of new ones.
async fn waiting(tx: &WriteTx, rows: &[&SettlingRow]) -> Result<HashMap<Burst, WaitingRow>, StoreError> {
    let sql = "SELECT d.id, d.event, d.subscription, d.settles_key, d.settles_until_ms, d.settled_events, d.settled_first
               FROM unnest($1::text[], $2::uuid[], $3::bytea[]) AS new (tenant, subscription, key)
               JOIN deliveries d ON d.subscription = new.subscription AND d.settles_key = new.key AND d.tenant = new.tenant AND d.state = 0";
    let tenants: Vec<&str> = rows.iter().map(|row| &*row.new.delivery.tenant.0).collect();
    let subscriptions: Vec<Uuid> = rows.iter().map(|row| row.new.delivery.subscription.0).collect();
    let keys: Vec<&[u8]> = rows.iter().map(|row| &row.settling.key.0[..]).collect();
    let mut found = HashMap::new();
    for row in tx.query(sql, &[&tenants, &subscriptions, &keys]).await? {
        let key: &[u8] = row.try_get(3)?;
        let key = key.try_into().map_err(|_| corrupt(format_args!("a key has {} bytes", key.len())))?;
        let settled = SettledEvents { count: number(&row, 5)?, first: EventId(row.try_get(6)?) };
        let waiting = WaitingDelivery {
            id: DeliveryId(row.try_get(0)?),
            event: EventId(row.try_get(1)?),
            until_ms: row.try_get(4)?,
            settled,
        };
        found.insert((SubscriptionId(row.try_get(2)?), key), WaitingRow { waiting, new: None });
    }
    Ok(found)
}

/// Sets the events that stored deliveries stand for.
async fn stand_for_more(tx: &WriteTx, standing: &HashMap<DeliveryId, StandingRow>) -> Result<(), StoreError> {
    if standing.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE deliveries d SET settled_events = n.events, settled_first = n.first
               FROM unnest($1::text[], $2::uuid[], $3::int8[], $4::uuid[]) AS n (tenant, id, events, first)
               WHERE d.tenant = n.tenant AND d.id = n.id AND d.state = 0";
    let tenants: Vec<&str> = standing.values().map(|row| &*row.tenant.0).collect();
    let ids: Vec<Uuid> = standing.keys().map(|id| id.0).collect();
    let events: Vec<i64> = standing.values().map(|row| int(row.settled.count)).collect();
    let firsts: Vec<Uuid> = standing.values().map(|row| row.settled.first.0).collect();
    tx.execute(sql, &[&tenants, &ids, &events, &firsts]).await.map(drop)
}

/// Ends stored deliveries that new ones supersede.
async fn supersede(tx: &WriteTx, superseded: &[(DeliveryId, DueDelivery)]) -> Result<(), StoreError> {
    if superseded.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE deliveries d SET state = 5, settles_key = NULL, superseded_by = n.by, updated_at_ms = n.at_ms
               FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int8[]) AS n (tenant, id, by, at_ms)
               WHERE d.tenant = n.tenant AND d.id = n.id AND d.state = 0";
    let tenants: Vec<&str> = superseded.iter().map(|(_, by)| &*by.tenant.0).collect();
    let ids: Vec<Uuid> = superseded.iter().map(|(id, _)| id.0).collect();
    let by: Vec<Uuid> = superseded.iter().map(|(_, by)| by.id.0).collect();
    let times: Vec<i64> = superseded.iter().map(|(_, by)| by.age_from_ms).collect();
    tx.execute(sql, &[&tenants, &ids, &by, &times]).await.map(drop)
}

/// Number of rows of one insert.
const ROWS_MAX: usize = 512;

async fn insert(tx: &WriteTx, rows: &[PlannedRow]) -> Result<(), StoreError> {
    let sql = "INSERT INTO deliveries (tenant, id, event, subscription, kind, order_key, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms,
                 settles_key, settles_until_ms, settled_events, settled_first, superseded_by)
               SELECT tenant, id, event, subscription, kind, order_key, due_at_ms, state, at_ms, at_ms, at_ms, key, until_ms, events, first, by
               FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int2[], $6::bytea[], $7::int8[], $8::int2[], $9::int8[], $10::bytea[],
                           $11::int8[], $12::int8[], $13::uuid[], $14::uuid[])
                 AS new (tenant, id, event, subscription, kind, order_key, due_at_ms, state, at_ms, key, until_ms, events, first, by)";
    for rows in rows.chunks(ROWS_MAX) {
        let of = |value: fn(&DueDelivery) -> Uuid| rows.iter().map(|row| value(&row.new.delivery)).collect::<Vec<_>>();
        let [ids, events, subscriptions] = [of(|one| one.id.0), of(|one| one.event.0), of(|one| one.subscription.0)];
        let tenants: Vec<&str> = rows.iter().map(|row| &*row.new.delivery.tenant.0).collect();
        let kinds: Vec<i16> = rows.iter().map(|row| row.new.delivery.kind as i16).collect();
        let order_keys: Vec<Option<&[u8]>> =
            rows.iter().map(|row| row.order_key.as_ref().map(|key| &key.0[..])).collect();
        let due: Vec<i64> = rows.iter().map(|row| row.new.due_at_ms).collect();
        let states: Vec<i16> = rows.iter().map(|row| row.state() as i16).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.new.delivery.age_from_ms).collect();
        let keys: Vec<Option<&[u8]>> = rows.iter().map(PlannedRow::key).collect();
        let until: Vec<Option<i64>> =
            rows.iter().map(|row| row.new.settling.as_ref().map(|settling| settling.until_ms)).collect();
        let counts: Vec<Option<i64>> =
            rows.iter().map(|row| row.new.delivery.settled.map(|settled| int(settled.count))).collect();
        let firsts: Vec<Option<Uuid>> =
            rows.iter().map(|row| row.new.delivery.settled.map(|settled| settled.first.0)).collect();
        let by: Vec<Option<Uuid>> = rows.iter().map(|row| row.superseded_by.map(|by| by.0)).collect();
        let params: super::sql_param::SqlParams<'_> = &[
            &tenants,
            &ids,
            &events,
            &subscriptions,
            &kinds,
            &order_keys,
            &due,
            &states,
            &times,
            &keys,
            &until,
            &counts,
            &firsts,
            &by,
        ];
        tx.execute(sql, params).await?;
    }
    Ok(())
}

impl PlannedRow {
    fn state(&self) -> DeliveryState {
        if self.superseded_by.is_some() { DeliveryState::Superseded } else { DeliveryState::Pending }
    }

    fn key(&self) -> Option<&[u8]> {
        let settling = self.new.settling.as_ref().filter(|_| self.superseded_by.is_none())?;
        Some(&settling.key.0[..])
    }
}
