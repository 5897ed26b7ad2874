//! Rows of deliveries that settle: each supersedes the one that waits for the same contact or deal, or is superseded by it.
//!
//! Each is written by itself, with the collected rows of the batch, so that it finds those before it.

use super::{HotStatement, Transaction};
use crate::settling::{Settling, Survivor, WaitingDelivery};
use crate::sqlite::rows::SettlingRow;
use crate::store_event::NewDelivery;
use hookloom_model::delivery::{DeliveryId, DeliveryState, DueDelivery};
use hookloom_model::event::EventId;
use hookloom_model::settle::SettledEvents;
use rusqlite::{OptionalExtension as _, Row, params};

/// Finds the settling delivery of a subscription and an entity.
pub(super) const WAITING: &str = "SELECT id, event, settles_until_ms, settled_events, settled_first
     FROM deliveries INDEXED BY deliveries_settling
     WHERE tenant = ?1 AND subscription = ?2 AND settles_key = ?3 AND state = 0 LIMIT 1";

/// Ends a delivery that another one supersedes.
pub(super) const SUPERSEDE: &str = "UPDATE OR ROLLBACK deliveries
     SET state = ?3, settles_key = NULL, superseded_by = ?4, updated_at_ms = ?5 WHERE tenant = ?1 AND id = ?2";

/// Sets the events that a delivery stands for.
pub(super) const STAND_FOR_MORE: &str =
    "UPDATE OR ROLLBACK deliveries SET settled_events = ?3, settled_first = ?4 WHERE tenant = ?1 AND id = ?2";

/// Adds a delivery.
pub(super) const INSERT: &str = "INSERT OR ROLLBACK INTO deliveries (tenant, id, event, subscription, kind, order_key, due_at_ms,
       state, age_from_ms, created_at_ms, updated_at_ms, settles_key, settles_until_ms, settled_events, settled_first, superseded_by)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?9, ?10, ?11, ?12, ?13, ?14)";

fn waiting_row(row: &Row<'_>) -> rusqlite::Result<WaitingDelivery> {
    let settled = SettledEvents { count: row.get(3)?, first: EventId(row.get(4)?) };
    Ok(WaitingDelivery { id: DeliveryId(row.get(0)?), event: EventId(row.get(1)?), until_ms: row.get(2)?, settled })
}

impl Transaction<'_> {
    /// Adds a delivery of a burst, after the one that waits for the same entity.
    pub(super) fn write_settling(&self, row: SettlingRow) -> rusqlite::Result<()> {
        let SettlingRow { mut new, settling, order_key } = row;
        let mut superseded_by = None;
        if let Some(mut waiting) = self.waiting(&new.delivery, settling)? {
            match new.meet(&mut waiting) {
                Survivor::New => self.supersede(&new.delivery, waiting.id)?,
                Survivor::Waiting => {
                    let SettledEvents { count, first } = waiting.settled;
                    let more = params![&*new.delivery.tenant.0, waiting.id.0, count, first.0];
                    self.execute_hot(HotStatement::StandForMore, more)?;
                    self.count_pending(&new.delivery.tenant, new.delivery.subscription, -1);
                    superseded_by = Some(waiting.id);
                }
            }
        }
        let NewDelivery { delivery, due_at_ms, settling } = new;
        let (key, until_ms) = match settling {
            Some(settling) => (superseded_by.is_none().then_some(settling.key.0), Some(settling.until_ms)),
            None => (None, None),
        };
        let state = if superseded_by.is_some() { DeliveryState::Superseded } else { DeliveryState::Pending };
        let values = params![
            &*delivery.tenant.0,
            delivery.id.0,
            delivery.event.0,
            delivery.subscription.0,
            delivery.kind as u8,
            order_key.map(|key| key.0),
            due_at_ms,
            state as u8,
            delivery.age_from_ms,
            key,
            until_ms,
            delivery.settled.map(|settled| settled.count),
            delivery.settled.map(|settled| settled.first.0),
            superseded_by.map(|by| by.0),
        ];
        self.execute_hot(HotStatement::Settling, values).map(drop)
    }

    fn waiting(&self, new: &DueDelivery, settling: Settling) -> rusqlite::Result<Option<WaitingDelivery>> {
        let entity = params![&*new.tenant.0, new.subscription.0, settling.key.0];
        self.with_hot(HotStatement::Waiting, |statement| statement.query_row(entity, waiting_row).optional())
    }

    /// Ends the delivery that a new one supersedes.
    fn supersede(&self, new: &DueDelivery, id: DeliveryId) -> rusqlite::Result<()> {
        let ended = params![&*new.tenant.0, id.0, DeliveryState::Superseded as u8, new.id.0, new.age_from_ms];
        self.execute_hot(HotStatement::Supersede, ended)?;
        self.count_pending(&new.tenant, new.subscription, -1);
        Ok(())
    }
}
