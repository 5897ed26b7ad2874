//! Overview page: figures and charts.

use super::chart::{self, Bar};
use super::usage::UsageView;
use super::user::TenantUser;
use super::{DisplayTime, Frame, HtmlPage, PageError, duration, filters, render};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::clock::now_ms;
use crate::delivery::DeliveryId;
use crate::event::EventId;
use crate::figures::{Figures, Latencies};
use crate::store::{DamageReport, DamagedRow, RowKind, SpanFigures};
use crate::subscription::{SubscriptionId, TenantId};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    /// True until the tenant has a webhook.
    is_new: bool,
    has_address: bool,
    spans: Vec<(&'static str, bool, &'static str)>,
    attempts: u64,
    delivered: u64,
    success: String,
    latency: String,
    pending: u64,
    attempts_chart: String,
    latency_chart: String,
    backlog: Vec<BacklogRow>,
    failing: Vec<ReceiverRow>,
    plugins: Vec<PluginCostRow>,
    usage: UsageView,
    damage: DamageView,
}

/// Damaged rows and objects of the tenant.
struct DamageView {
    /// Number of rows.
    count: usize,
    rows: Vec<DamagedRowView>,
    /// Damaged tables and indexes of the host, in one text.
    objects: String,
}

struct DamagedRowView {
    href: String,
    kind: &'static str,
    id: String,
    found: DisplayTime,
    detail: String,
}

struct BacklogRow {
    href: String,
    name: String,
    pending: u64,
    oldest: DisplayTime,
}

struct ReceiverRow {
    href: String,
    name: String,
    failed: u64,
    delivered: u64,
    success: String,
    p95: String,
}

struct PluginCostRow {
    name: String,
    calls: u64,
    total: String,
    p50: String,
    p95: String,
}

/// Name, duration in seconds, duration of a bar, label.
const SPANS: [(&str, i64, i64, &str); 3] = [
    ("hour", 3_600, 60, "Last hour"),
    ("day", 86_400, 1_800, "Last day"),
    ("week", 7 * 86_400, 3 * 3_600, "Last week"),
];

#[derive(Deserialize)]
pub(super) struct OverviewParams {
    span: Option<String>,
}

/// Maximum number of rows of a table.
const ROWS: usize = 10;

pub(super) async fn page(
    user: TenantUser,
    Params(params): Params<OverviewParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let wanted = params.span.as_deref().unwrap_or("hour");
    let span = SPANS.into_iter().find(|(name, ..)| *name == wanted).unwrap_or(SPANS[0]);
    let (_, lasts_s, bar_s, _) = span;
    let now_s = now_ms() / 1_000;
    let figures = state.operations.store.figures(user.tenant.clone(), now_s - lasts_s).await?;
    let all = sum(figures.iter());
    let drawn = chart::Span { now_s, lasts_s, point_s: bar_s };
    let series = series(&figures, now_s, lasts_s, bar_s);
    let names: HashMap<SubscriptionId, String> = state
        .operations
        .store
        .catalog()
        .subscriptions(&user.tenant)
        .iter()
        .map(|one| (one.id, super::webhook_words::name(one)))
        .collect();
    let href = |id: SubscriptionId| UrlPath::pages_of(&user.tenant).then("webhooks").then(&id).to_string();
    let name = |id: SubscriptionId| names.get(&id).cloned().unwrap_or_else(|| format!("deleted ({id})"));
    let mut largest: Vec<(SubscriptionId, u64)> = state.operations.store.pending(&user.tenant).into_iter().collect();
    let pending = largest.iter().map(|(_, pending)| pending).sum();
    largest.sort_by_key(|(id, pending)| (std::cmp::Reverse(*pending), *id));
    largest.truncate(ROWS);
    let ids = largest.iter().map(|(id, _)| *id).collect();
    let oldest = state.operations.store.oldest_pending(user.tenant.clone(), ids).await?;
    let row = |(id, pending): (SubscriptionId, u64)| {
        // Without a time, its last pending delivery has just ended.
        let oldest = DisplayTime::at_ms(*oldest.get(&id)?);
        Some(BacklogRow { href: href(id), name: name(id), pending, oldest })
    };
    let backlog: Vec<BacklogRow> = largest.into_iter().filter_map(row).collect();
    let page = Overview {
        is_new: names.is_empty(),
        has_address: !state.operations.store.catalog().tokens(&user.tenant).is_empty(),
        spans: SPANS.into_iter().map(|(name, _, _, label)| (name, name == span.0, label)).collect(),
        attempts: all.attempts(),
        delivered: all.delivered,
        success: percent(all.success()),
        latency: percentiles(&all.post),
        pending,
        attempts_chart: chart::bars("Attempts", &bars(&series), drawn),
        latency_chart: chart::lines("POST duration", &times(&series, |figures| &figures.post), drawn),
        backlog,
        failing: failing(&figures, href, name),
        plugins: plugins(&figures),
        usage: UsageView::new(&state.operations.store.usage(user.tenant.clone()).await?),
        damage: damage(&user.tenant, &state.operations.store.damage(Some(&user.tenant))),
        frame: Frame::new(&user, &state, "Overview").watching("attempts"),
    };
    render(&state, Some(&user.tenant), page).await
}

/// Number of damaged rows that are named.
const DAMAGED_ROWS: usize = 100;

fn damage(tenant: &TenantId, report: &DamageReport) -> DamageView {
    let row = |row: &DamagedRow| DamagedRowView {
        href: match row.kind {
            RowKind::Event => UrlPath::pages_of(tenant).then("events").then(&EventId(row.id)),
            RowKind::Delivery => UrlPath::pages_of(tenant).then("deliveries").then(&DeliveryId(row.id)),
        }
        .to_string(),
        kind: match row.kind {
            RowKind::Event => "Event",
            RowKind::Delivery => "Delivery",
        },
        id: row.id.to_string(),
        found: DisplayTime::at_ms(row.found_at_ms),
        detail: row.detail.clone(),
    };
    let objects: Vec<&str> = report.objects.iter().map(|object| object.name.as_str()).collect();
    DamageView {
        count: report.rows.len(),
        rows: report.rows.iter().take(DAMAGED_ROWS).map(row).collect(),
        objects: objects.join(", "),
    }
}

fn sum<'a>(figures: impl Iterator<Item = &'a SpanFigures>) -> Figures {
    figures.fold(Figures::default(), |mut sum, one| {
        sum.merge(&one.figures);
        sum
    })
}

/// Returns figures by bar, oldest first, including empty bars.
pub(super) fn series(figures: &[SpanFigures], now_s: i64, lasts_s: i64, bar_s: i64) -> Vec<Figures> {
    let count = usize::try_from(lasts_s / bar_s).unwrap_or(1);
    let first_s = (now_s / bar_s + 1) * bar_s - lasts_s;
    let mut series = vec![Figures::default(); count];
    for one in figures {
        let index = usize::try_from((one.at_s - first_s).max(0) / bar_s).unwrap_or(0);
        if let Some(bar) = series.get_mut(index) {
            bar.merge(&one.figures);
        }
    }
    series
}

pub(super) fn bars(series: &[Figures]) -> Vec<Bar> {
    series.iter().map(|figures| [figures.delivered, figures.failed, figures.dropped]).collect()
}

pub(super) fn times(series: &[Figures], of: impl Fn(&Figures) -> &Latencies) -> Vec<Option<[u64; 2]>> {
    series.iter().map(|figures| Some([of(figures).percentile(50.0)?, of(figures).percentile(95.0)?])).collect()
}

pub(super) fn percent(success: Option<f64>) -> String {
    success.map_or_else(|| "–".to_owned(), |success| format!("{success:.2} %"))
}

fn percentiles(latencies: &Latencies) -> String {
    let of = |percent| latencies.percentile(percent).map_or_else(|| "–".to_owned(), duration);
    format!("{} / {} / {}", of(50.0), of(95.0), of(99.0))
}

fn failing(
    figures: &[SpanFigures],
    href: impl Fn(SubscriptionId) -> String,
    name: impl Fn(SubscriptionId) -> String,
) -> Vec<ReceiverRow> {
    let mut of: HashMap<SubscriptionId, Figures> = HashMap::new();
    figures.iter().for_each(|one| of.entry(one.subscription).or_default().merge(&one.figures));
    let mut failing: Vec<_> = of.into_iter().filter(|(_, figures)| figures.failed > 0).collect();
    failing.sort_by_key(|(id, figures)| (std::cmp::Reverse(figures.failed), *id));
    failing.truncate(ROWS);
    let row = |(id, figures): (SubscriptionId, Figures)| ReceiverRow {
        href: href(id),
        name: name(id),
        failed: figures.failed,
        delivered: figures.delivered,
        success: percent(figures.success()),
        p95: figures.post.percentile(95.0).map_or_else(|| "–".to_owned(), duration),
    };
    failing.into_iter().map(row).collect()
}

fn plugins(figures: &[SpanFigures]) -> Vec<PluginCostRow> {
    let mut of: BTreeMap<&str, Latencies> = BTreeMap::new();
    for one in figures.iter().filter(|one| !one.plugin.is_empty()) {
        let mut sum = Figures { plugin: of.remove(one.plugin.as_str()).unwrap_or_default(), ..Figures::default() };
        sum.merge(&one.figures);
        of.insert(&one.plugin, sum.plugin);
    }
    fn time(us: Option<u64>) -> String {
        us.map_or_else(|| "–".to_owned(), duration)
    }
    let mut rows: Vec<(u64, PluginCostRow)> = of
        .into_iter()
        .map(|(name, latencies)| {
            let row = PluginCostRow {
                name: name.replace('+', " → "),
                calls: latencies.count(),
                total: duration(latencies.sum_us()),
                p50: time(latencies.percentile(50.0)),
                p95: time(latencies.percentile(95.0)),
            };
            (latencies.sum_us(), row)
        })
        .collect();
    rows.sort_by_key(|(total, _)| std::cmp::Reverse(*total));
    rows.into_iter().map(|(_, row)| row).take(ROWS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fall_into_their_bars() {
        fn at(at_s: i64, delivered: u64) -> SpanFigures {
            SpanFigures {
                at_s,
                subscription: SubscriptionId(uuid::Uuid::nil()),
                plugin: String::new(),
                figures: Figures { delivered, ..Figures::default() },
            }
        }
        let series = series(&[at(60, 1), at(119, 2), at(120, 4), at(10_000, 9)], 185, 180, 60);
        assert_eq!(series.iter().map(|bar| bar.delivered).collect::<Vec<_>>(), [3, 4, 0]);
    }
}
