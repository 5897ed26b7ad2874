//! Retention: what ended long ago goes, in steps so small that nobody notices.
//!
//! # Rules
//! - An event goes with its deliveries and attempts once it is older than the retention and none of its deliveries is
//!   pending. Of a contact or a deal the oldest event goes first, so that a later one never looks back past a gap. The ledger remembers how they ended, so its law holds over what is gone.
//! - A step holds the writer for [`STEP_MAX`](super::pruning::STEP_MAX) and then lets others write for four times as long. An event with more deliveries than
//!   a step deletes goes in several: its own row is the last, and the ledger's law holds after each of them.
//! - Space in the file is used again; the file does not shrink.

use super::background::let_others_write;
use super::batch::Batch;
use super::damage::RowKind;
use super::fair_queue::Owner;
use super::pruning::{PruneStep, Removal, prune_step};
use super::{Store, StoreError, now_ms};
use crate::subscription::TenantId;
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Maximum number of events that a step looks at.
const LOOK: usize = 256;

/// Maximum number of expired idempotency keys that one transaction deletes.
const KEYS: usize = 256;

/// Maximum pause when there is nothing left to do.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Retention of idempotency keys, in milliseconds.
const KEYS_KEPT_MS: i64 = 7 * 86_400_000;

impl Store {
    /// Prunes for ever: what is older than the retention, tenant by tenant; with a retention of zero nothing but idempotency
    /// keys, which are kept for 7 days in any case.
    pub async fn keep_house(&self, retention: Duration) {
        loop {
            if let Err(error) = self.prune(retention).await {
                if matches!(error, StoreError::Stopped) {
                    return;
                }
                tracing::error!(error = %crate::describe(&error), "old events could not be pruned; trying again in a minute");
            }
            let idle = if retention.is_zero() { IDLE_MAX } else { IDLE_MAX.min(retention) };
            tokio::time::sleep(idle).await;
        }
    }

    pub(super) async fn prune(&self, retention: Duration) -> Result<(), StoreError> {
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
            let mut after = Uuid::nil();
            let mut pruned = 0;
            loop {
                let step = self.prune_some(&tenant.id, after, before_ms).await?;
                pruned += step.pruned;
                match step.after {
                    Some(next) => after = next,
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

    /// Prunes the next events.
    async fn prune_some(&self, tenant: &TenantId, after: Uuid, before_ms: i64) -> Result<PruneStep, StoreError> {
        // A commit that fails makes every write of the next seconds commit alone: none where damage is known.
        if self.damage.is_known() {
            let next = self.next_events(tenant, after).await?;
            if next.iter().any(|id| self.damage.has(tenant, RowKind::Event, *id)) {
                return self.prune_beside_damage(tenant, next, before_ms).await;
            }
        }
        let owner = tenant.clone();
        match self.write(tenant, move |batch| prune_step(batch, &owner, after, LOOK, before_ms, Removal::Delete)).await
        {
            Err(error) if error.is_damage() => {
                let next = self.next_events(tenant, after).await?;
                self.prune_beside_damage(tenant, next, before_ms).await
            }
            step => step,
        }
    }

    async fn next_events(&self, tenant: &TenantId, after: Uuid) -> Result<Vec<Uuid>, StoreError> {
        let owner = tenant.clone();
        let next = move |connection: &Connection| {
            // The index alone answers.
            let sql = "SELECT id FROM events WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let ids = statement.query_map(params![&*owner.0, after, LOOK], |row| row.get(0))?;
            Ok(ids.collect::<Result<Vec<Uuid>, _>>()?)
        };
        self.readers.read(Owner::Host, next).await
    }

    /// Deletes idempotency keys that came before a time, some at once.
    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<(), StoreError> {
        loop {
            let step = move |batch: &Batch<'_>| {
                let begun = Instant::now();
                let sql = "DELETE FROM idempotency_keys WHERE (tenant, key) IN
                           (SELECT tenant, key FROM idempotency_keys WHERE received_at_ms < ?1 LIMIT ?2)";
                let deleted = batch.prepare_cached(sql)?.execute(params![before_ms, KEYS])?;
                Ok((deleted, begun.elapsed()))
            };
            let (deleted, took) = self.write(Owner::Host, step).await?;
            if deleted < KEYS {
                return Ok(());
            }
            let_others_write(took).await;
        }
    }
}
