//! List of the webhooks: health, success and last delivery of each, with search, filters and pages.
//!
//! # Guarantees
//! - The order is that of creation, so that a webhook keeps its place.
//! - The figures are read by the hour, and those of the last hour by the minute: at most 85 rows for each webhook and chain of plugins.

use super::health::WebhookHealth;
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::api::pages::chart::{DAY_S, HOUR_S};
use crate::api::pages::series::percent;
use crate::api::pages::user::TenantUser;
use crate::api::pages::webhook_words::{modules, name, without_query};
use crate::api::pages::{DisplayTime, Frame, HtmlPage, PageError, filters, render};
use crate::clock::now_ms;
use crate::event::Module;
use crate::figures::Figures;
use crate::store::{SpanFigures, StoreError};
use crate::subscription::{Subscription, SubscriptionId, TenantId};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Number of webhooks on a page.
const PAGE: usize = 50;

/// Query of the list.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::api::pages) struct WebhookListParams {
    /// Part of the name or of the URL.
    q: String,
    health: String,
    module: String,
    page: usize,
}

/// Option of a filter: value, label, and whether it is chosen.
type Choice = (&'static str, String, bool);

#[derive(Template)]
#[template(path = "webhooks.html")]
struct Webhooks {
    frame: Frame,
    /// Number of all webhooks.
    count: usize,
    /// Number of those that match the filters.
    matching: usize,
    q: String,
    healths: Vec<Choice>,
    modules: Vec<Choice>,
    rows: Vec<WebhookRow>,
    first: usize,
    last: usize,
    newer: Option<String>,
    older: Option<String>,
    tokens: Vec<String>,
}

struct WebhookRow {
    href: String,
    name: String,
    url: String,
    health: &'static str,
    /// Reason why it is paused or disabled.
    reason: Option<String>,
    /// Time of the next request of a webhook that waits after failures.
    next_try: Option<DisplayTime>,
    success: String,
    last: Option<DisplayTime>,
    pending: u64,
    modules: String,
    /// True if some events of the modules are not delivered.
    is_selective: bool,
    plugin: String,
}

/// Figures of a webhook in the last day.
#[derive(Default)]
pub(super) struct DayFigures {
    pub(super) sum: Figures,
    /// Beginning of the last minute, or hour, with a delivery, in seconds since the epoch.
    last_delivered_s: Option<i64>,
}

impl DayFigures {
    /// Returns the time of the last delivery.
    pub(super) fn last(&self) -> Option<DisplayTime> {
        self.last_delivered_s.map(|at_s| DisplayTime::at_ms(at_s * 1_000))
    }
}

/// Returns the figures of the last day of all webhooks.
async fn day_figures(
    state: &ApiState,
    tenant: &TenantId,
    now_s: i64,
) -> Result<HashMap<SubscriptionId, DayFigures>, StoreError> {
    let store = &state.operations.store;
    let hours = store.figures_by_hour(tenant.clone(), now_s - DAY_S).await?;
    let minutes = store.figures(tenant.clone(), now_s - HOUR_S).await?;
    Ok(summed(&hours, &minutes))
}

/// Sums figures of hours by webhook. Those of minutes only tell when the last delivery was.
pub(super) fn summed(hours: &[SpanFigures], minutes: &[SpanFigures]) -> HashMap<SubscriptionId, DayFigures> {
    let mut all: HashMap<SubscriptionId, DayFigures> = HashMap::new();
    for one in hours {
        all.entry(one.subscription).or_default().sum.merge(&one.figures);
    }
    for one in hours.iter().chain(minutes).filter(|one| one.figures.delivered > 0) {
        let of = all.entry(one.subscription).or_default();
        of.last_delivered_s = of.last_delivered_s.max(Some(one.at_s));
    }
    all
}

/// Webhook with its health.
struct Found {
    subscription: Arc<Subscription>,
    health: WebhookHealth,
}

pub(in crate::api::pages) async fn page(
    user: TenantUser,
    Params(params): Params<WebhookListParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let figures = day_figures(&state, &user.tenant, now_ms() / 1_000).await?;
    let catalog = state.operations.store.catalog();
    let found = |one: &Arc<Subscription>| {
        let none = Figures::default();
        let sum = figures.get(&one.id).map_or(&none, |day| &day.sum);
        Found { subscription: one.clone(), health: health(&state, one, sum) }
    };
    let all: Vec<Found> = catalog.subscriptions(&user.tenant).iter().map(found).collect();
    let healths = health_choices(&all, &params);
    let count = all.len();
    let matching: Vec<Found> = all.into_iter().filter(|one| params.selects(one)).collect();
    let pages = matching.len().div_ceil(PAGE).max(1);
    let at = params.page.clamp(1, pages);
    let shown = matching.iter().skip((at - 1) * PAGE).take(PAGE);
    let pending = state.operations.store.pending(&user.tenant);
    let rows: Vec<WebhookRow> =
        shown.map(|one| row(&state, one, figures.get(&one.subscription.id), &pending)).collect();
    let page = Webhooks {
        frame: Frame::new(&user, &state, "Webhooks"),
        count,
        matching: matching.len(),
        healths,
        modules: module_choices(&params, user.user.is_customer()),
        first: (at - 1) * PAGE + 1,
        last: (at - 1) * PAGE + rows.len(),
        newer: (at > 1).then(|| params.page_link(at - 1)),
        older: (at < pages).then(|| params.page_link(at + 1)),
        rows,
        tokens: catalog.tokens(&user.tenant).iter().map(|token| state.operations.shown_address(token)).collect(),
        q: params.q,
    };
    render(&state, Some(&user.tenant), page).await
}

impl WebhookListParams {
    /// Returns true if a webhook matches the search and the filters.
    fn selects(&self, one: &Found) -> bool {
        let settings = &one.subscription.settings;
        WebhookHealth::parse(&self.health).is_none_or(|health| health == one.health)
            && Module::parse(&self.module).is_none_or(|module| settings.modules.contains(&module))
            && is_found(&self.q, [&settings.description, &settings.notify_url])
    }

    /// Returns the link to another page of the same list.
    fn page_link(&self, page: usize) -> String {
        let filters = [("q", &self.q), ("health", &self.health), ("module", &self.module)];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filters.into_iter().filter(|(_, value)| !value.is_empty()));
        format!("?{}", query.append_pair("page", &page.to_string()).finish())
    }
}

/// Returns true if each word of a search is in one of the texts, in upper or lower case.
fn is_found(search: &str, texts: [&str; 2]) -> bool {
    let texts = texts.map(str::to_lowercase);
    search.to_lowercase().split_whitespace().all(|word| texts.iter().any(|text| text.contains(word)))
}

/// Returns the options of health, with the number of webhooks of each.
fn health_choices(all: &[Found], params: &WebhookListParams) -> Vec<Choice> {
    let choice = |health: WebhookHealth| {
        let count = all.iter().filter(|one| one.health == health).count();
        (health.word(), format!("{} ({count})", health.word()), health.word() == params.health)
    };
    WebhookHealth::ALL.into_iter().map(choice).collect()
}

fn module_choices(params: &WebhookListParams, is_customer: bool) -> Vec<Choice> {
    let offered = Module::ALL.iter().filter(|module| !(is_customer && module.is_hosts()));
    offered.map(|one| (one.as_str(), one.as_str().to_owned(), one.as_str() == params.module)).collect()
}

fn row(state: &ApiState, one: &Found, day: Option<&DayFigures>, pending: &HashMap<SubscriptionId, u64>) -> WebhookRow {
    let Found { subscription, health } = one;
    let settings = &subscription.settings;
    WebhookRow {
        href: UrlPath::pages_of(&subscription.tenant).then("webhooks").then(&subscription.id).to_string(),
        name: name(subscription),
        url: without_query(&settings.notify_url),
        health: health.word(),
        reason: subscription.state_reason.clone(),
        next_try: next_try(state, subscription.id, *health),
        success: percent(day.and_then(|day| day.sum.success())),
        last: day.and_then(DayFigures::last),
        pending: pending.get(&subscription.id).copied().unwrap_or(0),
        modules: modules(subscription),
        is_selective: settings.is_selective(),
        plugin: settings.plugin.0.iter().map(|step| step.plugin.as_str()).collect::<Vec<_>>().join(" → "),
    }
}

/// Returns the health of a webhook with these figures of the last day.
pub(in crate::api::pages) fn health(state: &ApiState, subscription: &Subscription, figures: &Figures) -> WebhookHealth {
    let breaker = state.operations.lanes.status(subscription.id).map_or("closed", |lane| lane.breaker);
    WebhookHealth::of(subscription.state, breaker, figures)
}

/// Returns the time at which a webhook sends its next request, if it waits after failures.
pub(in crate::api::pages) fn next_try(
    state: &ApiState,
    id: SubscriptionId,
    health: WebhookHealth,
) -> Option<DisplayTime> {
    if health != WebhookHealth::Waiting {
        return None;
    }
    let rests_ms = state.operations.lanes.status(id)?.rests_ms?;
    Some(DisplayTime::at_ms(now_ms().saturating_add(i64::try_from(rests_ms).unwrap_or(i64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_name_and_url() {
        #[track_caller]
        fn check(search: &str, expected: bool) {
            assert_eq!(is_found(search, ["Billing service", "https://Hooks.example.com/in"]), expected, "{search:?}");
        }
        check("", true);
        check("billing", true);
        check("HOOKS.example", true);
        check(" in billing ", true);
        check("billing mirror", false);
        check("service billing", true);
    }

    #[test]
    fn the_last_delivery_is_told_by_the_minute_where_it_is_known() {
        fn at(at_s: i64, delivered: u64, failed: u64) -> SpanFigures {
            SpanFigures {
                at_s,
                subscription: SubscriptionId(uuid::Uuid::nil()),
                plugin: String::new(),
                figures: Figures { delivered, failed, ..Figures::default() },
            }
        }
        #[track_caller]
        fn check(hours: &[SpanFigures], minutes: &[SpanFigures], expected: Option<(u64, Option<i64>)>) {
            let found = summed(hours, minutes).remove(&SubscriptionId(uuid::Uuid::nil()));
            assert_eq!(found.map(|day| (day.sum.attempts(), day.last_delivered_s)), expected);
        }
        check(&[], &[], None);
        check(&[at(3_600, 0, 2)], &[], Some((2, None)));
        check(&[at(3_600, 5, 0), at(7_200, 0, 1)], &[], Some((6, Some(3_600))));
        check(&[at(3_600, 5, 0), at(7_200, 1, 1)], &[at(7_260, 1, 0), at(7_320, 0, 1)], Some((7, Some(7_260))));
    }

    #[test]
    fn a_page_keeps_the_filters() {
        let params = WebhookListParams { q: "a&b".into(), health: "failing".into(), ..WebhookListParams::default() };
        assert_eq!(params.page_link(2), "?q=a%26b&health=failing&page=2");
        assert_eq!(WebhookListParams::default().page_link(3), "?page=3");
    }
}
