//! Due times that move with the clock, and ids that follow the newest stored ones.

use super::Postgres;
use super::connection::Connection;
use crate::StoreError;
use crate::backend::lanes::AttemptClass;
use crate::backend::upkeep::ClockBackend;
use crate::backend::upkeep::ClockStep;
use crate::backend::upkeep::DuePosition;
use async_trait::async_trait;
use hookloom_model::ids;
use hookloom_model::subscription::SubscriptionId;
use hookloom_model::subscription::TenantId;
use std::time::Duration;

#[async_trait]
impl ClockBackend for Postgres {
    async fn move_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        class: AttemptClass,
        step: ClockStep,
        after: DuePosition,
    ) -> Result<Option<(DuePosition, Duration)>, StoreError> {
        todo!()
    }
}

/// Lets new ids follow the newest stored ones, even if the clock was set back while no host ran.
pub(super) async fn follow_newest(connection: &Connection) -> Result<(), StoreError> {
    for table in ["events", "deliveries"] {
        let sql = format!("SELECT id FROM {table} ORDER BY id DESC LIMIT 1");
        if let Some(row) = connection.query_opt(&sql, &[]).await? {
            ids::follow(row.try_get(0)?);
        }
    }
    Ok(())
}
