//! Sums of statistics in the database.
//!
//! # Cost
//! Each write reads its sums with one statement, and writes them with another. The rooms of the tenants are read one after the
//! other.

use super::Postgres;
use super::connection::Connection;
use super::rows::{int, number};
use super::share::require_room;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::figures::{Cell, FigureBackend, SPANS, STEP, SpanFigures};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;
use uuid::Uuid;

#[async_trait]
impl FigureBackend for Postgres {
    async fn put_figures(&self, cells: Vec<(Cell, Figures)>) -> Result<(), StoreError> {
        self.write(Owner::Host, move |tx| Box::pin(async move { put_step(tx, &cells).await })).await
    }

    async fn figures(&self, tenant: TenantId, span_s: i64, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT at_s, subscription, plugin, figures FROM figures
                           WHERE tenant = $1 AND span_s = $2 AND at_s >= $3 ORDER BY at_s, subscription, plugin";
                connection.query(sql, &[&&*tenant.0, &span_s, &from_s]).await?.iter().map(span_row).collect()
            })
        });
        read.await
    }
}

/// Writes figures, except for tenants that were deleted meanwhile or whose share is used up.
async fn put_step(tx: &WriteTx, cells: &[(Cell, Figures)]) -> Result<(), StoreError> {
    let mut tenants: BTreeSet<&TenantId> = cells.iter().map(|(cell, _)| &cell.tenant).collect();
    tenants.retain(|tenant| tx.catalog().tenant(tenant).is_some());
    let mut with_room = BTreeSet::new();
    for tenant in &tenants {
        match require_room(tx, tenant, tx.share()).await {
            Ok(()) => _ = with_room.insert(*tenant),
            Err(StoreError::TenantFull(_) | StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let mut sums = Sums::default();
    for (cell, figures) in cells.iter().filter(|(cell, _)| with_room.contains(&cell.tenant)) {
        SPANS.into_iter().for_each(|(span_s, _)| sums.add(span_s, cell, figures));
    }
    sums.write(tx).await?;
    delete_old(tx, &tenants).await
}

/// Key of a sum: tenant, length of the span, its beginning, subscription and plugins.
type SumKey<'c> = (&'c TenantId, i64, i64, SubscriptionId, &'c str);

/// Figures that are added to the sums of spans. In the order of the table, whose pages are then written one after the other.
#[derive(Default)]
struct Sums<'c>(BTreeMap<SumKey<'c>, Figures>);

impl<'c> Sums<'c> {
    /// Adds a cell to its span of this length. Several minutes may share an hour.
    fn add(&mut self, span_s: i64, cell: &'c Cell, figures: &Figures) {
        let at_s = cell.minute_s / span_s * span_s;
        let key = (&cell.tenant, span_s, at_s, cell.subscription, &*cell.plugin);
        self.0.entry(key).or_default().merge(figures);
    }

    /// Adds the figures to those of the database.
    async fn write(self, connection: &Connection) -> Result<(), StoreError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let tenants: Vec<&str> = self.0.keys().map(|(tenant, ..)| &*tenant.0).collect();
        let spans: Vec<i64> = self.0.keys().map(|(_, span_s, ..)| *span_s).collect();
        let times: Vec<i64> = self.0.keys().map(|(_, _, at_s, ..)| *at_s).collect();
        let subscriptions: Vec<Uuid> = self.0.keys().map(|(_, _, _, subscription, _)| subscription.0).collect();
        let plugins: Vec<&str> = self.0.keys().map(|(.., plugin)| *plugin).collect();
        let mut sums: Vec<Figures> = self.0.into_values().collect();
        let sql = "SELECT u.nth - 1, f.figures
                   FROM unnest($1::text[], $2::int8[], $3::int8[], $4::uuid[], $5::text[])
                     WITH ORDINALITY u (tenant, span_s, at_s, subscription, plugin, nth)
                   JOIN figures f ON f.tenant = u.tenant AND f.span_s = u.span_s AND f.at_s = u.at_s
                     AND f.subscription = u.subscription AND f.plugin = u.plugin";
        for row in connection.query(sql, &[&tenants, &spans, &times, &subscriptions, &plugins]).await? {
            let there: Figures = serde_json::from_str(row.try_get(1)?)?;
            sums[number::<usize>(&row, 0)?].merge(&there);
        }
        let texts: Vec<String> = sums.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let sql = "INSERT INTO figures (tenant, span_s, at_s, subscription, plugin, figures)
                   SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[], $4::uuid[], $5::text[], $6::text[])
                   ON CONFLICT (tenant, span_s, at_s, subscription, plugin) DO UPDATE SET figures = EXCLUDED.figures";
        connection.execute(sql, &[&tenants, &spans, &times, &subscriptions, &plugins, &texts]).await.map(drop)
    }
}

/// Deletes the sums of tenants that are older than their retention: of each tenant and length of a span at least as many as are
/// written, but after a long stop not all at once.
async fn delete_old(connection: &Connection, tenants: &BTreeSet<&TenantId>) -> Result<(), StoreError> {
    let tenants: Vec<&str> = tenants.iter().map(|tenant| &*tenant.0).collect();
    let now_s = now_ms() / 1_000;
    let spans = SPANS.map(|(span_s, _)| span_s);
    let oldest = SPANS.map(|(_, kept_s)| now_s - kept_s);
    // By their place, so that no plan reads the whole table to find them by their keys.
    let sql = "DELETE FROM figures WHERE ctid = ANY (ARRAY (
                 SELECT o.place FROM unnest($1::text[]) t (id)
                 CROSS JOIN unnest($2::int8[], $3::int8[]) s (span_s, oldest_s)
                 CROSS JOIN LATERAL (SELECT f.ctid AS place FROM figures f
                   WHERE f.tenant = t.id AND f.span_s = s.span_s AND f.at_s < s.oldest_s
                   ORDER BY f.at_s, f.subscription, f.plugin LIMIT $4) o))";
    connection.execute(sql, &[&tenants, &&spans[..], &&oldest[..], &int(STEP)]).await.map(drop)
}

fn span_row(row: &Row) -> Result<SpanFigures, StoreError> {
    Ok(SpanFigures {
        at_s: row.try_get(0)?,
        subscription: SubscriptionId(row.try_get(1)?),
        plugin: row.try_get(2)?,
        figures: serde_json::from_str(row.try_get(3)?)?,
    })
}
