//! Rows that cannot be read: set apart, recorded over a restart, and checked again at the next start.

use super::Sqlite;
use super::batch::AdminTx;
use super::deliveries::{VIEW, event_row, view_row};
use crate::StoreError;
use crate::backend::machine::{DamagedRow, RowKind};
use crate::fair_queue::Owner;
use hookloom_model::event::Event;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

/// Maximum number of rows that the log names for one read.
const LOGGED_MAX: usize = 100;

/// Maximum number of rows that one transaction records.
const STEP: usize = 256;

impl Sqlite {
    /// Sets apart rows that could not be read: logs them and records them.
    pub(super) async fn set_apart(&self, found: Vec<DamagedRow>) {
        let mut new: Vec<DamagedRow> = found.into_iter().filter(|row| self.damage.add(row.clone())).collect();
        if new.is_empty() {
            return;
        }
        self.damage.seen.notify_one();
        for row in new.iter().take(LOGGED_MAX) {
            tracing::error!(tenant = %row.tenant, kind = %row.kind, id = %row.id, error = row.detail, "a row of the database cannot be read and is set apart; all other rows are used");
        }
        while !new.is_empty() {
            let step = new.split_off(new.len().saturating_sub(STEP));
            let write = move |tx: &AdminTx<'_, '_>| {
                let sql = "INSERT INTO damage (tenant, kind, id, found_at_ms, detail) VALUES (?1, ?2, ?3, ?4, ?5)
                           ON CONFLICT DO NOTHING";
                let mut statement = tx.prepare_cached(sql)?;
                for DamagedRow { tenant, kind, id, found_at_ms, detail } in step {
                    statement.execute(params![&*tenant.0, kind.as_str(), id, found_at_ms, detail])?;
                }
                Ok(())
            };
            if let Err(error) = self.write(Owner::Host, write).await {
                tracing::warn!(error = %hookloom_model::describe(&error), "damaged rows could not be noted; they are found again after the next start");
                return;
            }
        }
    }

    /// Checks the rows that an earlier process set apart, and removes those that can be read or are gone.
    pub(super) async fn recheck_damage(&self) -> Result<(), StoreError> {
        let rows = self.damage.report(None).rows;
        let read = move |connection: &Connection| {
            let whole = rows.into_iter().filter(|row| is_readable(connection, row).is_ok());
            Ok(whole.collect::<Vec<_>>())
        };
        let whole = self.lane_readers.read(Owner::Host, read).await?;
        if whole.is_empty() {
            return Ok(());
        }
        let known = self.damage.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let mut statement = tx.prepare_cached("DELETE FROM damage WHERE tenant = ?1 AND kind = ?2 AND id = ?3")?;
            for row in &whole {
                statement.execute(params![&*row.tenant.0, row.kind.as_str(), row.id])?;
            }
            Ok(whole)
        };
        for row in self.write(Owner::Host, write).await? {
            tracing::info!(tenant = %row.tenant, kind = %row.kind, id = %row.id, "a row that was damaged can be read again");
            known.forget(row);
        }
        Ok(())
    }
}

/// Reads a row that was damaged, and returns the error of the read. A row that is gone is readable. The event of a delivery is not read.
pub(super) fn is_readable(connection: &Connection, row: &DamagedRow) -> rusqlite::Result<()> {
    match row.kind {
        RowKind::Event => read_event(connection, &row.tenant, row.id).map(drop),
        RowKind::Delivery => {
            let sql = format!("{VIEW} WHERE tenant = ?1 AND id = ?2");
            connection.query_row(&sql, params![&*row.tenant.0, row.id], view_row).optional().map(drop)
        }
    }
}

fn read_event(connection: &Connection, tenant: &TenantId, id: Uuid) -> rusqlite::Result<Option<Event>> {
    let sql = "SELECT id, name, module, entity_id, received_at_ms, payload FROM events WHERE tenant = ?1 AND id = ?2";
    connection.query_row(sql, params![&*tenant.0, id], event_row).optional()
}
