//! Retention: events are deleted after a time, in steps that do not delay other writes.
//!
//! # Guarantees
//! - An event is deleted with its deliveries and attempts once it is older than the retention and none of its deliveries is
//!   pending. Of a contact or a deal, the oldest event is deleted first, so that the history of a later event has no gap. The
//!   ledger keeps the numbers of deleted deliveries by state, so its law holds.
//! - A step occupies the writer for [`STEP_MAX`](super::pruning::STEP_MAX), and then lets other writes run for four times as long. An
//!   event with more deliveries than a step deletes needs several steps: its row is deleted last, and the ledger's law holds after
//!   each step.
//!
//! # Limits
//! Space in the file is reused, but the file does not shrink.

use super::background::{let_others_write, wait};
use super::batch::AdminTx;
use super::damage::RowKind;
use super::fair_queue::Owner;
use super::pruning::{PruneStep, Removal, prune_step};
use super::{Store, StoreError};
use hookloom_model::clock::{self, now_ms};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of events that a step reads.
const EVENTS_READ_MAX: usize = 256;

/// Maximum number of expired idempotency keys that one transaction deletes.
const KEYS_DELETED_MAX: usize = 256;

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
        // A commit that fails because of damage makes every write of the next seconds commit alone, so it is avoided if damage is
        // known.
        if self.damage.is_known() {
            let next = self.next_events(tenant, after).await?;
            if next.iter().any(|id| self.damage.has(tenant, RowKind::Event, *id)) {
                return self.prune_beside_damage(tenant, next, before_ms).await;
            }
        }
        let owner = tenant.clone();
        match self
            .write(tenant, move |tx| prune_step(tx, &owner, after, EVENTS_READ_MAX, before_ms, Removal::Delete))
            .await
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
            // Reads only the index.
            let sql = "SELECT id FROM events WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let ids = statement.query_map(params![&*owner.0, after, EVENTS_READ_MAX], |row| row.get(0))?;
            Ok(ids.collect::<Result<Vec<Uuid>, _>>()?)
        };
        self.readers.read(Owner::Host, next).await
    }

    /// Deletes some idempotency keys that were received before a time.
    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<(), StoreError> {
        loop {
            let step = move |tx: &AdminTx<'_, '_>| {
                let begun = clock::instant();
                let sql = "DELETE FROM idempotency_keys WHERE (tenant, key) IN
                           (SELECT tenant, key FROM idempotency_keys WHERE received_at_ms < ?1 LIMIT ?2)";
                let deleted = tx.prepare_cached(sql)?.execute(params![before_ms, KEYS_DELETED_MAX])?;
                Ok((deleted, clock::since(begun)))
            };
            let (deleted, took) = self.write(Owner::Host, step).await?;
            if deleted < KEYS_DELETED_MAX {
                return Ok(());
            }
            let_others_write(took).await;
        }
    }
}
