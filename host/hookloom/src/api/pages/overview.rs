//! Overview page: what needs attention, figures with charts, and what plugins cost.

mod attention;
mod cost;
mod items;

use super::chart::{self, DAY_S, HOUR_S};
use super::first_steps::{FirstSteps, StepKind};
use super::series::{bars, percent, series, sum, times};
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
use attention::{Attention, AttentionFigures};
use axum::extract::State;
use cost::PluginCostRow;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    /// Steps to the first delivery. None: there was one.
    first_steps: Option<FirstSteps>,
    /// Name, label, and whether it is chosen.
    spans: Vec<(&'static str, &'static str, bool)>,
    attention: Attention,
    tiles: Tiles,
    attempts_chart: String,
    latency_chart: String,
    backlog: Vec<BacklogRow>,
    failing: Vec<ReceiverRow>,
    plugins: Vec<PluginCostRow>,
    usage: UsageView,
    damage: DamageView,
}

/// Numbers at the top, with the lists that they lead to.
struct Tiles {
    accepted: u64,
    delivered: u64,
    failed: u64,
    /// Success rate, or the word for what is counted.
    success: String,
    latency: String,
    pending: u64,
    /// Deliveries of the span, those of them that were delivered, and those that are pending.
    all_href: String,
    delivered_href: String,
    pending_href: String,
    /// The chosen span, such as `last hour`, and its name.
    span: String,
    span_name: &'static str,
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

/// Name, duration in seconds, duration of a bar, label. A phone has room for some thirty bars.
const SPANS: [(&str, i64, i64, &str); 3] = [
    ("hour", HOUR_S, 120, "Last hour"),
    ("day", DAY_S, HOUR_S, "Last day"),
    ("week", 7 * DAY_S, 6 * HOUR_S, "Last week"),
];

#[derive(Deserialize)]
pub(super) struct OverviewParams {
    span: Option<String>,
    /// `all` shows everything that needs attention.
    attention: Option<String>,
}

/// Maximum number of rows of a table.
const ROWS: usize = 10;

pub(super) async fn page(
    user: TenantUser,
    Params(params): Params<OverviewParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let tenant = &user.tenant;
    let store = &state.operations.store;
    let wanted = params.span.as_deref().unwrap_or("hour");
    let (chosen, lasts_s, point_s, label) = SPANS.into_iter().find(|(name, ..)| *name == wanted).unwrap_or(SPANS[0]);
    let span = chart::Span { now_s: now_ms() / 1_000, lasts_s, point_s };
    let day = store
        .figures_by_hour(tenant.clone(), chart::Span { lasts_s: DAY_S, point_s: HOUR_S, ..span }.first_s())
        .await?;
    let figures = if lasts_s == DAY_S { day.clone() } else { store.figures(tenant.clone(), span.first_s()).await? };
    let usage = store.usage(tenant.clone()).await?;
    let report = store.damage(Some(tenant));
    let read = AttentionFigures { day: &day, usage: &usage, damage: &report };
    let attention = Attention::of(&user, &state, read, params.attention.as_deref() == Some("all")).await?;
    let webhooks = WebhookNames::of(&state, tenant);
    let pending = store.pending(tenant);
    let points = series(&figures, span);
    let accepted: Vec<u64> = points.iter().map(|point| point.accepted).collect();
    let page = Overview {
        first_steps: FirstSteps::until_delivered(&user, &state).await?,
        spans: SPANS.into_iter().map(|(name, _, _, label)| (name, label, name == chosen)).collect(),
        attention,
        tiles: Tiles::new(tenant, &sum(figures.iter()), pending.values().sum(), span, [chosen, label]),
        attempts_chart: chart::bars_with_accepted("Events and attempts", &bars(&points), &accepted, span),
        latency_chart: chart::lines("POST duration", &times(&points, |point| &point.post), span),
        backlog: backlog(&state, tenant, pending, &webhooks).await?,
        failing: failing(&figures, &webhooks),
        plugins: cost::rows(&figures, ROWS),
        usage: UsageView::new(&usage),
        damage: damage(tenant, &report),
        frame: Frame::new(&user, &state, "Overview").watching("overview"),
    };
    render(&state, Some(tenant), page).await
}

impl Tiles {
    fn new(
        tenant: &TenantId,
        all: &Figures,
        pending: u64,
        span: chart::Span,
        [span_name, label]: [&'static str; 2],
    ) -> Tiles {
        let from = Timestamp::from_second(span.first_s()).unwrap_or_default().strftime("%Y-%m-%dT%H:%M").to_string();
        let list = || UrlPath::pages_of(tenant).then("deliveries");
        Tiles {
            accepted: all.accepted,
            delivered: all.delivered,
            failed: all.failed,
            success: match all.success() {
                Some(_) => format!("{} success", percent(all.success())),
                None => "deliveries".to_owned(),
            },
            latency: percentiles(&all.post),
            pending,
            all_href: list().query("from", &from).to_string(),
            delivered_href: list().query("state", "delivered").query("from", &from).to_string(),
            pending_href: list().query("state", "pending").to_string(),
            span: label.to_lowercase(),
            span_name,
        }
    }
}

/// Names of a tenant's webhooks, and the links to their pages.
struct WebhookNames {
    tenant: TenantId,
    names: HashMap<SubscriptionId, String>,
}

impl WebhookNames {
    fn of(state: &ApiState, tenant: &TenantId) -> WebhookNames {
        let subscriptions = state.operations.store.catalog().subscriptions(tenant);
        let names = subscriptions.iter().map(|one| (one.id, super::webhook_words::name(one))).collect();
        WebhookNames { tenant: tenant.clone(), names }
    }

    fn name(&self, id: SubscriptionId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("deleted ({id})"))
    }

    fn href(&self, id: SubscriptionId) -> String {
        UrlPath::pages_of(&self.tenant).then("webhooks").then(&id).to_string()
    }
}

/// Returns the webhooks with the most pending deliveries.
async fn backlog(
    state: &ApiState,
    tenant: &TenantId,
    pending: HashMap<SubscriptionId, u64>,
    webhooks: &WebhookNames,
) -> Result<Vec<BacklogRow>, PageError> {
    let mut largest: Vec<(SubscriptionId, u64)> = pending.into_iter().collect();
    largest.sort_by_key(|(id, pending)| (std::cmp::Reverse(*pending), *id));
    largest.truncate(ROWS);
    let ids = largest.iter().map(|(id, _)| *id).collect();
    let oldest = state.operations.store.oldest_pending(tenant.clone(), ids).await?;
    let row = |(id, pending): (SubscriptionId, u64)| {
        // Without a time, its last pending delivery has just ended.
        let oldest = DisplayTime::at_ms(*oldest.get(&id)?);
        Some(BacklogRow { href: webhooks.href(id), name: webhooks.name(id), pending, oldest })
    };
    Ok(largest.into_iter().filter_map(row).collect())
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

fn percentiles(latencies: &Latencies) -> String {
    let of = |percent| latencies.percentile(percent).map_or_else(|| "–".to_owned(), duration);
    format!("{} / {} / {}", of(50.0), of(95.0), of(99.0))
}

/// Returns the webhooks with the most failed attempts.
fn failing(figures: &[SpanFigures], webhooks: &WebhookNames) -> Vec<ReceiverRow> {
    let mut of: HashMap<SubscriptionId, Figures> = HashMap::new();
    figures.iter().for_each(|one| of.entry(one.subscription).or_default().merge(&one.figures));
    let mut failing: Vec<_> = of.into_iter().filter(|(_, figures)| figures.failed > 0).collect();
    failing.sort_by_key(|(id, figures)| (std::cmp::Reverse(figures.failed), *id));
    failing.truncate(ROWS);
    let row = |(id, figures): (SubscriptionId, Figures)| ReceiverRow {
        href: webhooks.href(id),
        name: webhooks.name(id),
        failed: figures.failed,
        delivered: figures.delivered,
        success: percent(figures.success()),
        p95: figures.post.percentile(95.0).map_or_else(|| "–".to_owned(), duration),
    };
    failing.into_iter().map(row).collect()
}
