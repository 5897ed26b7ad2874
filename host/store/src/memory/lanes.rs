//! Deliveries of a lane: due ones, and the outcomes of their attempts.

use super::Memory;
use super::deliveries::previous_of;
use super::settling::end_settling;
use super::tables::{MemoryTables, StoredDelivery};
use crate::StoreError;
use crate::backend::lanes::{
    AttemptClass, AttemptRecord, DuePage, HistoryBackend, LaneBackend, LaneRead, OutcomeBackend, OutcomeColumns,
    PAGE_BYTES_MAX,
};
use crate::claims::ClaimPage;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Arm, Attempt, DeliveryId, DeliveryState, DueDelivery, Reason};
use hookloom_model::event::Event;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[async_trait]
impl LaneBackend for Memory {
    async fn due(&self, lane: LaneRead, page: Arc<ClaimPage>) -> Result<DuePage, StoreError> {
        self.read(|tables| due_page(tables, &lane, &page)).await
    }

    async fn end_settling(
        &self,
        subscription: &Subscription,
        deliveries: Vec<(DeliveryId, Arc<Event>)>,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        let write = |tables: &mut MemoryTables| {
            let keys = deliveries.iter().map(|(id, _)| (subscription.tenant.clone(), *id));
            Ok(keys.filter(|key| end_settling(tables, key)).map(|(_, id)| id).collect())
        };
        self.write(write, |_, _| {}).await
    }
}

#[async_trait]
impl OutcomeBackend for Memory {
    async fn record(&self, delivery: &DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            record_one(tables, delivery, &record);
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn give_up(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let write = |tables: &mut MemoryTables| {
            if let Some(row) = tables.deliveries.get_mut(&(delivery.tenant.clone(), delivery.id))
                && row.state == DeliveryState::Pending
            {
                row.state = DeliveryState::Dead;
                row.due_at_ms = 0;
                row.awaiting_plugin = false;
                row.reason = Some(reason.bounded().into_owned());
                row.updated_at_ms = now_ms();
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }
}

#[async_trait]
impl HistoryBackend for Memory {
    async fn previous(&self, tenant: TenantId, event: &Event) -> Result<Option<Arc<Event>>, StoreError> {
        if event.entity_id.is_none() {
            return Ok(None);
        }
        self.read(|tables| Ok(previous_of(tables, &tenant, event).cloned())).await
    }

    async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError> {
        let key = (delivery.tenant.clone(), delivery.event);
        self.read(|tables| Ok(tables.events.get(&key).map(|row| row.event.clone()))).await
    }
}

/// Returns the pending deliveries of a subscription, in the order of the lane: deliveries without an attempt first, then by due time
/// and id.
pub(super) fn in_lane_order<'t>(
    tables: &'t MemoryTables,
    tenant: &TenantId,
    id: SubscriptionId,
) -> Vec<(DeliveryId, &'t StoredDelivery)> {
    let of_lane = |row: &StoredDelivery| row.subscription == id && row.state == DeliveryState::Pending;
    let mut lane: Vec<_> = tables.deliveries_of(tenant).filter(|(_, row)| of_lane(row)).collect();
    lane.sort_by_key(|(id, row)| (class_of(row) as u8, row.due_at_ms, *id));
    lane
}

/// Returns the attempt class of a delivery.
pub(super) fn class_of(row: &StoredDelivery) -> AttemptClass {
    if row.attempts_made > 0 { AttemptClass::Retry } else { AttemptClass::First }
}

/// First delivery of each entity that blocks later ones.
struct Blocking<'t>(HashMap<&'t (&'static str, String), DeliveryId>);

impl<'t> Blocking<'t> {
    /// Finds the pending deliveries with fewer attempts than this number.
    fn below(lane: &[(DeliveryId, &'t StoredDelivery)], attempts: u32) -> Self {
        let mut first: HashMap<&(&'static str, String), DeliveryId> = HashMap::new();
        for (id, row) in lane.iter().filter(|(_, row)| row.attempts_made < attempts) {
            if let Some(key) = &row.order_key {
                first.entry(key).and_modify(|first| *first = (*first).min(*id)).or_insert(*id);
            }
        }
        Blocking(first)
    }

    /// Returns true if an earlier delivery of the same entity blocks this one.
    fn blocks(&self, id: DeliveryId, row: &StoredDelivery) -> bool {
        row.order_key.as_ref().and_then(|key| self.0.get(key)).is_some_and(|first| *first < id)
    }
}

fn due_page(tables: &MemoryTables, lane: &LaneRead, claims: &ClaimPage) -> Result<DuePage, StoreError> {
    let LaneRead { tenant, subscription, class, blocks_below, pauses, limit } = lane;
    let now_ms = now_ms();
    let rows = in_lane_order(tables, tenant, *subscription);
    let blocking = Blocking::below(&rows, *blocks_below);
    let mut page = DuePage::default();
    let mut bytes = 0;
    for (id, row) in rows.into_iter().filter(|(id, row)| class_of(row) == *class && !blocking.blocks(*id, row)) {
        if row.due_at_ms > now_ms {
            page.next_due_at_ms = Some(row.due_at_ms);
            break;
        }
        if !claims.is_free(id) {
            continue;
        }
        if page.due.len() == *limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let event = tables.events.get(&(tenant.clone(), row.event)).ok_or(StoreError::NotFound("event"))?;
        bytes += event.event.payload.len();
        let delivery = DueDelivery {
            id,
            tenant: tenant.clone(),
            event: row.event,
            subscription: *subscription,
            kind: row.kind,
            attempts_made: row.attempts_made,
            attempts_in_budget: row.budget_spent,
            age_from_ms: pauses.shift(row.age_from_ms),
            settled: row.settled,
            is_settling: row.settling.is_some(),
        };
        page.due.push((delivery, event.event.clone()));
    }
    Ok(page)
}

/// Updates a delivery after an attempt, and adds the attempt. A delivery that ended meanwhile keeps its state and gets the attempt; a
/// deleted one gets nothing. An attempt with the same number, which did not count, is replaced.
pub(super) fn record_one(tables: &mut MemoryTables, delivery: &DueDelivery, record: &AttemptRecord) {
    let is_current = record.awaits_plugin() && is_current(tables, delivery, &record.attempt);
    let key = (delivery.tenant.clone(), delivery.id);
    let Some(row) = tables.deliveries.get_mut(&key) else { return };
    if row.state == DeliveryState::Pending && row.attempts_made == delivery.attempts_made {
        let OutcomeColumns { state, due_at_ms, awaiting_plugin, counts, reason } = record.columns(is_current);
        row.state = state;
        row.due_at_ms = due_at_ms;
        row.awaiting_plugin = awaiting_plugin;
        row.attempts_made += u32::from(counts);
        row.budget_spent += u32::from(counts);
        row.reason = reason.map(Reason::bounded).map(Cow::into_owned);
        row.updated_at_ms = now_ms();
    }
    let (tenant, id) = key;
    tables.attempts.insert_mut((tenant, id, record.attempt.number), Arc::new(record.attempt.clone()));
}

/// Returns true if the plugin versions and the config that judged an attempt are still the active ones.
fn is_current(tables: &MemoryTables, delivery: &DueDelivery, attempt: &Attempt) -> bool {
    let subscription = tables.subscriptions.get(&delivery.subscription).map(|row| &row.subscription);
    let is_same_config =
        subscription.is_some_and(|one| one.tenant == delivery.tenant && one.generation == attempt.config_generation);
    is_same_config
        && attempt.steps.iter().filter(|step| step.arm == Arm::Active).all(|step| {
            let plugin = tables.plugins.get(&(delivery.tenant.clone(), step.plugin.clone()));
            plugin.is_some_and(|plugin| step.sha256.as_ref() == Some(&plugin.active_sha256))
        })
}
