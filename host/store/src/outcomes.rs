//! Outcomes of attempts: the end of a claim.
//!
//! # Guarantees
//! - An outcome that is recorded is durable when the function returns, and its claim has ended.
//! - An outcome that is not recorded leaves the claim to the caller, who can try again.
//! - A delivery that ended meanwhile keeps its state, and the attempt is added to it.
//! - An outcome that counts changes its delivery once, even if it is recorded again because the first commit is unknown.

use super::audit::Actor;
use super::batch::{AdminTx, OutcomeQuery, OutcomeTx};
use super::claims::Claim;
use super::fair_queue::Owner;
use super::writer::{Terms, payload_rows};
use super::{StateChange, Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Arm, Attempt, DeliveryState, DueDelivery, Reason};
use hookloom_model::retry::Next;
use rusqlite::params;
use std::sync::Arc;

/// Attempt and its consequences.
#[derive(Debug)]
pub struct AttemptRecord {
    /// The attempt.
    pub attempt: Attempt,
    /// Consequence for the delivery.
    pub next: Next,
    /// Latest time at which the delivery may be attempted, in milliseconds since the epoch.
    pub age_end_ms: i64,
    /// Reason to disable the subscription, if the attempt does so.
    pub disables: Option<Reason>,
}

/// Claim whose outcome could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("an outcome could not be recorded")]
pub struct Unfinished {
    /// The claim, which still holds the delivery.
    pub claim: Claim,
    /// Cause of the failure.
    #[source]
    pub error: StoreError,
}

impl Unfinished {
    /// Ends the claim if the write succeeded, and returns it otherwise.
    fn unless(written: Result<(), StoreError>, claim: Claim) -> Result<(), Box<Unfinished>> {
        written.map_err(|error| Box::new(Unfinished { claim, error }))
    }
}
impl Store {
    /// Records an attempt, updates its delivery, disables the subscription if required, and ends the claim. Durable when it returns.
    ///
    /// # Errors
    /// The claim is returned with the error, so that the caller can try again.
    pub async fn finish(&self, claim: Claim, record: Arc<AttemptRecord>) -> Result<(), Box<Unfinished>> {
        Unfinished::unless(self.record(claim.delivery().clone(), record).await, claim)
    }

    async fn record(&self, delivery: DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        // Not on the writer's thread, for which all other writes wait.
        let detail = detail(&record.attempt)?;
        let Some(reason) = record.disables.clone() else {
            let owner = Owner::from(&delivery.tenant);
            let terms = Terms { owner, rows: 2 + payload_rows(detail.len()) };
            let detail: Arc<str> = detail.into();
            let delivery_too = delivery.clone();
            let record_too = record.clone();
            let detail_too = detail.clone();
            let write = move |tx: &OutcomeTx<'_, '_>| record_one(tx, &delivery_too, &record_too, Some(&detail_too));
            return match self.writer.outcome(terms.clone(), write).await {
                Err(error) if error.is_damage() => self.record_beside_damage(delivery, record, detail, terms).await,
                recorded => recorded,
            };
        };
        let tenant = delivery.tenant.clone();
        let id = delivery.subscription;
        let catalog = self.catalog.clone();
        let change = StateChange::Disable { reason, generation: Some(record.attempt.config_generation) };
        let write = move |tx: &AdminTx<'_, '_>| {
            let current = catalog.subscription_by_id(delivery.subscription);
            if current.is_some_and(|current| current.generation == record.attempt.config_generation) {
                return record_one(&tx.outcome(), &delivery, &record, Some(&detail));
            }
            // The receiver of an earlier config wants no more webhooks. The present one has not been asked.
            let AttemptRecord { attempt, age_end_ms, .. } = &*record;
            let reason = Reason::new("config-changed", "the receiver of the previous configuration answered 410 Gone");
            let next = Next::Again { at_ms: now_ms(), counts: true, reason };
            let attempt = attempt.clone();
            let age_end_ms = *age_end_ms;
            let instead = AttemptRecord { attempt, next, age_end_ms, disables: None };
            record_one(&tx.outcome(), &delivery, &instead, Some(&detail))
        };
        self.set_state_after(write, Actor::Host, &tenant, id, change).await
    }

    /// Ends a pending delivery without an attempt, and its claim.
    ///
    /// # Errors
    /// The claim is returned with the error, as by [`Store::finish`].
    pub async fn give_up(&self, claim: Claim, reason: Reason) -> Result<(), Box<Unfinished>> {
        Unfinished::unless(self.end_unattempted(claim.delivery(), reason).await, claim)
    }

    async fn end_unattempted(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let tenant = delivery.tenant.clone();
        let id = delivery.id;
        let subscription = delivery.subscription;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE deliveries SET state = ?3, due_at_ms = 0, reason = ?4, updated_at_ms = ?5 WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let reason = reason.to_bounded_json()?;
            let ended = params![&*tenant.0, id.0, DeliveryState::Dead as u8, reason, now_ms()];
            let count = tx.prepare_cached(sql)?.execute(ended)?;
            tx.count_pending(&tenant, subscription, -(count as i64));
            Ok(())
        };
        self.write(&delivery.tenant, write).await
    }
}

/// Returns the stored text of an attempt. Texts have similar sizes, so capacity is reserved once.
fn detail(attempt: &Attempt) -> Result<String, StoreError> {
    let mut detail = Vec::with_capacity(2_048);
    serde_json::to_writer(&mut detail, attempt)?;
    String::from_utf8(detail).map_err(|error| StoreError::Corrupt(serde::ser::Error::custom(error)))
}

/// Updates a delivery after an attempt. `detail` is the stored text of the attempt, if it can be written.
pub(super) fn record_one(
    tx: &OutcomeTx<'_, '_>,
    delivery: &DueDelivery,
    record: &AttemptRecord,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    let AttemptRecord { attempt, next, age_end_ms, .. } = record;
    let (state, due_at_ms, awaiting, counts, reason) = match next {
        // The version or config that the delivery should wait for may have come during the attempt.
        Next::AwaitPlugin { reason } if !is_current(tx, delivery, attempt)? => {
            (DeliveryState::Pending, now_ms(), false, true, Some(reason))
        }
        Next::End { state, reason } => (*state, 0, false, true, reason.as_ref()),
        Next::Again { at_ms, counts, reason } => (DeliveryState::Pending, *at_ms, false, *counts, Some(reason)),
        Next::AwaitPlugin { reason } => (DeliveryState::Pending, *age_end_ms, true, true, Some(reason)),
    };
    let reason = reason.map(Reason::to_bounded_json).transpose()?;
    let columns = (state as u8, due_at_ms, awaiting, u8::from(counts));
    let was_pending = tx.write_outcome(delivery, columns, reason.as_deref(), now_ms())?;
    // A delivery that ended meanwhile keeps the attempt. A deleted one does not.
    if let Some(detail) = detail
        && (was_pending || tx.exists(OutcomeQuery::Delivery, params![&*delivery.tenant.0, delivery.id.0])?)
    {
        tx.write_attempt(&delivery.tenant, delivery.id.0, attempt.number, detail)?;
    }
    Ok(())
}

/// Returns true if the plugin version and config that judged an attempt are still the active ones.
fn is_current(tx: &OutcomeTx<'_, '_>, delivery: &DueDelivery, attempt: &Attempt) -> Result<bool, StoreError> {
    let tenant = &*delivery.tenant.0;
    let generation = attempt.config_generation;
    if !tx.exists(OutcomeQuery::Generation, params![tenant, delivery.subscription.0, generation])? {
        return Ok(false);
    }
    for step in attempt.steps.iter().filter(|step| step.arm == Arm::Active) {
        if !tx.exists(OutcomeQuery::ActiveVersion, params![tenant, step.plugin, step.sha256])? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttemptClass, Caps, NewEvent, NewSubscription, TenantChange};
    use bytes::Bytes;
    use hookloom_model::event::Module;
    use hookloom_model::subscription::{LoadedSettings, TenantId};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn an_outcome_that_is_recorded_again_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = Store::open(folder.path()).expect("a store");
        let tenant = TenantId("t".into());
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"]});
        let settings = LoadedSettings::new(serde_json::from_value(settings).expect("settings"), BTreeMap::new());
        let new = NewSubscription { settings: settings.expect("a URL"), signing: Vec::new() };
        let subscription = store.create_subscription(Actor::Host, tenant.clone(), new).await.expect("a subscription");
        let payload = Bytes::from_static(b"{}");
        let event = NewEvent { name: "Contact is Created".into(), module: Module::Contact, entity_id: None, payload };
        store.accept(tenant.clone(), vec![event], Caps::NONE).await.expect("accepted");

        let mut page = store.claim_due(&subscription, AttemptClass::First, 1).await.expect("a page");
        let claim = page.due.pop().expect("the delivery").claim;
        let delivery = claim.delivery().clone();
        let attempt = json!({"number": 1, "started_at_ms": 0, "config_generation": 1, "outcome": "delivered", "echoed": false, "log": []});
        let record = Arc::new(AttemptRecord {
            attempt: serde_json::from_value(attempt).expect("an attempt"),
            next: Next::Again { at_ms: 0, counts: true, reason: Reason::new("status", "500") },
            age_end_ms: i64::MAX,
            disables: None,
        });
        store.record(delivery.clone(), record.clone()).await.expect("recorded, but the answer was lost");
        store.finish(claim, record).await.expect("recorded again");
        let (view, attempts) = store.delivery(tenant, delivery.id).await.expect("the delivery");
        assert_eq!((view.attempts_made, attempts.len()), (1, 1));
        let again = store.claim_due(&subscription, AttemptClass::Retry, 1).await.expect("a page").due;
        assert_eq!(again[0].delivery().attempts_in_budget, 1);
    }
}
