//! Milestones of a tenant, from the counters of what was pruned and the oldest rows.

use super::Sqlite;
use crate::StoreError;
use crate::backend::milestones::{DELIVERIES_SEARCHED, MilestoneBackend, Milestones};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};

#[async_trait]
impl MilestoneBackend for Sqlite {
    async fn milestones(&self, tenant: TenantId) -> Result<Milestones, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| match milestones(connection, &tenant) {
            // A tenant whose rows are damaged has some.
            Err(error) if error.is_damage() => Ok(Milestones { accepted: true, delivered: true }),
            found => found,
        };
        self.readers.read(owner, read).await
    }
}

fn milestones(connection: &Connection, tenant: &TenantId) -> Result<Milestones, StoreError> {
    let sql = "SELECT
                 EXISTS (SELECT 1 FROM events WHERE tenant = ?1)
                   OR EXISTS (SELECT 1 FROM ledgers WHERE tenant = ?1 AND events_pruned > 0),
                 EXISTS (SELECT 1 FROM ledgers WHERE tenant = ?1 AND delivered_pruned > 0)
                   OR EXISTS (SELECT 1 FROM (SELECT state FROM deliveries WHERE tenant = ?1 ORDER BY id LIMIT ?2) WHERE state = ?3)";
    let values = params![&*tenant.0, DELIVERIES_SEARCHED, DeliveryState::Delivered as u8];
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(values, |row| Ok(Milestones { accepted: row.get(0)?, delivered: row.get(1)? }))?)
}
