//! Retention in the database: expired events and idempotency keys.
//!
//! # Theory of operation
//! A reader looks for old events that can be deleted. Only if there are some, the writer judges the same span of ids once more, and
//! deletes them ([`pruning`](super::pruning)). So a tenant without them costs no transaction, and the young events, which come last, are
//! never read by the writer.

use super::Postgres;
use super::connection::Connection;
use super::pruning::{prune_step, select};
use super::rows::int;
use crate::StoreError;
use crate::backend::tenants::WorkStep;
use crate::backend::upkeep::{KEYS_DELETED_MAX, PruneStep, RetentionBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use std::time::Duration;
use uuid::Uuid;

#[async_trait]
impl RetentionBackend for Postgres {
    async fn prune_events(
        &self,
        tenant: &TenantId,
        after: Option<EventId>,
        before_ms: i64,
    ) -> Result<PruneStep, StoreError> {
        let after = after.map_or(Uuid::nil(), |event| event.0);
        let owner = tenant.clone();
        // The last page reads all young events of the tenant, which may take long.
        let read = self.lane_readers.read_one(Owner::from(tenant), move |connection| {
            Box::pin(async move { select(connection, &owner, (after, Uuid::max()), before_ms).await })
        });
        let found = read.await?;
        if found.is_empty() {
            return Ok(PruneStep { pruned: 0, took: Duration::ZERO, after: found.after });
        }
        let span = (after, found.until);
        let tenant = tenant.clone();
        self.write(Owner::from(&tenant), move |tx| {
            Box::pin(async move { prune_step(tx, &tenant, span, before_ms).await })
        })
        .await
    }

    async fn prune_idempotency_keys(&self, before_ms: i64) -> Result<WorkStep, StoreError> {
        self.write(Owner::Host, move |tx| Box::pin(async move { prune_keys(tx, before_ms).await })).await
    }
}

async fn prune_keys(connection: &Connection, before_ms: i64) -> Result<WorkStep, StoreError> {
    let begun = clock::instant();
    let sql = "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM idempotency_keys WHERE received_at_ms < $1 ORDER BY received_at_ms LIMIT $2))";
    let most = int(KEYS_DELETED_MAX);
    let deleted = int(connection.execute(sql, &[&before_ms, &most]).await?);
    Ok(WorkStep { done: deleted < most, took: clock::since(begun) })
}
