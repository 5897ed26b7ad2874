//! Outcomes of attempts: the delivery and the attempt, in one transaction.

use super::Sqlite;
use super::batch::{AdminTx, OutcomeQuery, OutcomeTx};
use crate::StoreError;
use crate::backend::lanes::{AttemptRecord, OutcomeBackend};
use crate::fair_queue::Owner;
use crate::write_queue::{Terms, payload_rows};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Arm, Attempt, DeliveryState, DueDelivery, Reason};
use rusqlite::params;
use std::sync::Arc;

#[async_trait]
impl OutcomeBackend for Sqlite {
    async fn record(&self, delivery: &DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        // Not on the writer's thread, for which all other writes wait.
        let detail: Arc<str> = detail(&record.attempt)?.into();
        let terms = Terms { owner: Owner::from(&delivery.tenant), rows: 2 + payload_rows(detail.len()) };
        let written = delivery.clone();
        let record_too = record.clone();
        let detail_too = detail.clone();
        let write = move |tx: &OutcomeTx<'_, '_>| record_one(tx, &written, &record_too, Some(&detail_too));
        match self.writer.outcome(terms.clone(), write).await {
            Err(error) if error.is_damage() => self.record_beside_damage(delivery.clone(), record, detail, terms).await,
            recorded => recorded,
        }
    }

    async fn give_up(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let tenant = delivery.tenant.clone();
        let id = delivery.id;
        let subscription = delivery.subscription;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql =
                "UPDATE deliveries SET state = ?3, due_at_ms = 0, awaiting_plugin = 0, reason = ?4, updated_at_ms = ?5
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
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
pub(super) fn detail(attempt: &Attempt) -> Result<String, StoreError> {
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
    let is_current = !record.awaits_plugin() || is_current(tx, delivery, &record.attempt)?;
    let columns = record.columns(is_current);
    let reason = columns.reason.map(Reason::to_bounded_json).transpose()?;
    let was_pending = tx.write_outcome(delivery, &columns, reason.as_deref(), now_ms())?;
    // A delivery that ended meanwhile keeps the attempt. A deleted one does not.
    if let Some(detail) = detail
        && (was_pending || tx.exists(OutcomeQuery::Delivery, params![&*delivery.tenant.0, delivery.id.0])?)
    {
        tx.write_attempt(&delivery.tenant, delivery.id.0, record.attempt.number, detail)?;
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
    use crate::{Actor, AttemptClass, Caps, NewEvent, NewSubscription, Store, TenantChange};
    use bytes::Bytes;
    use hookloom_model::event::Module;
    use hookloom_model::retry::Next;
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
        store.record(&delivery, record.clone()).await.expect("recorded, but the answer was lost");
        store.finish(claim, record).await.expect("recorded again");
        let (view, attempts) = store.delivery(tenant, delivery.id).await.expect("the delivery");
        assert_eq!((view.attempts_made, attempts.len()), (1, 1));
        let again = store.claim_due(&subscription, AttemptClass::Retry, 1).await.expect("a page").due;
        assert_eq!(again[0].delivery().attempts_in_budget, 1);
    }
}
