//! Outcomes of deliveries that meet a damaged part of the database.
//!
//! # Guarantees
//! A lane never waits for an outcome that cannot be recorded, and a delivery that can be updated is updated.

use super::batch::{AdminTx, OutcomeTx};
use super::damage::damaged;
use super::outcomes::record_one;
use super::{Sqlite, set_apart};
use crate::StoreError;
use crate::backend::lanes::AttemptRecord;
use crate::backend::machine::RowKind;
use crate::write_queue::Terms;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, DueDelivery, Reason};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::sync::Arc;
use uuid::Uuid;

impl Sqlite {
    /// Ends deliveries whose event cannot be read, because nothing can be sent for them. If the event becomes readable, an operator
    /// can retry them.
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
        let write = move |tx: &AdminTx<'_, '_>| {
            let message = "its event cannot be read from the database, which is damaged: hookloom check says where";
            let reason = Reason::new("damaged", message).to_bounded_json()?;
            let sql =
                "UPDATE deliveries SET state = ?3, due_at_ms = 0, awaiting_plugin = 0, reason = ?4, updated_at_ms = ?5
                       WHERE tenant = ?1 AND id = ?2 AND state = 0";
            let mut statement = tx.prepare_cached(sql)?;
            for id in ids {
                let ended = params![&*owner.0, id, DeliveryState::Dead as u8, reason, now_ms()];
                let count = statement.execute(ended)?;
                tx.count_pending(&owner, subscription, -(count as i64));
            }
            Ok(())
        };
        self.write(tenant, write).await
    }

    /// Records an outcome whose first write failed because of damage. Each write is committed alone by now, so one that fails again
    /// needs the damaged part itself. A delivery that cannot be read is set apart. If only its attempts cannot be written, the
    /// delivery is updated without this attempt.
    pub(super) async fn record_beside_damage(
        &self,
        delivery: DueDelivery,
        record: Arc<AttemptRecord>,
        detail: Arc<str>,
        terms: Terms,
    ) -> Result<(), StoreError> {
        let tenant = delivery.tenant.clone();
        let id = delivery.id.0;
        let owner = tenant.clone();
        let read = move |connection: &Connection| {
            let row = damaged(&owner, RowKind::Delivery, id, "");
            Ok(set_apart::is_readable(connection, &row).map_err(|error| hookloom_model::describe(&error)))
        };
        if let Err(detail) = self.readers.read(&tenant, read).await? {
            self.set_apart(vec![damaged(&tenant, RowKind::Delivery, id, detail)]).await;
            return Ok(());
        }
        for detail in [Some(detail), None] {
            let delivery = delivery.clone();
            let record = record.clone();
            let is_whole = detail.is_some();
            let write = move |tx: &OutcomeTx<'_, '_>| record_one(tx, &delivery, &record, detail.as_deref());
            match self.writer.outcome(terms.clone(), write).await {
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
