//! Statistics for the overview in the database.

use super::Sqlite;
use super::batch::AdminTx;
use super::share::require_room;
use crate::StoreError;
use crate::backend::figures::{Cell, FigureBackend, SPANS, STEP, SpanFigures};
use crate::caps::Caps;
use crate::catalog::Catalog;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashSet;
use uuid::Uuid;

#[async_trait]
impl FigureBackend for Sqlite {
    async fn put_figures(&self, cells: Vec<(Cell, Figures)>) -> Result<(), StoreError> {
        let state = self.state.clone();
        let share = self.limits.share;
        self.write(Owner::Host, move |tx| put_step(tx, &state.catalog, share, &cells)).await
    }

    async fn figures(&self, tenant: TenantId, span_s: i64, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT at_s, subscription, plugin, figures FROM figures WHERE tenant = ?1 AND span_s = ?2 AND at_s >= ?3 ORDER BY at_s";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![&*tenant.0, span_s, from_s], |row| {
                Ok((row.get(0)?, row.get::<_, Uuid>(1)?, row.get(2)?, row.get::<_, String>(3)?))
            })?;
            rows.map(|row| {
                let (at_s, subscription, plugin, figures) = row?;
                let figures = serde_json::from_str(&figures)?;
                Ok(SpanFigures { at_s, subscription: SubscriptionId(subscription), plugin, figures })
            })
            .collect::<Result<Vec<_>, StoreError>>()
        };
        self.readers.read(owner, read).await
    }
}

/// Writes figures, except for tenants that were deleted meanwhile or whose share is used up.
fn put_step(tx: &AdminTx<'_, '_>, catalog: &Catalog, share: Caps, cells: &[(Cell, Figures)]) -> Result<(), StoreError> {
    let mut tenants: HashSet<&TenantId> = cells.iter().map(|(cell, _)| &cell.tenant).collect();
    tenants.retain(|tenant| catalog.tenant(tenant).is_some());
    let with_room: HashSet<&TenantId> =
        tenants.iter().copied().filter(|tenant| require_room(tx, tenant, share).is_ok()).collect();
    for (span_s, kept_s) in SPANS {
        let mut written = cells.iter().filter(|(cell, _)| with_room.contains(&cell.tenant));
        written.try_for_each(|(cell, figures)| put(tx, span_s, cell, figures))?;
        let oldest_s = now_ms() / 1_000 - kept_s;
        for tenant in &tenants {
            // At least as many as are written, but after a long stop not all at once.
            let sql = "DELETE FROM figures WHERE tenant = ?1 AND span_s = ?2 AND (at_s, subscription, plugin) IN
                       (SELECT at_s, subscription, plugin FROM figures WHERE tenant = ?1 AND span_s = ?2 AND at_s < ?3 LIMIT ?4)";
            tx.prepare_cached(sql)?.execute(params![&*tenant.0, span_s, oldest_s, STEP])?;
        }
    }
    Ok(())
}

fn put(connection: &Connection, span_s: i64, cell: &Cell, figures: &Figures) -> Result<(), StoreError> {
    let at_s = cell.minute_s / span_s * span_s;
    let key = params![&*cell.tenant.0, span_s, at_s, cell.subscription.0, cell.plugin];
    let sql = "SELECT figures FROM figures WHERE tenant = ?1 AND span_s = ?2 AND at_s = ?3 AND subscription = ?4 AND plugin = ?5";
    let there: Option<String> = connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    let mut sum: Figures = there.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default();
    sum.merge(figures);
    let sql =
        "INSERT INTO figures (tenant, span_s, at_s, subscription, plugin, figures) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT DO UPDATE SET figures = ?6";
    let text = serde_json::to_string(&sum)?;
    let row = params![&*cell.tenant.0, span_s, at_s, cell.subscription.0, cell.plugin, text];
    Ok(connection.prepare_cached(sql)?.execute(row).map(drop)?)
}
