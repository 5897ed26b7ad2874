//! Statistics for the overview, collected in memory and written every few seconds.
//!
//! A crash loses the last [`FLUSH_EVERY`] of them. Nothing depends on them.

use crate::backend::figures::{Cell, INTAKE, SPANS, STEP, SpanFigures};
use crate::{Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Attempt, Verdict};
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// Interval at which collected figures are written.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Figures that are not in the database yet.
#[derive(Default)]
pub(crate) struct Gathered(Mutex<HashMap<Cell, Figures>>);

impl Gathered {
    fn add(&self, tenant: &TenantId, subscription: SubscriptionId, attempt: &Attempt) {
        let plugins: Vec<&str> = attempt.steps.iter().map(|step| step.plugin.as_str()).collect();
        let cell =
            Cell { tenant: tenant.clone(), minute_s: now_ms() / 60_000 * 60, subscription, plugin: plugins.join("+") };
        let mut cells = self.0.lock();
        let figures = cells.entry(cell).or_default();
        figures.add(attempt.outcome, attempt.post_us, attempt.plugin_us);
        for step in &attempt.steps {
            // Without a version, none was called.
            let Some(sha256) = &step.sha256 else { continue };
            figures.add_call(&step.plugin, step.cost.cpu_us);
            if step.verdict == Verdict::Fault {
                figures.add_fault(&step.plugin, sha256);
            }
        }
    }

    fn add_accepted(&self, tenant: TenantId, events: usize) {
        let minute_s = now_ms() / 60_000 * 60;
        let cell = Cell { tenant, minute_s, subscription: INTAKE, plugin: String::new() };
        self.0.lock().entry(cell).or_default().accepted += events as u64;
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
        self.state.activity.note_ended();
        self.gathered.add(tenant, subscription, attempt);
    }

    /// Counts accepted events.
    pub(crate) fn count_accepted(&self, tenant: TenantId, events: usize) {
        self.gathered.add_accepted(tenant, events);
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

    pub(crate) async fn flush_figures(&self) -> Result<(), StoreError> {
        let mut cells: Vec<(Cell, Figures)> = self.gathered.take().into_iter().collect();
        while !cells.is_empty() {
            let step = cells.split_off(cells.len().saturating_sub(STEP));
            self.backend.put_figures(step).await?;
        }
        Ok(())
    }

    /// Returns figures from a time on, in spans of a minute within the last day, and of an hour otherwise. Accepted events belong to no
    /// subscription of the catalog.
    pub async fn figures(&self, tenant: TenantId, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        let day = now_ms() / 1_000 - from_s <= SPANS[0].1;
        self.figures_in_spans(tenant, if day { SPANS[0].0 } else { SPANS[1].0 }, from_s).await
    }

    /// Returns figures in spans of an hour, from the hour of a time on. For a day of many subscriptions they are a sixtieth of the rows.
    pub async fn figures_by_hour(&self, tenant: TenantId, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        self.figures_in_spans(tenant, SPANS[1].0, from_s).await
    }

    async fn figures_in_spans(
        &self,
        tenant: TenantId,
        span_s: i64,
        from_s: i64,
    ) -> Result<Vec<SpanFigures>, StoreError> {
        let mut gathered = self.gathered.of(&tenant, from_s);
        let mut found = self.backend.figures(tenant, span_s, from_s / span_s * span_s).await?;
        gathered.iter_mut().for_each(|one| one.at_s = one.at_s / span_s * span_s);
        found.append(&mut gathered);
        Ok(found)
    }
}
