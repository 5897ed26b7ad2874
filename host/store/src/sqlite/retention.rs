//! Retention in the database: steps of pruning, beside damage if there is any.

use super::Sqlite;
use super::batch::AdminTx;
use super::pruning::{Removal, prune_step};
use crate::StoreError;
use crate::backend::machine::RowKind;
use crate::backend::tenants::WorkStep;
use crate::backend::upkeep::{EVENTS_READ_MAX, KEYS_DELETED_MAX, PruneStep, RetentionBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};
use uuid::Uuid;

#[async_trait]
impl RetentionBackend for Sqlite {
    async fn prune_events(
        &self,
        tenant: &TenantId,
        after: Option<EventId>,
        before_ms: i64,
    ) -> Result<PruneStep, StoreError> {
        let after = after.map_or(Uuid::nil(), |event| event.0);
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

    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<WorkStep, StoreError> {
        let step = move |tx: &AdminTx<'_, '_>| {
            let begun = clock::instant();
            let sql = "DELETE FROM idempotency_keys WHERE (tenant, key) IN
                       (SELECT tenant, key FROM idempotency_keys WHERE received_at_ms < ?1 LIMIT ?2)";
            let deleted = tx.prepare_cached(sql)?.execute(params![before_ms, KEYS_DELETED_MAX])?;
            Ok(WorkStep { done: deleted < KEYS_DELETED_MAX, took: clock::since(begun) })
        };
        self.write(Owner::Host, step).await
    }
}

impl Sqlite {
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
}
