//! Retention: events are deleted after a time, in steps that do not delay other writes.
//!
//! # Guarantees
//! - An event is deleted with its deliveries and attempts once it is older than the retention and none of its deliveries is
//!   pending. Of a contact or a deal, the oldest event is deleted first, so that the history of a later event has no gap. The
//!   ledger keeps the numbers of deleted deliveries by state, so its law holds.
//! - A step occupies the writer for some milliseconds, and then lets other writes run for four times as long. An
//!   event with more deliveries than a step deletes needs several steps: its row is deleted last, and the ledger's law holds after
//!   each step.
//!
//! # Limits
//! Space in the file is reused, but the file does not shrink.

use crate::background::{let_others_write, wait};
use crate::{Store, StoreError};
use hookloom_model::clock::now_ms;
use std::time::Duration;

/// Maximum pause if there is nothing to delete.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Retention of idempotency keys, in milliseconds.
const KEYS_KEPT_MS: i64 = 7 * 86_400_000;

impl Store {
    /// Prunes events that are older than the retention, tenant by tenant, until the store stops. A retention of zero keeps all events.
    /// Idempotency keys are pruned after 7 days in any case.
    pub async fn run_retention(&self, retention: Duration) {
        loop {
            if let Err(error) = self.prune(retention).await {
                if matches!(error, StoreError::Stopped) {
                    return;
                }
                tracing::error!(error = %hookloom_model::describe(&error), "old events could not be pruned; trying again in a minute");
            }
            let idle = if retention.is_zero() { IDLE_MAX } else { IDLE_MAX.min(retention) };
            wait(idle).await;
        }
    }

    pub(crate) async fn prune(&self, retention: Duration) -> Result<(), StoreError> {
        let now_ms = now_ms();
        self.prune_idempotency_keys(now_ms - KEYS_KEPT_MS).await?;
        self.prune_bins().await?;
        for tenant in self.catalog().tenants() {
            self.end_leftovers(&tenant.id).await?;
        }
        self.flush_used_keys().await?;
        if retention.is_zero() {
            return Ok(());
        }
        let before_ms = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        for tenant in self.catalog().tenants() {
            let mut after = None;
            let mut pruned = 0;
            loop {
                let step = self.backend.prune_events(&tenant.id, after, before_ms).await?;
                pruned += step.pruned;
                match step.after {
                    next @ Some(_) => after = next,
                    None => break,
                }
                let_others_write(step.took).await;
            }
            if pruned > 0 {
                tracing::info!(tenant = %tenant.id, events = pruned, "old events were pruned");
            }
        }
        Ok(())
    }

    /// Deletes idempotency keys that were received before a time.
    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<(), StoreError> {
        loop {
            let step = self.backend.prune_idempotency_keys(before_ms).await?;
            if step.done {
                return Ok(());
            }
            let_others_write(step.took).await;
        }
    }
}
