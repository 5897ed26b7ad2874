//! Part of a transaction that records outcomes of attempts.
//!
//! # Guarantees
//! - A write of this kind has no savepoint. It can update the delivery of its attempt, write the attempt, and run the queries of
//!   [`OutcomeQuery`], and nothing else.

use super::{Count, HotStatement, Transaction};
use crate::backend::lanes::OutcomeColumns;
use crate::counted_tables::ATTEMPT_BYTES;
use crate::usage::UsageKind;
use hookloom_model::delivery::{DeliveryState, DueDelivery};
use hookloom_model::subscription::TenantId;
use rusqlite::{Params, params};

/// Query whose answer an outcome depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeQuery {
    /// Finds a delivery.
    Delivery,
    /// Finds a subscription whose config has a generation.
    Generation,
    /// Finds a plugin whose active version has a sha256.
    ActiveVersion,
}

impl OutcomeQuery {
    fn sql(self) -> &'static str {
        match self {
            OutcomeQuery::Delivery => "SELECT 1 FROM deliveries WHERE tenant = ?1 AND id = ?2",
            OutcomeQuery::Generation => "SELECT 1 FROM subscriptions WHERE tenant = ?1 AND id = ?2 AND generation = ?3",
            OutcomeQuery::ActiveVersion => {
                "SELECT 1 FROM plugins WHERE tenant = ?1 AND name = ?2 AND active_sha256 = ?3"
            }
        }
    }
}

/// Transaction, as a write sees it that records the outcome of an attempt.
#[derive(Clone, Copy)]
pub(crate) struct OutcomeTx<'t, 'c>(pub(super) &'t Transaction<'c>);

impl OutcomeTx<'_, '_> {
    /// Returns true if a query finds a row.
    pub(crate) fn exists(&self, query: OutcomeQuery, params: impl Params) -> rusqlite::Result<bool> {
        self.0.connection.prepare_cached(query.sql())?.exists(params)
    }

    /// Writes an attempt and counts it. Overwrites an attempt of the same number, which did not count, so that a plugin that always
    /// returns `later` cannot fill the disk.
    pub(crate) fn write_attempt(
        &self,
        tenant: &TenantId,
        delivery: uuid::Uuid,
        number: u32,
        detail: &str,
    ) -> rusqlite::Result<()> {
        let row = params![&*tenant.0, delivery, number, detail];
        if self.0.execute_hot(HotStatement::Attempt, row)? == 0 {
            self.0.forget_before();
            return self.0.execute_hot(HotStatement::AttemptAgain, row).map(drop);
        }
        let bytes = ATTEMPT_BYTES + detail.len() as u64;
        self.0.count(Count { tenant: tenant.clone(), kind: UsageKind::Attempts, bytes, payload: None });
        Ok(())
    }

    /// Writes the outcome of an attempt to a pending delivery. Returns false if the delivery is no longer pending, or if this outcome was
    /// written before: an outcome whose commit is unknown can be written again.
    pub(crate) fn write_outcome(
        &self,
        delivery: &DueDelivery,
        columns: &OutcomeColumns<'_>,
        reason: Option<&str>,
        now_ms: i64,
    ) -> rusqlite::Result<bool> {
        let tenant = &*delivery.tenant.0;
        let id = delivery.id.0;
        let made = delivery.attempts_made;
        let OutcomeColumns { state, due_at_ms, awaiting_plugin, counts, .. } = *columns;
        let state = state as u8;
        if reason.is_none() {
            let outcome = params![tenant, id, state, due_at_ms, awaiting_plugin, counts, now_ms, made];
            if self.0.execute_hot(HotStatement::OutcomeWithoutReason, outcome)? > 0 {
                self.count_ended(delivery, state);
                return Ok(true);
            }
        }
        self.0.forget_before();
        let outcome = params![tenant, id, state, due_at_ms, awaiting_plugin, counts, now_ms, made, reason];
        let was_pending = self.0.execute_hot(HotStatement::Outcome, outcome)? > 0;
        if was_pending {
            self.count_ended(delivery, state);
        }
        Ok(was_pending)
    }

    fn count_ended(&self, delivery: &DueDelivery, state: u8) {
        if state != DeliveryState::Pending as u8 {
            self.0.count_pending(&delivery.tenant, delivery.subscription, -1);
        }
    }
}
