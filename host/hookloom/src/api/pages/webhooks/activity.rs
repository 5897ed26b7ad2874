//! Last day of a webhook: its figures, a chart of its attempts by the hour, and its newest deliveries.

use super::list::{health, next_try, summed};
use crate::api::ApiState;
use crate::api::pages::chart::{DAY_S, HOUR_S};
use crate::api::pages::deliveries::rows::{DeliveryRow, rows};
use crate::api::pages::series::{bars, percent, series};
use crate::api::pages::{DisplayTime, PageError, chart, duration};
use crate::clock::now_ms;
use crate::figures::Figures;
use crate::store::DeliveryFilter;
use crate::subscription::Subscription;

/// Number of the newest deliveries.
const NEWEST: usize = 10;

/// Last day of a webhook.
pub(in crate::api::pages) struct WebhookDay {
    pub(in crate::api::pages) health: &'static str,
    /// Time of the next request of a webhook that waits after failures.
    pub(in crate::api::pages) next_try: Option<DisplayTime>,
    pub(in crate::api::pages) success: String,
    pub(in crate::api::pages) delivered: u64,
    pub(in crate::api::pages) failed: u64,
    pub(in crate::api::pages) pending: u64,
    pub(in crate::api::pages) p95: String,
    pub(in crate::api::pages) chart: String,
    pub(in crate::api::pages) newest: Vec<DeliveryRow>,
}

impl WebhookDay {
    pub(super) async fn of(state: &ApiState, subscription: &Subscription) -> Result<Self, PageError> {
        let store = &state.operations.store;
        let tenant = &subscription.tenant;
        let now_s = now_ms() / 1_000;
        let mut figures = store.figures_by_hour(tenant.clone(), now_s - DAY_S).await?;
        figures.retain(|one| one.subscription == subscription.id);
        let sum = summed(&figures, &[]).remove(&subscription.id).map_or_else(Figures::default, |day| day.sum);
        let span = chart::Span { now_s, lasts_s: DAY_S, point_s: HOUR_S };
        let health = health(state, subscription, &sum);
        let filter = DeliveryFilter { subscription: Some(subscription.id), limit: NEWEST, ..DeliveryFilter::default() };
        let newest = store.deliveries(tenant.clone(), filter).await?;
        Ok(WebhookDay {
            health: health.word(),
            next_try: next_try(state, subscription.id, health),
            success: percent(sum.success()),
            delivered: sum.delivered,
            failed: sum.failed,
            pending: store.pending(tenant).get(&subscription.id).copied().unwrap_or(0),
            p95: sum.post.percentile(95.0).map_or_else(|| "–".to_owned(), duration),
            chart: chart::bars("Attempts of the last day", &bars(&series(&figures, span)), span),
            newest: rows(state, tenant, newest).await?,
        })
    }
}
