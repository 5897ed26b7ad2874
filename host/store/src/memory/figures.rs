//! Statistics for the overview.

use super::Memory;
use super::share::require_room;
use super::tables::MemoryTables;
use crate::StoreError;
use crate::backend::figures::{Cell, FigureBackend, SPANS, STEP, SpanFigures};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Key of a sum: tenant, length of the span, its beginning, subscription and plugins.
type SumKey = (TenantId, i64, i64, SubscriptionId, String);

#[async_trait]
impl FigureBackend for Memory {
    async fn put_figures(&self, cells: Vec<(Cell, Figures)>) -> Result<(), StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            let mut tenants: BTreeSet<&TenantId> = cells.iter().map(|(cell, _)| &cell.tenant).collect();
            tenants.retain(|tenant| self.state.catalog.tenant(tenant).is_some());
            let has_room = |tenant: &&TenantId| require_room(tables, tenant, share).is_ok();
            let with_room: BTreeSet<&TenantId> = tenants.iter().copied().filter(has_room).collect();
            for (span_s, kept_s) in SPANS {
                for (cell, figures) in cells.iter().filter(|(cell, _)| with_room.contains(&cell.tenant)) {
                    add(tables, span_s, cell, figures);
                }
                let oldest_s = now_ms() / 1_000 - kept_s;
                tenants.iter().for_each(|tenant| delete_old(tables, tenant, span_s, oldest_s));
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn figures(&self, tenant: TenantId, span_s: i64, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        self.read(move |tables| {
            let sums = tables.figures.range(first_key(&tenant, span_s, from_s)..);
            let sums = sums.take_while(|((owner, span, ..), _)| *owner == tenant && *span == span_s);
            let found = sums.map(|((_, _, at_s, subscription, plugin), figures)| SpanFigures {
                at_s: *at_s,
                subscription: *subscription,
                plugin: plugin.clone(),
                figures: figures.clone(),
            });
            Ok(found.collect())
        })
        .await
    }
}

/// Returns the lowest key of a sum whose span begins at this time.
fn first_key(tenant: &TenantId, span_s: i64, at_s: i64) -> SumKey {
    (tenant.clone(), span_s, at_s, SubscriptionId(Uuid::nil()), String::new())
}

/// Adds a cell to the sum of its span.
fn add(tables: &mut MemoryTables, span_s: i64, cell: &Cell, figures: &Figures) {
    let at_s = cell.minute_s / span_s * span_s;
    let key = (cell.tenant.clone(), span_s, at_s, cell.subscription, cell.plugin.clone());
    let mut sum = tables.figures.get(&key).cloned().unwrap_or_default();
    sum.merge(figures);
    tables.figures.insert_mut(key, sum);
}

/// Deletes sums whose spans began before a time, at most [`STEP`] of them.
fn delete_old(tables: &mut MemoryTables, tenant: &TenantId, span_s: i64, oldest_s: i64) {
    let range = first_key(tenant, span_s, i64::MIN)..first_key(tenant, span_s, oldest_s);
    let old: Vec<SumKey> = tables.figures.range(range).take(STEP).map(|(key, _)| key.clone()).collect();
    for key in &old {
        tables.figures.remove_mut(key);
    }
}
