//! Operator actions on deliveries, and reads that select.

use super::lanes::{event, tenant_of};
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, actor, told};
use crate::{DeliveryFilter, EventFilter, Span};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::{Subscription, TenantId};

/// States that an action selects.
fn states(more: usize) -> Vec<DeliveryState> {
    match more % 4 {
        0 => DeliveryState::ALL.to_vec(),
        1 => vec![DeliveryState::Dead],
        2 => vec![DeliveryState::Delivered, DeliveryState::Cancelled],
        _ => vec![DeliveryState::Dropped, DeliveryState::Pending],
    }
}

fn span(more: usize) -> Span {
    let now_ms = now_ms();
    match more {
        0..=4 => Span { from_ms: 0, to_ms: i64::MAX },
        5 => Span { from_ms: now_ms - 3_600_000, to_ms: now_ms + 1 },
        6 => Span { from_ms: 0, to_ms: now_ms - 2 },
        _ => Span { from_ms: now_ms - 3, to_ms: now_ms },
    }
}

impl TwinSide {
    /// Runs an action of an operator. None: it is of another kind.
    pub(super) async fn operate(&mut self, step: &TwinStep) -> Option<String> {
        let tenant = tenant_of(step);
        Some(match step.what {
            TwinWhat::Retry => {
                let id = self.some_delivery(&tenant, step).await;
                told(self.store().retry(actor(), tenant, id).await)
            }
            TwinWhat::Cancel => {
                let id = self.some_delivery(&tenant, step).await;
                told(self.store().cancel(actor(), tenant, id).await)
            }
            TwinWhat::Redrive
            | TwinWhat::Replay
            | TwinWhat::CountEnded
            | TwinWhat::CountReplayable
            | TwinWhat::Test => {
                // Also a subscription that has been deleted since it was read.
                let found = if step.more == 7 { self.earlier.first().cloned() } else { None };
                let found = found.filter(|old| old.tenant == tenant);
                match found.or_else(|| self.subscription(&tenant, step.pick)) {
                    Some(subscription) => self.select(&subscription, step).await,
                    None => "no subscription".into(),
                }
            }
            TwinWhat::ListDeliveries => self.list_deliveries(&tenant, step).await,
            TwinWhat::ListEvents => self.list_events(&tenant, step).await,
            TwinWhat::ReadEvent => self.read_event(&tenant, step).await,
            TwinWhat::ReadChanges => self.read_changes(&tenant, step).await,
            _ => return None,
        })
    }

    async fn select(&self, subscription: &Subscription, step: &TwinStep) -> String {
        let TwinStep { what, pick, more, .. } = *step;
        let store = self.store();
        match what {
            TwinWhat::Redrive => told(store.redrive(actor(), subscription, states(pick), span(more)).await),
            TwinWhat::Replay => told(store.replay(actor(), subscription, span(more)).await),
            TwinWhat::CountEnded => told(store.count_ended(subscription, states(pick), span(more)).await),
            TwinWhat::CountReplayable => told(store.count_replayable(subscription, span(more)).await),
            _ => told(store.test(actor(), subscription, event(pick)).await),
        }
    }

    /// Returns the id of a delivery of the tenant, or of anything else.
    async fn some_delivery(&self, tenant: &TenantId, step: &TwinStep) -> DeliveryId {
        if step.more == 7 {
            return DeliveryId(self.names.id(step.pick * 5));
        }
        let filter = DeliveryFilter { limit: 50, ..DeliveryFilter::default() };
        let all = self.store().deliveries(tenant.clone(), filter).await.expect("deliveries");
        let found = all.get((step.pick * 8 + step.more) % all.len().max(1));
        found.map_or(DeliveryId(self.names.id(0)), |one| one.id)
    }

    /// Returns the id of an event of the tenant, or of anything else.
    async fn some_event(&self, tenant: &TenantId, step: &TwinStep) -> EventId {
        if step.more == 7 {
            return EventId(self.names.id(step.pick * 5));
        }
        let filter = EventFilter { limit: 50, ..EventFilter::default() };
        let all = self.store().events(tenant.clone(), filter).await.expect("events");
        let found = all.get((step.pick * 8 + step.more) % all.len().max(1));
        found.map_or(EventId(self.names.id(0)), |one| one.id)
    }

    async fn list_deliveries(&mut self, tenant: &TenantId, step: &TwinStep) -> String {
        let TwinStep { pick, more, .. } = *step;
        let subscription = self.subscription(tenant, pick).map(|one| one.id).filter(|_| more & 1 > 0);
        let state = (more & 2 > 0).then(|| DeliveryState::ALL[pick % 5]);
        let event = if more & 4 > 0 { Some(self.some_event(tenant, step).await) } else { None };
        let before = if pick > 3 { Some(self.some_delivery(tenant, step).await) } else { None };
        let among = if pick % 4 == 2 { Some(vec![self.some_event(tenant, step).await]) } else { None };
        let span = (pick % 3 == 1).then(|| span(more));
        let filter = DeliveryFilter { subscription, state, event, among, span, before, limit: pick };
        told(self.store().deliveries(tenant.clone(), filter).await)
    }

    async fn list_events(&mut self, tenant: &TenantId, step: &TwinStep) -> String {
        let TwinStep { pick, more, .. } = *step;
        let filter = EventFilter {
            module: (more & 1 > 0).then(|| Module::ALL[pick % 3]),
            name: (more & 2 > 0).then(|| event(pick).name),
            entity_id: (more & 4 > 0).then(|| (pick % 3).to_string()),
            span: (pick > 4).then(|| span(more)),
            text: (pick % 4 == 3).then(|| more.to_string()),
            before: if pick % 3 == 2 { Some(self.some_event(tenant, step).await) } else { None },
            limit: pick + 1,
        };
        told(self.store().events(tenant.clone(), filter).await)
    }

    async fn read_event(&mut self, tenant: &TenantId, step: &TwinStep) -> String {
        let store = self.store();
        let id = self.some_event(tenant, step).await;
        let view = store.event(tenant.clone(), id).await;
        let mut text = match &view {
            Ok(view) => told(store.previous(tenant.clone(), &view.event).await),
            Err(_) => String::new(),
        };
        text += &told(view);
        let earlier = store.earlier_ones(tenant.clone(), id).await;
        text += &told(earlier.map(|found| found.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
        let attempts = store.attempts_of_event(tenant.clone(), id).await;
        text += &told(attempts.map(|found| found.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
        // A store may have an event that is gone in a cache.
        if let Some((delivery, _)) = self.recorded.get(step.pick)
            && store.event(delivery.tenant.clone(), delivery.event).await.is_ok()
        {
            text += &told(store.event_of(delivery).await);
        }
        text
    }

    async fn read_changes(&self, tenant: &TenantId, step: &TwinStep) -> String {
        let TwinStep { pick, more, .. } = *step;
        let store = self.store();
        let log = (more < 6).then(|| tenant.clone());
        let mut before = None;
        let mut text = String::new();
        for _ in 0..3 {
            let page = store.changes(log.clone(), before, pick).await;
            before = page.as_ref().ok().and_then(|(changes, _)| changes.last()).map(|last| last.id);
            text += &told(page);
        }
        text
    }
}
