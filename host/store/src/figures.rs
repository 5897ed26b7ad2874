//! Statistics for the overview, collected in memory and written every few seconds.
//!
//! A crash loses the last [`FLUSH_EVERY`] of them. Nothing depends on them.

use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::share::require_room;
use super::{Caps, Catalog, Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Attempt;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// Interval at which collected figures are written.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Maximum number of cells in one write: some milliseconds.
const STEP: usize = 128;

/// Spans and their retention, in seconds.
const SPANS: [(i64, i64); 2] = [(60, 25 * 3_600), (3_600, 8 * 86_400)];

/// Key of collected figures: tenant, subscription, plugins and minute.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Cell {
    tenant: TenantId,
    minute_s: i64,
    subscription: SubscriptionId,
    plugin: String,
}

/// Figures that are not in the database yet.
#[derive(Default)]
pub(super) struct Gathered(Mutex<HashMap<Cell, Figures>>);

/// Figures of one span, subscription and chain of plugins.
#[derive(Clone, Debug)]
pub struct SpanFigures {
    /// Beginning of the span, in seconds since the epoch.
    pub at_s: i64,
    /// Subscription that the figures belong to.
    pub subscription: SubscriptionId,
    /// Names of the plugins that judged, joined by `+`. Empty without a plugin.
    pub plugin: String,
    /// Numbers of the span.
    pub figures: Figures,
}

impl Gathered {
    fn add(&self, tenant: &TenantId, subscription: SubscriptionId, attempt: &Attempt) {
        let plugins: Vec<&str> = attempt.steps.iter().map(|step| step.plugin.as_str()).collect();
        let cell =
            Cell { tenant: tenant.clone(), minute_s: now_ms() / 60_000 * 60, subscription, plugin: plugins.join("+") };
        let mut cells = self.0.lock();
        cells.entry(cell).or_default().add(attempt.outcome, attempt.post_us, attempt.plugin_us);
    }

    fn take(&self) -> HashMap<Cell, Figures> {
        std::mem::take(&mut *self.0.lock())
    }

    fn of(&self, tenant: &TenantId, from_s: i64) -> Vec<SpanFigures> {
        let cells = self.0.lock();
        let matching = cells.iter().filter(|(cell, _)| cell.tenant == *tenant && cell.minute_s >= from_s);
        matching
            .map(|(cell, figures)| SpanFigures {
                at_s: cell.minute_s,
                subscription: cell.subscription,
                plugin: cell.plugin.clone(),
                figures: figures.clone(),
            })
            .collect()
    }
}

impl Store {
    /// Counts an attempt.
    pub fn count(&self, tenant: &TenantId, subscription: SubscriptionId, attempt: &Attempt) {
        self.gathered.add(tenant, subscription, attempt);
    }

    /// Writes the collected figures every [`FLUSH_EVERY`]. Never returns.
    pub async fn flush_statistics(&self) {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            if let Err(error) = self.flush_figures().await {
                tracing::warn!(error = %hookloom_model::describe(&error), "statistics for the overview could not be written and are lost");
            }
        }
    }

    pub(super) async fn flush_figures(&self) -> Result<(), StoreError> {
        let mut cells: Vec<(Cell, Figures)> = self.gathered.take().into_iter().collect();
        while !cells.is_empty() {
            let step = cells.split_off(cells.len().saturating_sub(STEP));
            let catalog = self.catalog.clone();
            let share = self.limits.share;
            self.write(Owner::Host, move |tx| put_step(tx, &catalog, share, &step)).await?;
        }
        Ok(())
    }

    /// Returns figures from a time on, in spans of a minute within the last day, and of an hour otherwise.
    pub async fn figures(&self, tenant: TenantId, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        let mut gathered = self.gathered.of(&tenant, from_s);
        let day = now_ms() / 1_000 - from_s <= SPANS[0].1;
        let span_s = if day { SPANS[0].0 } else { SPANS[1].0 };
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT at_s, subscription, plugin, figures FROM figures WHERE tenant = ?1 AND span_s = ?2 AND at_s >= ?3 ORDER BY at_s";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![&*tenant.0, span_s, from_s / span_s * span_s], |row| {
                Ok((row.get(0)?, row.get::<_, Uuid>(1)?, row.get(2)?, row.get::<_, String>(3)?))
            })?;
            rows.map(|row| {
                let (at_s, subscription, plugin, figures) = row?;
                let figures = serde_json::from_str(&figures)?;
                Ok(SpanFigures { at_s, subscription: SubscriptionId(subscription), plugin, figures })
            })
            .collect::<Result<Vec<_>, StoreError>>()
        };
        let mut found = self.readers.read(owner, read).await?;
        gathered.iter_mut().for_each(|one| one.at_s = one.at_s / span_s * span_s);
        found.append(&mut gathered);
        Ok(found)
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
