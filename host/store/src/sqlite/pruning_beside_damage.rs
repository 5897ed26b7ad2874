//! Pruning of events next to damaged ones, each in a separate transaction.
//!
//! # Guarantees
//! - A damaged event stays. Every other event is deleted, or at least emptied: its payload, its name and its part of the tenant's
//!   usage are gone.
//! - An event that cannot be pruned is logged once and then skipped, so that retention does not fail again and again.
//!
//! # Theory of operation
//! SQLite merges a leaf that has become two thirds empty with its neighbours. Next to a damaged leaf the merge fails, and with it
//! the deletion. An update in place merges nothing: the row is emptied and moved to [`NO_TENANT`](super::pruning::NO_TENANT), where
//! no query finds it. `hookloom rescue` leaves such rows out.

use super::Sqlite;
use super::batch::AdminTx;
use super::damage::damaged;
use super::pruning::{Removal, prune_step};
use crate::StoreError;
use crate::backend::machine::RowKind;
use crate::backend::upkeep::PruneStep;
use crate::background::let_others_write;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use std::time::Duration;
use uuid::Uuid;

impl Sqlite {
    /// Prunes these events, except those that are known to be damaged.
    pub(super) async fn prune_beside_damage(
        &self,
        tenant: &TenantId,
        ids: Vec<Uuid>,
        before_ms: i64,
    ) -> Result<PruneStep, StoreError> {
        let mut all = PruneStep { pruned: 0, took: Duration::ZERO, after: ids.last().copied().map(EventId) };
        for id in ids {
            if self.damage.has(tenant, RowKind::Event, id) {
                continue;
            }
            match self.prune_alone(tenant, id, before_ms).await {
                Ok(pruned) => all.pruned += pruned,
                Err(error) if error.is_damage() => {
                    // An index may be the cause. It is rebuilt then, and the next round tries again.
                    if self.damage.confirm(tenant, RowKind::Event, id) {
                        let detail = format!("it could not be pruned: {}", hookloom_model::describe(&error));
                        self.set_apart(vec![damaged(tenant, RowKind::Event, id, detail)]).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn prune_alone(&self, tenant: &TenantId, id: Uuid, before_ms: i64) -> Result<u64, StoreError> {
        let before = Uuid::from_u128(id.as_u128() - 1);
        let mut removal = Removal::Delete;
        loop {
            let owner = tenant.clone();
            let write = move |tx: &AdminTx<'_, '_>| prune_step(tx, &owner, before, 1, before_ms, removal);
            match self.write(tenant, write).await {
                Err(error) if error.is_damage() && removal == Removal::Delete => removal = Removal::Empty,
                Err(error) => return Err(error),
                Ok(step) => {
                    let_others_write(step.took).await;
                    // An event with more deliveries than a step deletes needs several steps.
                    if step.after != Some(EventId(before)) {
                        return Ok(step.pruned);
                    }
                }
            }
        }
    }
}
