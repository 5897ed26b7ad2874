//! Outcomes of attempts: the delivery and the attempt, in one transaction.

use super::Postgres;
use super::rows::int;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::lanes::{AttemptRecord, OutcomeBackend, OutcomeColumns};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Arm, Attempt, DeliveryState, DueDelivery, Reason};
use std::sync::Arc;

#[async_trait]
impl OutcomeBackend for Postgres {
    async fn record(&self, delivery: &DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        // Not by the writer, for which all other writes wait.
        let detail = detail(&record.attempt)?;
        let delivery = delivery.clone();
        self.write(move |tx| Box::pin(async move { record_one(tx, &delivery, &record, &detail).await })).await
    }

    async fn give_up(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let delivery = delivery.clone();
        self.write(move |tx| {
            Box::pin(async move {
                let sql = "UPDATE deliveries SET state = $3, due_at_ms = 0, awaiting_plugin = false, reason = $4, updated_at_ms = $5
                           WHERE tenant = $1 AND id = $2 AND state = 0";
                let reason = reason.to_bounded_json()?;
                let dead = DeliveryState::Dead as i16;
                let ended = tx.execute(sql, &[&&*delivery.tenant.0, &delivery.id.0, &dead, &reason, &now_ms()]).await?;
                tx.count_pending(&delivery.tenant, delivery.subscription, -int(ended));
                Ok(())
            })
        })
        .await
    }
}

/// Returns the stored text of an attempt.
pub(super) fn detail(attempt: &Attempt) -> Result<String, StoreError> {
    Ok(serde_json::to_string(attempt)?)
}

/// Updates a delivery after an attempt. `detail` is the stored text of the attempt.
pub(super) async fn record_one(
    tx: &WriteTx,
    delivery: &DueDelivery,
    record: &AttemptRecord,
    detail: &str,
) -> Result<(), StoreError> {
    let is_current = !record.awaits_plugin() || is_current(tx, delivery, &record.attempt).await?;
    let was_pending = write_outcome(tx, delivery, &record.columns(is_current)).await?;
    // A delivery that ended meanwhile keeps the attempt. A deleted one does not.
    let sql = "SELECT 1 FROM deliveries WHERE tenant = $1 AND id = $2";
    if was_pending || tx.exists(sql, &[&&*delivery.tenant.0, &delivery.id.0]).await? {
        // An attempt that did not count is replaced by the next one of the same number, so that a plugin that always returns
        // `later` cannot fill the disk.
        let sql = "INSERT INTO attempts (tenant, delivery, number, detail) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (tenant, delivery, number) DO UPDATE SET detail = EXCLUDED.detail";
        let number = int(record.attempt.number);
        tx.execute(sql, &[&&*delivery.tenant.0, &delivery.id.0, &number, &detail]).await?;
    }
    Ok(())
}

/// Writes the outcome of an attempt to a pending delivery. Returns false if the delivery is no longer pending, or if this outcome was
/// written before: an outcome whose commit is unknown can be written again.
async fn write_outcome(tx: &WriteTx, delivery: &DueDelivery, columns: &OutcomeColumns<'_>) -> Result<bool, StoreError> {
    let OutcomeColumns { state, due_at_ms, awaiting_plugin, counts, reason } = *columns;
    let reason = reason.map(Reason::to_bounded_json).transpose()?;
    let sql =
        "UPDATE deliveries SET state = $3, due_at_ms = $4, awaiting_plugin = $5, attempts_made = attempts_made + $6,
                      budget_spent = budget_spent + $6, updated_at_ms = $7, reason = $9
               WHERE tenant = $1 AND id = $2 AND state = 0 AND attempts_made = $8";
    let tenant = &*delivery.tenant.0;
    let number = state as i16;
    let counts = i64::from(counts);
    let made = int(delivery.attempts_made);
    let now_ms = now_ms();
    let changed = tx
        .execute(
            sql,
            &[&tenant, &delivery.id.0, &number, &due_at_ms, &awaiting_plugin, &counts, &now_ms, &made, &reason],
        )
        .await?;
    if changed > 0 && state != DeliveryState::Pending {
        tx.count_pending(&delivery.tenant, delivery.subscription, -1);
    }
    Ok(changed > 0)
}

/// Returns true if the plugin version and config that judged an attempt are still the active ones.
async fn is_current(tx: &WriteTx, delivery: &DueDelivery, attempt: &Attempt) -> Result<bool, StoreError> {
    let tenant = &*delivery.tenant.0;
    let generation = int(attempt.config_generation);
    let sql = "SELECT 1 FROM subscriptions WHERE tenant = $1 AND id = $2 AND generation = $3";
    if !tx.exists(sql, &[&tenant, &delivery.subscription.0, &generation]).await? {
        return Ok(false);
    }
    for step in attempt.steps.iter().filter(|step| step.arm == Arm::Active) {
        let sql = "SELECT 1 FROM plugins WHERE tenant = $1 AND name = $2 AND active_sha256 = $3";
        if !tx.exists(sql, &[&tenant, &step.plugin, &step.sha256]).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
