//! Outcomes of deliveries that a damaged part of the database is in the way of.
//!
//! Guarantees: a lane never waits for an outcome that can never be recorded, and a delivery that can move on does.

use super::batch::Batch;
use super::damage::{RowKind, damaged};
use super::deliveries::{AttemptRecord, record_one};
use super::writer::Terms;
use super::{Store, StoreError, careful, now_ms};
use crate::delivery::{DeliveryState, Reason};
use crate::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::sync::Arc;
use uuid::Uuid;

impl Store {
    /// Ends deliveries whose event cannot be read: nothing can be sent for them. A retry by hand sends them if it can be again.
    pub(super) async fn end_without_event(
        &self,
        tenant: &TenantId,
        subscription: SubscriptionId,
        ids: Vec<Uuid>,
    ) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let owner = tenant.clone();
        let write = move |batch: &Batch<'_>| {
            let message = "its event cannot be read from the database, which is damaged: hookloom check says where";
            let reason = Reason::new("damaged", message).to_bounded_json()?;
            let sql =
                "UPDATE deliveries SET state = ?3, due_at_ms = 0, awaiting_plugin = 0, reason = ?4, updated_at_ms = ?5
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let mut statement = batch.prepare_cached(sql)?;
            for id in ids {
                let ended = params![&*owner.0, id, DeliveryState::Dead as u8, reason, now_ms()];
                let count = statement.execute(ended)?;
                batch.count_pending(&owner, subscription, -(count as i64));
            }
            Ok(())
        };
        self.write(tenant, write).await
    }

    /// Records an outcome that could not be recorded because something is damaged. By now each write has a commit of its own, so
    /// what still fails needs the damaged part itself. A delivery that cannot be read is set apart; where only its attempts cannot be
    /// written, the delivery moves on without this one.
    pub(super) async fn record_beside_damage(
        &self,
        record: Arc<AttemptRecord>,
        detail: Arc<str>,
        terms: Terms,
    ) -> Result<(), StoreError> {
        let tenant = record.delivery.tenant.clone();
        let id = record.delivery.id.0;
        let owner = tenant.clone();
        let read = move |connection: &Connection| {
            let row = damaged(&owner, RowKind::Delivery, id, "");
            Ok(careful::is_readable(connection, &row).map_err(|error| crate::describe(&error)))
        };
        if let Err(detail) = self.readers.read(&tenant, read).await? {
            self.set_apart(vec![damaged(&tenant, RowKind::Delivery, id, detail)]).await;
            return Ok(());
        }
        for detail in [Some(detail), None] {
            let record = record.clone();
            let is_whole = detail.is_some();
            let write = move |batch: &Batch<'_>| record_one(batch, &record, detail.as_deref());
            match self.writer.write(terms.clone(), write, |()| {}).await {
                Err(error) if error.is_damage() && is_whole => {}
                Ok(()) if !is_whole => {
                    tracing::error!(delivery = %id, "an attempt could not be written down, because the table of attempts is damaged; its outcome is recorded");
                    return Ok(());
                }
                recorded => return recorded,
            }
        }
        Ok(())
    }
}
