//! Outcomes of attempts: the delivery and the attempt, in one transaction.

use super::Postgres;
use super::rows::{int, state};
use super::sql_param::SqlParams;
use super::together::{Entry, Member};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::lanes::{AttemptRecord, OutcomeBackend, OutcomeColumns};
use crate::fair_queue::Owner;
use crate::host_state::HostState;
use crate::write_queue::{Terms, WriteMode, payload_rows};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Arm, Attempt, DeliveryState, DueDelivery, Reason};
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl OutcomeBackend for Postgres {
    async fn record(&self, delivery: &DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        // Not by the writer, for which all other writes wait.
        let detail = detail(&record.attempt)?;
        let terms = Terms { owner: Owner::from(&delivery.tenant), rows: 2 + payload_rows(detail.len()) };
        let outcome = Outcome { delivery: delivery.clone(), record, detail };
        self.writer.run_together(WriteMode::Outcome, terms, outcome).await
    }

    async fn give_up(&self, delivery: &DueDelivery, reason: Reason) -> Result<(), StoreError> {
        let delivery = delivery.clone();
        self.write(Owner::from(&delivery.tenant), move |tx| {
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

/// Outcome of an attempt.
pub(super) struct Outcome {
    delivery: DueDelivery,
    record: Arc<AttemptRecord>,
    /// Stored text of the attempt.
    detail: String,
}

#[async_trait]
impl Member for Outcome {
    type Value = ();

    async fn run_all(tx: &WriteTx, members: &mut [Entry<'_, Self>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let mut rows = OutcomeRows::default();
        for entry in members.iter() {
            let Outcome { delivery, record, detail } = &*entry.member;
            let is_current = !record.awaits_plugin() || is_current(tx, delivery, &record.attempt).await?;
            let _clock = entry.enter_clock();
            rows.add(delivery, record, detail, is_current)?;
        }
        rows.write(tx).await?;
        Ok(members.iter().map(|_| Ok(())).collect())
    }

    fn publish(_: &HostState, (): &mut ()) {}
}

/// Updates a delivery after an attempt. `detail` is the stored text of the attempt.
pub(super) async fn record_one(
    tx: &WriteTx,
    delivery: &DueDelivery,
    record: &AttemptRecord,
    detail: &str,
) -> Result<(), StoreError> {
    let is_current = !record.awaits_plugin() || is_current(tx, delivery, &record.attempt).await?;
    let mut rows = OutcomeRows::default();
    rows.add(delivery, record, detail, is_current)?;
    rows.write(tx).await
}

/// Outcomes of attempts, column by column.
#[derive(Default)]
struct OutcomeRows<'r> {
    deliveries: Vec<&'r DueDelivery>,
    tenants: Vec<&'r str>,
    ids: Vec<Uuid>,
    states: Vec<i16>,
    due_times: Vec<i64>,
    awaiting: Vec<bool>,
    /// 1: the attempt is one of the delivery's budget.
    counts: Vec<i64>,
    reasons: Vec<Option<String>>,
    /// Number of attempts before this one.
    made: Vec<i64>,
    times: Vec<i64>,
    numbers: Vec<i64>,
    details: Vec<&'r str>,
}

impl<'r> OutcomeRows<'r> {
    fn add(
        &mut self,
        delivery: &'r DueDelivery,
        record: &'r AttemptRecord,
        detail: &'r str,
        is_current: bool,
    ) -> Result<(), StoreError> {
        let OutcomeColumns { state, due_at_ms, awaiting_plugin, counts, reason } = record.columns(is_current);
        self.reasons.push(reason.map(Reason::to_bounded_json).transpose()?);
        self.deliveries.push(delivery);
        self.tenants.push(&delivery.tenant.0);
        self.ids.push(delivery.id.0);
        self.states.push(state as i16);
        self.due_times.push(due_at_ms);
        self.awaiting.push(awaiting_plugin);
        self.counts.push(i64::from(counts));
        self.made.push(int(delivery.attempts_made));
        self.times.push(now_ms());
        self.numbers.push(int(record.attempt.number));
        self.details.push(detail);
        Ok(())
    }

    /// Writes the outcomes to the deliveries that are pending, and the attempts of all that exist. An outcome that was written before
    /// changes nothing: one whose commit is unknown can be written again.
    async fn write(&self, tx: &WriteTx) -> Result<(), StoreError> {
        let in_deliveries = self.update(tx).await?;
        let others = |index: &usize| !in_deliveries.contains(&self.ids[*index]);
        let others: Vec<usize> = (0..self.ids.len()).filter(others).collect();
        if others.is_empty() {
            return Ok(());
        }
        // A delivery that ended meanwhile keeps the attempt. A deleted one does not. An attempt that did not count is replaced by the
        // next one of the same number, so that a plugin that always returns `later` cannot fill the disk.
        let sql = "INSERT INTO attempts (tenant, delivery, number, detail)
                   SELECT a.tenant, a.delivery, a.number, a.detail
                   FROM unnest($1::text[], $2::uuid[], $3::int8[], $4::text[]) AS a (tenant, delivery, number, detail)
                   JOIN deliveries d ON d.tenant = a.tenant AND d.id = a.delivery
                   WHERE d.last_attempt IS DISTINCT FROM a.detail
                   ON CONFLICT (tenant, delivery, number) DO UPDATE SET detail = EXCLUDED.detail";
        let tenants: Vec<&str> = others.iter().map(|index| self.tenants[*index]).collect();
        let ids: Vec<Uuid> = others.iter().map(|index| self.ids[*index]).collect();
        let numbers: Vec<i64> = others.iter().map(|index| self.numbers[*index]).collect();
        let details: Vec<&str> = others.iter().map(|index| self.details[*index]).collect();
        tx.execute(sql, &[&tenants, &ids, &numbers, &details]).await.map(drop)
    }

    /// Updates the deliveries that are pending, and returns those whose row has the attempt: it has the one that ends a delivery first,
    /// which spares a row of `attempts` and its entry in the index for almost all deliveries.
    async fn update(&self, tx: &WriteTx) -> Result<HashSet<Uuid>, StoreError> {
        let sql = "UPDATE deliveries d SET state = o.state, due_at_ms = o.due_at_ms, awaiting_plugin = o.awaiting_plugin,
                          attempts_made = d.attempts_made + o.counts, budget_spent = d.budget_spent + o.counts, reason = o.reason,
                          updated_at_ms = o.at_ms,
                          last_attempt = CASE WHEN o.state > 0 THEN coalesce(d.last_attempt, o.detail) ELSE d.last_attempt END
                   FROM unnest($1::text[], $2::uuid[], $3::int2[], $4::int8[], $5::bool[], $6::int8[], $7::text[], $8::int8[], $9::int8[],
                               $10::text[])
                     AS o (tenant, id, state, due_at_ms, awaiting_plugin, counts, reason, made, at_ms, detail)
                   WHERE d.tenant = o.tenant AND d.id = o.id AND d.state = 0 AND d.attempts_made = o.made
                   RETURNING d.id, d.state, coalesce(d.last_attempt = o.detail, false)";
        let Self { tenants, ids, states, due_times, awaiting, counts, reasons, made, times, details, .. } = self;
        let params: SqlParams<'_> = &[tenants, ids, states, due_times, awaiting, counts, reasons, made, times, details];
        let mut ended = HashSet::new();
        let mut in_deliveries = HashSet::new();
        for row in tx.query(sql, params).await? {
            let id: Uuid = row.try_get(0)?;
            if state(row.try_get(1)?) != DeliveryState::Pending {
                ended.insert(id);
            }
            if row.try_get(2)? {
                in_deliveries.insert(id);
            }
        }
        for delivery in self.deliveries.iter().filter(|delivery| ended.contains(&delivery.id.0)) {
            tx.count_pending(&delivery.tenant, delivery.subscription, -1);
        }
        Ok(in_deliveries)
    }
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
