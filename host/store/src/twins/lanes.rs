//! Intake of events, claims, and outcomes of attempts.

use super::operation::{TwinStep, TwinWhat};
use super::side::{BULK, TENANTS, TwinSide, shown, told};
use crate::backend::intake::{IntakeAnswer, IntakeRequest};
use crate::{AttemptClass, AttemptRecord, Due, NewEvent, Repeatable};
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Attempt, DeliveryState, DueDelivery, Reason};
use hookloom_model::event::Module;
use hookloom_model::ids;
use hookloom_model::retry::Next;
use hookloom_model::subscription::TenantId;
use serde_json::json;
use std::sync::Arc;

/// Events of the few entities that the cases have: contacts, deals, and contacts without an id.
pub(super) fn event(pick: usize) -> NewEvent {
    let module = if pick.is_multiple_of(4) { Module::Deal } else { Module::Contact };
    NewEvent {
        name: if pick.is_multiple_of(2) { "Contact is Created".into() } else { "Contact is Updated".into() },
        module,
        entity_id: (pick != 7).then(|| (pick % 3).to_string()),
        payload: Bytes::from(format!("{{\"eventData\": {{\"n\": {pick}}}}}")),
    }
}

pub(super) fn tenant_of(step: &TwinStep) -> TenantId {
    TenantId(TENANTS[usize::from(step.tenant)].into())
}

/// Text of a component, and its sha256.
pub(super) fn component(number: usize) -> (Bytes, String) {
    use sha2::Digest as _;
    let bytes = Bytes::from(format!("component {number}"));
    let sha256 = hex::encode(sha2::Sha256::digest(&bytes));
    (bytes, sha256)
}

impl TwinSide {
    /// Runs an operation of a lane. None: it is of another kind.
    pub(super) async fn deliver(&mut self, step: &TwinStep) -> Option<String> {
        let TwinStep { what, pick, more, .. } = *step;
        Some(match what {
            TwinWhat::Accept
            | TwinWhat::AcceptMany
            | TwinWhat::AcceptOnce
            | TwinWhat::AcceptInSteps
            | TwinWhat::AcceptBulk => self.take_in(step).await,
            TwinWhat::Claim => self.claim(step, more % 4).await,
            TwinWhat::Finish => match self.take_held(step).await {
                Some(due) => self.finish(due, more, None).await,
                None => "no claim".into(),
            },
            TwinWhat::FinishDisabling => match self.take_held(step).await {
                Some(due) => self.finish(due, more, Some(Reason::new("gone", "wants no more"))).await,
                None => "no claim".into(),
            },
            TwinWhat::FinishTwice => match self.take_held(step).await {
                Some(due) => {
                    let record = self.record_of(due.delivery(), more, None);
                    let first = told(self.store().record(due.delivery(), record.clone()).await);
                    first + &told(self.store().finish(due.claim, record).await.map_err(|unfinished| unfinished.error))
                }
                None => "no claim".into(),
            },
            TwinWhat::RecordOld => match self.recorded.get(pick % self.recorded.len().max(1)).cloned() {
                Some((delivery, record)) => told(self.store().record(&delivery, record).await),
                None => "no record".into(),
            },
            TwinWhat::AwaitAll | TwinWhat::Delay => self.finish_all(step).await,
            TwinWhat::GiveUp => match self.take_held(step).await {
                Some(due) => {
                    let reason = Reason::new("test", "m".repeat(more * 1_000));
                    told(self.store().give_up(due.claim, reason).await.map_err(|unfinished| unfinished.error))
                }
                None => "no claim".into(),
            },
            TwinWhat::Release => match self.take_held(step).await {
                Some(due) => {
                    due.claim.release();
                    "released".into()
                }
                None => "no claim".into(),
            },
            _ => return None,
        })
    }

    async fn take_in(&mut self, step: &TwinStep) -> String {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let store = self.store();
        let few: Vec<NewEvent> = (0..=more % 3).map(|nth| event(pick + nth)).collect();
        match what {
            TwinWhat::AcceptMany => told(store.accept(tenant, few, self.share).await),
            TwinWhat::AcceptOnce => {
                let body_sha256 = [u8::from(more % 4 == 3); 32];
                let request = Repeatable { key: format!("key {}", pick % 2), body_sha256 };
                told(store.accept_once(request, tenant, few, self.share).await)
            }
            TwinWhat::AcceptInSteps => {
                let receivers = store.catalog().receivers(&tenant).match_events(&few).await;
                let steps = Some(ids::new_uuid());
                let caps = self.share;
                let request = IntakeRequest { tenant, events: few, receivers, caps, once: None, steps, replaces: None };
                match store.backend.accept(request).await {
                    Ok(IntakeAnswer::Accepted(events)) => format!("{events:?}"),
                    Ok(other) => format!("not accepted: {other:?}"),
                    Err(error) => told::<()>(Err(error)),
                }
            }
            TwinWhat::AcceptBulk => {
                // Few commits, of many events each.
                let events: Vec<NewEvent> = (0..BULK).map(|_| event(1 + pick)).collect();
                told(store.accept(tenant, events, self.share).await)
            }
            _ => told(store.accept(tenant, vec![event(pick)], self.share).await),
        }
    }

    async fn claim(&mut self, step: &TwinStep, limit: usize) -> String {
        let Some(subscription) = self.subscription(&tenant_of(step), step.pick) else {
            return "no subscription".into();
        };
        let class = if step.more < 4 { AttemptClass::First } else { AttemptClass::Retry };
        match self.store().claim_due(&subscription, class, limit).await {
            Ok(page) => {
                let text = format!("{:?} more {} next {:?}", shown(&page.due), page.more, page.next_due_at_ms);
                self.held.extend(page.due);
                text
            }
            Err(error) => told::<()>(Err(error)),
        }
    }

    /// Takes a claim. If there is none, the subscriptions of the tenant are asked for some.
    async fn take_held(&mut self, step: &TwinStep) -> Option<Due> {
        let store = self.store();
        if self.held.is_empty() {
            for subscription in store.catalog().subscriptions(&tenant_of(step)).iter() {
                for class in [AttemptClass::Retry, AttemptClass::First] {
                    let page = store.claim_due(subscription, class, 2).await.expect("a page");
                    self.held.extend(page.due);
                }
            }
        }
        if self.held.is_empty() { None } else { Some(self.held.remove(step.pick % self.held.len())) }
    }

    /// Finishes a claim, and returns the delivery with the answer.
    async fn finish(&mut self, due: Due, more: usize, disables: Option<Reason>) -> String {
        let record = self.record_of(due.delivery(), more, disables);
        format!("{:?} ", due.delivery())
            + &told(self.store().finish(due.claim, record).await.map_err(|unfinished| unfinished.error))
    }

    /// Ends all claims of a subscription and of what it has due: its deliveries wait for another config, or for a later time.
    async fn finish_all(&mut self, step: &TwinStep) -> String {
        let Some(subscription) = self.subscription(&tenant_of(step), step.pick) else {
            return "no subscription".into();
        };
        let held = std::mem::take(&mut self.held).into_iter();
        let (mut due, others): (Vec<Due>, Vec<Due>) =
            held.partition(|due| due.delivery().subscription == subscription.id);
        self.held = others;
        let page = self.store().claim_due(&subscription, AttemptClass::First, 1_000).await.expect("a page");
        due.extend(page.due);
        let more = if let TwinWhat::AwaitAll = step.what { 3 } else { 6 };
        let store = self.store();
        let records: Vec<_> = due.into_iter().map(|one| (self.record_of(one.delivery(), more, None), one)).collect();
        // All at once, so that they share a transaction.
        let finished = records.into_iter().map(|(record, one)| store.finish(one.claim, record));
        let finished = futures_util::future::join_all(finished).await;
        format!(
            "{:?}",
            finished.into_iter().map(|one| told(one.map_err(|unfinished| unfinished.error))).collect::<Vec<_>>()
        )
    }

    /// Returns the record of an attempt, and keeps it.
    fn record_of(&mut self, delivery: &DueDelivery, more: usize, disables: Option<Reason>) -> Arc<AttemptRecord> {
        let store = self.store();
        let current = store.catalog().subscription(&delivery.tenant, delivery.subscription);
        let generation = current.as_ref().map_or(1, |current| current.generation);
        let (_, sha256) = component(more % 2);
        let steps = json!([{"plugin": "p0", "sha256": sha256, "arm": "active", "verdict": "fault", "reason": null,
            "cost": {"wall_us": 1, "cpu_us": 1, "memory_bytes": 1, "host_calls": 0}}]);
        let is_old = more == 7;
        let attempt = json!({"number": delivery.attempts_made + 1, "started_at_ms": now_ms(), "outcome": "failed",
            "config_generation": generation.saturating_sub(u64::from(is_old)), "echoed": false, "log": ["one line"],
            "status": 500, "steps": if more == 4 || more == 5 { steps } else { json!([]) }});
        let attempt: Attempt = serde_json::from_value(attempt).expect("an attempt");
        let reason = Reason::new("test", "r".repeat(more * 700));
        let next = match more {
            0 => Next::End { state: DeliveryState::Delivered, reason: None },
            1 => Next::End { state: DeliveryState::Dead, reason: Some(reason) },
            2 => Next::End { state: DeliveryState::Dropped, reason: Some(reason) },
            3..=5 => Next::AwaitPlugin { reason },
            6 => Next::Again { at_ms: now_ms() + 60_000, counts: true, reason },
            _ => Next::Again { at_ms: now_ms(), counts: delivery.attempts_made.is_multiple_of(2), reason },
        };
        let record = Arc::new(AttemptRecord { attempt, next, age_end_ms: now_ms() + 5_400_000, disables });
        self.recorded.push((delivery.clone(), record.clone()));
        record
    }
}
